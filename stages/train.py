"""train: fit the transformer VAE on the tokens of the train tasks' networks and on a stream of fresh tasks."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import torch
from dvclive import Live

from netformer.artifacts import metafeature_values, read_table, read_tasks, save_model
from netformer.config import Params, load_params
from netformer.metafeatures import NAMES, MetaFeatureTransform
from netformer.model import TransformerVAE
from netformer.observation import Prior
from netformer.tasks import stack_tasks
from netformer.tokens import detokenize_networks, detokenize_sensitivity
from netformer.training import Corpus, LossWeights, train
from stages import Bar, run

INPUTS = ("data/tasks.parquet", "data/tokens.parquet", "data/metafeatures.parquet")
SECTIONS = {"download", "zoo", "metafeatures", "model", "train"}


def corpus_of(root: Path, params: Params) -> tuple[Corpus, MetaFeatureTransform]:
    """Networks, tasks and meta-features of the tasks whose split is train."""
    tasks = [t for t in read_tasks(root / INPUTS[0]) if t.split == "train"]
    table = read_table(root / INPUTS[1])
    rows = {task.task_id: row for row, task in enumerate(tasks)}
    table = table.filter(np.isin(table["task_id"].to_numpy(zero_copy_only=False), list(rows)))
    values = metafeature_values(read_table(root / INPUTS[2]), list(rows))
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
    """A file named after params, inputs, start and code: a checkpoint of anything else is never resumed."""
    digest = hashlib.sha256(params.model_dump_json(include=SECTIONS).encode())
    for name in INPUTS:
        digest.update((root / name).read_bytes())
    for name in sorted(sys.modules):
        if name.startswith("netformer.") and (source := sys.modules[name].__file__):
            digest.update(Path(source).read_bytes())
    for value in [] if initial is None else initial.state_dict().values():
        digest.update(value.numpy().tobytes())
    return root / "build" / "checkpoints" / f"{digest.hexdigest()[:16]}.safetensors"


def main(root: Path = Path(), initial: TransformerVAE | None = None) -> None:
    params = load_params(root)
    p = params.train
    corpus, transform = corpus_of(root, params)
    bar = Bar("train")
    layout = params.zoo.layout
    arguments = {
        "max_features": layout.max_features,
        "max_hidden_layers": layout.max_hidden_layers,
        "max_width": layout.max_width,
        "n_metafeatures": len(NAMES),
        **params.model.model_dump(),
    }
    with Live(str(root / "reports" / "train"), dvcyaml=False, save_dvc_exp=False) as live:

        def log(step: int, losses: dict[str, float]) -> None:
            live.step = step
            for name, value in losses.items():
                live.log_metric(name, value)
            bar(step, p.steps)

        model = train(
            corpus,
            arguments,
            loss=LossWeights(**p.loss.model_dump()),
            checkpoint=checkpoint_of(root, params, initial),
            log=log,
            prior=Prior(**params.download.prior.model_dump()),
            initial=initial,
            **p.model_dump(exclude={"loss"}),
        )
    save_model(model, transform, root / "models" / "netformer")


if __name__ == "__main__":
    run(main)
