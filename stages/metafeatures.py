"""metafeatures: pymfe on the train rows of every task. NETFORMER_WORKERS sets the number of processes."""

from pathlib import Path

from netformer.artifacts import read_tasks, write_table
from netformer.config import load_params
from netformer.metafeatures import meta_features_frame
from stages import Bar, n_workers, run


def main(root: Path = Path()) -> None:
    p = load_params(root).metafeatures
    tasks = read_tasks(root / "data" / "tasks.parquet")
    table = meta_features_frame(
        tasks, n_workers(), progress=Bar("metafeatures"), max_rows=p.max_rows, max_features=p.max_features
    )
    write_table(table, root / "data" / "metafeatures.parquet")


if __name__ == "__main__":
    run(main)
