"""Classes: from the outputs of a network to the probabilities of the target's classes, and to their labels.

Of two classes a network has one output, the logit of the second; of K >= 3 it has K, whose softmax the probabilities
are. Labels are text, whole numbers, numbers or truth values, as they stood in the table, in sorted order.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, softmax

from netformer.errors import InputError


def n_outputs_of(n_classes: int) -> int:
    """Outputs of a network: 1 of numbers (0 classes) and of two classes, else one per class."""
    return 1 if n_classes <= 2 else n_classes


def probabilities(logits: Float[np.ndarray, "*n outputs"]) -> Float[np.ndarray, "*n classes"]:
    """The probability of each class, adding up to 1, from the outputs."""
    if logits.shape[-1] == 1:
        return np.concatenate([expit(-logits), expit(logits)], -1)
    return softmax(logits, axis=-1)


def most_probable(logits: Float[np.ndarray, "*n outputs"]) -> Int[np.ndarray, "*n"]:
    """The number of the most probable class; of several equals the first."""
    if logits.shape[-1] == 1:
        return (logits[..., 0] > 0).astype(np.int64)
    return logits.argmax(-1)


def labels_of(classes: tuple[Any, ...]) -> np.ndarray:
    """Labels as an array, text as objects."""
    return np.array(classes, dtype=object if isinstance(classes[0], str) else None)


def log_loss(logits: Float[np.ndarray, "rows outputs"], codes: Int[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """Minus the logarithm of the probability of each row's class."""
    if logits.shape[1] == 1:
        return np.logaddexp(0.0, np.where(codes == 1, -1.0, 1.0) * logits[:, 0])
    return np.logaddexp.reduce(logits, 1) - np.take_along_axis(logits, codes[:, None], 1)[:, 0]


def codes_of(y: Any, classes: tuple[Any, ...]) -> Int[np.ndarray, " rows"]:
    """The number of each label's class. Raises InputError for labels that are none of the classes."""
    place = {label: number for number, label in enumerate(classes)}
    labels = np.asarray(y, dtype=object).ravel().tolist()
    known = [isinstance(label, Hashable) and label in place for label in labels]
    if not all(known):
        other = labels[known.index(False)]
        raise InputError(f"y must hold labels of the classes fitted, found {other!r} in row {known.index(False) + 1}")
    return np.array([place[label] for label in labels], dtype=np.int64)
