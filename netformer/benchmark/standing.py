"""Standing: ours and the learners on mixed and class tables, scores per table and row split, and what they come to."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from netformer.arrays import functions as xp
from netformer.benchmark import learners
from netformer.benchmark.class_scores import LOWER_IS_BETTER, aligned, calibration_error, class_scores
from netformer.benchmark.class_tables import ClassTable
from netformer.benchmark.learners import METHODS, Answer, fit_predict, fit_predict_proba
from netformer.benchmark.mixed import MixedTable
from netformer.errors import InputError
from netformer.evaluation import comparison
from netformer.exports.population import Population
from netformer.files import code_digest
from netformer.generation.classifier import NetFormerClassifier
from netformer.generation.estimator import NetFormerRegressor
from netformer.networks.specs import ACTIVATIONS, Specs
from netformer.networks.stack import Networks
from netformer.tasks.scores import r2
from netformer.tasks.task import TEST
from netformer.workers import map_parallel

OURS = "wide_16"  # 16 networks merged, as they are written
STEPS = "wide_16_steps"  # with step units grown beside them where these help: what the estimator predicts with
SMALLEST = "small"  # one network, the smallest within 0.01 of the best
# What each is of `NetFormerRegressor`.
OWN: Mapping[str, Mapping[str, Any]] = {OURS: {"steps": False}, STEPS: {}, SMALLEST: {"max_loss": 0.01}}
SMALL = 1000  # rows, and more: not a small table
SETS = ("mixed_tables", "mixed_tables_small")
LIBRARIES = ("scikit-learn", "catboost", "skrub", "pandas")
SCORES = ["task_id", "row", "repeat", "test_r2"]
SMALL_REAL = 300  # rows of a real table of classes that is small, at most
Answers = Mapping[str, Sequence[Answer]]  # of a table: for every row split, by row of the report
Heads = Mapping[str, Callable[[Any, pd.DataFrame], np.ndarray]]  # row: (the fitted classifier, X) -> probabilities


def reference_key(table: MixedTable) -> str:
    """What decides the scores of the learners: the table and its splits, their code, the versions of the libraries."""
    decided = [table.digest(), code_digest([Path(learners.__file__)]), *(f"{n} {version(n)}" for n in LIBRARIES)]
    return hashlib.sha256("\n".join(decided).encode()).hexdigest()


def reference_scores(table: MixedTable, workers: int = 1) -> pd.DataFrame:
    """Test R2 of every learner of `METHODS` on every row split: columns SCORES and key, that of `reference_key`."""
    jobs = [(row, repeat) for row in METHODS for repeat in range(len(table.splits))]
    found = map_parallel(partial(_reference, table), jobs, workers=workers)
    facts = [(table.name, *job, value) for job, value in zip(jobs, found, strict=True)]
    return pd.DataFrame(facts, columns=SCORES).assign(key=reference_key(table))


def _reference(table: MixedTable, job: tuple[str, int]) -> float:
    codes = table.splits[job[1]]
    return r2_on_test(table.y, fit_predict(job[0], table.typed(), table.y, codes), codes)


def own_scores(tables: Sequence[MixedTable], workers: int = 1) -> pd.DataFrame:
    """Test R2 of `NetFormerRegressor` on every row split, fitted on the raw columns of all rows that are not TEST.

    Columns: SCORES, the rows are those of `OWN`. Raises InputError, with the table's name, for one that it does not
    read.
    """
    jobs = [(table, row, repeat) for table in tables for row in OWN for repeat in range(len(table.splits))]
    found = map_parallel(_own, jobs, workers=workers)
    facts = [(table.name, row, repeat, value) for (table, row, repeat), value in zip(jobs, found, strict=True)]
    return pd.DataFrame(facts, columns=SCORES)


def _own(job: tuple[MixedTable, str, int]) -> float:
    table, codes = job[0], job[0].splits[job[2]]
    test = codes == TEST
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # cells taken for gaps
            estimator = NetFormerRegressor(random_state=0, **OWN[job[1]])
            fitted = estimator.fit(table.X[~test], table.y[~test])
            predicted = np.asarray(fitted.predict(table.X[test]), dtype=np.float64)
    except InputError as error:
        raise InputError(f"{table.name}: {error}") from None
    return r2_on_test(table.y, predicted, codes)


def r2_on_test(
    y: Float[np.ndarray, " rows"], predicted: Float[np.ndarray, " test"], codes: Int[np.ndarray, " rows"]
) -> float:
    """R2 of `tasks.scores.r2` on the TEST rows, floored at -1; predicted: for these alone."""
    of = torch.from_numpy(y[codes == TEST])[None]
    return float(r2(of, torch.from_numpy(predicted)[None], torch.ones_like(of, dtype=torch.bool)))


def over_splits(scores: pd.DataFrame, tables: Sequence[MixedTable]) -> pd.DataFrame:
    """The long table of `evaluation.comparison`: set, task_id (the table), family, row, test_r2 (the mean over row
    splits), n_runs (their number). Tables of fewer than `SMALL` rows are in both `SETS`, the others in the first."""
    groups = scores.groupby(["task_id", "row"], sort=False)["test_r2"]
    long = groups.mean().to_frame().assign(n_runs=groups.size()).reset_index()
    long["family"] = long["task_id"].str.partition("-")[0]
    small = long["task_id"].isin([table.name for table in tables if len(table.y) < SMALL])
    every = pd.concat([long.assign(set=SETS[0]), long[small].assign(set=SETS[1])], ignore_index=True)
    return every[["set", "task_id", "family", "row", "test_r2", "n_runs"]]


def reference_answers(table: ClassTable, workers: int = 1) -> Answers:
    """Every learner of `CLASS_METHODS` on every row split of a table."""
    found = map_parallel(partial(_reference_answers, table), range(len(table.splits)), workers=workers)
    return {row: [answers[row] for answers in found] for row in found[0]}


def _reference_answers(table: ClassTable, repeat: int) -> dict[str, Answer]:
    return fit_predict_proba(table.typed(), table.y, table.splits[repeat], len(table.labels))


def own_answers(table: ClassTable, make: Callable[[], Any], heads: Heads, workers: int = 1) -> Answers:
    """A classifier on every row split, fitted on the raw columns and labels of all rows that are not TEST.

    make: gives an unfitted one, with `fit` and `classes_`. heads: what is asked of it, each for the TEST rows alone.
    Raises InputError, with the table's name, for one that it does not read.
    """
    found = map_parallel(partial(_own_answers, table, make, heads), range(len(table.splits)), workers=workers)
    return {row: [answers[row] for answers in found] for row in heads}


def _own_answers(table: ClassTable, make: Callable[[], Any], heads: Heads, repeat: int) -> dict[str, Answer]:
    test, labels, answers = table.splits[repeat] == TEST, np.asarray(table.labels, dtype=object), {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # cells taken for gaps
            start = time.perf_counter()
            fitted = make().fit(table.X[~test], labels[table.y[~test]])
            seconds = time.perf_counter() - start
            known = [table.labels.index(str(label)) for label in fitted.classes_]
            for row, head in heads.items():
                start = time.perf_counter()
                p = np.asarray(head(fitted, table.X[test]), dtype=np.float64)
                answers[row] = Answer(aligned(p, known, len(labels)), seconds, time.perf_counter() - start)
    except InputError as error:
        raise InputError(f"{table.name}: {error}") from None
    return answers


class WithRandomUnits(NetFormerClassifier):
    """The classifier, and `random_`: as many random hidden units, with the output layer solved alike.

    Hidden layers are one of tanh units with weights N(0, 1) / sqrt(inputs) and biases N(0, 1), as many per network as
    its last hidden layer has; both read the same standardised columns.
    """

    def fit(self, X: Any, y: Any, sample_weight: None = None) -> WithRandomUnits:
        """As of the classifier, without weights of the rows."""
        from netformer.generation.classes import solved

        super().fit(X, y)
        one, codes = self.networks_, np.searchsorted(self.classes_, np.asarray(y, dtype=self.classes_.dtype))
        x = xp.from_numpy(one.read(self._table(X))).float()
        stack = random_units(one.networks.tensors(), 0).numpy()
        alone, wide, _ = solved(stack, x, codes, len(self.classes_), xp.ones(len(x), dtype=xp.float64))
        self.random_ = Population(one.reading, alone, one.expected_r2, wide)
        return self


def random_units(networks: Networks, seed: int) -> Networks:
    """Networks of one layer of random tanh units, see `WithRandomUnits`; their output layers are 0."""
    specs, features = networks.specs, networks.layout.max_features
    units = specs.widths.gather(1, specs.depth.unsqueeze(1) - 1)
    width = int(units.max())
    mask = torch.zeros(len(units), width + 1, 1 + features + width, dtype=torch.bool)
    mask[:, :width, : 1 + features] = (torch.arange(width) < units).unsqueeze(2)
    drawn = torch.from_numpy(np.random.default_rng(seed).standard_normal((len(units), width, 1 + features))).float()
    drawn[:, :, 1:] /= features**0.5
    weight = torch.zeros(mask.shape)
    weight[:, :width, : 1 + features] = drawn
    tanh = torch.full_like(units, ACTIVATIONS.index("tanh"))
    return Networks(Specs(torch.full_like(units[:, 0], features), units, tanh, mask), weight * mask)


def true_answers(table: ClassTable) -> Answers:
    """The row `floor` of a table whose probabilities are known: these."""
    if table.true is None:
        return {}
    return {"floor": [Answer(table.true[codes == TEST].astype(np.float64), 0.0, 0.0) for codes in table.splits]}


def class_sets(table: ClassTable) -> list[str]:
    """The sets of the report that a table is in."""
    if table.true is not None:
        return ["heldout_family" if "heldout_family" in table.name else "heldout_tasks"]
    return ["real_tables", *(["real_tables_small"] if len(table.y) <= SMALL_REAL else [])]


def class_table(tables: Sequence[ClassTable], answers: Mapping[str, Answers]) -> pd.DataFrame:
    """A line per table, row split and row: task_id, repeat, row, the scores of `class_scores` on the TEST rows, and the
    seconds of the answer. answers: by name of the table."""
    lines: list[dict[str, Any]] = []
    for table in tables:
        for row, every in answers[table.name].items():
            for repeat, (codes, answer) in enumerate(zip(table.splits, every, strict=True)):
                scores = class_scores(table.y[codes == TEST], answer.p)
                seconds = {"fit_seconds": answer.fit_seconds, "predict_seconds": answer.predict_seconds}
                lines.append({"task_id": table.name, "repeat": repeat, "row": row, **scores, **seconds})
    return pd.DataFrame(lines)


def class_summary(
    tables: Sequence[ClassTable], answers: Mapping[str, Answers], ours: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """What every row of every set comes to.

    Of a set: n_tasks; for each score of `class_scores`: ROW, the mean over tables, each a mean over its row splits; for
    each of `ours` that the set has and every other row, OUR_minus_ROW, the mean difference, OUR_minus_ROW_se, its
    standard error over tables, and OUR_wins_ROW, the share of tables where ours is better; calibration_pooled: ROW, the
    calibration error of the TEST rows of all tables and splits together.
    """
    scores = class_table(tables, answers)
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for table in tables for name in class_sets(table)):
        members = [table for table in tables if name in class_sets(table)]
        own = scores[scores["task_id"].isin([table.name for table in members])]
        found[name] = {"n_tasks": len(members)}
        for score, lower in LOWER_IS_BETTER.items():
            wide = own.pivot_table(index="task_id", columns="row", values=score, sort=False)
            found[name][score] = {row: float(wide[row].mean()) for row in wide.columns}
            pairs = [(one, row) for one in ours if one in wide for row in wide.columns.drop(one)]
            for one, row in [both for both in pairs if len(wide[[*both]].dropna()) > 1]:
                pair = comparison.paired(-wide if lower else wide, one, row)
                found[name][score] |= {
                    f"{one}_minus_{row}": -pair.difference if lower else pair.difference,
                    f"{one}_minus_{row}_se": pair.se,
                    f"{one}_wins_{row}": pair.wins,
                }
        found[name]["calibration_pooled"] = {
            row: calibration_error(
                (table.y[codes == TEST], answer.p)
                for table in members
                for codes, answer in zip(table.splits, answers[table.name][row], strict=True)
            )
            for row in dict.fromkeys(own["row"])
        }
    return found
