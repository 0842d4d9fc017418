"""metafeatures: pymfe on the train rows of every task. NETFORMER_WORKERS sets the number of processes."""

from pathlib import Path

from netformer.artifacts import read_tasks, write_parquet
from netformer.tasks.metafeatures import meta_features_frame
from stages import Bar, n_workers, run, shared
from stages.params import load_params


@shared()
def main(root: Path = Path()) -> None:
    """Describe the tasks under `root`."""
    p = load_params(root).metafeatures
    tasks = read_tasks(root / "data" / "tasks.parquet")
    table = meta_features_frame(tasks, n_workers(), Bar("metafeatures"), p.max_rows, p.max_features)
    write_parquet(table, root / "data" / "metafeatures.parquet")


if __name__ == "__main__":
    run(main)
