"""pretrain: the weights of the package, by the same stages on `params/pretrained.yaml`, under `build/pretrained/`.

    python -m stages.pretrain [--init FOLDER]

No stage of the pipeline. A stage whose code, params and inputs have not changed is not run again, and training resumes
from its last checkpoint. It ends by copying weights, config and params to `netformer/pretrained/`, with the history of
the weights: every training with its commit, steps and stream of tasks. --init: weights to go on from.
"""

import argparse
import json
import shutil
import subprocess
from pathlib import Path

from safetensors.torch import load_file

from netformer.artifacts import write_json
from netformer.errors import InputError
from netformer.files import replacing
from netformer.model.store import load_model, write_weights
from stages import run
from stages.params import load_params
from stages.roots import once

WORK, PACKAGE, PARAMS = Path("build/pretrained"), Path("netformer/pretrained"), Path("params/pretrained.yaml")
PREPARATION = ("download", "zoo", "tokenize", "metafeatures")


def prepare_root(repository: Path) -> Path:
    """The root of the pretrained model, with its params and the sample table."""
    root = repository / WORK
    (root / "data").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(repository / PARAMS, root / "params.yaml")
    if (nodes := load_params(root).train.nodes) > 1:
        raise InputError(f"train.nodes must be 1 for make pretrain, whose stages are not shared by nodes, got {nodes}")
    shutil.copyfile(repository / "data" / "sample.csv", root / "data" / "sample.csv")
    return root


def prepare(repository: Path) -> Path:
    """Tasks, zoo, tokens and meta-features of the pretrained model; returns their root."""
    root = prepare_root(repository)
    for stage in PREPARATION:
        once(repository, root, stage)
    return root


def commit_of(repository: Path) -> str:
    """The commit the code is at, marked when files differ from it; `unknown` outside of Git."""
    try:
        command = ["git", "-C", str(repository), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main(repository: Path = Path(), init: Path | None = None) -> None:
    from stages.train import main as train

    commit, trainings, initial = commit_of(repository), [], None
    if init is not None:
        initial = load_model(init)[0]
        trainings = json.loads((init / "history.json").read_text())
    root = prepare(repository)
    params = load_params(root)
    p = params.train
    if p.seed in [training["seed"] for training in trainings]:
        raise InputError(
            f"train.seed must differ from that of every earlier training, got {p.seed}: its tasks would repeat"
        )
    train(root, initial)
    fresh, temperature = p.steps * p.stream_tasks, params.model.temperature
    training = {"commit": commit, "seed": p.seed, "steps": p.steps, "stream_tasks": fresh, "temperature": temperature}
    trainings.append(training)
    publish(root, repository / PACKAGE)
    write_json(trainings, repository / PACKAGE / "history.json")


def publish(root: Path, package: Path) -> None:
    """Weights, config and params into the package, complete or not at all; weights in half precision, half the size."""
    weights = load_file(root / "models" / "netformer" / "model.safetensors")
    write_weights({name: value.half() for name, value in weights.items()}, package)
    for source in ("models/netformer/config.json", "params.yaml"):
        with replacing(package / Path(source).name) as temporary:
            shutil.copyfile(root / source, temporary)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", type=Path, help="folder with model.safetensors, config.json and history.json")
    arguments = parser.parse_args()
    run(lambda root: main(root, arguments.init))
