"""Search: what is scored is what is delivered, a search that stops goes on as if it had not, bad input is one line."""

import sys
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from netformer.errors import InputError
from netformer.exports.formula import formula_of
from netformer.exports.population import Population
from netformer.generation.generator import NetFormer
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import Layout
from netformer.options import ModelOptions
from netformer.search import engine
from netformer.search.algorithms import ALGORITHMS
from netformer.search.engine import search
from netformer.search.front import Volume, nondominated
from netformer.search.objectives import OBJECTIVES, chosen, columns, smallest
from netformer.search.problem import SearchTask
from netformer.search.scoring import score
from netformer.search.spaces import SPACES, Space
from netformer.search.table import search_table, task_of_table
from netformer.sources.c import _values
from netformer.tasks.metafeatures import MetaFeatureTransform
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.task import TRAIN
from netformer.tasks.view import stack_tasks

SMALL = {"d_model": 16, "d_condition": 8, "n_heads": 2, "n_encoder_layers": 1, "d_writer": 16, "d_row": 8}
RUN = {"evaluations": 60, "population": 20}


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        small = TransformerVAE(Layout(6, 2, 5), 1, ModelOptions(**SMALL, d_global=6, d_vertex=2, condition="task"))
        torch.nn.init.normal_(small.structure_decoder.parent_head.bias)  # edges are missing here and there
    return small.eval()


@pytest.fixture(scope="module")
def task(model):
    drawn = synthetic_tasks(1, stream="test", split="test", seed=3, max_features=6, min_rows=80, max_rows=90)
    return SearchTask.of(model, stack_tasks(drawn, 6))


@pytest.fixture(scope="module")
def table(model):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(70, 4))
    X[:, 3] = 7.0  # does not vary, is not read
    return NetFormer(model, MetaFeatureTransform((0.0,), (1.0,))), X, 3 * X[:, 0] - X[:, 1] ** 2


@pytest.fixture(scope="module", params=list(product(SPACES, (False, True))), ids=str)
def scored(request, task):
    space = Space(task, *request.param)
    genomes = space.first(90, np.random.default_rng(0))
    return space, genomes, score(space, genomes, list(OBJECTIVES.values()))


def test_every_candidate_is_a_network_that_runs(scored):
    space, _, found = scored
    specs = found.networks.specs
    exists = specs.patch_mask
    assert (specs.mask[:, :, 1:].any(2) == exists).all()
    assert (found.networks.weight[~specs.mask] == 0).all()
    assert torch.isfinite(found.networks.predict(space.task.rows.x)).all()
    assert np.isfinite(found.values).all()


def test_genes_of_columns_say_what_is_read(scored):
    space, genomes, found = scored
    if not space.columns:
        return
    genes = genomes[:, space.n_own :]
    allowed = (genes > 0.5) | ((genes == genes.max(1, keepdims=True)) & ~(genes > 0.5).any(1, keepdims=True))
    reads = found.networks.specs.mask[:, :, 1:7].any(1).numpy()[:, : space.task.n_columns]
    assert not (reads & ~allowed).any()
    assert reads.sum() > 0.5 * allowed.sum()


def test_sizes_are_those_of_networks_taken_apart(scored):
    _, _, found = scored
    at = {name: k for k, name in enumerate(OBJECTIVES)}
    for i in range(0, 90, 9):
        mask = found.networks.specs.mask[i]
        edges = {(p, s) for p, s in torch.nonzero(mask).tolist()}
        assert found.values[i, at["params"]] == len(edges)
        assert found.values[i, at["edges"]] == sum(slot != 0 for _, slot in edges)
        assert found.values[i, at["columns"]] == len({slot for _, slot in edges if 1 <= slot <= 6})


def test_the_error_is_that_of_rows_left_out(task):
    """One network, its output layer solved again without each row in turn. It is a mean over several fits, and errs
    less than these do in the mean, which is what is scored."""
    from netformer.model.head import weigh_heads

    space = Space(task)
    found = score(space, space.first(1, np.random.default_rng(0)), chosen(["error"]))
    written = space.write(space.first(1, np.random.default_rng(0)))
    rows = task.rows.train_only()
    errors = []
    for left in range(rows.x.shape[1]):
        kept = [i for i in range(rows.x.shape[1]) if i != left]
        without, _ = weigh_heads(written, rows.at_rows(kept), task.penalties)
        errors.append(float(without.predict(rows.x)[0, left] - rows.y[0, left]) ** 2)
    assert 0.85 < np.sum(errors) / float(rows.y.square().sum()) / found.values[0, 0] <= 1.001


def test_bytes_and_multiply_adds_are_those_of_the_c_file(table):
    found, front = search_table(*table, ("error", "bytes", "multiply_adds"), space="structures", **RUN)
    for i, (_, size, multiplications) in enumerate(found.values[found.front].tolist()):
        formula = formula_of(front.reading, front.networks[[i]])
        assert size == 4 * len(_values(formula))
        (body,), (out,) = formula.bodies, formula.outputs
        dense = sum(layer.weight.size for layer in body) + len(out.heads[0])
        assert multiplications == dense + (len(out.skip) if out.skip.any() else 0)


