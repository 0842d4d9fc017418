"""step_card: the package's networks with and without grown step units, where targets jump and where they do not; writes
`reports/steps/`.

    python -m stages.step_card

No stage of the pipeline: it needs no data, its tasks are drawn (`evaluation.jumps`). Writes tasks.csv, a line per task
and method, and metrics.json (`evaluation.jumps.summary`). Nothing may be chosen by these numbers: they report.
"""

from pathlib import Path

from netformer.artifacts import write_json
from netformer.evaluation.jumps import SETS, measure, summary
from stages import n_workers, run

FOLDER = Path("reports/steps")
ROWS, TASKS = (300, 1000), 12


def main(repository: Path = Path()) -> None:
    measured = measure(SETS, ROWS, TASKS, n_workers())
    folder = repository / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    measured.round(4).to_csv(folder / "tasks.csv", index=False)
    found = {name: round(value, 4) if isinstance(value, float) else value for name, value in summary(measured).items()}
    write_json(found, folder / "metrics.json")


if __name__ == "__main__":
    run(main)
