"""The report card: what a sceptic asks of the package's weights, beside what every evaluation reports.

Copies or not (memorisation), a spread that means something (calibration), constraints that hold and what they cost
(prompts), where gradient steps lead from (refine curves), for whom it works (groups), and real tables one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from netformer.evaluation import summarize
from netformer.head import solve_head
from netformer.merging import widen
from netformer.model import TransformerVAE
from netformer.networks import Networks
from netformer.plots import BLUE, GREEN, ORANGE, SKY, _save, plt
from netformer.refinement import PENALTY, STEPS, refine_curve
from netformer.sampling import sample_networks
from netformer.scored import Samples, sets_of
from netformer.tasks import TEST, TaskStack, r2
from netformer.zoo import initialize

BUDGETS = (60, 120, 250, 500)
NOMINAL = (0.5, 0.8, 0.9, 0.95)


def calibration(samples: Samples) -> dict[str, float]:
    """Does the spread across samples say how far off the wide network is? On test rows of the held-out synthetic tasks.

    Keys: spread_error_correlation, Spearman over tasks of the mean spread and the root mean squared error;
    row_correlation, median over tasks of the same over rows; coverage_P, share of rows inside the central interval of
    nominal probability P of a normal with variance spread^2 + mean squared residual on train rows.
    """
    _, t, n = samples.shape
    members = [i for name in ("heldout_tasks", "heldout_family") for i in sets_of(samples.tasks).get(name, [])]
    networks, stack = samples.networks[slice(0, t * n)], samples.stack
    predicted = networks.predict(stack.x.repeat_interleave(n, 0)).view(t, n, -1)
    wide = widen(networks, stack, n).predict(stack.x.repeat_interleave(n, 0)).view(t, n, -1).mean(1)
    spread, error = predicted.std(1), (wide - stack.y).abs()
    train, test = stack.train, stack.rows == TEST
    noise = (error.square() * train).sum(1) / train.sum(1)
    deviation = (spread.square() + noise.unsqueeze(1)).sqrt()
    per_row, widths, errors = [], [], []
    for i in members:
        keep = test[i]
        per_row.append(_spearman(spread[i, keep], error[i, keep]))
        widths.append(float(deviation[i, keep].mean()))
        errors.append(float(error[i, keep].square().mean().sqrt()))
    rows = test[members]
    z = (error / deviation)[members][rows]
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


def prompts(
    model: TransformerVAE, tasks: TaskStack, metafeatures: Float[Tensor, "t k"], seed: int
) -> dict[str, dict[str, float]]:
    """For bounds on the number of parameters: share of networks that keep them, their size, and what they score.

    One network a task, the output layer solved; tasks for which a bound is below the smallest network are left out.
    """
    result: dict[str, dict[str, float]] = {}
    for budget in BUDGETS:
        able = torch.nonzero(2 * tasks.n_features.clamp(min=1) + 3 <= budget).squeeze(1)
        part = tasks[able]
        g = torch.Generator().manual_seed(seed)
        networks = sample_networks(model, part, metafeatures[able], n_samples=1, generator=g, max_params=budget)
        size = networks.specs.n_params
        score = r2(part.y, networks.predict(part.x), part.rows == TEST)
        result[f"max_params_{budget}"] = {
            "kept": float((size <= budget).double().mean()),
            "median_params": float(size.double().median()),
            **summarize("test_r2", score.numpy()),
        }
    return result


def refine_report(
    samples: Samples, retrieved: Networks, seed: int, progress: Callable[[int, int], None]
) -> dict[str, dict[str, dict[str, float]]]:
    """Test R2 after each number of steps, median over the tasks of each set, by start.

    generated: the delivered network. he: its spec with He initialisation. retrieval: the training network best on the
    task. The output layer of every start is solved before the first step, with one penalty for all.
    """
    stack, own = samples.stack, torch.arange(len(samples.tasks))
    starts = {
        "generated": samples.first,
        "he": initialize(samples.first.specs, own + seed),
        "retrieval": retrieved,
    }
    result: dict[str, dict[str, dict[str, float]]] = {}
    for number, (name, networks) in enumerate(starts.items(), 1):
        penalties = torch.full((len(networks), networks.layout.n_slots), PENALTY)
        start = networks if name == "generated" else solve_head(networks, stack, penalties)
        curve = refine_curve(start, stack, own, penalties=penalties)
        for group, members in sets_of(samples.tasks).items():
            rows = result.setdefault(group, {}).setdefault(name, {})
            for steps, values in zip(STEPS, curve, strict=True):
                rows |= summarize(f"steps_{steps}", values[members].numpy())
        progress(number, len(starts))
    return result


def by_group(samples: Samples, per_task: pd.DataFrame) -> pd.DataFrame:
    """Median test R2 of the main rows by family, train rows, features and signal (ceiling); real tables apart."""
    facts = pd.DataFrame(
        {
            "task_id": [task.task_id for task in samples.tasks],
            "kind": ["real" if task.source == "real" else "synthetic" for task in samples.tasks],
            "family": [task.family for task in samples.tasks],
            "train rows": pd.cut([int(k) for k in samples.stack.train.sum(1)], [0, 50, 150, 400, 10**6]).astype(str),
            "features": pd.cut([task.X.shape[1] for task in samples.tasks], [0, 3, 8, 16, 10**6]).astype(str),
            "signal": pd.cut([task.ceiling for task in samples.tasks], [-1, 0.3, 0.6, 0.9, 1]).astype(str),
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


def head_to_head(per_task: pd.DataFrame, ours: tuple[str, ...], theirs: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """By set: the mean of every row, and `OURS_beats_ROW`, the share of tasks on which ours has the higher test R2."""
    result: dict[str, dict[str, float]] = {}
    for name, group in per_task.groupby("set", sort=True):
        wide = group.pivot(index="task_id", columns="row", values="test_r2")
        values = {f"{row}_mean": float(wide[row].mean()) for row in wide.columns}
        for row in theirs:
            if row in wide:
                for our in ours:
                    both = wide[[our, row]].dropna()
                    values[f"{our}_beats_{row}"] = float((both[our] > both[row]).mean())
        result[str(name)] = values
    return result


def model_card(report: dict, legs: list[dict], params: dict) -> str:
    """The model card of the package's weights, in Markdown: what it is, data, compute, results, limits."""
    real, held = report["zero_shot"]["real_tables"], report["zero_shot"]["heldout_tasks"]
    prior, zoo, sampling, train = params["download"]["prior"], params["zoo"], report["sampling"], params["train"]
    trained = "\n".join(
        f"- leg {i}: {leg['steps']} steps, {leg['stream_tasks']} fresh tasks, seed {leg['seed']}, {leg['commit']}"
        for i, leg in enumerate(legs, 1)
    )
    rows = "\n".join(
        f"| `{row}` | {held[row]:.3f} | {real[row]:.3f} / {real[f'{row}_mean']:.3f} |"
        for row in ("single", "wide_16", "raw", "scratch_best", "ridge", "mlp", "random128_ridge_head", "retrieval")
    )
    ingredients = ", ".join(f"{name} {value:g}" for name, value in prior.items())
    return f"""# NetFormer, pretrained weights

Writes regression networks for a table it has never seen: at most {zoo["max_hidden_layers"]} hidden layers of
{zoo["max_width"]} units, {zoo["max_features"]} inputs, one output. `NetFormer.load()` and `NetFormerRegressor` use it.

**Data.** Synthetic tasks alone; no real table was trained on or chosen by. A zoo of {report["zoo"]["n_networks"]:.0f}
trained networks, and a stream of fresh tasks, drawn with {ingredients}.

**Training.** On 2 CPU cores.

{trained}

**Results** on tasks nobody trained on (`make report-card`; R2 on test rows, floored at -1):

| row | held-out tasks, median | real tables, median / mean |
|---|---|---|
{rows}

Copies? Distance to the nearest training network over that of independently trained ones:
{sampling["memorisation_ratio"]:.2f}; 0 for copies, {sampling["average_ratio"]:.2f} for means of two training networks.

**Limits.** Regression, one target, numeric and finite columns. Of more than {zoo["max_features"]} columns `generate`
reads those most correlated with the target; the estimator reads several views. Fresh tasks had {train["min_rows"]} to
{train["max_rows"]} rows: far larger tables are better served by training. `reports/pretrained/`: where it loses.
"""


