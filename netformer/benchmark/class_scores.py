"""Scores of classes: how good probabilities are on rows that were not fitted.

Classes are numbered 0 to K - 1. Probabilities are (rows, K), one column per class of the whole table, also of one that
was not among the rows fitted; every score first takes them at least `FLOOR` and divides them by their sum, so that a
class that is called impossible costs log(1 / `FLOOR`) = 13.8 and not everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from netformer.errors import InputError

FLOOR = 1e-6
BINS = 15
LOWER_IS_BETTER = {"log_loss": True, "auc": False, "accuracy": False, "brier": True, "calibration_error": True}
SCORES = tuple(LOWER_IS_BETTER)


def aligned(
    p: Float[np.ndarray, "rows known"], known: Sequence[int] | Int[np.ndarray, " known"], n_classes: int
) -> Float[np.ndarray, "rows classes"]:
    """Probabilities of the classes `known` to a learner (its `classes_`) in a column per class; the others have 0."""
    every = np.zeros((len(p), n_classes))
    every[:, np.asarray(known, dtype=np.int64)] = p
    return every


def clipped(p: Float[np.ndarray, "rows classes"]) -> Float[np.ndarray, "rows classes"]:
    """Probabilities at least `FLOOR`, of sum 1. Raises InputError where one is not finite."""
    if not np.isfinite(p).all():
        raise InputError("probabilities must be finite, found others; check the learner")
    at_least = np.clip(p, FLOOR, None)
    return at_least / at_least.sum(1, keepdims=True)


def class_scores(y: Int[np.ndarray, " rows"], p: Float[np.ndarray, "rows classes"]) -> dict[str, float]:
    """`SCORES` of probabilities of the classes 0 to K - 1.

    log_loss: mean negative log probability of the class, in nats. auc: area under the ROC curve; of K >= 3 classes the
    mean of each against the rest, those without rows or with all of them left out; nan where none is left. accuracy: of
    the most probable class, of equals the first. brier: mean squared distance of the probabilities from the class; half
    of it for two classes, as is usual. calibration_error: see `calibration_error`.

    Raises InputError for a class outside 0 to K - 1 and for probabilities that are not finite.
    """
    if len(y) and not 0 <= y.min() <= y.max() < p.shape[1]:
        raise InputError(f"classes must be 0 to {p.shape[1] - 1}, got {y.min()} to {y.max()}")
    p = clipped(p)
    distance = np.square(p - np.eye(p.shape[1])[y]).sum(1).mean()
    return {
        "log_loss": log_loss(y, p),
        "auc": _auc(y, p),
        "accuracy": float((p.argmax(1) == y).mean()),
        "brier": float(distance / 2 if p.shape[1] == 2 else distance),
        "calibration_error": calibration_error([(y, p)]),
    }


def log_loss(y: Int[np.ndarray, " rows"], p: Float[np.ndarray, "rows classes"]) -> float:
    """Mean negative log probability of the class, clipped, in nats."""
    return float(-np.log(clipped(p)[np.arange(len(y)), y]).mean())


def negative_log_loss(learner: Any, X: Any, y: Int[np.ndarray, " rows"]) -> float:
    """A scikit-learn scorer by `log_loss`, of a learner fitted on class numbers, perhaps not on all of them."""
    known = learner.classes_
    return -log_loss(y, aligned(learner.predict_proba(X), known, 1 + int(max(y.max(), max(known)))))


def _auc(y: Int[np.ndarray, " rows"], p: Float[np.ndarray, "rows classes"]) -> float:
    from sklearn.metrics import roc_auc_score

    classes = [1] if p.shape[1] == 2 else range(p.shape[1])
    areas = [roc_auc_score(y == k, p[:, k]) for k in classes if 0 < (y == k).sum() < len(y)]
    return float(np.mean(areas)) if areas else float("nan")


def calibration_error(answers: Iterable[tuple[Int[np.ndarray, " _"], Float[np.ndarray, "_ _"]]]) -> float:
    """Expected calibration error of the most probable class (Guo et al. 2017, eq. 5), over the rows of all answers
    (y, p) together.

    Rows are parted by the probability of their most probable class into `BINS` intervals of equal width; the error is
    the distance of the mean probability from the share of rows that have that class, a mean over intervals weighted by
    their rows. Chance makes it too high: a perfect forecast has about 0.1 with 60 rows; pool rows.
    """
    pairs = [(p.max(1), p.argmax(1) == y) for y, p in ((y, clipped(p)) for y, p in answers)]
    sure, right = (np.concatenate(part) for part in zip(*pairs, strict=True))
    gap = np.bincount(intervals_of(sure), sure - right, minlength=BINS)
    return float(np.abs(gap).sum() / len(sure))


def intervals_of(p: Float[np.ndarray, "*n"]) -> Int[np.ndarray, "*n"]:
    """Which of `BINS` intervals of equal width between 0 and 1 a probability lies in."""
    return np.minimum((p * BINS).astype(np.int64), BINS - 1)
