"""report_card: the package's weights beside everything they are compared with; writes `reports/pretrained/`.

    python -m stages.report_card [--references]

No stage of the pipeline, and the one place where wall times are reported. Tasks, zoo and meta-features of
`params/pretrained.yaml` are made under `build/pretrained/` unless they are there; samples and evaluation are the
pipeline's own stages, with the weights of the package. --references: fit the reference learners alone, which need
neither weights nor zoo; the report finds them.
"""

import argparse
import hashlib
import json
import shutil
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch

from netformer.artifacts import networks_of, read_parquet, read_tasks, write_json
from netformer.evaluation import baselines
from netformer.evaluation.arms import RAW_DRAWN
from netformer.evaluation.card import by_group, calibration, prompts, refine_report
from netformer.evaluation.comparison import rating, zero_shot_metrics
from netformer.evaluation.memorisation import memorisation
from netformer.evaluation.references import reference_scores
from netformer.evaluation.scored import read_samples, read_scored, sets_of
from netformer.files import code_digest, sources_of
from netformer.generation.generator import NetFormer
from netformer.generation.sampling import sample_networks
from netformer.model.store import load_model
from netformer.networks.stack import Networks, concatenate
from netformer.report.evaluation_report import evaluation_report
from netformer.report.model_card import model_card
from netformer.report.page import write_page
from netformer.report.summaries import real_tables, refinement
from netformer.report.svg import save
from netformer.tasks.task import Task
from netformer.workers import map_parallel
from stages import Bar, n_workers, run
from stages.params import load_params
from stages.pretrain import PACKAGE, PREPARATION, prepare, prepare_root
from stages.report import evidence
from stages.roots import once

FOLDER = Path("reports/pretrained")
PICTURES = ("zero_shot.svg", "functions.svg", "graphs.svg", "latent_map.svg")
OURS = ("single", "drawn", "expected_best_16", "best_of_16", "average_16", "wide_16")
THEIRS = (
    *("ridge", "mlp", "random_ridge_head", "random128_ridge_head", "random_wide_ridge_head"),
    *("svr", "hgb", "rf", "extratrees", "catboost"),
)
RATED = ("single", "average_16", "wide_16", "scratch_best", *THEIRS)  # who plays for the ratings
FAMILY = "friedman"  # of the synthetic tasks that the references are fitted on
REPOSITORY = Path(__file__).resolve().parents[1]
REFERENCE_CODE = ("netformer/evaluation/references.py", "netformer/tasks/scores.py")  # the fits, and R2