def test_nondominated_is_what_nothing_is_better_than():
    values = np.random.default_rng(0).integers(0, 6, (200, 3)).astype(float)
    kept = set(nondominated(values).tolist())
    for i, one in enumerate(values):
        better = (values <= one).all(1) & (values < one).any(1)
        earlier = (values[:i] == one).all(1).any()
        assert (i in kept) == (not better.any() and not earlier)


@pytest.mark.parametrize("names", [("error", "columns"), ("error", "columns", "robustness")])
def test_hypervolume_is_the_share_of_the_box_that_is_dominated(task, names):
    objectives, k = chosen(list(names)), len(names)
    values = np.random.default_rng(1).random((30, k)) * 1.2
    values[:, 1] *= task.n_columns
    volume = Volume(task, objectives, values[:10])
    grown = [volume.add(values[at : at + 10]) for at in (0, 10, 20)]
    assert grown == sorted(grown)
    points = np.random.default_rng(2).random((40_000, k)) * ([1, task.n_columns, 1][:k])
    dominated = (values[:, None] <= points[None]).all(2).any(0).mean()
    assert grown[-1] == pytest.approx(dominated, abs=0.01)


def test_hypervolume_of_one_objective_and_of_logarithms(task):
    assert Volume(task, chosen(["error"]), np.zeros((1, 1))).add(np.array([[0.25], [0.75]])) == 0.75
    least = float(smallest(task).specs.n_params[0])
    volume = Volume(task, chosen(["params", "error"]), np.zeros((1, 2)))
    middle = np.sqrt(least * volume.high[0])
    assert volume.add(np.array([[middle, 0.5]])) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("algorithm", "space"), [("nsga2", "latents"), ("smsemoa", "both"), ("mutation", "structures")]
)
def test_a_search_that_stopped_goes_on_as_if_it_had_not(task, tmp_path, monkeypatch, algorithm, space):
    how = {"algorithm": algorithm, "space": space, "population": 10}
    straight = search(task, evaluations=40, **how)
    search(task, evaluations=20, folder=tmp_path / "kept", **how)
    calls = []
    monkeypatch.setattr(engine, "score", lambda *a: calls.append(len(a[1])) or score(*a))
    again = search(task, evaluations=40, folder=tmp_path / "kept", **how)
    assert calls == [engine.PROBED, 10, 10], "two generations were kept"
    for name in ("genomes", "values", "kept", "generation"):
        assert np.array_equal(getattr(straight, name), getattr(again, name))
    assert straight.hypervolume == again.hypervolume
    with pytest.raises(InputError, match="holds a search with another seed; choose another folder"):
        search(task, evaluations=40, folder=tmp_path / "kept", seed=1, **how)


def test_a_damaged_generation_is_one_line(task, tmp_path):
    search(task, folder=tmp_path, **RUN)
    (tmp_path / "generation_00001.npz").write_bytes(b"PK half")
    with pytest.raises(InputError, match=r"generation_00001\.npz: is damaged; remove the folder and search again"):
        search(task, folder=tmp_path, **RUN)


def test_workers_change_no_byte(task):
    space = Space(task)
    genomes = space.first(200, np.random.default_rng(0))
    one, two = (score(space, genomes, chosen(["error", "robustness"]), workers) for workers in (1, 2))
    assert one.values.tobytes() == two.values.tobytes()
    assert torch.equal(one.networks.weight, two.networks.weight)