def plot_refinement(report: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    """Median test R2 against gradient steps, a line a start, a panel a set."""
    figure, axes = plt.subplots(1, len(report), figsize=(4.0 * len(report), 3.8), squeeze=False)
    styles = {"generated": (BLUE, "o-"), "retrieval": (GREEN, "s--"), "he": (ORANGE, "^:")}
    for axis, (name, starts) in zip(axes[0], report.items(), strict=True):
        for start, (colour, style) in styles.items():
            values = [starts[start][f"steps_{k}"] for k in STEPS]
            axis.plot(range(len(STEPS)), values, style, color=colour, label=start)
        axis.set(xticks=range(len(STEPS)), xticklabels=STEPS, xlabel="gradient steps", title=name)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("median test R2")
    axes[0, 0].legend()
    _save(figure, path)


def plot_real_tables(real: pd.DataFrame, path: Path) -> None:
    """Test R2 on each real table, a row a table, sorted by the wide network: ours, ridge, forest and CatBoost."""
    shown = real.sort_values("wide_16")
    figure, axis = plt.subplots(figsize=(8.5, 0.17 * len(shown) + 1.2))
    at = range(len(shown))
    for row, colour, marker in (
        ("ridge", "0.6", "|"),
        ("rf", GREEN, "s"),
        ("catboost", ORANGE, "^"),
        ("single", SKY, "o"),
    ):
        axis.scatter(shown[row], at, s=18, marker=marker, color=colour, label=row, linewidths=1)
    axis.scatter(shown["wide_16"], at, s=26, marker="D", color=BLUE, label="wide_16")
    axis.set(yticks=at, xlim=(-1.02, 1.02), ylim=(-1, len(shown)), xlabel="test R2")
    axis.set_yticklabels(shown.index, fontsize=6)
    axis.grid(axis="x", alpha=0.3)
    axis.legend(loc="upper left")
    _save(figure, path)
