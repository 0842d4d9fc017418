"""report: the page of the last evaluation again, beside other runs: `--compare other/metrics.json`, more than once.

No stage of the pipeline; `evaluate` writes the page without comparison. Drawings need the pipeline's data, numbers do
not. `--from FOLDER` reads metrics.json and per_task.csv elsewhere, `--out FILE` writes elsewhere.
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from netformer.artifacts import read_parquet, read_tasks
from netformer.errors import InputError
from netformer.evaluation.arms import positions_of_test
from netformer.evaluation.reported import posterior_means
from netformer.evaluation.scored import read_samples, read_scored
from netformer.model.store import load_model
from netformer.report import pictures
from netformer.report.evaluation_report import evaluation_report
from netformer.report.page import write_page
from netformer.tasks.metafeatures import metafeature_values
from netformer.tasks.view import stack_tasks
from stages import run
from stages.params import load_params


def read_metrics(path: Path) -> dict:
    """Raises InputError for a file that is no metrics.json of `evaluate`."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; run the pipeline first (make repro) or name another file")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} must be JSON, found: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("zero_shot"), dict):
        raise InputError(f"{path} must be a metrics.json that evaluate wrote, it has no zero_shot")
    return found


def evidence(root: Path) -> pictures.Evidence | None:
    """Samples and zoo of the pipeline, or None where they are not there."""
    data, models = root / "data", root / "models" / "netformer"
    files = [data / f"{name}.parquet" for name in ("tasks", "zoo", "tokens", "samples", "metafeatures")]
    if not all(path.exists() for path in files):
        return None
    params = load_params(root)
    layout, tasks = params.zoo.layout, read_tasks(files[0])
    held = read_scored(read_parquet(files[1]), read_parquet(files[2]), tasks, layout).part("test")
    samples = read_samples(read_parquet(files[3]), tasks, layout, params.sample.n_seeds, params.sample.n_samples)
    latents = None
    if models.is_dir():
        model, transform = load_model(models)
        metafeatures = transform(metafeature_values(read_parquet(files[4]), [task.task_id for task in tasks]))
        stack = stack_tasks(tasks, layout.max_features)
        latents = posterior_means(model, held.networks, held.task_index, stack, metafeatures)[0]
    return pictures.Evidence(samples, held, latents, positions_of_test(tasks))


def main(root: Path = Path(), arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.report", description=__doc__.partition("\n")[0])
    parser.add_argument("--compare", type=Path, action="append", default=[], metavar="METRICS")
    parser.add_argument("--from", type=Path, dest="folder", default=root / "reports" / "evaluate")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    metrics = read_metrics(options.folder / "metrics.json")
    others = {str(path): read_metrics(path) for path in options.compare}
    per_task = pd.read_csv(options.folder / "per_task.csv")
    found = evaluation_report(metrics, per_task, evidence(root), others)
    out = options.out or options.folder / "report.html"
    write_page(found, out)
    print(f"written: {out}")


if __name__ == "__main__":
    run(main)
