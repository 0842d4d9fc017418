"""evaluate: zoo, reconstruction, samples and baselines under one evaluator; metrics, table, pictures, a page."""

from pathlib import Path

from jaxtyping import Int
from torch import Tensor

from netformer.artifacts import networks_of, read_class_tasks, read_parquet, read_tasks, write_json
from netformer.evaluation.arms import positions_of_test
from netformer.evaluation.class_scores import class_metrics
from netformer.evaluation.comparison import per_task_table, zero_shot_metrics
from netformer.evaluation.reported import (
    baseline_scores,
    posterior_means,
    reconstruct,
    reconstruction_metrics,
    sampling_metrics,
    zoo_metrics,
)
from netformer.evaluation.scored import read_samples, read_scored
from netformer.files import replacing
from netformer.model.store import load_model
from netformer.networks.token_tables import exact_share, tokenize_networks
from netformer.report import pictures
from netformer.report.evaluation_report import evaluation_report
from netformer.report.page import write_page
from netformer.tasks.metafeatures import metafeature_values
from netformer.tasks.view import stack_tasks
from stages import Bar, n_workers, run, shared
from stages.params import load_params


@shared()
def main(root: Path = Path()) -> Int[Tensor, " t"]:
    """Returns the training network that retrieval chose for each test task, which the report card goes on from."""
    params = load_params(root)
    p, layout, data = params.evaluate, params.zoo.layout, root / "data"
    model, transform = load_model(root / "models" / "netformer")
    tasks = read_tasks(data / "tasks.parquet")
    stored = read_parquet(data / "metafeatures.parquet")
    metafeatures = transform(metafeature_values(stored, [task.task_id for task in tasks]))
    stack = stack_tasks(tasks, layout.max_features)
    zoo_table = read_parquet(data / "zoo.parquet")
    stored = networks_of(zoo_table, layout)
    zoo = read_scored(zoo_table, read_parquet(data / "tokens.parquet"), tasks, layout)
    samples = read_samples(
        read_parquet(data / "samples.parquet"), tasks, layout, params.sample.n_seeds, params.sample.n_samples
    )
    bar = Bar("evaluate")
    workers = n_workers()
    train_nets, held = zoo.part("train").networks, zoo.part("test")
    fitted, retrieved = baseline_scores(
        samples.stack,
        samples.first,
        train_nets,
        samples.wide_units,
        spec=params.zoo.spec,
        optimizer=params.zoo.optimizer,
        scratch_networks=p.scratch_networks,
        seed=p.seed,
        workers=workers,
        progress=bar,
    )
    scores = samples.scores(workers) | {row: samples.over_runs(values) for row, values in fitted.items()}
    per_task = per_task_table(samples, scores)
    latents, conditions = posterior_means(model, held.networks, held.task_index, stack, metafeatures)
    decoded = reconstruct(model, latents, conditions, held.networks.specs.n_inputs)
    report = {
        "zoo": zoo_metrics(zoo, stack, mlp_tasks=p.mlp_tasks, workers=workers, seed=p.seed),
        "tokens": {"exact": exact_share(stored, tokenize_networks(stored)), "n_networks": float(len(stored))},
        "reconstruction": reconstruction_metrics(held.networks, decoded, stack, held.task_index, train_nets),
        "sampling": sampling_metrics(samples, zoo, stack, seed=p.seed),
        "zero_shot": zero_shot_metrics(per_task),
    }
    if classes := [task for task in read_class_tasks(data / "class_tasks.parquet") if task.split == "test"]:
        report["classes"] = class_metrics(model, classes, n_samples=params.sample.n_samples, seed=p.seed)
    folder = root / "reports" / "evaluate"
    folder.mkdir(parents=True, exist_ok=True)
    positions = positions_of_test(tasks)
    losses = root / "reports" / "train" / "plots" / "metrics"
    evidence = pictures.Evidence(samples, held, latents, positions)
    pictures.write_all(folder, per_task, evidence, losses)
    with replacing(folder / "per_task.csv") as part:
        per_task.round(6).to_csv(part, index=False)
    write_json(report, folder / "metrics.json")
    write_page(evaluation_report(report, per_task.round(6), evidence), folder / "report.html")
    return retrieved


if __name__ == "__main__":
    run(main)
