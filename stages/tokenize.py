"""tokenize: every trained network becomes tokens, in canonical form, with the sensitivity of each vertex."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import torch

from netformer.artifacts import (
    by_outputs,
    naming_outputs,
    networks_of,
    read_class_tasks,
    read_parquet,
    read_tasks,
    write_json,
    write_parquet,
)
from netformer.networks.sensitivity import sensitivity
from netformer.networks.specs import Layout
from netformer.networks.symmetry import canonicalize
from netformer.networks.token_tables import exact_share, tokenize_networks
from netformer.tasks.view import TaskStack, stack_class_tasks, stack_tasks
from stages import run
from stages.params import load_params


def tokens_of(
    zoo: pa.Table, stack: TaskStack, ids: Sequence[str], layout: Layout, canonical: bool
) -> tuple[pa.Table, float]:
    """Tokens of the networks of a zoo, and the share that they give back exactly. ids: of the tasks of the stack."""
    rows = {task_id: row for row, task_id in enumerate(ids)}
    index = torch.tensor([rows[task_id] for task_id in zoo["task_id"].to_pylist()])
    networks = networks_of(zoo, layout)
    exact = exact_share(networks, tokenize_networks(networks))
    standing = canonicalize(networks) if canonical else networks
    weight = sensitivity(standing, stack.x[index], stack.train[index])
    tokens = tokenize_networks(standing, weight)
    tokens = tokens.add_column(0, "task_id", zoo["task_id"]).add_column(0, "net_id", zoo["net_id"])
    return tokens, exact


def main(root: Path = Path()) -> None:
    """Turn the zoos under `root` into tokens; that of tasks with classes into a table of its own."""
    params, data = load_params(root), root / "data"
    layout, canonical = params.zoo.layout, params.tokenize.canonical
    tasks = read_tasks(data / "tasks.parquet")
    stack, ids = stack_tasks(tasks, layout.max_features), [task.task_id for task in tasks]
    tokens, exact = tokens_of(read_parquet(data / "zoo.parquet"), stack, ids, layout, canonical)
    write_parquet(tokens, data / "tokens.parquet")
    classes, every = read_parquet(data / "class_zoo.parquet"), read_class_tasks(data / "class_tasks.parquet")
    tables, same = [naming_outputs(tokens.slice(0, 0), 1)], 0.0
    for k, part in by_outputs(classes):
        own = [task for task in every if task.n_outputs == k]
        stack, ids = stack_class_tasks(own, layout.max_features), [task.task_id for task in own]
        found, share = tokens_of(part, stack, ids, replace(layout, n_outputs=k), canonical)
        tables.append(naming_outputs(found, k).select(tables[0].column_names))
        same += share * len(part)
    write_parquet(pa.concat_tables(tables), data / "class_tokens.parquet")
    report = {"exact": exact} | ({"exact_classes": same / len(classes)} if len(classes) else {})
    write_json(report, root / "reports" / "tokenize" / "metrics.json")


if __name__ == "__main__":
    run(main)
