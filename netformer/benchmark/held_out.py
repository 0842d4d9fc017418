"""Held out: what was predicted for rows that were not fitted, and the scores of it.

Every score is of all held-out rows together, and every standard error over them (over their groups, where rows depend
on each other), by the delta method: with e the error of a row, d its distance from the mean of all,

    R2 = 1 - mean e^2 / mean d^2        error of a row: (mean e^2 / mean d^2 d^2 - e^2) / mean d^2
    RMSE = sqrt(mean e^2)               error of a row: (e^2 - mean e^2) / 2 RMSE
    MAE = mean |e|

Of repeated folds e^2 and |e| of a row are means over repeats, RMSE is the root of the mean. The difference of two R2
has the error of the differences per row: learners err on the same rows.

Of classes log loss, accuracy and Brier score are means over rows. The area under the ROC curve has the error of DeLong,
DeLong and Clarke-Pearson (Biometrics 44, 1988): a row of the class counts by the share of other rows below it, another
row by the share of rows of the class above it. The calibration error has that of the mean of (probability - right) over
rows, with the sign of their interval; what chance makes of it is not in that error, see `class_scores`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from netformer.benchmark.class_scores import BINS, clipped, intervals_of
from netformer.benchmark.folds import cluster_error
from netformer.evaluation.comparison import verdict

OURS, ONE = "wide", "single"  # rows of ours: all networks merged, and the one expected to be the best
ERRORS = ("log_loss", "accuracy", "auc", "calibration_error", "brier")  # scores of classes, in the order of the table


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Predictions for rows that were not fitted.

    y: (rows,) their target. predicted: of each row of the table of scores (repeats, rows). ends: for each of
    `COVERAGES` the interval of `OURS`, (repeats, rows, 2). rows: their positions in the table. clusters, how, widen:
    see `folds.Plan`; of these rows alone.
    """

    y: Float[np.ndarray, " rows"]
    predicted: dict[str, Float[np.ndarray, "repeats rows"]]
    ends: dict[float, Float[np.ndarray, "repeats rows 2"]]
    rows: Int[np.ndarray, " rows"]
    clusters: Int[np.ndarray, " rows"]
    how: str
    widen: float = 1.0

    def error(self, influence: Float[np.ndarray, " rows"]) -> float:
        """Standard error of a mean over rows."""
        return self.widen * cluster_error(influence, self.clusters)

    def table(self) -> pd.DataFrame:
        """The scores, best first: index the method; columns r2, mae, rmse and their standard errors r2_se, mae_se,
        rmse_se (mae and rmse in units of the target); r2_minus and r2_minus_se, what the R2 of `OURS` is more than that
        of the row; standing, what `OURS` is against the row: ahead, behind or level, which is below two standard
        errors. Of a target that does not vary on these rows R2 is nan."""
        unit = float(np.abs(self.y).max()) or 1.0  # no overflow
        sizes = {name: np.abs(one - self.y) / unit for name, one in self.predicted.items()}
        squares = {name: np.square(one).mean(0) for name, one in sizes.items()}
        r2 = {name: _r2(one, np.square(self.y / unit - (self.y / unit).mean())) for name, one in squares.items()}
        rows: dict[str, dict[str, Any]] = {}
        for name, square in squares.items():
            rmse, size = float(np.sqrt(square.mean())), sizes[name].mean(0)
            rows[name] = {
                "r2": r2[name][0],
                "r2_se": self.error(r2[name][1]),
                "mae": unit * float(size.mean()),
                "mae_se": unit * self.error(size),
                "rmse": unit * rmse,
                "rmse_se": unit * self.error(square) / (2 * rmse) if rmse > 0 else 0.0,
                "r2_minus": r2[OURS][0] - r2[name][0],
                "r2_minus_se": self.error(r2[OURS][1] - r2[name][1]),
            }
            one = rows[name]
            known = name != OURS and np.isfinite(one["r2_minus"])
            one["standing"] = verdict(one["r2_minus"], one["r2_minus_se"]) if known else ""
        return pd.DataFrame.from_dict(rows, "index").rename_axis("method").sort_values("rmse", kind="stable")

    def coverage(self) -> pd.DataFrame:
        """Of each of `COVERAGES` as index: within, the share of rows inside their interval; within_se, its standard
        error; width, the median, in units of the target."""
        found = {}
        for coverage, ends in self.ends.items():
            inside = ((ends[..., 0] <= self.y) & (self.y <= ends[..., 1])).mean(0)
            width = float(np.median(ends[..., 1] - ends[..., 0]))
            found[coverage] = (float(inside.mean()), self.error(inside), width)
        return pd.DataFrame.from_dict(found, "index", columns=["within", "within_se", "width"]).rename_axis("coverage")


def _r2(
    square: Float[np.ndarray, " rows"], distance: Float[np.ndarray, " rows"]
) -> tuple[float, Float[np.ndarray, " rows"]]:
    """R2 from squared errors and squared distances from the mean, and what each row adds to its error; nan where there
    is no distance."""
    total = float(distance.mean())
    if total == 0:
        return float("nan"), np.full(len(square), np.nan)
    ratio = float(square.mean()) / total
    return 1 - ratio, (ratio * distance - square) / total


