"""The bench of everything around the transformer: tokens, meta-features, its training and its samples.

The plain way to train on tokens, one position per edge, is in `bench.edge_sequence`.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.edge_sequence import EdgeSequence, edge_batch
from bench.machine import in_turns, product, seconds
from netformer.generation.generator import NetFormer
from netformer.generation.sampling import sample_networks
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import Layout, draw_specs
from netformer.networks.stack import Networks, weight_scale
from netformer.networks.symmetry import canonicalize
from netformer.networks.token_tables import tokenize_networks
from netformer.options import LossWeights, ModelOptions, TrainOptions
from netformer.tasks.metafeatures import (
    FEATURES,
    NAMES,
    RANDOM_STATE,
    MetaFeatureTransform,
    get_meta_features,
    quantile_bins,
)
from netformer.tasks.stream import stream_batch, synthetic_tasks
from netformer.tasks.view import stack_tasks
from netformer.training.batches import Corpus
from netformer.training.loop import train
from netformer.training.losses import structure_loss, weight_loss
from netformer.workers import one_thread
from netformer.zoo.build import initialize

LAYOUT = Layout()


class Operations(FlopCounterMode):
    """Floating point operations of a block, in all. The counter's own record per module hangs on gradients, which it
    cannot do where a module is called without them."""

    class _Everything(nullcontext):
        parents = ("Global",)

    def __init__(self) -> None:
        super().__init__(display=False)
        self.mod_tracker = self._Everything()  # type: ignore[assignment]


def _random_networks(n: int, seed: int = 0) -> Networks:
    """Networks of the default zoo's specs, untrained: weights do not change the speed."""
    generator = torch.Generator().manual_seed(seed)
    n_inputs = torch.randint(2, LAYOUT.max_features + 1, (n,), generator=generator)
    specs = draw_specs(n_inputs, layout=LAYOUT, skip_share=0.9, sparse_share=0.1, generator=generator)
    return initialize(specs, torch.arange(n))


def _model(**changes: Any) -> TransformerVAE:
    """The default model (params.yaml, section model), untrained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TransformerVAE(LAYOUT, len(NAMES), ModelOptions(**changes))


@one_thread()
def measure_tokens(*, networks: int, rounds: int) -> dict[str, float]:
    """Stacks in memory to canonical form to Arrow columns, sensitivities included."""
    stack = _random_networks(networks)
    sensitivity = torch.rand(networks, LAYOUT.n_patches)

    tokenize_networks(canonicalize(stack[:2]), sensitivity[:2])
    canonical = canonicalize(stack)
    spent = in_turns(
        rounds,
        canonicalize=lambda: canonicalize(stack),
        tokenize=lambda: tokenize_networks(canonical, sensitivity),
    )
    return {
        "tokenize.canonicalize_us": 1e6 * spent["canonicalize"] / networks,
        "tokenize.edges_us": 1e6 * spent["tokenize"] / networks,
        "tokenize.networks_per_second": networks / sum(spent.values()),
    }


def measure_metafeatures(*, tables: int, rounds: int, n_rows: int = 300, n_features: int = 10) -> dict[str, float]:
    """Against pymfe as it comes, on normal tables and rounded ones; differences relative to a value's largest."""
    from pymfe.mfe import MFE

    rng = np.random.default_rng(0)
    made = []
    for index in range(tables):
        x = rng.normal(size=(n_rows, n_features)) * rng.lognormal(size=n_features)
        x = np.round(x) if index % 2 else x
        made.append((x, np.tanh(x[:, 0]) + x[:, -1] ** 2 + 0.3 * rng.normal(size=n_rows)))

    def plain(x: np.ndarray, y: np.ndarray) -> list[float]:
        state = np.random.get_state()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mfe = MFE(groups="all", features=FEATURES, summary=("mean", "sd"), random_state=RANDOM_STATE)
            found = dict(zip(*mfe.fit(x, quantile_bins(y)).extract(), strict=True))
        np.random.set_state(state)
        return [float(found[name]) for name in NAMES]

    ours = np.array([list(get_meta_features(*table).values()) for table in made])
    theirs = np.nan_to_num(np.array([plain(*table) for table in made]))
    scale = np.maximum(np.abs(theirs).max(0), 1e-12)
    spent = in_turns(
        rounds,
        ours=lambda: [get_meta_features(*table) for table in made],
        pymfe=lambda: [plain(*table) for table in made],
    )
    return {
        "metafeatures.ms": 1e3 * spent["ours"] / tables,
        "metafeatures.pymfe_ms": 1e3 * spent["pymfe"] / tables,
        "metafeatures.speedup_vs_pymfe": spent["pymfe"] / spent["ours"],
        "metafeatures.max_abs_difference": float((np.abs(ours - theirs) / scale).max()),
    }