def sha256(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def evaluator(repository: Path) -> set[Path]:
    """The modules that decide a number of the report: what this file and the stages it runs import, without what only
    draws, writes and holds what is written (`netformer/report/`, `netformer/cli/`, `netformer/exports/`,
    `stages/report.py`). No network is scored by way of `netformer/exports/`: of what `NetFormer.generate` returns,
    `card.prompts` takes the reading, the networks and their expected R2."""
    root = repository.resolve()
    starts = ("report_card", *PREPARATION, "sample", "evaluate")
    modules = set().union(*(sources_of(root / "stages" / f"{name}.py", root) for name in starts))
    pages = {root / "stages" / "report.py"}
    return {path for path in modules - pages if path.parent.name not in ("report", "cli", "exports")}


def origin(repository: Path) -> dict[str, str]:
    """SHA-256 of the weights, the params and the code a report comes from."""
    package = repository / PACKAGE
    return {
        "weights": sha256([package / "model.safetensors", package / "config.json"]),
        "params": sha256([package / "params.yaml"]),
        "code": code_digest(evaluator(repository)),
    }


def remembered(kind: tuple[Networks, bool], held: Networks, train: Networks) -> dict[str, float]:
    """`memorisation` of networks, with their output layer or without.

    One row split per table is enough here: networks are compared with networks, no row is scored, and the splits of one
    table, whose networks are much alike, would count it several times.
    """
    return memorisation(kind[0], held, train, head=kind[1])


def reference_key(tasks: Path, repository: Path = REPOSITORY) -> str:
    """What decides the scores of the reference learners: the tasks and which of them, the code that fits and scores
    (`REFERENCE_CODE`), and the versions of the libraries.

    The other modules that this code imports say what a task is and run one function over many items; what they decide
    is in `tasks`, the file of the tasks.
    """
    code = code_digest(repository / path for path in REFERENCE_CODE)
    libraries = [f"{name} {version(name)}" for name in ("scikit-learn", "catboost")]
    return "\n".join([sha256([tasks]), FAMILY, code, *libraries])


def references(repository: Path, root: Path) -> pd.DataFrame:
    """Scores and times of the reference learners on every row split of the real tables and on the held-out family.

    Columns: task_id, the table; row, test_r2, fit_seconds, predict_seconds, means over the splits; n_runs, splits. Kept
    beside the report, and fitted again when `reference_key` has changed.
    """
    path = root / "data" / "tasks.parquet"
    tasks = [t for t in read_tasks(path) if t.split == "test" and (t.source == "real" or t.family.startswith(FAMILY))]
    key, kept = reference_key(path), repository / FOLDER / "references.csv"
    stamp = kept.with_suffix(".key")
    if not (kept.exists() and stamp.exists() and stamp.read_text() == key):
        kept.parent.mkdir(parents=True, exist_ok=True)
        reference_scores(tasks, workers=n_workers(), progress=Bar("references")).to_csv(kept, index=False)
        stamp.write_text(key)
    return over_splits(pd.read_csv(kept), tasks)


def over_splits(scores: pd.DataFrame, tasks: list[Task]) -> pd.DataFrame:
    """A line per table and row of the numbers per task, means over its row splits, and their number n_runs."""
    table = {task.task_id: task.table for task in tasks}
    groups = scores.assign(task_id=scores["task_id"].map(table)).groupby(["task_id", "row"], sort=False)
    return groups.mean().assign(n_runs=groups.size()).reset_index()


def main(repository: Path = Path()) -> None:
    root, folder = prepare(repository), repository / FOLDER
    params = load_params(root)
    (root / "models" / "netformer").mkdir(parents=True, exist_ok=True)
    for name in ("model.safetensors", "config.json"):
        shutil.copyfile(repository / PACKAGE / name, root / "models" / "netformer" / name)
    once(repository, root, "sample")
    retrieved = once(repository, root, "evaluate")
    data, layout = root / "data", params.zoo.layout
    model, transform = load_model(root / "models" / "netformer")
    tasks = read_tasks(data / "tasks.parquet")
    table = read_parquet(data / "samples.parquet")
    samples = read_samples(table, tasks, layout, params.sample.n_seeds, params.sample.n_samples)
    zoo = read_scored(read_parquet(data / "zoo.parquet"), read_parquet(data / "tokens.parquet"), tasks, layout)
    train = zoo.part("train").networks
    held = concatenate([zoo.part("valid").networks, zoo.part("test").networks])

    per_task = pd.read_csv(root / "reports" / "evaluate" / "per_task.csv")
    sets = sets_of(samples.tasks)
    timed = references(repository, root)
    facts = per_task[per_task["row"] == "single"][["set", "task_id", "family"]]
    every = pd.concat([per_task, facts.merge(timed, on="task_id")[[*per_task.columns]]], ignore_index=True)
    real = every[every["set"] == "real_tables"].pivot(index="task_id", columns="row", values="test_r2")

    report = json.loads((root / "reports" / "evaluate" / "metrics.json").read_text())
    report["zero_shot"] = zero_shot_metrics(every)
    report["rating"] = rating(real[[*RATED]])
    # Networks written for the first row split of every table, in the first run.
    first = pc.and_(pc.is_in(table["arm"], pa.array(["raw", RAW_DRAWN])), pc.equal(table["sampling_seed"], 0))
    raw = networks_of(table.filter(first), layout)
    # In the canonical orientation, the training networks' own: in another one a copy would not be recognised.
    g = torch.Generator().manual_seed(params.sample.seed)
    stack = samples.stack[torch.arange(samples.shape[1])]
    solved, _ = sample_networks(model, stack, None, n_samples=8, generator=g, order_noise=0.0)
    kinds = [(raw, True), (solved, False)]
    written, delivered = map_parallel(partial(remembered, held=held, train=train), kinds, workers=n_workers())
    report["sampling"] |= written
    report["sampling_delivered_hidden"] = {k: delivered[k] for k in ("novelty", "memorisation_ratio", "average_ratio")}
    report["calibration"] = calibration(samples)
    some = [samples.tasks[i] for i in sets["heldout_tasks"]]
    report["prompts"] = prompts(NetFormer(model, transform), some, params.sample.seed)
    if retrieved is None:
        retrieved, _ = baselines.retrieval(samples.stack, train, workers=n_workers())
    seed, bar = params.evaluate.seed, Bar("refine")
    report["refine"] = refine_report(model, samples, train[retrieved], seed, n_workers(), bar)
    report["sha256"] = origin(repository)

    folder.mkdir(parents=True, exist_ok=True)
    by_group(samples, per_task).round(4).to_csv(folder / "by_group.csv", index=False)
    seconds = timed.pivot(index="task_id", columns="row", values=["fit_seconds", "predict_seconds"])
    seconds.columns = ["_".join(reversed(pair)) for pair in seconds.columns.to_list()]
    runs = every[every["row"] == "wide_16"].drop_duplicates("task_id").set_index("task_id")["n_runs"]
    shown = real[[*OURS, "distilled", "raw", "scratch_best", "retrieval", *THEIRS]].join(runs)
    shown.join(seconds, how="left").round(4).to_csv(folder / "real_tables.csv")
    save(refinement(report["refine"]), folder / "refine.svg")
    save(real_tables(real), folder / "real_tables.svg")
    for name in PICTURES:
        shutil.copyfile(root / "reports" / "evaluate" / name, folder / name)
    write_json(report, folder / "metrics.json")
    page = evaluation_report(report, every, evidence(root), title="NetFormer: the weights of the package")
    write_page(page, folder / "report.html")
    trainings = json.loads((repository / PACKAGE / "history.json").read_text())
    (repository / PACKAGE / "README.md").write_text(model_card(report, trainings, params.model_dump()))


def fit_references(repository: Path = Path()) -> None:
    """The tasks of `params/pretrained.yaml` and the reference learners on them."""
    root = prepare_root(repository)
    once(repository, root, "download")
    references(repository, root)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", action="store_true", help="fit the reference learners and stop")
    run(fit_references if parser.parse_args().references else main)
