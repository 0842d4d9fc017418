"""train: fit the transformer VAE on the tokens of the train tasks' networks and on a stream of fresh tasks."""

import hashlib
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from dvclive import Live
from lightning_fabric import Fabric

from netformer.artifacts import read_parquet, read_tasks
from netformer.model.store import save_model
from netformer.model.vae import TransformerVAE
from netformer.networks.token_tables import detokenize_networks, detokenize_sensitivity
from netformer.tasks.metafeatures import MetaFeatureTransform, metafeature_values
from netformer.tasks.view import stack_tasks
from netformer.training.batches import Corpus
from netformer.training.loop import train
from netformer.training.processes import launch, processes
from netformer.zoo.load import conform_tokens
from stages import Bar, run
from stages.params import Params, load_params

CURVES = Path("build/train")  # while it trains; whole ones go to reports/
INPUTS = ("data/tasks.parquet", "data/tokens.parquet", "data/metafeatures.parquet")
SECTIONS = {"download", "zoo", "metafeatures", "model", "train"}
SHARING = {"devices", "nodes", "strategy", "accelerator"}


def corpus_of(root: Path, params: Params) -> tuple[Corpus, MetaFeatureTransform]:
    """Networks, tasks and meta-features of the tasks whose split is train."""
    tasks = [t for t in read_tasks(root / INPUTS[0]) if t.split == "train"]
    table = conform_tokens(read_parquet(root / INPUTS[1]), INPUTS[1])
    rows = {task.task_id: row for row, task in enumerate(tasks)}
    table = table.filter(np.isin(table["task_id"].to_numpy(zero_copy_only=False), list(rows)))
    values = metafeature_values(read_parquet(root / INPUTS[2]), list(rows))
    transform = MetaFeatureTransform.fit(values, **params.metafeatures.model_dump())
    index = torch.tensor([rows[task_id] for task_id in table["task_id"].to_pylist()])
    layout = params.zoo.layout
    corpus = Corpus(
        detokenize_networks(table, layout),
        index,
        detokenize_sensitivity(table, layout),
        stack_tasks(tasks, layout.max_features),
        transform(values),
    )
    return corpus, transform


def checkpoint_of(root: Path, params: Params, initial: TransformerVAE | None) -> Path:
    """A file named after params, inputs, start and code: a checkpoint of anything else is never resumed. One of another
    number of processes, or from another accelerator, is."""
    digest = hashlib.sha256(params.model_dump_json(include=SECTIONS, exclude={"train": SHARING}).encode())
    for name in INPUTS:
        digest.update((root / name).read_bytes())
    for name in sorted(sys.modules):
        if name.startswith("netformer.") and (source := sys.modules[name].__file__):
            digest.update(Path(source).read_bytes())
    for value in [] if initial is None else initial.state_dict().values():
        digest.update(value.numpy().tobytes())
    return root / "build" / "checkpoints" / f"{digest.hexdigest()[:16]}.safetensors"


def fit(
    fabric: Fabric,
    root: Path,
    params: Params,
    corpus: Corpus,
    transform: MetaFeatureTransform,
    initial: TransformerVAE | None,
    checkpoint: Path,
) -> None:
    """Train in this process and those it shares the steps with; the first of them writes curve and model."""
    p, log = params.train, None
    with ExitStack() as stack:
        if fabric.is_global_zero:
            live = stack.enter_context(Live(str(root / CURVES), dvcyaml=False, save_dvc_exp=False))
            bar = Bar("train")

            def log(step: int, losses: dict[str, float]) -> None:
                live.step = step
                for name, value in losses.items():
                    live.log_metric(name, value)
                bar(step, p.steps)

        model = train(
            corpus,
            params.model,
            p,
            prior=params.download.prior,
            initial=initial,
            fabric=fabric,
            checkpoint=checkpoint,
            log=log,
        )
    if fabric.is_global_zero:
        report = root / "reports" / "train"
        shutil.rmtree(report, ignore_errors=True)
        report.parent.mkdir(exist_ok=True)
        shutil.move(root / CURVES, report)
        save_model(model, transform, root / "models" / "netformer")
    fabric.barrier()


def main(root: Path = Path(), initial: TransformerVAE | None = None) -> None:
    """Train on the data under `root`; initial: a model to go on from."""
    params = load_params(root)
    p = params.train
    fabric = processes(p.devices, p.nodes, p.strategy, p.precision, p.accelerator)
    corpus, transform = corpus_of(root, params)
    launch(fabric, fit, root, params, corpus, transform, initial, checkpoint_of(root, params, initial))


if __name__ == "__main__":
    run(main)
