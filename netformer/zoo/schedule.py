"""Schedule: the learning rate of one training run, of a network of the zoo and of the model."""

from __future__ import annotations

import math


def learning_rate(step: int, steps: int, peak: float, warmup: float = 0.1) -> float:
    """Linear warm-up over a share of the steps, then a cosine to zero (Loshchilov and Hutter, 1608.03983).

    step: from 0 to steps - 1. peak: the highest rate, at the end of the warm-up. warmup: its share of the steps, at
    least one step.
    """
    ramp = max(1, round(warmup * steps))
    if step < ramp:
        return peak * (step + 1) / ramp
    return peak * 0.5 * (1 + math.cos(math.pi * (step - ramp) / max(1, steps - ramp)))
