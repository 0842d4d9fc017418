"""Ridge regression in closed form, its leave-one-out errors, and the weights of several fits of the same rows."""

from __future__ import annotations

from jaxtyping import Bool, Float

from netformer.arrays.functions import logspace
from netformer.arrays.namespace import Tensor, alike, namespace

PENALTIES = logspace(-3, 3, 13)  # that every fit is made under
TRUST = 40.0  # a unit of R2 by leave-one-out multiplies the weight of a fit by exp(TRUST)
STRIP = 128  # columns of a Gram matrix that are computed together
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


def along_eigenvectors(
    design: Float[Tensor, "rows slots"],
) -> tuple[Float[Tensor, " k"], Float[Tensor, "slots k"], Float[Tensor, "rows k"]]:
    """Eigenvalues and vectors of the Gram matrix, and the design along them; from its smaller side."""
    xp = namespace(design)
    if len(design) < design.shape[1]:
        size, left = xp.linalg.eigh(design @ design.T)
        size = size.clamp(min=0)
        basis = design.T @ (left * xp.where(size > 1e-12 * size[-1], size, xp.inf).rsqrt())
        return size, basis, left * size.sqrt()
    size, basis = xp.linalg.eigh(gram(design))
    return size.clamp(min=0), basis, design @ basis


def gram(design: Float[Tensor, "rows slots"]) -> Float[Tensor, "slots slots"]:
    """design' design: what lies above the diagonal is computed, the rest mirrored."""
    products = design.new_empty(design.shape[1], design.shape[1])
    for start in range(0, len(products), STRIP):
        stop = min(start + STRIP, len(products))
        products[start:stop, start:] = design[:, start:stop].T @ design[:, start:]
        products[stop:, start:stop] = products[start:stop, stop:].T
    return products
