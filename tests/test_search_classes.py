"""Search where the target is a class: the error is the log loss of rows left out, the front answers with labels."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from commands import refused, run, small_model
from sklearn.base import clone
from sklearn.datasets import make_classification

from netformer import NetFormer, NetFormerClassifier
from netformer.errors import InputError
from netformer.exports.classes import log_loss
from netformer.exports.formula import formula_of
from netformer.exports.population import Population
from netformer.model.class_head import logistic
from netformer.ridge import PRIOR_SCALE
from netformer.search.classes import PENALTIES
from netformer.search.engine import search
from netformer.search.objectives import OBJECTIVES, chosen, smallest
from netformer.search.scoring import score
from netformer.search.spaces import SPACES, Space
from netformer.search.table import Search, search_classes, task_of_classes
from netformer.sources.c import _values

QUICK = {"evaluations": 40, "population": 20}


@pytest.fixture(scope="module", autouse=True)
def small():
    with small_model():
        yield


def table_of(n_classes, rows=120):
    X, y = make_classification(
        rows, 5, n_informative=4, n_redundant=0, n_classes=n_classes, class_sep=2.0, random_state=n_classes
    )
    return pd.DataFrame(X, columns=list("abcde")), y


@pytest.fixture(scope="module", params=[2, 3])
def table(request):
    return table_of(request.param)


@pytest.fixture(scope="module")
def task(table):
    X, y = table
    return task_of_classes(NetFormer.load(), X, y, tuple(range(y.max() + 1)))[0]


@pytest.fixture(scope="module")
def fitted(table):
    X, y = table
    few = Search(("error", "columns"), constraints={"max_columns": 3, "max_params": 60}, **QUICK)
    labels = np.array(["low", "mid", "top"], dtype=object)[y]
    return NetFormerClassifier(search=few, random_state=0).fit(X, pd.Series(labels, name="grade"))


@pytest.mark.parametrize("space", SPACES)
def test_every_candidate_is_a_network_of_classes(task, space):
    where = Space(task, space, columns=True)
    objectives = [one for name, one in OBJECTIVES.items() if name != "valid_error"]
    found = score(where, where.first(70, np.random.default_rng(0)), objectives)
    specs, k = found.networks.specs, task.n_outputs
    assert specs.n_outputs == k == (1 if len(np.unique(task.head.target.numpy(), axis=0)) == 2 else 3)
    assert (found.networks.weight[~specs.mask] == 0).all()
    assert specs.mask[:, -k:, 0].all()
    assert (specs.mask[:, -k:] == specs.mask[:, -1:]).all()
    assert torch.isfinite(found.networks.answers(task.rows.x)).all()
    assert np.isfinite(found.values).all()
    at = [one.name for one in objectives]
    assert (found.values[:, at.index("params")] == specs.mask.sum((1, 2)).numpy()).all()
    assert found.values[:, at.index("robustness")].min() > 0


@torch.no_grad()
def test_the_error_is_the_log_loss_of_rows_left_out_over_that_of_the_shares(task):
    """One network, its output layer solved again without the rows of each fold, under each penalty."""
    head, where = task.head, Space(task)
    written = where.write(where.first(1, np.random.default_rng(0)))
    error = float(head.solved(written)[1][0])
    reads, features = written.specs.mask[0, -1, 1:], head.x.shape[1]
    made = torch.cat([head.x, written.last_hidden(head.x[None])[0]], 1)
    made = made - made.mean(0)
    units = reads[features:].sum()
    made[:, features:] *= PRIOR_SCALE / units.sqrt() / made[:, features:].square().mean(0).sqrt().clamp(min=1e-4)
    made = made[:, reads]
    size, basis = torch.linalg.eigh((made.T @ made).double())
    rotated = made @ basis.float()
    codes = (head.target[:, 0] if head.n_outputs == 1 else head.target.argmax(1)).long().numpy()
    losses = np.zeros(len(PENALTIES))
    for left in head.left:
        for k, penalty in enumerate(PENALTIES):
            w, b = logistic(rotated, size, head.target, (~left).float()[None], torch.tensor([penalty]))
            losses[k] += log_loss((rotated @ w[0].float() + b[0].float())[left].numpy(), codes[left]).sum()
    share = np.exp(losses.min() - losses)
    shares = np.bincount(codes) / len(codes)
    plain = -shares @ np.log(shares)
    assert head.plain_loss == pytest.approx(plain, rel=1e-5)
    assert error == pytest.approx(share @ losses / share.sum() / len(codes) / plain, rel=2e-3)


def test_bytes_and_multiply_adds_are_those_of_the_c_file(table):
    X, y = table
    how = {"space": "structures", **QUICK}
    found, front = search_classes(
        NetFormer.load(), X, y, tuple(range(y.max() + 1)), ("error", "bytes", "multiply_adds"), **how
    )
    for i, (_, size, multiplications) in enumerate(found.values[found.front].tolist()):
        formula = formula_of(front.reading, front.networks[[i]])
        assert size == 4 * len(_values(formula))
        (body,), outputs = formula.bodies, formula.outputs
        dense = sum(layer.weight.size for layer in body) + sum(len(out.heads[0]) for out in outputs)
        assert multiplications == dense + sum(len(out.skip) for out in outputs if out.skip.any())


def test_the_answer_is_the_network_of_least_loss_under_the_constraints(fitted, table):
    X, y = table
    front, about = fitted.networks_, fitted.network_.about
    which = about["search"]["chosen"]
    np.testing.assert_array_equal(fitted.predict_proba(X), front.predict_proba(X, which))
    assert which == int(np.array(about["search"]["values"])[:, 0].argmin())
    assert int(front.networks.specs.n_params.max()) <= 60
    assert (fitted.feature_importances_ > 0).sum() <= 3
    assert (fitted.predict(X) == np.array(["low", "mid", "top"])[y]).mean() > 0.6
    shares = np.bincount(y) / len(y)
    assert about["log_loss"] < -(shares @ np.log(shares))
    unread = [name for name, worth in zip(X, fitted.feature_importances_, strict=True) if worth == 0]
    moved = X.assign(**{name: X[name].to_numpy()[::-1] for name in unread})
    np.testing.assert_array_equal(fitted.predict_proba(X), fitted.predict_proba(moved))


def test_it_is_saved_with_its_front(fitted, table, tmp_path):
    fitted.save(tmp_path / "found")
    again = NetFormerClassifier.load(tmp_path / "found")
    np.testing.assert_array_equal(again.predict_proba(table[0]), fitted.predict_proba(table[0]))
    assert len(again.networks_) == len(fitted.networks_)
    assert again.search is None


def test_other_labels_give_the_same_networks(table):
    X, y = table
    classes = tuple(range(y.max() + 1))
    _, front = search_classes(NetFormer.load(), X, y, classes, **QUICK)
    _, turned = search_classes(NetFormer.load(), X, y.max() - y, classes, **QUICK)
    np.testing.assert_allclose(front.predict_proba(X), turned.predict_proba(X)[..., ::-1], atol=1e-6)


def test_a_search_of_classes_goes_on_and_is_no_other_one(table, task, tmp_path):
    X, y = table
    straight = search(task, evaluations=40, population=10)
    search(task, evaluations=20, population=10, folder=tmp_path / "kept")
    again = search(task, evaluations=40, population=10, folder=tmp_path / "kept", workers=2)
    assert straight.values.tobytes() == again.values.tobytes()
    other = np.where(np.arange(len(y)) == int((y == 0).argmax()), 1, y)
    heavier, _ = task_of_classes(NetFormer.load(), X, y, tuple(range(y.max() + 1)), weight=1.0 + y)
    changed, _ = task_of_classes(NetFormer.load(), X, other, tuple(range(y.max() + 1)))
    for different in (heavier, changed):
        with pytest.raises(InputError, match="holds a search with another"):
            search(different, evaluations=20, population=10, folder=tmp_path / "kept")


def test_rows_weigh_as_they_are_told(table):
    X, y = table
    how = {"search": Search(**QUICK), "random_state": 0}
    plain = NetFormerClassifier(**how).fit(X, y)
    heavy = NetFormerClassifier(class_weight={0: 20.0} | dict.fromkeys(range(1, y.max() + 1), 1.0), **how).fit(X, y)
    assert heavy.predict_proba(X)[:, 0].mean() > plain.predict_proba(X)[:, 0].mean() + 0.03


def test_it_is_cloned_and_set_as_any_estimator():
    other = clone(NetFormerClassifier(search=Search(evaluations=5))).set_params(search__evaluations=7)
    assert other.search.evaluations == 7


def test_where_no_column_varies_the_shares_answer():
    found = NetFormerClassifier(search=Search(**QUICK)).fit(np.ones((30, 2)), np.repeat([0, 1], [10, 20]))
    np.testing.assert_allclose(found.predict_proba(np.ones((1, 2))), [[1 / 3, 2 / 3]], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"search": "nsga2"}, r"search must be None or a netformer\.search\.table\.Search, got 'nsga2'"),
        ({"max_params": 50}, "max_params is not for a search; bounds are its constraints, such as max_params"),
        ({"search": Search(["speed"])}, "objective must be a function or one of error, .*, got 'speed'"),
        ({"search": Search(["valid_error"])}, "valid_error needs at least 2 valid rows, got 0"),
        ({"search": Search(constraints={"max_columns": 0})}, "max_columns must be at least 1 for any network, got 0"),
        ({"model": NetFormer.load_arrays()}, "a search needs the model in torch; load it with NetFormer.load"),
    ],
)
def test_bad_input_is_one_line(change, message):
    with pytest.raises(InputError, match=message) as caught:
        NetFormerClassifier(**({"search": Search(**QUICK)} | change)).fit(*table_of(2))
    assert "\n" not in str(caught.value)


def test_no_candidate_is_smaller_than_the_least_allowed_bound(task):
    least = int(smallest(task).specs.n_params[0])
    with pytest.raises(InputError, match=f"max_params must be at least {least} for any network"):
        search(task, constraints={"max_params": least - 1}, **QUICK)
    where = Space(task, "structures")
    genomes = where.initial(200, np.random.default_rng(0))
    assert score(where, genomes, chosen(["params"])).values.min() >= least


def test_the_command_searches_classes(tmp_path):
    X, y = table_of(3)
    path, out, page = tmp_path / "t.csv", tmp_path / "front", tmp_path / "front.html"
    X.assign(grade=np.array(["low", "mid", "top"])[y]).to_csv(path, index=False)
    asked = ("--evaluations", 40, "--population", 20, "--max-columns", 3, "--out", out, "--report", page, "--json")
    facts = json.loads(run("search", path, "-t", "grade", *asked).stdout)
    front = Population.load(out)
    assert front.classes == ("low", "mid", "top")
    assert len(front) == len(facts["front"]) >= 1
    for fact in facts["front"]:
        assert len(fact["reads"]) <= 3
        assert 0 <= fact["accuracy"] <= 1
        assert fact["log_loss"] > 0
    assert page.read_text().count('class="graph"') == len(front)
    table = pd.read_csv(path)
    table.loc[:, "grade"] = ["rare", *["low", "mid"] * 60][: len(table)]
    table.loc[119, "grade"] = "rare"
    table.to_csv(tmp_path / "rare.csv", index=False)
    for seed in range(30):
        from netformer.cli.by import rows_to_train_on

        train = rows_to_train_on(len(table), seed)
        if not train[0] and not train[119]:
            said = refused("search", tmp_path / "rare.csv", "-t", "grade", "--seed", seed)
            assert "no row of class 'rare' is left to search on; give --no-score or another --seed" in said
            break
    else:
        pytest.fail("no seed holds both rare rows back")