@dataclass(frozen=True, eq=False)
class HeldOutClasses:
    """Probabilities for rows that were not fitted.

    y: (rows,) the number of their class. predicted: of each row of the table of scores (repeats, rows, classes), also
    of classes that were not fitted. classes: labels. rows: their positions in the table. clusters, how, widen: see
    `folds.Plan`; of these rows alone.
    """

    y: Int[np.ndarray, " rows"]
    predicted: dict[str, Float[np.ndarray, "repeats rows classes"]]
    classes: tuple[Any, ...]
    rows: Int[np.ndarray, " rows"]
    clusters: Int[np.ndarray, " rows"]
    how: str
    widen: float = 1.0

    def error(self, influence: Float[np.ndarray, " rows"]) -> float:
        """Standard error of a mean over rows."""
        return self.widen * cluster_error(influence, self.clusters)

    def table(self) -> pd.DataFrame:
        """The scores, the least log loss first: index the method; columns `ERRORS` (`class_scores.class_scores`), means
        over repeats, the calibration error of all repeats together, and their standard errors, such as accuracy_se;
        log_loss_minus and log_loss_minus_se, what the log loss of `OURS` is more than that of the row; standing, what
        `OURS` is against the row: ahead (a lower log loss), behind or level, which is below two standard errors. The
        area (auc) is nan where all rows are of one class."""
        parts = {name: self._parts(answers) for name, answers in self.predicted.items()}
        ours, rows = parts[OURS]["log_loss"], dict[str, dict[str, Any]]()
        for name, found in parts.items():
            one: dict[str, Any] = {}
            rows[name] = one
            for score in ERRORS:
                one[score] = float(found[score].mean())
                one[f"{score}_se"] = self.error(found[score])
            one["log_loss_minus"] = float((ours - found["log_loss"]).mean())
            one["log_loss_minus_se"] = self.error(ours - found["log_loss"])
            known = name != OURS
            one["standing"] = verdict(-one["log_loss_minus"], one["log_loss_minus_se"]) if known else ""
        return pd.DataFrame.from_dict(rows, "index").rename_axis("method").sort_values("log_loss", kind="stable")

    def _parts(self, answers: Float[np.ndarray, "repeats rows classes"]) -> dict[str, Float[np.ndarray, " rows"]]:
        """Of each of `ERRORS` what a row adds to it: their mean is the score, their standard deviation its error."""
        p = np.stack([clipped(one) for one in answers])
        at, k = np.arange(len(self.y)), p.shape[2]
        right = p.argmax(2) == self.y
        distance = np.square(p - np.eye(k)[self.y]).sum(2).mean(0)
        return {
            "log_loss": -np.log(p[:, at, self.y]).mean(0),
            "accuracy": right.mean(0),
            "auc": np.mean([_areas(self.y, one) for one in p], 0),
            "calibration_error": _gaps(p.max(2), right),
            "brier": distance / 2 if k == 2 else distance,
        }

    def confusion(self, name: str = OURS) -> Int[np.ndarray, "classes classes"]:
        """How many rows of each class (a row per class) were taken for which, in the first repeat."""
        k = len(self.classes)
        taken = self.y * k + self.predicted[name][0].argmax(1)
        return np.bincount(taken, minlength=k * k).reshape(k, k)


def _areas(y: Int[np.ndarray, " rows"], p: Float[np.ndarray, "rows classes"]) -> Float[np.ndarray, " rows"]:
    """What every row adds to the area under the ROC curve, the mean over classes, each against the rest; of two classes
    that of the second. nan where there is no pair of rows of two classes."""
    areas = [
        _area(y == k, p[:, k]) for k in ([1] if p.shape[1] == 2 else range(p.shape[1])) if 0 < (y == k).sum() < len(y)
    ]
    return np.mean(areas, 0) if areas else np.full(len(y), np.nan)


def _area(positive: Bool[np.ndarray, " rows"], p: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """area + what a row adds to its error: of rows of the class rows / (rows of the class) (the share of others below
    it - area), of others rows / others (the share of rows of the class above it - area)."""
    rank, share = rankdata(p), np.zeros(len(p))
    for own, flip in ((positive, 0), (~positive, 1)):
        below = (rank[own] - rankdata(p[own])) / (~own).sum()
        share[own] = 1 - below if flip else below
    area = float(share[positive].mean())
    return area + (share - area) * np.where(positive, len(p) / positive.sum(), len(p) / (~positive).sum())


def _gaps(
    sure: Float[np.ndarray, "repeats rows"], right: Bool[np.ndarray, "repeats rows"]
) -> Float[np.ndarray, " rows"]:
    """What every row adds to the calibration error, see `class_scores.calibration_error`, over all repeats."""
    interval = intervals_of(sure)
    gap = np.bincount(interval.ravel(), (sure - right).ravel(), minlength=BINS)
    return ((sure - right) * np.sign(gap)[interval]).mean(0)
