"""step_card: the package's networks with and without grown step units, where targets jump and where they do not; writes
`reports/steps/`.

    python -m stages.step_card [--tasks 2 --out build/steps/few]

No stage of the pipeline: it needs no data, its tasks are drawn (`evaluation.jumps`). Writes tasks.csv, a line per task
and method, and metrics.json (`evaluation.jumps.summary`), of classes classes.csv and classes.json; prints the table of
classes in `docs/steps.md`. Resumable: what is known of a task is kept under `build/steps/` as long as code, weights and
CatBoost are the same. Nothing may be chosen by these numbers: they report.
"""

import argparse
import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from netformer.artifacts import write_json
from netformer.evaluation.jumps import CLASS_SETS, SETS, measure, measure_classes, summary
from netformer.files import code_digest, sources_of
from stages import n_workers, run
from stages.pretrain import PACKAGE

FOLDER, KEPT = Path("reports/steps"), Path("build/steps")
ROWS, TASKS, CLASS_TASKS = (300, 1000), 12, 18  # rows for learning; tasks of each set and number of them


def kept(repository: Path) -> Path:
    """The folder of what is known of tasks, for this code, these weights and this CatBoost."""
    weights = (repository / PACKAGE / "model.safetensors").read_bytes() + version("catboost").encode()
    root = repository.resolve()
    code = code_digest(sources_of(root / "netformer" / "evaluation" / "jumps.py", root))
    return repository / KEPT / hashlib.sha256(weights + code.encode()).hexdigest()[:16]


def table_of_classes(found: Mapping[str, float | str]) -> str:
    """The table in `docs/steps.md`."""
    heads = ["tasks", "rows", "written", "with steps", "difference", "kept", "CatBoost", "with steps minus CatBoost"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name in CLASS_SETS:
        for rows in ROWS:
            key = f"{name}.{rows}"
            written, steps, catboost = (f"{found[f'{key}.{m}']:.3f}" for m in ("wide_16", "wide_16_steps", "catboost"))
            gain, ahead = (
                f"{found[f'{key}.{m}.minus']:+.3f} ± {found[f'{key}.{m}.minus_se']:.3f}"
                for m in ("wide_16", "catboost")
            )
            share = f"{100 * float(found[f'{key}.kept']):.0f} %"
            lines.append(f"| {name} | {rows:,} | {written} | {steps} | {gain} | {share} | {catboost} | {ahead} |")
    return "\n".join(lines)


def write(measured: pd.DataFrame, table: Path, metrics: Path) -> dict[str, float | str]:
    """The lines and their summary, rounded; returns the summary."""
    measured.round(4).to_csv(table, index=False)
    found = {name: round(value, 4) if isinstance(value, float) else value for name, value in summary(measured).items()}
    write_json(found, metrics)
    return found


def main(repository: Path = Path(), tasks: int | None = None, out: Path = FOLDER) -> None:
    """tasks: of each set and number of rows, if fewer."""
    known, folder = kept(repository), repository / out
    folder.mkdir(parents=True, exist_ok=True)
    numbers = measure(SETS, ROWS, tasks or TASKS, n_workers(), known / "numbers")
    write(numbers, folder / "tasks.csv", folder / "metrics.json")
    classes = measure_classes(CLASS_SETS, ROWS, tasks or CLASS_TASKS, n_workers(), known / "classes")
    print(table_of_classes(write(classes, folder / "classes.csv", folder / "classes.json")))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tasks", type=int, help=f"of each set and number of rows; else {TASKS}, of classes {CLASS_TASKS}"
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the report (%(default)s)")
    arguments = parser.parse_args()
    run(lambda repository: main(repository, arguments.tasks, arguments.out))
