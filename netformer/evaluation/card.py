"""The report card: what a critical reader asks about the package's weights, beyond what every evaluation reports.

Copies or not (memorisation), a spread that means something (calibration), constraints that hold and what they cost
(prompts), where gradient steps lead from (refine curves), for whom it works (groups), and real tables one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from netformer.evaluation.comparison import summarize
from netformer.evaluation.scored import Samples, sets_of
from netformer.generation.generator import NetFormer
from netformer.generation.merging import widen
from netformer.generation.refinement import refine
from netformer.generation.sampling import sample_networks
from netformer.model.head import weigh_heads
from netformer.model.prompt import Prompt
from netformer.model.vae import TransformerVAE
from netformer.networks.stack import Networks
from netformer.tasks.scores import r2
from netformer.tasks.task import TEST, TRAIN, Task
from netformer.tasks.view import TaskStack, stack_tasks
from netformer.workers import map_parallel
from netformer.zoo.build import initialize

BUDGETS, TEMPERATURES, TARGETS, TARGET_TASKS = (60, 120, 250, 500), (0.3, 1.0), (0.2, 0.4, 0.6, 0.8), 60
NOMINAL = (0.5, 0.8, 0.9, 0.95)
STEPS, WIDE_STEPS, WIDE_SAMPLES = (0, 1, 5, 25, 100), (0, 1, 5, 25), 16


def calibration(samples: Samples) -> dict[str, float]:
    """Does the spread across samples say how far off the wide network is? On test rows of the held-out synthetic tasks,
    which have one row split each; samples of the first sampling seed.

    Keys: spread_error_correlation, Spearman over tasks of the mean spread and the root mean squared error;
    row_correlation, median over tasks of the same over rows; coverage_P, share of rows inside the central interval of
    nominal probability P of a normal with variance spread^2 + mean squared residual on train rows.
    """
    _, t, n = samples.shape
    members = [i for name in ("heldout_tasks", "heldout_family") for i in sets_of(samples.tasks).get(name, [])]
    stack = samples.stack[members].trim()
    networks = samples.networks[torch.arange(t * n).view(t, n)[members].flatten()]
    x = stack.x.repeat_interleave(n, 0)
    predicted = networks.predict(x).view(len(members), n, -1)
    wide = widen(networks, stack, n).predict(x).view(len(members), n, -1).mean(1)
    spread, error = predicted.std(1), (wide - stack.y).abs()
    train, test = stack.train, stack.rows == TEST
    noise = (error.square() * train).sum(1) / train.sum(1)
    deviation = (spread.square() + noise.unsqueeze(1)).sqrt()
    per_row, widths, errors = [], [], []
    for i, keep in enumerate(test):
        per_row.append(_spearman(spread[i, keep], error[i, keep]))
        widths.append(float(deviation[i, keep].mean()))
        errors.append(float(error[i, keep].square().mean().sqrt()))
    z = (error / deviation)[test]
    quantile = torch.special.ndtri(torch.tensor([(1 + p) / 2 for p in NOMINAL]))
    return {
        "spread_error_correlation": _spearman(torch.tensor(widths), torch.tensor(errors)),
        "row_correlation": float(np.median(per_row)),
        **{
            f"coverage_{p:g}": float((z < limit).double().mean())
            for p, limit in zip(NOMINAL, quantile.tolist(), strict=True)
        },
        "n_tasks": float(len(members)),
    }


def _spearman(a: Tensor, b: Tensor) -> float:
    """0 where one side is constant and ranks nothing."""
    if min(len(a.unique()), len(b.unique())) < 2:
        return 0.0
    return float(pd.Series(a.numpy()).corr(pd.Series(b.numpy()), method="spearman"))


def prompts(netformer: NetFormer, tasks: Sequence[Task], seed: int) -> dict[str, dict[str, float]]:
    """What was asked for beside what came, on tasks nobody trained on.

    max_params_B: share of networks that keep the bound, their size, and what they score; one network a task, tasks for
    which the bound is below the smallest network left out. temperature_T: spread across 8 drawn samples (deviation of
    their predictions over that of y), R2 of one and of their mean. target_r2_A: 4 networks per task, asked to reach A;
    share of tasks whose samples come within 0.05 of it by `expected_r2`, and for these the test R2.
    """
    return (
        _budget_prompts(netformer.model, tasks, seed)
        | _temperature_prompts(netformer.model, tasks, seed)
        | _target_prompts(netformer, tasks[:TARGET_TASKS], seed)
    )


def _temperature_prompts(model: TransformerVAE, tasks: Sequence[Task], seed: int) -> dict[str, dict[str, float]]:
    stack, result = stack_tasks(tasks, model.layout.max_features), {}
    x, test = stack.x.repeat_interleave(8, 0), stack.rows == TEST
    for temperature in (0.0, model.temperature, *TEMPERATURES):
        g = torch.Generator().manual_seed(seed)
        networks, _ = sample_networks(model, stack, None, n_samples=8, generator=g, temperature=temperature, mode=False)
        predicted = networks.predict(x).view(len(stack), 8, -1)
        spread = (predicted.std(1) * test).sum(1) / test.sum(1)
        result[f"temperature_{temperature:g}"] = {
            **summarize("spread", spread.numpy()),
            **summarize("test_r2", r2(stack.y, predicted[:, 0], test).numpy()),
            **summarize("mean_of_8_test_r2", r2(stack.y, predicted.mean(1), test).numpy()),
        }
    return result


def _target_prompts(netformer: NetFormer, tasks: Sequence[Task], seed: int) -> dict[str, dict[str, float]]:
    result = {}
    for asked in TARGETS:
        near, scored = [], []
        for task in tasks:
            train, test = task.row_split == TRAIN, task.row_split == TEST
            made = netformer.generate(task.X[train], task.y[train], 4, target_r2=asked, random_state=seed)
            # In the standardised view, which R2 does not see: how a population answers in units of y decides nothing.
            x = torch.from_numpy(made.reading.standardize(task.X[test].astype(np.float64)))
            t = made.reading.standardize_targets(task.y[test].astype(np.float64)[:, None])
            y = torch.from_numpy(t[:, 0]).expand(4, -1)
            networks = Networks(made.networks.specs, made.networks.weight.double())
            score = r2(y, networks.predict(x[None]), torch.ones(y.shape, dtype=torch.bool))
            able = (made.expected_r2 - asked).abs() < 0.05
            near.append(float(able.double().mean() >= 0.5))
            scored += score[able].tolist()
        came = summarize("test_r2", np.array(scored)) if scored else {}
        result[f"target_r2_{asked:g}"] = {"reached": float(np.mean(near)), **came}
    return result


def _budget_prompts(model: TransformerVAE, every: Sequence[Task], seed: int) -> dict[str, dict[str, float]]:
    result: dict[str, dict[str, float]] = {}
    tasks = stack_tasks(every, model.layout.max_features)
    for budget in BUDGETS:
        able = torch.nonzero(2 * tasks.n_features.clamp(min=1) + 3 <= budget).squeeze(1)
        part = tasks[able]
        g = torch.Generator().manual_seed(seed)
        networks, _ = sample_networks(model, part, None, n_samples=1, generator=g, prompt=Prompt(max_params=budget))
        size = networks.specs.n_params
        score = r2(part.y, networks.predict(part.x), part.rows == TEST)
        result[f"max_params_{budget}"] = {
            "kept": float((size <= budget).double().mean()),
            "median_params": float(size.double().median()),
            **summarize("test_r2", score.numpy()),
        }
    return result


def refine_report(
    model: TransformerVAE,
    samples: Samples,
    retrieved: Networks,
    seed: int,
    workers: int,
    progress: Callable[[int, int], None],
) -> dict[str, dict[str, dict[str, float]]]:
    """Test R2 after each number of steps, by start: median and mean over the problems of a set, of means over the row
    splits of each. Train rows alone are read.

    On the weights, with the model's penalties, output layers weighed at the end: generated, the delivered network; he,
    its spec with He initialisation; retrieval, the training network best on the task. On the latent: generated_latent,
    the delivered network; wide_latent, `WIDE_SAMPLES` networks, merged after their steps. retrieved: a network per
    task of `samples.tasks`. workers: processes, which begin with what takes longest. progress: called with
    (curve points done, all of them).
    """
    stack = samples.stack
    own = torch.arange(len(stack))
    with torch.no_grad():
        penalties = torch.cat([model.penalties(model.embed(len(at), stack[at].train_only())) for at in own.split(32)])
    g = torch.Generator().manual_seed(seed)
    written, _ = sample_networks(model, stack, None, n_samples=1, generator=g, solve=False)
    starts: dict[str, Networks | int] = {
        "generated": written,
        "he": initialize(written.specs, own + seed),
        "retrieval": retrieved,
        "generated_latent": 1,
        "wide_latent": WIDE_SAMPLES,
    }
    jobs = [(name, k) for name in starts for k in (WIDE_STEPS if name == "wide_latent" else STEPS)]
    longest = sorted(jobs, key=lambda job: -job[1] * (WIDE_SAMPLES if job[0] == "wide_latent" else 1))
    score = partial(_refined_r2, model=model, stack=stack, penalties=penalties, seed=seed)
    done = map_parallel(score, [(starts[name], k) for name, k in longest], workers=workers, progress=progress)
    scores = dict(zip(longest, done, strict=True))
    result: dict[str, dict[str, dict[str, float]]] = {}
    for group, members in sets_of(samples.tasks).items():
        for name, k in jobs:
            rows = result.setdefault(group, {}).setdefault(name, {})
            rows |= summarize(f"steps_{k}", samples.over_runs(scores[name, k].numpy())[members])
    return result


def _refined_r2(
    job: tuple[Networks | int, int], model: TransformerVAE, stack: TaskStack, penalties: Tensor, seed: int
) -> Float[Tensor, " t"]:
    """Test R2 of each task after some steps; job: networks, one per task, or how many to write; and the steps."""
    start, steps = job
    result, g = torch.zeros(len(stack), dtype=torch.float64), torch.Generator().manual_seed(seed)
    for at in torch.argsort(stack.n_rows, stable=True).split(16):
        part = stack[at].trim()
        known, count = part.train_only(), 1
        if isinstance(start, Networks):
            moved = refine(start[at], known, torch.arange(len(at)), steps=steps, penalties=penalties[at])
            networks, _ = weigh_heads(moved, known, penalties[at])
        else:
            count = start
            networks, _ = sample_networks(model, known, None, n_samples=count, generator=g, refine_steps=steps)
            networks = networks if count == 1 else widen(networks, known, count)
        predicted = networks.predict(part.x.repeat_interleave(count, 0)).view(len(at), count, -1).mean(1)
        result[at] = r2(part.y, predicted, part.rows == TEST).double()
    return result


def by_group(samples: Samples, per_task: pd.DataFrame) -> pd.DataFrame:
    """Median test R2 of the main rows by family, train rows, features and signal (ceiling); real tables apart."""
    tasks = samples.tasks[: samples.shape[1]]
    train = [int((task.row_split == TRAIN).sum()) for task in tasks]
    facts = pd.DataFrame(
        {
            "task_id": [task.table for task in tasks],
            "kind": ["real" if task.source == "real" else "synthetic" for task in tasks],
            "family": [task.family for task in tasks],
            "train rows": pd.cut(train, [0, 50, 150, 400, 10**6]).astype(str),
            "features": pd.cut([task.X.shape[1] for task in tasks], [0, 3, 8, 16, 10**6]).astype(str),
            "signal": pd.cut([task.ceiling for task in tasks], [-1, 0.3, 0.6, 0.9, 1]).astype(str),
        }
    )
    shown = ["single", "wide_16", "raw", "ridge", "mlp", "random128_ridge_head", "scratch_best"]
    table = per_task[per_task["set"] != "real_tables_small"].merge(facts, on="task_id", suffixes=("_", ""))
    table = table[table["row"].isin(shown)]
    parts = []
    for group in ("family", "train rows", "features", "signal"):
        medians = table.groupby(["kind", group, "row"])["test_r2"].median().unstack()[shown]
        counts = table[table["row"] == "single"].groupby(["kind", group]).size()
        parts.append(medians.assign(n_tasks=counts).reset_index().rename(columns={group: "value"}).assign(group=group))
    joined = pd.concat(parts, ignore_index=True)
    return joined[joined["value"] != "nan"][["kind", "group", "value", "n_tasks", *shown]]
