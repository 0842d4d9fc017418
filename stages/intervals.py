"""intervals: how often the intervals of the package's weights hold on real tables, and how wide; `reports/intervals/`.

    python -m stages.intervals [--tables N]

No stage of the pipeline. Reads data/tasks.parquet, of which the real tables alone (or the first N of them) in all their
row splits. Writes tables.csv, a line per table, row split and method, and metrics.json (`benchmark.coverage.summary`).
Tables that were measured before by the same code are taken from build/intervals/. Nothing may be chosen by these
numbers: they report.
"""

import argparse
import math
from functools import partial
from pathlib import Path

import pandas as pd

from netformer.artifacts import read_tasks, write_json
from netformer.benchmark.coverage import measure, summary
from netformer.files import code_digest, replacing
from stages import Bar, n_workers, run

TASKS, FOLDER, BUILD = Path("data/tasks.parquet"), Path("reports/intervals"), Path("build/intervals")
CODE = ("netformer/benchmark/coverage.py", "netformer/generation", "netformer/exports/intervals.py", "netformer/tables")


def main(repository: Path = Path(), limit: int | None = None) -> None:
    real = [task for task in read_tasks(repository / TASKS) if task.source == "real"]
    names = list(dict.fromkeys(task.table for task in real))[:limit]
    own = [repository / path for path in CODE]
    files = [file for path in own for file in ([path] if path.is_file() else sorted(path.glob("*.py")))]
    kept = repository / BUILD / f"{code_digest(files)}.csv"
    parts = [pd.read_csv(kept)] if kept.exists() else []
    known = set(parts[0]["table"]) if parts else set()
    bar = Bar("intervals")
    for done, name in enumerate(names, 1):
        if name not in known:
            parts.append(measure([task for task in real if task.table == name], n_workers()))
            kept.parent.mkdir(parents=True, exist_ok=True)
            with replacing(kept) as partial_file:
                pd.concat(parts).to_csv(partial_file, index=False)
        bar(done, len(names))
    measured = pd.concat(parts).query("table in @names")
    folder = repository / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    measured.round(4).to_csv(folder / "tables.csv", index=False)
    found = {name: round(value, 4) for name, value in summary(measured).items() if math.isfinite(value)}
    write_json(found, folder / "metrics.json")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, help="of the real tables the first so many")
    run(partial(main, limit=parser.parse_args().tables))