@one_thread()
def measure_train(*, steps: int, size: int = 2048, **changes: Any) -> dict[str, float]:
    """A whole step of `training.loop.train` at the default settings, in bf16, stream and optimisers included.

    Multiply-adds: those of matrix products and attention, forward, backward and in Muon, as torch counts them.
    changes: of the model.
    """
    networks = _random_networks(256)
    tasks = stack_tasks(
        synthetic_tasks(16, seed=0, stream="train", split="train", max_features=10, min_rows=100, max_rows=400), 10
    )
    sensitivity = torch.where(networks.specs.patch_mask, 0.5, 0.0)
    index = torch.arange(256) // 16
    corpus = Corpus(networks, index, sensitivity, tasks, torch.zeros(len(tasks), len(NAMES)))
    options = TrainOptions(
        seed=0,
        steps=steps,
        lr=0.003,
        weight_decay=0.01,
        zoo_tasks=4,
        networks_per_task=4,
        stream_tasks=96,
        min_rows=50,
        max_rows=240,
        budget_share=0.0,
        mode_share=0.0,
        condition_dropout=0.15,
        metafeature_noise=0.5,
        precision="bf16-mixed",
        loss=LossWeights(),
    )
    model_options = ModelOptions(**changes)

    with Operations() as counter:
        train(corpus, model_options, options)
    multiply, operations = product(size, torch.bfloat16)
    spent: dict[str, list[float]] = {"step": [], "peak": []}
    last = [float("nan")]

    def log(*_: Any) -> None:  # a large product after every step, so that other load hits both alike
        spent["step"].append(time.perf_counter() - last[0])
        spent["peak"].append(seconds(multiply))
        last[0] = time.perf_counter()

    train(corpus, model_options, replace(options, steps=steps + 1), log=log, log_every=1)
    step, peak = min(spent["step"][1:]), min(spent["peak"])
    streams = iter(range(steps))
    stream = in_turns(
        steps,
        stream=lambda: stream_batch(
            next(streams), 96, seed=0, max_features=LAYOUT.max_features, min_rows=50, max_rows=240
        ),
    )["stream"]
    rate = counter.get_total_flops() / 2 / steps / step
    return {
        "train.step_ms": 1e3 * step,
        "train.stream_ms": 1e3 * stream,
        "train.step_gmac": counter.get_total_flops() / 2 / steps / 1e9,
        "train.step_gmacs": rate / 1e9,
        "train.fraction_of_peak": rate / (operations / peak),
    }


@one_thread()
def measure_edge_sequence(*, networks: int, rounds: int, **changes: Any) -> dict[str, float]:
    """Networks a second of a training step that encodes and decodes networks: ours against an edge a step.

    Both: the same networks, bf16, forward, backward and AdamW; one batch, sorted by nothing. Ours writes structure and
    weights for patches; neither side embeds a task or runs networks on rows. Ours computes attention as
    `training.loop.train` does, an edge a step in the faster of two ways. `multiply_adds_vs_edge_sequence`: a network's,
    of matrix products and attention, theirs over ours: the ratio at an equal fraction of peak.
    """
    stack = canonicalize(_random_networks(networks))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = _model(**changes)
        model.scale.copy_(weight_scale(stack))
        d_c = 2 * model.arguments["d_condition"]
        plain = EdgeSequence(
            1 + LAYOUT.max_features + LAYOUT.n_patches, model.arguments["d_model"], d_c, model.d_latent
        )
    c, eps = torch.zeros(networks, d_c), torch.zeros(networks, model.d_latent)
    sensitivity = torch.where(stack.specs.patch_mask, 0.5, 0.0)
    edges = edge_batch(stack)

    def by_patches() -> Tensor:
        posterior = model.encode(stack, c)
        z = posterior.sample(eps)
        losses = structure_loss(model.structure_logits(z, c), stack.specs)
        weight = weight_loss(model.write(z, c, stack.specs), stack, sensitivity, model.scale)
        return sum(losses.values(), weight) + 1e-4 * posterior.kl(model.prior_of(c)).sum(1).mean()

    def step(module: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)

        def once() -> None:
            with torch.autocast("cpu", torch.bfloat16):
                value = loss()
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()

        return once

    flash = step(plain, lambda: plain(*edges, c, eps))
    ours, formula = (sdpa_kernel(SDPBackend.MATH)(once) for once in (step(model, by_patches), flash))
    counted = []
    for once in (ours, formula):
        with Operations() as counter:
            once()
        counted.append(counter.get_total_flops() / 2)
    in_turns(1, ours=ours, flash=flash)
    spent = in_turns(rounds, flash=flash, formula=formula, ours=lambda: [ours() for _ in range(4)])
    mine, theirs = spent["ours"] / 4, min(spent["flash"], spent["formula"])
    return {
        "train.networks_per_second": networks / mine,
        "train.edge_sequence_networks_per_second": networks / theirs,
        "train.speedup_vs_edge_sequence": theirs / mine,
        "train.network_gmac": counted[0] / networks / 1e9,
        "train.edge_sequence_network_gmac": counted[1] / networks / 1e9,
        "train.multiply_adds_vs_edge_sequence": counted[1] / counted[0],
    }


@one_thread()
def measure_sampling(*, tasks: int, rounds: int) -> dict[str, float]:
    """16 networks each for many tasks at once, and milliseconds from a table of 300 x 10 to 16 runnable networks,
    warm, without and with meta-features. Default model, untrained: weights do not change the speed; `package` the same
    with the shipped weights."""
    model = _model().eval()
    default = NetFormer(model, MetaFeatureTransform((0.0,) * len(NAMES), (1.0,) * len(NAMES)))
    made = synthetic_tasks(tasks, seed=0, stream="train", split="train", max_features=10, min_rows=100, max_rows=400)
    stack = stack_tasks(made, LAYOUT.max_features)
    table = np.random.default_rng(0).normal(size=(300, 11))

    def many() -> None:
        sample_networks(model, stack, None, n_samples=16, generator=torch.Generator().manual_seed(0))

    def first(netformer: NetFormer, known: bool = False) -> Callable[[], Any]:
        return lambda: netformer.generate(table[:, 1:], table[:, 0], 16, metafeatures=known)

    works = {"many": many, "ms_first_16": first(default), "ms_first_16_with_metafeatures": first(default, True)}
    works["package_ms_first_16"] = first(NetFormer.load())
    in_turns(1, **works)
    spent = in_turns(rounds, **works)
    found = {f"sample.{name}": 1e3 * value for name, value in spent.items() if name != "many"}
    return found | {"sample.networks_per_second": 16 * tasks / spent["many"]}
