"""tokenize: every trained network becomes tokens, in canonical form, with the sensitivity of each vertex."""

from pathlib import Path

import torch

from netformer.artifacts import networks_of, read_parquet, read_tasks, write_json, write_parquet
from netformer.networks.sensitivity import sensitivity
from netformer.networks.symmetry import canonicalize
from netformer.networks.token_tables import exact_share, tokenize_networks
from netformer.tasks.view import stack_tasks
from stages import run
from stages.params import load_params


def main(root: Path = Path()) -> None:
    """Turn the zoo under `root` into tokens."""
    params = load_params(root)
    table = read_parquet(root / "data" / "zoo.parquet")
    tasks = read_tasks(root / "data" / "tasks.parquet")
    stack = stack_tasks(tasks, params.zoo.max_features)
    rows = {task.task_id: row for row, task in enumerate(tasks)}
    index = torch.tensor([rows[task_id] for task_id in table["task_id"].to_pylist()])
    networks = networks_of(table, params.zoo.layout)
    exact = exact_share(networks, tokenize_networks(networks))
    canonical = canonicalize(networks) if params.tokenize.canonical else networks
    weight = sensitivity(canonical, stack.x[index], stack.train[index])
    tokens = tokenize_networks(canonical, weight)
    tokens = tokens.add_column(0, "task_id", table["task_id"]).add_column(0, "net_id", table["net_id"])
    write_parquet(tokens, root / "data" / "tokens.parquet")
    write_json({"exact": exact}, root / "reports" / "tokenize" / "metrics.json")


if __name__ == "__main__":
    run(main)
