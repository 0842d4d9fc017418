"""metafeatures: pymfe on the train rows of every task. NETFORMER_WORKERS sets the number of processes."""

from functools import partial
from pathlib import Path

import pyarrow as pa

from netformer.artifacts import read_tasks, write_parquet
from netformer.tasks.metafeatures import meta_features_frame
from netformer.workers import map_parallel
from stages import Bar, n_workers, run, shared
from stages.params import load_params

PIECE = 8  # tasks a call


@shared()
def main(root: Path = Path()) -> None:
    p = load_params(root).metafeatures
    tasks = read_tasks(root / "data" / "tasks.parquet")
    pieces = [tasks[start : start + PIECE] for start in range(0, max(1, len(tasks)), PIECE)]
    describe = partial(meta_features_frame, workers=1, max_rows=p.max_rows, max_features=p.max_features)
    tables = map_parallel(describe, pieces, workers=n_workers(), progress=Bar("metafeatures"))
    write_parquet(pa.concat_tables(tables).combine_chunks(), root / "data" / "metafeatures.parquet")


if __name__ == "__main__":
    run(main)
