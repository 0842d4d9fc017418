"""Readers: what is asked, how it is split and scored; readers that find what is there."""

import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import draw, orbit_sample
from scipy.stats import kendalltau
from sklearn.metrics import r2_score

from netformer.artifacts import networks_table, read_tasks, write_parquet, write_tasks
from netformer.errors import InputError
from netformer.model.store import save_model
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import FUNCTIONS, Layout
from netformer.networks.stack import Networks
from netformer.readers import learned
from netformer.readers.boosted import mean_answer, statistics, statistics_and_score, weight_statistics
from netformer.readers.card import card, judged, summary
from netformer.readers.latent import between, neighbours, read_out
from netformer.readers.learned import Known, answers_of, latents, latents_of, probes
from netformer.readers.outside import Functional, functional, layers_of, plain_functional
from netformer.readers.questions import SEEDS, WAYS, Benchmark, columns_that_count, load_benchmark
from netformer.tasks.metafeatures import NAMES, MetaFeatureTransform
from netformer.tasks.scores import scores
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.task import Task
from netformer.tasks.view import stack_tasks
from stages import zoo_benchmark

LAYOUT = Layout(4, 3, 4)
N = 600


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A zoo of networks that were not trained, on random tasks of all three splits and all families."""
    path = tmp_path_factory.mktemp("zoo")
    sizes = {"seed": 0, "max_features": 4, "min_rows": 40, "max_rows": 60}
    tasks = [
        task
        for split, n in (("train", 40), ("valid", 30), ("test", 30))
        for task in synthetic_tasks(n, stream=split, split=split, **sizes)
    ]
    nets, owner = draw(N, layout=LAYOUT, inputs=4), torch.arange(N) % len(tasks)
    nets = Networks(nets.specs, 0.3 * nets.weight)
    r2 = scores(nets, stack_tasks(tasks, 4), owner)
    table = networks_table(nets, [tasks[i].task_id for i in owner.tolist()], r2=r2, arm=["zoo"] * N)
    write_tasks(tasks, path / "tasks.parquet")
    write_parquet(table, path / "zoo.parquet")
    return path


@pytest.fixture(scope="module")
def benchmark(folder):
    return load_benchmark(folder / "zoo.parquet")


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = {"max_features": 4, "max_hidden_layers": 3, "max_width": 4, "n_metafeatures": len(NAMES)}
        return TransformerVAE.from_arguments(**shape, d_model=16, n_heads=2, d_global=6, d_vertex=2).eval()


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(learned, "STEPS", 12)


@pytest.mark.parametrize("way", WAYS)
def test_no_split_shows_what_it_asks_for(benchmark, way):
    splits = benchmark.splits(way, 100, 80)
    assert [split.seed for split in splits] == list(range(SEEDS))
    for split in splits:
        fit, test = (benchmark.task_index[side] for side in (split.fit, split.test))
        assert {benchmark.tasks[i].split for i in fit} == {"train"}
        assert {benchmark.tasks[i].split for i in test} == {"valid", "test"}
        assert len(split.fit) <= 100
        assert len(split.test) <= 80
        if way == "family":
            families = benchmark.answers["family"]
            assert not set(families[split.fit]) & set(families[split.test])
            assert "family" not in split.asked
        if way == "architecture":
            depth = benchmark.networks.specs.depth.numpy()
            assert set(depth[split.fit]) == {1, 2}
            assert set(depth[split.test]) == {3}
    left_out = [set(benchmark.answers["family"][split.test]) for split in splits]
    if way == "family":
        assert sum(map(len, left_out)) == len(set.union(*left_out))
    again = benchmark.splits(way, 100, 80)[1]
    assert np.array_equal(again.fit, splits[1].fit)
    assert not np.array_equal(splits[0].fit, splits[1].fit)


def test_answers_are_those_of_the_files(benchmark, folder):
    table = pd.read_parquet(folder / "zoo.parquet")
    np.testing.assert_array_equal(benchmark.answers["test_r2"], table["test_r2"])
    np.testing.assert_allclose(benchmark.answers["gap"], table["train_r2"] - table["test_r2"])
    ceiling = table.merge(pd.read_parquet(folder / "tasks.parquet"), on="task_id")["ceiling"]
    np.testing.assert_allclose(10 ** benchmark.answers["noise"], np.sqrt((1 - ceiling) / ceiling).clip(lower=10**-1.5))
    families = [benchmark.classes["family"][i] for i in benchmark.answers["family"]]
    assert families == [benchmark.tasks[i].family for i in benchmark.task_index]
    assert [benchmark.tasks[i].task_id for i in benchmark.task_index] == table["task_id"].tolist()


def test_columns_count_that_move_the_answer():
    """Networks that read the first k columns alone; one more of them by a thousandth."""
    nets = draw(40, layout=LAYOUT, inputs=4, sparse_share=0.0)
    k, weight = torch.arange(40) % 4 + 1, nets.weight.clone()
    column = torch.arange(4)
    weight[:, :, 1:5] *= (column < k[:, None]).float().unsqueeze(1) + 1e-3 * (column == k[:, None]).float().unsqueeze(1)
    rng, rows = np.random.default_rng(0), np.zeros(200, np.int8)
    X = rng.normal(size=(200, 4))
    task = Task("t", "synthetic", "linear", "train", X, X @ [4.0, 3.0, 2.0, 1.0], rows)
    found = columns_that_count(Networks(nets.specs, weight), [task], np.zeros(40, int))
    assert (found <= k.numpy()).all()
    assert (found == k.numpy()).mean() > 0.8


def test_scores_are_those_of_other_libraries(benchmark):
    split = benchmark.splits("task")[0]
    truth = benchmark.answers["columns"][split.test]
    predicted = truth + np.random.default_rng(0).normal(size=len(truth))
    found = benchmark.score(split, "columns", predicted)
    assert found["r2"] == pytest.approx(r2_score(truth, predicted))
    assert found["tau"] == pytest.approx(kendalltau(truth, predicted).statistic)
    kinds = benchmark.answers["family"][split.test]
    assert benchmark.score(split, "family", kinds) == {"accuracy": 1.0}
    mean = benchmark.score(split, "gap", mean_answer(benchmark, split)["gap"])
    assert mean["tau"] == 0
    assert mean["r2"] <= 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda it: it.splits("width"), "way must be one of task, family, architecture, got 'width'"),
        (lambda it: it.splits("task", 5), "a split by task needs 20 networks to fit and 20 to judge on, found 5 and"),
        (
            lambda it: it.score(it.splits("task")[0], "gap", np.zeros(3)),
            r"gap: a reader must answer with one finite number per network, \(\d+,\), got \(3,\)",
        ),
        (
            lambda it: it.score(it.splits("task")[0], "gap", np.full(len(it.splits("task")[0].test), np.nan)),
            "gap: a reader must answer with one finite number per network",
        ),
        (lambda it: zoo_benchmark.named("nowhere:f"), "--reader must be MODULE:FUNCTION, got 'nowhere:f': No module"),
        (lambda it: zoo_benchmark.named("math:f"), "--reader must be MODULE:FUNCTION, got 'math:f': module 'math' has"),
    ],
)
def test_bad_input_is_one_line(benchmark, change, message):
    with pytest.raises(InputError, match=message) as caught:
        change(benchmark)
    assert "\n" not in str(caught.value)


def test_tasks_must_be_there_and_their_noise_known(folder, tmp_path):
    tasks = read_tasks(folder / "tasks.parquet")
    (tmp_path / "zoo.parquet").write_bytes((folder / "zoo.parquet").read_bytes())
    write_tasks(tasks[:-1], tmp_path / "tasks.parquet")
    with pytest.raises(InputError, match=r"1 tasks of its networks are not in tasks\.parquet beside it, such as"):
        load_benchmark(tmp_path / "zoo.parquet")
    write_tasks([replace(tasks[0], ceiling=float("nan")), *tasks[1:]], tmp_path / "tasks.parquet")
    with pytest.raises(InputError, match="the noise of 1 tasks is not known; leave them out"):
        load_benchmark(tmp_path / "zoo.parquet")


def test_weight_statistics_are_those_of_networks_taken_apart(benchmark):
    found = weight_statistics(benchmark.networks[:20])
    for i in range(20):
        specs, weight = benchmark.networks.specs[[i]], benchmark.networks.weight[i]
        first = weight[:4, 1:5][specs.mask[0, :4, 1:5]].double().numpy()
        expected = [len(first), first.mean(), first.var(), *np.quantile(first, (0, 0.25, 0.5, 0.75, 1))]
        np.testing.assert_allclose(found[i, :8], expected, rtol=1e-6, atol=1e-8)
        bias = weight[-1, 0][specs.mask[0, -1, 0]].double().numpy()
        assert found[i, -8:].tolist() == ([1, float(bias[0]), 0, *[float(bias[0])] * 5] if len(bias) else [0] * 8)


def permuted(networks: Networks) -> Networks:
    """The units of the first hidden layer of every network in reverse order."""
    order, out = networks.specs.widths[:, 0], []
    for i in range(len(networks)):
        one, w, f = networks[[i]], int(order[i]), networks.layout.max_features
        weight, mask = one.weight.clone(), one.specs.mask.clone()
        for part in (weight, mask):
            part[0, :w] = part[0, :w].flip(0)
            reader = networks.layout.layer(1) if int(one.specs.depth) > 1 else networks.layout.outputs
            part[0, reader, 1 + f : 1 + f + w] = part[0, reader, 1 + f : 1 + f + w].flip(1)
        out.append(Networks(replace(one.specs, mask=mask), weight))
    return Networks(
        replace(networks.specs, mask=torch.cat([one.specs.mask for one in out])),
        torch.cat([one.weight for one in out]),
    )


def test_a_shallow_network_is_a_deep_one_with_layers_that_do_nothing(benchmark):
    """What nfn is given computes what the network does."""
    nets = benchmark.networks[:40]
    weights, biases = layers_of(nets)
    x = torch.randn(1, 9, 4, generator=torch.Generator().manual_seed(0))
    for i in range(40):
        h = x[0]
        for index in range(3):
            a = h @ weights[index][i, 0].T + biases[index][i, 0]
            h = FUNCTIONS[int(nets.specs.activations[i, index])](a)
            h[:, int(nets.specs.widths[i, index] or nets.specs.last_units[i].sum()) :] = 0
        y = h @ weights[3][i, 0].T + biases[3][i, 0] + x[0] @ nets.weight[i, -1:, 1:5].T
        torch.testing.assert_close(y[:, 0], nets[[i]].predict(x)[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(permuted(nets).predict(x), nets.predict(x), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(find_spec("nfn") is None, reason="requirements-readers.txt not installed")
def test_nfn_does_not_see_the_order_of_units(benchmark):
    other = replace(benchmark, networks=permuted(benchmark.networks))
    for plain in (False, True):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            reader = Functional(benchmark, plain).eval()
        expected = reader(np.arange(30))
        reader.layers = Functional(other, plain).layers
        torch.testing.assert_close(reader(np.arange(30)), expected, rtol=1e-3, atol=1e-4)
    assert expected.shape == (30, reader.width)


@pytest.mark.skipif(find_spec("nfn") is None, reason="requirements-readers.txt not installed")
def test_nfn_answers_every_question(benchmark, short):
    for reader in (functional, plain_functional):
        split = benchmark.splits("task", 100, 60)[0]
        for name, answers in reader(benchmark, split).items():
            assert benchmark.score(split, name, answers)


def test_without_nfn_it_says_what_to_install(benchmark, monkeypatch):
    monkeypatch.setitem(sys.modules, "nfn", None)
    with pytest.raises(InputError, match=r"this reader needs nfn: pip install -r requirements-readers\.txt"):
        functional(benchmark, benchmark.splits("task", 100, 60)[0])


def test_a_learned_reader_finds_what_its_features_say(benchmark):
    """Features that are the answers, among noise and one that is the same for all networks fitted; and the same again,
    whatever the global generator holds."""
    noise = np.random.default_rng(0).normal(size=(N, 3))
    known = torch.from_numpy(np.column_stack([*benchmark.answers.values(), noise])).float()
    split, before = benchmark.splits("task")[0], torch.get_rng_state()
    known[:, -1] = torch.where(torch.isin(torch.arange(N), torch.from_numpy(split.fit)), 0.0, 1e6)
    found = answers_of(lambda _: Known(known), benchmark, split)
    assert benchmark.score(split, "noise", found["noise"])["r2"] > 0.7
    assert benchmark.score(split, "activation", found["activation"])["accuracy"] > 0.5
    assert torch.equal(before, torch.get_rng_state())
    again = answers_of(lambda _: Known(known), benchmark, split)
    assert all(np.array_equal(found[name], again[name]) for name in found)


def test_probes_see_the_function_and_not_the_weights(benchmark, short):
    """Equivalent networks are read alike."""
    split = benchmark.splits("task", 100, 60)[0]
    other = replace(benchmark, networks=orbit_sample(benchmark.networks, torch.Generator().manual_seed(0)))
    one, two = probes(benchmark, split), probes(other, split)
    assert set(one) == {"test_r2", "gap", "noise", "columns", "family", "activation"}
    np.testing.assert_allclose(one["gap"], two["gap"], rtol=1e-2, atol=1e-3)


def test_boosting_with_the_train_score_knows_the_gap_better(benchmark):
    split = benchmark.splits("task")[0]
    weights, both = (reader(benchmark, split) for reader in (statistics, statistics_and_score))
    r2 = [benchmark.score(split, "test_r2", found["test_r2"])["r2"] for found in (weights, both)]
    assert r2[1] > r2[0]
    assert benchmark.score(split, "activation", weights["activation"])["accuracy"] < 0.6


def test_latents_are_of_the_network_alone(benchmark, model, short):
    known = latents_of(model, benchmark)
    assert known.shape == (N, model.d_latent)
    shuffled = replace(benchmark, task_index=benchmark.task_index[::-1].copy())
    assert torch.equal(known, latents_of(model, shuffled))
    split = benchmark.splits("task", 100, 60)[0]
    assert "activation" not in latents(known)(benchmark, split)


def test_what_latents_know(benchmark, model):
    split = benchmark.splits("task", 200, 150)[0]
    found, one_by_one, alike = read_out(model, benchmark, split)
    assert list(found.index) == ["latent", "condition", "both"]
    assert len(one_by_one) == len(split.test)
    assert all(0 <= alike[name] <= 1 for name in ("same_widths", "same_activations"))
    np.testing.assert_array_equal(one_by_one["encoded_test_r2"], benchmark.answers["test_r2"][split.test])
    mixed = between(model, benchmark, split)
    assert mixed.index.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    np.testing.assert_allclose(mixed["written"].iloc[[0, -1]], mixed["mean_of_answers"].iloc[[0, -1]], atol=1e-4)
    with pytest.raises(InputError, match=r"the model must write networks of Layout\(max_features=4"):
        read_out(TransformerVAE.from_arguments(**model.arguments | {"max_width": 3}), benchmark, split)


def test_the_nearest_network_of_a_copy_is_the_copy(benchmark, model):
    twice = torch.arange(40).repeat_interleave(2)
    copies = Benchmark(
        benchmark.networks[twice],
        {name: values[twice.numpy()] for name, values in benchmark.answers.items()},
        benchmark.classes,
        benchmark.train_r2[twice.numpy()],
        benchmark.tasks,
        np.arange(40).repeat(2),
    )
    split = replace(benchmark.splits("task")[0], test=np.arange(80))
    found = neighbours(model, copies, split)
    assert (found.loc[["latents", "weight statistics"]] == 1.0).all(axis=None)
    assert found.loc["chance", "task"] == pytest.approx(1 / 79)


def test_the_card_shows_every_reader(benchmark):
    def right(benchmark, split):
        return {name: benchmark.answers[name][split.test] for name in ("gap", "family") if name in split.asked}

    done = []
    scores = judged(
        benchmark, {"mean": mean_answer, "right": right}, ("task", "architecture"), lambda *a: done.append(a)
    )
    assert done[-1] == (20, 20)
    found = summary(scores)
    assert found["task"]["right"]["gap"] == {"r2": 1.0, "tau": 1.0, "r2_sd": 0.0, "tau_sd": 0.0}
    text = card(found, {"networks": N, "tasks": 100}, {"Some": pd.DataFrame({"a": [0.5]}, index=["b"])})
    assert "| right |  | 1.000 +- 0.000<br>1.000 |  |  | 1.000 +- 0.000 |  |" in text
    assert "## Three hidden layers" in text
    assert "| b | 0.500 |" in text


def test_the_command_writes_the_card_with_a_reader_of_ones_own(folder, model, tmp_path, monkeypatch, short, capsys):
    values = np.random.default_rng(0).normal(size=(20, len(NAMES)))
    save_model(model, MetaFeatureTransform.fit(values), tmp_path / "model")
    (tmp_path / "mine.py").write_text("def zero(benchmark, split):\n    return {'gap': 0.0 * split.test}\n")
    monkeypatch.chdir(tmp_path)
    given = ["--zoo", folder / "zoo.parquet", "--model", tmp_path / "model", "--ways", "task", "--networks", 60]
    options = zoo_benchmark.arguments([str(one) for one in (*given, "--out", "out", "--reader", "mine:zero")])
    zoo_benchmark.main(options)
    assert "written: out/card.md" in capsys.readouterr().out
    text = (tmp_path / "out" / "card.md").read_text()
    assert "| mine:zero |  |" in text
    assert "| our latents |" in text
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "card.md", "metrics.json", "scores.csv", "readers.svg", "latent.svg"
    }  # fmt: skip
