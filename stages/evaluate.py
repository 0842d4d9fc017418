"""evaluate: zoo, reconstruction, samples and baselines under one evaluator; metrics, table and pictures."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from netformer import evaluation, plots
from netformer.artifacts import (
    load_model,
    metafeature_values,
    networks_of,
    r2_of,
    read_table,
    read_tasks,
    write_json,
)
from netformer.baselines import mlp_same_spec, ridge
from netformer.config import load_params
from netformer.sampling import ARMS
from netformer.tasks import TEST, r2, stack_tasks
from netformer.tokens import detokenize_networks
from stages import Bar, run


def main(root: Path = Path()) -> None:
    params = load_params(root)
    p, layout = params.evaluate, params.zoo.layout
    workers = int(os.environ.get("NETFORMER_WORKERS", os.cpu_count() or 1))
    model, transform = load_model(root / "models" / "netformer")
    tasks = read_tasks(root / "data" / "tasks.parquet")
    known = transform(
        metafeature_values(read_table(root / "data" / "metafeatures.parquet"), [t.task_id for t in tasks])
    )
    stack = stack_tasks(tasks, layout.max_features)
    rows = {task.task_id: row for row, task in enumerate(tasks)}
    split = np.array([task.split for task in tasks])

    zoo_table = read_table(root / "data" / "zoo.parquet")
    tokens = detokenize_networks(read_table(root / "data" / "tokens.parquet"), layout)
    zoo_task = torch.tensor([rows[name] for name in zoo_table["task_id"].to_pylist()])
    zoo_split = split[zoo_task.numpy()]
    train_nets, held = tokens[zoo_split == "train"], torch.from_numpy(np.flatnonzero(zoo_split == "test"))
    zoo_r2 = r2_of(zoo_table)[:, TEST]
    some = torch.unique(zoo_task)[: p.mlp_tasks]
    few = torch.isin(zoo_task, some).nonzero().squeeze(1)
    mlp_r2, fitted = mlp_same_spec(tokens[few], stack, zoo_task[few], workers=workers, seed=p.seed)
    ridge_r2 = r2(stack.y, ridge(stack), stack.rows == TEST)
    zoo_metrics = {
        "median_test_r2": float(zoo_r2.median()),
        "mlp_lbfgs_r2": float(mlp_r2.median()),
        "same_networks_r2": float(zoo_r2[few[fitted]].median()),
        "ridge_r2": float(ridge_r2[zoo_task].median()),
        "n_networks": float(len(zoo_r2)),
    }
    decoded = evaluation.reconstruct(model, tokens[held], zoo_task[held], stack, known)
    reconstruction = evaluation.reconstruction_metrics(tokens[held], decoded, stack, zoo_task[held], train_nets)

    test_at = np.flatnonzero(split == "test")
    table = read_table(root / "data" / "samples.parquet")
    arms = table["arm"].to_numpy(zero_copy_only=False)
    test_tasks, test_stack = [tasks[i] for i in test_at], stack[torch.from_numpy(test_at)]
    shape = (params.sample.n_seeds, len(test_at), params.sample.n_samples)
    ours: dict[str, np.ndarray] = {}
    samples = None
    for arm in ARMS:
        part = table.filter(arms == arm)
        scored = r2_of(part).view(*shape, 3)
        if arm != "single":
            ours[arm] = scored[:, :, 0, TEST].mean(0).numpy()
            continue
        samples = networks_of(part, layout)
        index = torch.arange(len(test_at)).repeat_interleave(shape[2])
        mean = [
            samples[slice(s * len(index), (s + 1) * len(index))]
            .predict(test_stack.x[index])
            .view(len(test_at), shape[2], -1)
            .mean(1)
            for s in range(shape[0])
        ]
        ours |= evaluation.arm_scores(scored, torch.stack(mean), test_stack)
    assert samples is not None
    bar, done = Bar("evaluate"), []

    def progress(name: str) -> None:
        done.append(name)
        bar(len(done), 4)

    ours |= evaluation.baseline_scores(
        test_stack,
        samples[slice(0, len(index), shape[2])],
        train_nets,
        spec=params.zoo.spec,
        optimizer=params.zoo.optimizer,
        scratch_networks=p.scratch_networks,
        seed=p.seed,
        workers=workers,
        progress=progress,
    )
    ours["ceiling"] = np.array([task.ceiling for task in test_tasks])
    sets = evaluation.sets_of(test_tasks)
    per_task = pd.DataFrame(
        [
            {
                "set": name,
                "task_id": test_tasks[i].task_id,
                "family": test_tasks[i].family,
                "row": row,
                "test_r2": float(values[i]),
            }
            for name, members in sets.items()
            for row, values in ours.items()
            for i in members
            if np.isfinite(values[i])
        ]
    )
    folder = root / "reports" / "evaluate"
    folder.mkdir(parents=True, exist_ok=True)
    per_task.round(6).to_csv(folder / "per_task.csv", index=False)
    plots.zero_shot(per_task, folder / "zero_shot.png")
    plots.predictions(samples, test_stack, sets["heldout_tasks"], shape[2], folder / "predictions.png")
    write_json(
        {
            "zoo": zoo_metrics,
            "reconstruction": reconstruction,
            "sampling": evaluation.sampling_metrics(
                samples, index.repeat(shape[0]), test_stack, tokens, zoo_task, stack
            ),
            "zero_shot": evaluation.zero_shot_metrics(per_task),
        },
        folder / "metrics.json",
    )


if __name__ == "__main__":
    run(main)
