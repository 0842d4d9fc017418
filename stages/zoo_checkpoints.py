"""zoo_checkpoints: networks of the zoo along their training, and what readers tell of it (`readers.checkpoints`).

    python -m stages.zoo_checkpoints [--networks 3000] [--zoo data/zoo.parquet] [--out data/zoo_checkpoints.parquet]
                                     [--report reports/zoo_benchmark]

No stage of the pipeline; reads what it has written, and its parameters. --networks: of the zoo, evenly spaced. Writes
their checkpoints, and checkpoints.csv into the report. Two minutes on one core.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from netformer.artifacts import read_tasks, write_parquet
from netformer.model.prompt import whole_number
from netformer.readers.checkpoints import along_training, load_checkpoints, summary, told
from netformer.readers.questions import FEW
from netformer.zoo.load import Zoo, load_zoo
from stages import Bar, n_workers, run
from stages.params import load_params


def main(root: Path, networks: int, zoo: Path, out: Path, report: Path) -> None:
    most = whole_number("--networks", networks, FEW)
    p, every = load_params(root).zoo, load_zoo(zoo)
    step = max(1, len(every) // most)
    some = Zoo(every.table.take(list(range(0, len(every), step))[:most]), every.layout)
    tasks = {task.task_id: task for task in read_tasks(zoo.with_name("tasks.parquet"))}
    bar = Bar("zoo_checkpoints")
    table = along_training(some, tasks, p.optimizer, seed=p.seed, workers=n_workers(), progress=bar)
    write_parquet(table, out)
    held_out = [name for name, task in tasks.items() if task.split != "train"]
    found = told(load_checkpoints(out), held_out)
    report.mkdir(parents=True, exist_ok=True)
    found.round(6).to_csv(report / "checkpoints.csv", index=False)
    print(summary(found).to_string())


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="python -m stages.zoo_checkpoints", description="A zoo along its training.")
    parser.add_argument("--networks", type=int, default=3000, help="of the zoo, evenly spaced")
    parser.add_argument("--zoo", type=Path, default=Path("data/zoo.parquet"))
    parser.add_argument("--out", type=Path, default=Path("data/zoo_checkpoints.parquet"))
    parser.add_argument("--report", type=Path, default=Path("reports/zoo_benchmark"), help="folder of checkpoints.csv")
    return parser.parse_args(given)


if __name__ == "__main__":
    a = arguments()
    run(lambda root: main(root, a.networks, a.zoo, a.out, a.report))