def test_the_result_depends_on_the_seed_and_no_global_generator(task):
    state = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    first, same, other = (search(task, seed=seed, **RUN) for seed in (0, 0, 1))
    assert np.array_equal(first.values, same.values)
    assert not np.array_equal(first.values, other.values)
    assert state == (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_constraints_hold_on_the_front(task, algorithm):
    bounds = {"max_params": 30, "max_columns": 2}
    found = search(task, algorithm=algorithm, space="both", constraints=bounds, **RUN)
    best = found.networks(found.front)
    assert len(best.networks) >= 1
    assert int(best.networks.specs.n_params.max()) <= 30
    assert int(columns(best.networks, task).max()) <= 2
    assert not found.kept.all()


def test_an_objective_and_an_algorithm_of_ones_own(task):
    from pymoo.algorithms.moo.nsga3 import NSGA3
    from pymoo.util.ref_dirs import get_reference_directions

    def largest_weight(networks, task):
        return networks.weight.abs().amax((1, 2))

    own = NSGA3(get_reference_directions("das-dennis", 2, n_partitions=7), pop_size=8)
    found = search(task, ("error", largest_weight), algorithm=own, evaluations=24)
    assert found.names == ("error", "largest_weight")
    best = found.networks(found.front)
    np.testing.assert_allclose(best.values[:, 1], best.networks.weight.abs().amax((1, 2)), rtol=1e-6)
    assert 0 < found.hypervolume[-1][1] <= 1


def test_the_front_of_a_table_is_delivered_in_its_units(table, tmp_path):
    found, front = search_table(*table, ("error", "columns"), target="price", seed=0, **RUN)
    assert found.space.task.n_columns == 3
    assert front.target == "price"
    front.save(tmp_path / "nets")
    again = Population.load(tmp_path / "nets")
    X = table[1]
    for i, (error, count) in enumerate(found.values[found.front].tolist()):
        reads = front.networks[[i]].specs.mask[0, :, 1:4].any(0)
        assert int(reads.sum()) == count
        assert float(front.expected_r2[i]) == pytest.approx(1 - error, abs=1e-6)
    np.testing.assert_array_equal(front.predict(X), again.predict(X))
    own = found.networks(found.front).networks.predict(found.space.task.rows.x)
    answers = front.reading.answers(own.double().numpy()[..., None])[..., 0]
    np.testing.assert_allclose(front.predict(X), answers, rtol=1e-3, atol=1e-3)
    assert again.about["search"]["objectives"] == ["error", "columns"]


def test_inputs_of_one_column_count_once(model):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"size": rng.normal(size=90), "kind": rng.choice(["a", "b", "c"], 90)})
    y = X["size"] + (X["kind"] == "b") * 2.0
    made, reading = task_of_table(NetFormer(model, MetaFeatureTransform((0.0,), (1.0,))), X, y)
    assert len(reading.inputs) == 4
    assert made.n_columns == 2
    assert sorted(made.column.tolist()) == [-1, -1, 0, 1, 1, 1] or sorted(made.column.tolist()) == [-1, -1, 0, 0, 0, 1]


def wrong_shape(networks, task):
    return np.zeros((len(networks), 2))


def not_finite(networks, task):
    return np.full(len(networks), np.nan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objectives": ["error", "speed"]}, "objective must be a function or one of error, .*, got 'speed'"),
        ({"objectives": ["error", "error"]}, "an objective may be named once, got 'error' twice"),
        ({"objectives": []}, r"objectives must be a list of 1 to 4, got \[\]"),
        ({"objectives": "error"}, "objectives must be a list of 1 to 4, got 'error'"),
        ({"objectives": [wrong_shape]}, r"'wrong_shape' must return one number per network, \(3,\), got \(3, 2\)"),
        ({"objectives": ["error", not_finite]}, "'not_finite' must return finite numbers, got nan"),
        ({"evaluations": 0}, "evaluations must be a whole number of at least 1, got 0"),
        ({"population": 1}, "population must be a whole number of at least 2, got 1"),
        ({"constraints": {"max_params": 1}}, "max_params must be at least 2 for any network, got 1"),
        ({"constraints": {"max_columns": 0}}, "max_columns must be at least 1 for any network, got 0"),
        ({"constraints": {"max_size": 1}}, "constraint must be one of max_error, .*, got 'max_size'"),
        ({"constraints": {"max_params": float("nan")}}, "max_params must be a finite number, got nan"),
        ({"space": "weights"}, "space must be one of latents, structures, both, prompts, got 'weights'"),
        ({"algorithm": "annealing"}, "algorithm must be an algorithm of pymoo or one of nsga2, .*, got 'annealing'"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
    ],
)
def test_bad_input_is_one_line_before_work_begins(task, tmp_path, change, message):
    worked = []
    with pytest.raises(InputError, match=message) as caught:
        search(task, folder=tmp_path / "kept", progress=lambda *a: worked.append(a), **(RUN | change))
    assert "\n" not in str(caught.value)
    assert not worked
    assert not (tmp_path / "kept").exists()


def test_without_pymoo_it_says_what_to_install(task, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymoo.core.algorithm", None)
    with pytest.raises(InputError, match=r"a search needs the extra search: pip install 'netformer\[search\]'"):
        search(task, **RUN)


def test_valid_rows_are_needed_for_their_error(table, task):
    with pytest.raises(InputError, match="valid_error needs at least 2 valid rows, got 0"):
        search_table(*table, ("valid_error",), **RUN)
    assert int((task.rows.rows == TRAIN).sum()) > 0
    assert search(task, ("valid_error", "params"), **RUN).values[:, 0].min() < 5


@pytest.mark.skipif(find_spec("optuna") is None, reason="optuna not installed")
def test_optuna_drives_the_search_as_the_page_shows(table):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    page = (Path(__file__).resolve().parents[1] / "docs" / "search.md").read_text()
    code = next(part.split("```")[0] for part in page.split("```python\n") if "import optuna" in part)
    model, X, y = table
    names = {"NetFormer": type("", (), {"load": staticmethod(lambda: model)}), "X": X, "y": y}
    exec(code.replace("range(20)", "range(3)").replace("X[:300], y[:300]", "X, y"), names)
    assert len(names["study"].trials) == 30
    assert names["values"].shape == (10, 2)
