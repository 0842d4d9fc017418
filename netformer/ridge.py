"""Ridge regression in closed form, its leave-one-out errors, and the weights of several fits of the same rows."""

from __future__ import annotations

from jaxtyping import Bool, Float

from netformer.arrays.functions import logspace
from netformer.arrays.namespace import Tensor, alike, namespace

PENALTIES = logspace(-3, 3, 13)  # that every fit is made under
TRUST = 40.0  # a unit of R2 by leave-one-out multiplies the weight of a fit by exp(TRUST)
PRIOR_SCALE = 4.0  # standard deviation a priori of what all hidden units say together, against that of one input


def ridge_path(
    design: Float[Tensor, "t rows k"], y: Float[Tensor, "t rows"], train: Bool[Tensor, "t rows"]
) -> tuple[Float[Tensor, "t rows penalties"], Float[Tensor, "t rows penalties"]]:
    """Predictions for every row, and its leverage, under each of `PENALTIES`.

    Minimises sum (y - b - design w)^2 + penalty w'w over the train rows. Leverage of a train row: its diagonal entry of
    the hat matrix, 1/m + z'(Z'Z + penalty)^-1 z with z the centred row.
    """
    keep = train.to(design.dtype)
    count = keep.sum(1).clamp(min=1).view(-1, 1, 1)
    weight = keep.unsqueeze(2)
    y_mean = (y * keep).sum(1).view(-1, 1, 1) / count
    every = bool(train.all())
    z = design - (design if every else design * weight).sum(1, keepdim=True) / count
    size, basis = namespace(z).linalg.eigh((z if every else z * weight).transpose(1, 2) @ z)
    rotated = z @ basis
    moment = (rotated if every else rotated * weight).transpose(1, 2) @ (y.unsqueeze(2) - y_mean)
    inverse = 1 / (size.clamp(min=0).unsqueeze(2) + alike(PENALTIES, design).to(design.dtype))
    return y_mean + rotated @ (moment * inverse), 1 / count + rotated.square() @ inverse


def leave_one_out(
    predicted: Float[Tensor, "t rows penalties"],
    leverage: Float[Tensor, "t rows penalties"],
    y: Float[Tensor, "t rows"],
    train: Bool[Tensor, "t rows"],
) -> Float[Tensor, "t penalties"]:
    """Sum over train rows of the squared error of the fit without that row: (residual / (1 - leverage))^2."""
    left = (y.unsqueeze(2) - predicted) / (1 - leverage).clamp(min=1e-12)
    return namespace(y).where(train.unsqueeze(2), left, 0.0).square().sum(1)


def trust(error: Float[Tensor, "*n candidates"]) -> Float[Tensor, "*n candidates"]:
    """Weights of several fits of the same rows, adding up to 1: the softmax of -TRUST * error.

    error: sums of squared leave-one-out errors over the sum of squares about the mean.
    """
    return namespace(error).softmax(-TRUST * error, -1)


def prior_scale(variance: Float[Tensor, " slots"], features: int, units: int | None = None) -> Float[Tensor, " slots"]:
    """What inputs and hidden units are multiplied by, so that one penalty fits all: 1 for an input. units: how many
    there are, None: all slots behind the inputs."""
    units = len(variance) - features if units is None else units
    scale = PRIOR_SCALE / max(units, 1) ** 0.5 / variance[features:].sqrt().clamp(min=1e-4)
    xp = namespace(scale)
    return xp.cat([xp.ones(features, dtype=scale.dtype), scale])
