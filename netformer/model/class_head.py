"""Class head: multinomial logistic regression, the output layer where the target is a class.

    minimise  -sum_i w_i log p_i(class of row i) + penalty / 2 |weights|^2        p: softmax, of one output a sigmoid

Many of them are solved at once (`logistic`) along the eigenvectors of the Gram matrix, where a step divides by one
diagonal: the curvature of the loss is taken for so many times the Gram matrix as it is at the start, more after a step
uphill, at most `BOUND` (Boehning 1992). Nesterov's momentum, restarted where it points uphill (O'Donoghue and Candes
2015), speeds it up. The few steps are part of the fit: more of them are no better. Training goes through them
(`class_logits`), as through the ridge regression of `head` where the target is a number.
"""

from __future__ import annotations

from jaxtyping import Bool, Float

from netformer.arrays.namespace import Tensor, namespace
from netformer.ridge import prior_scale

STEPS = 16
STEEPER = 2.0  # times the curvature, after a step uphill
BOUND = {True: 0.25, False: 0.5}  # of the curvature of the loss: of one output, of several
LEAST_SHARE = 1e-6  # of a class among the rows, as its bias starts
TRAINED_PENALTIES = (1.0, 10.0)  # about the quartiles of what is chosen on rows left out, over random tasks
LEAST_VARIANCE = 1e-6  # of a hidden unit: below it a gradient would divide by nearly nothing


def class_logits(
    hidden: Float[Tensor, "t rows units"],
    own: Bool[Tensor, "t units"],
    x: Float[Tensor, "t rows inputs"],
    target: Float[Tensor, "t rows classes"],
    fitted: Bool[Tensor, "t rows"],
    steps: int = STEPS,
) -> Float[Tensor, "t rows classes"]:
    """Logits of every row under an output layer on [x, hidden units] solved on the rows fitted, the mean over
    `TRAINED_PENALTIES`: what is delivered, but for penalties weighed by folds. Differentiable in x and hidden units.

    own: hidden units that exist. target: 1 for the class of a row; read where rows are fitted alone. A task with fewer
    classes than others has zeros in the last ones.
    """
    import torch

    made, weight = torch.cat([x, hidden * own.unsqueeze(1)], 2), fitted.to(x.dtype)
    mass, keep = weight.sum(1).view(-1, 1, 1), weight.unsqueeze(2)
    away = made - (made * keep).sum(1, keepdim=True) / mass
    variance = (away.square() * keep).sum(1) / mass.squeeze(1) + LEAST_VARIANCE
    units = own.sum(1).tolist()
    away = away * torch.stack(
        [prior_scale(each, x.shape[2], count) for each, count in zip(variance, units, strict=True)]
    ).unsqueeze(1)
    some = fitted.any(0).nonzero().squeeze(1)  # looked for once
    with torch.no_grad():  # a basis to step along, which moves nothing that steps end at
        gram = (away.mT @ (away * keep)).double()  # in float32 it may not converge where there are few rows
        size, basis = torch.linalg.eigh(gram.nan_to_num(0.0, 0.0, 0.0))  # not finite: the loss is not either
    parts = (away @ basis.to(x.dtype), size.clamp(min=0), target * keep, weight)
    rotated, size, target, weight = (part.repeat_interleave(len(TRAINED_PENALTIES), 0) for part in parts)
    penalties = torch.tensor(TRAINED_PENALTIES).repeat(len(x))
    weights, bias = logistic(rotated[:, some], size, target[:, some], weight[:, some], penalties, steps)
    return (times(rotated, weights.to(x.dtype)) + bias.to(x.dtype)).unflatten(0, (len(x), -1)).mean(1)


