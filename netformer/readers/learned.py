"""Learned: readers that are modules of torch, each with one head for all questions, trained together.

A reader here makes features of networks, of which it is asked by their places in the benchmark; `answers_of` trains it
with an MLP that answers everything from them. Networks of a task say the same and are soon known by heart, so a fifth
of the tasks fitted is kept back, and numbers are drawn to the mean as far as is best for those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from netformer.model.layers import mlp
from netformer.model.vae import TransformerVAE
from netformer.readers.questions import CLASSES, Answers, Benchmark, Split

STEPS, BATCH, RATE, DECAY = 400, 128, 3e-3, 0.05
KEPT_BACK = 0.2  # share of the tasks fitted
HEAD = 128  # width
CUT, STILL = 5.0, 1e-8  # of features: in standard deviations at most; variance below which one is not read
PROBES, CODE, GENERATOR = 64, 16, 32  # probes, numbers that one is made of, width on the way
CHUNK = 512  # networks that answers are given for together

Places = Int[np.ndarray, " k"]


class Probes(nn.Module):
    """Networks as what they answer on inputs that are learned: the probes of a deep linear generator (ProbeGen, Kahana
    et al. 2024)."""

    def __init__(self, benchmark: Benchmark) -> None:
        super().__init__()
        self.networks, self.width = benchmark.networks, PROBES
        self.codes = nn.Parameter(torch.randn(PROBES, CODE))
        self.generator = nn.Sequential(
            nn.Linear(CODE, GENERATOR), nn.Linear(GENERATOR, self.networks.layout.max_features)
        )

    def forward(self, at: Places) -> Float[Tensor, "k features"]:
        """The answers on every probe."""
        return self.networks[at].predict(self.generator(self.codes).unsqueeze(0))


class Known(nn.Module):
    """Networks as numbers that are known, such as `latents_of`."""

    def __init__(self, known: Float[Tensor, "n features"]) -> None:
        super().__init__()
        self.known, self.width = known, known.shape[1]

    def forward(self, at: Places) -> Float[Tensor, "k features"]:
        """Those of some networks."""
        return self.known[at]


@torch.no_grad()
def latents_of(model: TransformerVAE, benchmark: Benchmark) -> Float[Tensor, "n z"]:
    """The means that the encoder of a model gives the latents of each network, without any row of its task."""
    places = range(0, len(benchmark.networks), CHUNK)
    parts = (benchmark.networks[at : at + CHUNK] for at in places)
    return torch.cat([model.encode(part, model.embed(len(part))).mu for part in parts])


class Answering(nn.Module):
    """Features of networks, standardised and cut at `CUT`, and an MLP with an output per number and per class."""

    def __init__(self, reader: Any, sizes: dict[str, int]) -> None:
        super().__init__()
        self.reader, self.sizes = reader, sizes
        self.norm = nn.BatchNorm1d(reader.width)
        self.head = mlp(reader.width, HEAD, HEAD, sum(sizes.values()))

    def forward(self, at: Places) -> dict[str, Float[Tensor, "k outputs"]]:
        """Outputs of each question."""
        features, variance = self.norm(self.reader(at)).clamp(-CUT, CUT), self.norm.running_var
        assert variance is not None
        if not self.training:  # as in training: what did not vary there is not read where it does
            features = torch.where(variance > STILL, features, self.norm.bias)
        parts = self.head(features).split(list(self.sizes.values()), 1)
        return dict(zip(self.sizes, parts, strict=True))

    @torch.no_grad()
    def answers(self, at: Places) -> dict[str, Float[Tensor, "k outputs"]]:
        """The same, as it is used after training."""
        self.eval()
        parts = [self(some) for some in np.array_split(at, -(-len(at) // CHUNK))]
        self.train()
        return {name: torch.cat([part[name] for part in parts]) for name in self.sizes}


def answers_of(
    make: Callable[[Benchmark], Any], benchmark: Benchmark, split: Split, without: tuple[str, ...] = ()
) -> Answers:
    """What a reader answers that is trained on one side of a split, in `STEPS` steps of AdamW on all questions at once.
    make: the reader, a module with `width` features. without: questions that it is not asked."""
    asked = [name for name in split.asked if name not in without]
    rng = np.random.default_rng(split.seed)
    tasks = np.unique(benchmark.task_index[split.fit])
    back = np.isin(benchmark.task_index[split.fit], rng.permutation(tasks)[: max(1, int(KEPT_BACK * len(tasks)))])
    fit, kept = split.fit[~back], split.fit[back]
    known = {name: torch.from_numpy(benchmark.answers[name]) for name in asked}
    scale = {name: (known[name][fit].mean(), known[name][fit].std() + 1e-9) for name in asked if name not in CLASSES}
    for name, (middle, spread) in scale.items():
        known[name] = ((known[name] - middle) / spread).float()
    sizes = {name: len(benchmark.classes[name]) if name in CLASSES else 1 for name in asked}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(split.seed)
        answering = Answering(make(benchmark), sizes)
    trained = [one for one in answering.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        at = rng.choice(fit, BATCH)
        found = answering(at)
        loss = torch.stack([_loss(found[name], known[name][at], name) for name in asked]).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
    here, there = answering.answers(kept), answering.answers(split.test)
    out = {name: there[name].argmax(1).numpy() for name in asked if name in CLASSES}
    for name, (middle, spread) in scale.items():
        drawn = _drawn(here[name][:, 0].double(), known[name][kept].double(), there[name][:, 0].double())
        out[name] = (drawn * spread + middle).numpy()
    return out


def _loss(found: Float[Tensor, "k outputs"], known: Tensor, name: str) -> Float[Tensor, ""]:
    return functional.cross_entropy(found, known) if name in CLASSES else (found[:, 0] - known).square().mean()


def _drawn(found: Float[Tensor, " k"], known: Float[Tensor, " k"], answers: Float[Tensor, " j"]) -> Float[Tensor, " j"]:
    """Answers drawn to their mean by the slope, 0 to 1, of what was known on what was found."""
    centred = found - found.mean()
    slope = (centred @ (known - known.mean()) / centred.square().sum().clamp(min=1e-12)).clamp(0, 1)
    return known.mean() + slope * (answers - found.mean())


def probes(benchmark: Benchmark, split: Split) -> Answers:
    """`Probes`: the network is run, and its weights are not looked at."""
    return answers_of(Probes, benchmark, split)


def latents(known: Float[Tensor, "n z"]) -> Callable[[Benchmark, Split], Answers]:
    """A reader of `latents_of` a benchmark. It is not asked for activations, which the encoder is given."""

    def reader(benchmark: Benchmark, split: Split) -> Answers:
        return answers_of(lambda _: Known(known), benchmark, split, without=("activation",))

    return reader
