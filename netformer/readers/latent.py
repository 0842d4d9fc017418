"""Latent: what the latents of a model know of networks that it was not trained on.

    read out      size and test R2 of the network that a latent is decoded to, by ridge regression from the latent;
                  beside it the same from the condition, which knows the task
    between       networks decoded on the way from one network of a task to another
    neighbours    how often the nearest network, by latents that know no row of a task, is like one

Networks and tasks are those of a benchmark. But for neighbours, the encoder reads the train rows of their task too.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sklearn.linear_model import RidgeCV
from torch import Tensor

from netformer.errors import InputError
from netformer.model.grammar import read_structure
from netformer.model.head import solve_head
from netformer.model.vae import TransformerVAE
from netformer.networks.stack import Networks
from netformer.readers.boosted import weight_statistics
from netformer.readers.learned import latents_of
from netformer.readers.questions import Benchmark, Split
from netformer.tasks.scores import r2, scores
from netformer.tasks.task import TEST
from netformer.tasks.view import TaskStack, stack_tasks

STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the way from one network to the other
PAIRS = 2  # of each task
CHUNK = 512
PENALTIES = np.logspace(-1, 4, 11)


class Known:
    """A model, the networks of a benchmark, their conditions and latents."""

    def __init__(self, model: TransformerVAE, benchmark: Benchmark, at: Int[np.ndarray, " k"]) -> None:
        """at: the networks in use. Raises InputError for a model of another layout."""
        if model.layout != benchmark.networks.layout:
            raise InputError(f"the model must write networks of {benchmark.networks.layout}, got {model.layout}")
        self.model, self.networks, self.at = model, benchmark.networks[at], at
        tasks, self.task = np.unique(benchmark.task_index[at], return_inverse=True)
        self.stack = stack_tasks([benchmark.tasks[i] for i in tasks], model.layout.max_features)
        with torch.no_grad():
            seen = self.stack.train_only() if model.condition in ("task", "both") else None
            self.c = model.embed(len(tasks), seen)[self.task]
            self.z = torch.cat([model.encode(self.networks[i], self.c[i]).mu for i in _chunks(len(at))])

    @torch.no_grad()
    def decoded(self, z: Float[Tensor, "k z"], of: Int[np.ndarray, " k"]) -> Networks:
        """The networks that latents stand for, on the tasks of networks `of`."""
        c, n_inputs = self.c[of], self.networks.specs.n_inputs[of]
        specs = read_structure(self.model.structure_logits(z, c), n_inputs, self.model.layout)
        return self.model.write(z, c, specs)

    def test_r2(self, networks: Networks, of: Int[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        """Of networks on the tasks of networks `of`, floored at -1."""
        return scores(networks, self.stack, torch.from_numpy(self.task[of]))[:, 2].numpy()

    @torch.no_grad()
    def solved(self, networks: Networks, of: Int[np.ndarray, " k"]) -> Networks:
        """The same with solved output layers."""
        rows: TaskStack = self.stack[torch.from_numpy(self.task[of])].trim()
        return solve_head(networks, rows, self.model.penalties(self.c[of]))


def _chunks(n: int) -> list[Int[np.ndarray, " k"]]:
    return np.array_split(np.arange(n), -(-n // CHUNK))


def read_out(model: TransformerVAE, benchmark: Benchmark, split: Split) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """Size and test R2 of decoded networks by what they are read from: a table (index read_from; R2 of both on the
    networks a split judges on), those networks one by one (size, test_r2, read_size, read_test_r2; of the network that
    was encoded encoded_size, encoded_test_r2), and how alike both are."""
    sides = [Known(model, benchmark, at) for at in (split.fit, split.test)]
    made, facts = [], []
    for side in sides:
        every = _chunks(len(side.at))
        parts = [side.decoded(side.z[at], at) for at in every]
        made.append(parts)
        sizes = torch.cat([part.specs.n_params for part in parts]).double().numpy()
        reached = [side.test_r2(part, at) for part, at in zip(parts, every, strict=True)]
        facts.append({"size": np.log10(sizes), "test_r2": np.concatenate(reached)})
    sources = {
        "latent": [side.z for side in sides],
        "condition": [side.c for side in sides],
        "both": [torch.cat([side.z, side.c], 1) for side in sides],
    }
    table, answers = {}, {}
    for source, (fit, test) in sources.items():
        middle, spread = fit.mean(0), fit.std(0) + 1e-6
        fit_, test_ = (((part - middle) / spread).numpy() for part in (fit, test))
        row = {}
        for name in ("size", "test_r2"):
            found = RidgeCV(PENALTIES).fit(fit_, facts[0][name]).predict(test_)
            row[name] = 1 - float(np.square(found - facts[1][name]).mean() / facts[1][name].var())
            answers[source, name] = found
        table[source] = row
    own = sides[1].networks.specs
    one_by_one = pd.DataFrame(
        {
            "size": 10 ** facts[1]["size"],
            "read_size": 10 ** answers["latent", "size"],
            "test_r2": facts[1]["test_r2"],
            "read_test_r2": answers["latent", "test_r2"],
            "encoded_size": own.n_params.numpy(),
            "encoded_test_r2": benchmark.answers["test_r2"][split.test],
        }
    )
    widths, kinds = (torch.cat([getattr(part.specs, name) for part in made[1]]) for name in ("widths", "activations"))
    alike = {
        "same_widths": float((widths == own.widths).all(1).double().mean()),
        "same_activations": float(((kinds == own.activations) | (own.widths == 0)).all(1).double().mean()),
        "median_test_r2_encoded": float(one_by_one["encoded_test_r2"].median()),
        "median_test_r2_decoded": float(one_by_one["test_r2"].median()),
    }
    return pd.DataFrame.from_dict(table, "index").rename_axis("read_from"), one_by_one, alike


def between(model: TransformerVAE, benchmark: Benchmark, split: Split) -> pd.DataFrame:
    """Median test R2 on the way from one network of a task to another, of networks that a split judges on, index share
    of the way: of what is decoded there, as written and with a solved output layer, and of the mean of what the two
    ends answer, as written. (Weights cannot be mixed: of 384 pairs of the default zoo one has the same structure.)"""
    side = Known(model, benchmark, split.test)
    rng, pairs = np.random.default_rng(split.seed), []
    for task in range(len(side.stack)):
        own = rng.permutation(np.flatnonzero(side.task == task))
        pairs += [own[i : i + 2] for i in range(0, min(len(own) - 1, 2 * PAIRS), 2)]
    a, b = np.array(pairs).T
    rows = side.stack[torch.from_numpy(side.task[a])].trim()
    ends = [side.decoded(side.z[at], at).predict(rows.x) for at in (a, b)]
    found = {}
    for share in STEPS:
        there = side.decoded((1 - share) * side.z[a] + share * side.z[b], a)
        answers = (1 - share) * ends[0] + share * ends[1]
        found[share] = {
            "written": float(np.median(side.test_r2(there, a))),
            "solved": float(np.median(side.test_r2(side.solved(there, a), a))),
            "mean_of_answers": float(np.median(r2(rows.y, answers, rows.rows == TEST).numpy())),
        }
    return pd.DataFrame.from_dict(found, "index").rename_axis("share")


def neighbours(model: TransformerVAE, benchmark: Benchmark, split: Split) -> pd.DataFrame:
    """How often the nearest other network is of the same task, family, activation and depth, of those that a split
    judges on: a row by what distances are of, latents or weight statistics, each number over its standard deviation,
    and one by chance."""
    networks, at = benchmark.networks[split.test], split.test
    some = Benchmark(networks, {}, benchmark.classes, benchmark.train_r2[at], benchmark.tasks, benchmark.task_index[at])
    known = {
        "latents": latents_of(model, some).double().numpy(),
        "weight statistics": weight_statistics(networks),
    }
    kinds = {
        "task": benchmark.task_index[at],
        "family": benchmark.answers["family"][at],
        "activation": benchmark.answers["activation"][at],
        "depth": networks.specs.depth.numpy(),
    }
    rows = {}
    for name, values in known.items():
        scaled = torch.from_numpy((values - values.mean(0)) / (values.std(0) + 1e-9))
        distance = torch.cdist(scaled, scaled).fill_diagonal_(torch.inf)
        nearest = distance.argmin(1).numpy()
        rows[name] = {kind: float((one[nearest] == one).mean()) for kind, one in kinds.items()}
    n = len(at)
    rows["chance"] = {
        kind: float((np.square(counts := np.unique(one, return_counts=True)[1]).sum() - counts.sum()) / (n * (n - 1)))
        for kind, one in kinds.items()
    }
    return pd.DataFrame.from_dict(rows, "index").rename_axis("nearest_by")