def logistic(
    rotated: Float[Tensor, "*p rows r"],
    size: Float[Tensor, "*p r"],
    target: Float[Tensor, "*t rows k"],
    weight: Float[Tensor, "p rows"],
    penalties: Float[Tensor, " p"],
    steps: int = STEPS,
) -> tuple[Float[Tensor, "p r k"], Float[Tensor, "p 1 k"]]:
    """Weights and biases of p logistic regressions, see the module; in float32.

    rotated: columns, one set for all or one for each, whose products are `size` under the weights of all rows, and 0
    between two. target: 1 for the class of a row; of one output for the second class; the same for all or one for each.
    A class without rows gets no share. weight: of the rows in each. penalties: of each; of one output they count half,
    as if there were two. Differentiable in `rotated`; `size` sets the length of steps, not what they end at.
    """
    rotated, size, target, weight, penalties = (part.float() for part in (rotated, size, target, weight, penalties))
    xp, one, total = namespace(rotated), target.shape[-1] == 1, weight.sum(1).view(-1, 1, 1)
    count = weight.unsqueeze(1) @ target
    share = (count / total).clamp(LEAST_SHARE, 1 - LEAST_SHARE)
    penalty, size = (penalties * (0.5 if one else 1.0)).view(-1, 1, 1), size.unsqueeze(-1)
    curve = (share * (1 - share)).sum(2, keepdim=True) / ((count > 0).sum(2, keepdim=True) - 1).clamp(min=1)
    mass, limit = weight.amax() * target.shape[-2], xp.full_like(total, xp.inf)
    at_w = rotated.new_zeros(len(weight), rotated.shape[-1], target.shape[-1])
    at_b = xp.logit(share) if one else share.log()
    ahead_w, ahead_b, rate = at_w, at_b, xp.ones_like(total)
    for _ in range(steps):
        logits = times(rotated, ahead_w) + ahead_b
        answer = xp.sigmoid(logits) if one else xp.softmax(logits, 2)
        height = (log_loss(logits, target) * weight).sum(1).view(-1, 1, 1)
        height = height + penalty / 2 * ahead_w.square().sum((1, 2), keepdim=True)
        back = height > limit
        curve = xp.where(back, (STEEPER * curve).clamp(max=BOUND[one]), curve)
        off, down = (target - answer) * weight.unsqueeze(2), curve * size + penalty
        new_w = ahead_w + (times(rotated.mT, off) - penalty * ahead_w) / down
        new_b = ahead_b + off.sum(1, keepdim=True) / (curve * mass)
        uphill = ((ahead_w - new_w) * (new_w - at_w) * down).sum((1, 2), keepdim=True) > 0
        rate = xp.where(uphill, 1.0, rate)
        following = (1 + xp.sqrt(1 + 4 * rate.square())) / 2
        moved = (new + (rate - 1) / following * (new - at) for new, at in ((new_w, at_w), (new_b, at_b)))
        ahead_w, ahead_b = (xp.where(back, at, ahead) for at, ahead in zip((at_w, at_b), moved, strict=True))
        at_w, at_b = xp.where(back, at_w, new_w), xp.where(back, at_b, new_b)
        rate, limit = xp.where(back, 1.0, following), xp.where(back, xp.inf, height)
    return at_w.double(), at_b.double()


def times(a: Float[Tensor, "*p i j"], b: Float[Tensor, "p j k"]) -> Float[Tensor, "p i k"]:
    """a @ b; of one a for all as one product, not one for each."""
    if a.ndim == 3:
        return a @ b
    every = a @ b.transpose(0, 1).reshape(a.shape[1], -1)
    return every.view(len(a), len(b), -1).transpose(0, 1)


def log_loss(logits: Float[Tensor, "p rows k"], target: Float[Tensor, "*t rows k"]) -> Float[Tensor, "p rows"]:
    """Of each row under a softmax, expected where the target holds probabilities; of one output, a logistic function,
    whose target is 0 or 1."""
    xp = namespace(logits)
    if target.shape[-1] == 1:
        return xp.nn.functional.softplus((1 - 2 * target[..., 0]) * logits[:, :, 0])
    return -(xp.log_softmax(logits, 2) * target).sum(2)
