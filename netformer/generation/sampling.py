"""Sampling: normal noise eps through the latent prior and the decoder becomes networks that run.

The first network of a task is written from the mode of the prior (eps = 0), in the canonical orientation: the one that
is delivered when one is asked for. The others are drawn.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float

from netformer.arrays.devices import drawn
from netformer.arrays.namespace import Generator, Tensor, namespace
from netformer.errors import InputError
from netformer.model.grammar import read_structure
from netformer.model.head import weigh_heads
from netformer.model.orientation import draw_orientations
from netformer.model.prompt import FREE, Prompt
from netformer.networks.stack import Networks, concatenate
from netformer.tasks.view import TaskStack

CHUNK = 8  # tasks at a time, few enough to stay in the cache


def sample_networks(
    model: Any,
    tasks: TaskStack,
    metafeatures: Float[Tensor, "t k"] | None,
    *,
    n_samples: int,
    generator: Generator,
    solve: bool = True,
    condition_tasks: TaskStack | None = None,
    temperature: float | None = None,
    order_noise: float | None = None,
    mode: bool = True,
    refine_steps: int = 0,
    prompt: Prompt = FREE,
) -> tuple[Networks, Float[Tensor, " n"]]:
    """`n_samples` networks for each task, task by task, in canonical coordinates, and the leave-one-out R2 of each.

    metafeatures: transformed, or None for the null embedding. solve: solve the output layer on the task's train rows;
    else every weight is the decoder's, and R2 nan. condition_tasks: what the task encoder reads instead of `tasks`;
    None: the tasks themselves; an empty stack (no tasks) withholds the channel. temperature: see
    `TransformerVAE.draw`. order_noise: of the orientations networks are written in, the first canonical, see
    `orientation`; None: the model's. mode: the first sample of each task is the mode of the prior; False: all are
    drawn. refine_steps: gradient steps on each latent (`refinement.refine_latents`), which flatter the R2 returned.
    prompt: constraints that all keep.
    model: a `TransformerVAE`, or an `ArrayModel` where everything else is arrays too.
    """
    if refine_steps and not solve:
        raise InputError("refine_steps move latents for a solved output layer, got solve=False")
    parts, estimates, xp = [], [], namespace(tasks.x)
    noise = model.order_noise if order_noise is None else order_noise
    k = min(model.orientations, n_samples) if noise else 1
    share = xp.arange(n_samples) * k // n_samples  # the orientation of each sample
    eps = drawn("randn", len(tasks) * n_samples, model.d_latent, generator=generator, like=tasks.x)
    if mode:
        eps[::n_samples] = 0
    every = draw_orientations(tasks.n_features.repeat_interleave(k), model.layout.max_features, noise, generator)
    every = every.canonical(xp.arange(len(tasks) * k) % k == 0)
    with xp.no_grad():
        for start in range(0, len(tasks), CHUNK):
            at = xp.arange(start, min(start + CHUNK, len(tasks))).repeat_interleave(k)  # one row per orientation
            oriented = every[start * k : start * k + len(at)]
            part = oriented.apply(tasks[at].train_only())
            seen: TaskStack | None = part
            if condition_tasks is not None:
                seen = oriented.apply(condition_tasks[at].train_only()) if len(condition_tasks) else None
            c = model.embed(len(at), seen, None if metafeatures is None else metafeatures[at])
            index = (xp.arange(0, len(at), k).unsqueeze(1) + share).flatten()  # one row per network
            c, oriented = c[index], oriented[index]
            first = start * n_samples
            z = model.draw(model.prior_of(c), eps[first : first + len(index)], temperature)
            n_inputs = part.n_features.clamp(min=1)[index]
            specs = read_structure(model.structure_logits(z, c), n_inputs, model.layout, prompt)
            own = part[index]
            if refine_steps:
                from netformer.generation.refinement import refine_latents  # torch

                z = refine_latents(model, own, c, z, specs, steps=refine_steps)
            written, estimate = model.write(z, c, specs), xp.full((len(c),), xp.nan)
            if solve:
                written, estimate = weigh_heads(written, own, model.penalties(c))
            parts.append(oriented.undo(written))
            estimates.append(estimate)
    return concatenate(parts), xp.cat(estimates)
