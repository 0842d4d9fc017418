"""Arms: networks written under several conditions, to see what each part of the condition is worth."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from netformer.errors import InputError
from netformer.generation.sampling import sample_networks
from netformer.model.vae import TransformerVAE
from netformer.networks.stack import Networks
from netformer.tasks.view import TaskStack

CONTROLS = ("raw_with_metafeatures", "shuffled_condition", "metafeatures_only", "unconditional")


ARMS = ("single", "raw", *CONTROLS)


# Stored beside them: the samples of `single` and `raw` after the first one, which alone depend on the sampling seed.
DRAWN, RAW_DRAWN = "drawn", "raw_drawn"


def sample_arm(
    model: TransformerVAE, tasks: TaskStack, metafeatures: Float[Tensor, "t k"], arm: str, n_samples: int, seed: int
) -> tuple[Networks, Float[Tensor, " n"]]:
    """Networks of one arm of the experiment, and the leave-one-out R2 of each, see `sample_networks`.

    single: samples as delivered, the first the mode of the prior. raw: the same eps, every weight written by the
    decoder, all in the canonical orientation, as is what follows. Both are told of the task by its rows, and by
    meta-features only if the model has no other channel. Raw under another condition: raw_with_metafeatures (both
    channels), shuffled_condition (the condition of another task), metafeatures_only (no task embedding), unconditional.
    """
    g = torch.Generator().manual_seed(seed)
    empty = tasks[:0]
    delivered = metafeatures if model.condition == "metafeatures" else None
    if arm == "single":
        return sample_networks(model, tasks, delivered, n_samples=n_samples, generator=g)
    if arm == "shuffled_condition":
        other = torch.roll(torch.arange(len(tasks)), 1)
        tasks_seen, known = tasks[other], None if delivered is None else delivered[other]
    elif arm == "raw_with_metafeatures":
        tasks_seen, known = tasks, metafeatures
    elif arm == "metafeatures_only":
        tasks_seen, known = empty, metafeatures
    elif arm == "unconditional":
        tasks_seen, known = empty, None
    elif arm == "raw":
        tasks_seen, known = tasks, delivered
    else:
        raise InputError(f"arm must be one of {', '.join(ARMS)}, got {arm!r}")
    return sample_networks(
        model,
        tasks,
        known,
        n_samples=n_samples,
        generator=g,
        solve=False,
        condition_tasks=tasks_seen,
        order_noise=0.0,
    )
