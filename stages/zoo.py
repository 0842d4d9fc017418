"""zoo: train random networks on the synthetic and user's tasks, and on those with classes; real tables are for
evaluation only."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from netformer.artifacts import (
    NETWORKS,
    naming_outputs,
    networks_table,
    read_class_tasks,
    read_tasks,
    write_json,
    write_parquet,
)
from netformer.tasks.view import stack_tasks
from netformer.zoo.build import build_zoo
from netformer.zoo.classes import build_class_zoo
from stages import Bar, n_workers, run, shared
from stages.params import load_params


@shared()
def main(root: Path = Path()) -> None:
    """Draw, train and filter networks for the tasks under `root`."""
    p = load_params(root).zoo
    tasks = [
        t for t in read_tasks(root / "data" / "tasks.parquet") if t.source != "real" and "friedman" not in t.family
    ]
    options: dict[str, Any] = {
        "layout": p.layout,
        "spec": p.spec,
        "optimizer": p.optimizer,
        "duplicate_share": p.duplicate_share,
        "min_valid_r2": p.min_valid_r2,
        "max_gap": p.max_gap,
        "seed": p.seed,
        "workers": n_workers(),
    }
    zoo, counts = build_zoo(
        stack_tasks(tasks, p.max_features), networks_per_task=p.networks_per_task, progress=Bar("zoo"), **options
    )
    ids = [tasks[i].task_id for i in zoo.task_index.tolist()]
    table = networks_table(zoo.networks, ids, r2=zoo.r2, arm=["zoo"] * len(ids), init_seed=zoo.init_seed)
    write_parquet(table, root / "data" / "zoo.parquet")
    classes, found = build_class_zoo(
        read_class_tasks(root / "data" / "class_tasks.parquet"), networks_per_task=p.class_networks_per_task, **options
    )
    tables = [naming_outputs(NETWORKS.empty_table(), 1)]
    for names, one in classes:
        part = networks_table(one.networks, names, r2=one.r2, arm=["zoo"] * len(names), init_seed=one.init_seed)
        tables.append(naming_outputs(part, one.networks.specs.n_outputs))
    table = pa.concat_tables(tables)
    table = table.set_column(0, NETWORKS.field("net_id"), pa.array(range(len(table)), pa.int64()))
    write_parquet(table, root / "data" / "class_zoo.parquet")
    write_json({**counts, "classes": found}, root / "reports" / "zoo" / "metrics.json")


if __name__ == "__main__":
    run(main)
