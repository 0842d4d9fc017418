"""zoo: train random networks on the synthetic and user's tasks; real tables are for evaluation only."""

from pathlib import Path

from netformer.artifacts import networks_table, read_tasks, write_json, write_parquet
from netformer.tasks.view import stack_tasks
from netformer.zoo.build import build_zoo
from stages import Bar, n_workers, run, shared
from stages.params import load_params


@shared()
def main(root: Path = Path()) -> None:
    """Draw, train and filter networks for the tasks under `root`."""
    p = load_params(root).zoo
    tasks = [
        t for t in read_tasks(root / "data" / "tasks.parquet") if t.source != "real" and "friedman" not in t.family
    ]
    zoo, counts = build_zoo(
        stack_tasks(tasks, p.max_features),
        layout=p.layout,
        spec=p.spec,
        networks_per_task=p.networks_per_task,
        optimizer=p.optimizer,
        duplicate_share=p.duplicate_share,
        min_valid_r2=p.min_valid_r2,
        max_gap=p.max_gap,
        seed=p.seed,
        workers=n_workers(),
        progress=Bar("zoo"),
    )
    ids = [tasks[i].task_id for i in zoo.task_index.tolist()]
    table = networks_table(zoo.networks, ids, r2=zoo.r2, arm=["zoo"] * len(ids), init_seed=zoo.init_seed)
    write_parquet(table, root / "data" / "zoo.parquet")
    write_json(counts, root / "reports" / "zoo" / "metrics.json")


if __name__ == "__main__":
    run(main)
