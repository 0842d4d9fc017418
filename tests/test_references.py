"""References: every column is read, valid rows choose, test rows only report, workers change the speed alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.svm import SVR

from netformer.evaluation import references
from netformer.evaluation.references import REFERENCES, fit_reference, reference_scores
from netformer.tasks.task import TEST, TRAIN, VALID, Task


def draw(seed=0, n_rows=100, raw=12):
    """What matters is in the last columns of a wide table, most of it uncorrelated with y."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_rows, raw)) * np.logspace(-3, 3, raw)
    z = x / np.logspace(-3, 3, raw)
    y = 500 + 40 * (z[:, -1] ** 2 + z[:, -2] + 0.1 * rng.normal(size=n_rows))
    rows = np.tile(np.array([TRAIN, TRAIN, TRAIN, VALID, TEST], dtype=np.int8), n_rows // 5)
    return Task(f"drawn-{seed}", "synthetic", "drawn", "test", x, y, rows)


def relabelled(task, code, values):
    return replace(task, y=np.where(task.row_split == code, values, task.y))


def fit(name, task):
    return fit_reference(name, [task])[0][0]


@pytest.mark.parametrize("name", REFERENCES)
def test_learns_what_the_mean_cannot(name):
    task = draw(n_rows=300)
    test, train = task.row_split == TEST, task.row_split == TRAIN
    predicted = fit(name, task)
    error = np.square(predicted - task.y)[test].mean()
    assert predicted.shape == task.y.shape
    assert error < 0.7 * np.square(task.y[train].mean() - task.y)[test].mean()


@pytest.mark.parametrize("name", REFERENCES)
def test_valid_rows_choose_and_test_rows_only_report(name):
    task = draw()
    predicted = fit(name, task)
    assert np.array_equal(predicted, fit(name, relabelled(task, TEST, 1e6)))
    # Valid rows that show no signal ask for the smoothest configuration, real ones do not.
    assert not np.array_equal(predicted, fit(name, relabelled(task, VALID, task.y[task.row_split == TRAIN].mean())))


@pytest.mark.parametrize("name", REFERENCES)
def test_neither_workers_nor_other_tasks_change_a_prediction(name):
    tasks = [draw(seed, n_rows=20 * (1 + seed), raw=3 + seed) for seed in range(2)]
    predicted, fit_seconds, predict_seconds = fit_reference(name, tasks, workers=2, seed=3)
    for index, task in enumerate(tasks):
        assert np.array_equal(predicted[index], fit_reference(name, [task], workers=1, seed=3)[0][0])
    assert fit_seconds.shape == predict_seconds.shape == (2,)
    assert (fit_seconds > 0).all()
    assert (predict_seconds > 0).all()


def test_svr_is_the_best_on_valid_rows_of_fits_on_standardised_train_rows():
    task = draw()
    train, valid = task.row_split == TRAIN, task.row_split == VALID
    x = (task.X - task.X[train].mean(0)) / task.X[train].std(0)
    mean, scale = task.y[train].mean(), task.y[train].std()
    z, grid = (task.y[train] - mean) / scale, [(c, g / x.shape[1]) for c in (0.3, 1, 10, 100) for g in (0.1, 0.3, 1)]
    fits = [SVR(C=c, gamma=gamma).fit(x[train], z).predict(x) * scale + mean for c, gamma in grid]
    best = min(fits, key=lambda predicted: np.square(predicted - task.y)[valid].sum())
    np.testing.assert_allclose(fit("svr", task), best, rtol=1e-6)


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("what", ["y", "X", "one train row"])
def test_train_rows_with_nothing_to_learn_give_their_mean(name, what):
    task = draw(n_rows=20)
    train = task.row_split == TRAIN
    if what == "y":
        task = relabelled(task, TRAIN, 7.0)
    elif what == "X":
        task = replace(task, X=np.where(train[:, None], 1.0, task.X))
    else:
        task = replace(task, row_split=np.where(np.arange(20) == 0, TRAIN, np.where(train, TEST, task.row_split)))
    expected = task.y[task.row_split == TRAIN].mean()
    np.testing.assert_allclose(fit(name, task), np.full(20, expected))


def test_scores_are_a_long_table_with_test_r2_floored(monkeypatch):
    monkeypatch.setattr(references, "REFERENCES", {name: REFERENCES[name] for name in ("svr", "hgb")})
    plain = draw()
    test = plain.row_split == TEST
    tasks = [plain, replace(plain, task_id="inverted", y=np.where(test, 1e3 - 9 * plain.y, plain.y))]
    seen = []
    table = reference_scores(tasks, progress=lambda done, total: seen.append((done, total)))
    assert list(table.columns) == ["task_id", "row", "test_r2", "fit_seconds", "predict_seconds"]
    assert list(zip(table["row"], table["task_id"], strict=True)) == [
        (n, t.task_id) for n in ("svr", "hgb") for t in tasks
    ]
    assert seen == [(1, 2), (2, 2)]
    for name, group in table.groupby("row"):
        predicted, y = fit(name, plain)[test], plain.y[test]
        expected = 1 - np.square(predicted - y).sum() / np.square(y - y.mean()).sum()
        np.testing.assert_allclose(group["test_r2"].to_numpy(), [expected, -1.0])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="name must be one of svr, hgb, rf, extratrees, catboost, got 'xgb'"):
        fit_reference("xgb", [draw()])
    for code, rows in ((TRAIN, "train"), (VALID, "valid")):
        task = draw()
        task = replace(task, row_split=np.where(task.row_split == code, TEST, task.row_split))
        with pytest.raises(ValueError, match=f"task 'drawn-0' must have {rows} rows, found none"):
            fit_reference("svr", [task])
