"""report_card: the package's weights before a sceptic; writes `reports/pretrained/`.

No stage of the pipeline, and the one place where wall times are reported. Tasks, zoo and meta-features of
`params/pretrained.yaml` are made under `build/pretrained/` unless they are there; samples and evaluation are the
pipeline's own stages, with the weights of the package.
"""

import hashlib
import json
import shutil
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow.compute as pc
import torch

from netformer.artifacts import networks_of, read_parquet, read_tasks, write_json
from netformer.evaluation import baselines
from netformer.evaluation.card import by_group, calibration, head_to_head, prompts, refine_report
from netformer.evaluation.learners import reference_scores
from netformer.evaluation.memorisation import memorisation
from netformer.evaluation.scored import read_samples, read_scored, sets_of
from netformer.evaluation.scores import zero_shot_metrics
from netformer.files import code_digest, sources_of
from netformer.generation.generator import NetFormer
from netformer.generation.sampling import sample_networks
from netformer.model.store import load_model
from netformer.networks.stack import Networks, concatenate
from netformer.networks.token_tables import detokenize_networks
from netformer.report import views
from netformer.report.model_card import model_card
from netformer.report.page import write as write_page
from netformer.report.plots import plot_real_tables, plot_refinement
from netformer.workers import map_parallel
from stages import Bar, n_workers, run
from stages.params import load_params
from stages.pretrain import PACKAGE, once, prepare
from stages.report import evidence

FOLDER = Path("reports/pretrained")
PICTURES = ("zero_shot.png", "functions.png", "graphs.png", "latent_map.png")
OURS = ("single", "drawn", "expected_best_16", "best_of_16", "average_16", "wide_16")
THEIRS = ("ridge", "mlp", "random128_ridge_head", "svr", "hgb", "rf", "extratrees", "catboost")


def sha256(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def evaluator(repository: Path) -> set[Path]:
    """The modules that decide a number of the report: what this file imports, without what only draws and writes."""
    root = repository.resolve()
    modules = sources_of(root / "stages" / "report_card.py", root)
    return {path for path in modules if path.parent.name != "report"}


def origin(repository: Path) -> dict[str, str]:
    """SHA-256 of the weights, the params and the code a report comes from."""
    package = repository / PACKAGE
    return {
        "weights": sha256([package / "model.safetensors", package / "config.json"]),
        "params": sha256([package / "params.yaml"]),
        "code": code_digest(evaluator(repository)),
    }


def remembered(kind: tuple[Networks, bool], held: Networks, train: Networks) -> dict[str, float]:
    """`memorisation` of networks, with their output layer or without."""
    return memorisation(kind[0], held, train, head=kind[1])


def references(root: Path, tasks: list) -> pd.DataFrame:
    """Scores and times of the reference learners, kept from an earlier run on the same tasks."""
    key, kept = sha256([root / "data" / "tasks.parquet"]), root / "stamps" / "references.csv"
    stamp = kept.with_suffix(".key")
    if not (kept.exists() and stamp.exists() and stamp.read_text() == key):
        reference_scores(tasks, workers=n_workers(), progress=Bar("references")).to_csv(kept, index=False)
        stamp.write_text(key)
    return pd.read_csv(kept)


def main(repository: Path = Path()) -> None:
    root, folder = prepare(repository), repository / FOLDER
    params = load_params(root)
    (root / "models" / "netformer").mkdir(parents=True, exist_ok=True)
    for name in ("model.safetensors", "config.json"):
        shutil.copyfile(repository / PACKAGE / name, root / "models" / "netformer" / name)
    for stage in ("sample", "evaluate"):
        once(repository, root, stage)
    data, layout = root / "data", params.zoo.layout
    model, transform = load_model(root / "models" / "netformer")
    tasks = read_tasks(data / "tasks.parquet")
    table = read_parquet(data / "samples.parquet")
    samples = read_samples(table, tasks, layout, params.sample.n_seeds, params.sample.n_samples)
    zoo = read_scored(
        read_parquet(data / "zoo.parquet"), tasks, detokenize_networks(read_parquet(data / "tokens.parquet"), layout)
    )
    train = zoo.part("train").networks
    held = concatenate([zoo.part("valid").networks, zoo.part("test").networks])

    per_task = pd.read_csv(root / "reports" / "evaluate" / "per_task.csv")
    sets = sets_of(samples.tasks)
    timed = references(root, [samples.tasks[i] for i in sets["real_tables"] + sets["heldout_family"]])
    facts = per_task[per_task["row"] == "single"][["set", "task_id", "family"]]
    every = pd.concat([per_task, facts.merge(timed, on="task_id")[[*per_task.columns]]], ignore_index=True)

    report = json.loads((root / "reports" / "evaluate" / "metrics.json").read_text())
    report["zero_shot"] = zero_shot_metrics(every)
    for name, values in head_to_head(every, OURS, THEIRS).items():
        report["zero_shot"][name] |= values
    raw = networks_of(table.filter(pc.equal(table["arm"], "raw")), layout)
    # In the canonical orientation, the training networks' own: in another one a copy would not be recognised.
    g = torch.Generator().manual_seed(params.sample.seed)
    solved, _ = sample_networks(model, samples.stack, None, n_samples=8, generator=g, order_noise=0.0)
    kinds = [(raw, True), (solved, False)]
    written, delivered = map_parallel(partial(remembered, held=held, train=train), kinds, workers=n_workers())
    report["sampling"] |= written
    report["sampling_delivered_hidden"] = {k: delivered[k] for k in ("novelty", "memorisation_ratio", "average_ratio")}
    report["calibration"] = calibration(samples)
    some = [samples.tasks[i] for i in sets["heldout_tasks"]]
    report["prompts"] = prompts(NetFormer(model, transform), some, params.sample.seed)
    retrieved = train[baselines.retrieval(samples.stack, train)[0]]
    seed, bar = params.evaluate.seed, Bar("refine")
    report["refine"] = refine_report(model, samples, retrieved, seed, n_workers(), bar)
    report["sha256"] = origin(repository)

    folder.mkdir(parents=True, exist_ok=True)
    by_group(samples, per_task).round(4).to_csv(folder / "by_group.csv", index=False)
    real = every[every["set"] == "real_tables"].pivot(index="task_id", columns="row", values="test_r2")
    seconds = timed.pivot(index="task_id", columns="row", values=["fit_seconds", "predict_seconds"])
    seconds.columns = ["_".join(reversed(pair)) for pair in seconds.columns.to_list()]
    shown = real[[*OURS, "distilled", "raw", "random_ridge_head", "scratch_best", "retrieval", *THEIRS]]
    shown.join(seconds, how="left").round(4).to_csv(folder / "real_tables.csv")
    plot_refinement(report["refine"], folder / "refine.png")
    plot_real_tables(real, folder / "real_tables.png")
    for name in PICTURES:
        shutil.copyfile(root / "reports" / "evaluate" / name, folder / name)
    write_json(report, folder / "metrics.json")
    page = views.evaluation_report(report, every, evidence(root), title="NetFormer: the weights of the package")
    write_page(page, folder / "report.html")
    legs = json.loads((repository / PACKAGE / "legs.json").read_text())
    (repository / PACKAGE / "README.md").write_text(model_card(report, legs, params.model_dump()))


if __name__ == "__main__":
    run(main)
