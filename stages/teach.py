"""teach: train the teacher (params/teacher.yaml) on the tasks of params/pretrained.yaml, under `build/teacher/`.

    python -m stages.teach [--minutes M] [--accelerator cpu|cuda|auto]

No stage of the pipeline. Goes on from its last checkpoint, also with more steps than before (`netformer.teacher.loop`).
At each checkpoint it writes the teacher as it stands into `model/` and a line into `curve.csv`: R2 on the validation
stream, beside that of the fit it corrects, against tasks seen. --minutes: after which it stops at the next checkpoint.
--accelerator: what it is trained on (cpu); auto: cuda if there is a GPU. A checkpoint goes on on either.
"""

import argparse
import csv
import hashlib
import math
from pathlib import Path

import torch

from netformer.arrays.devices import ACCELERATORS, device_of, made_on, moved
from netformer.errors import InputError
from netformer.files import replacing
from netformer.model.store import load_model
from netformer.model.vae import TransformerVAE
from netformer.tasks.scores import r2
from netformer.tasks.view import TaskStack
from netformer.teacher.answers import Answerer, valid_r2
from netformer.teacher.batches import TeachOptions, validation_tasks
from netformer.teacher.inputs import fits_of
from netformer.teacher.loop import Progress, teach
from netformer.teacher.store import digest_of, save_teacher
from netformer.teacher.transformer import TeacherOptions
from stages import run
from stages.params import Params, ParamsSection, read_params

WORK, PARAMS, TASKS = Path("build/teacher"), Path("params/teacher.yaml"), Path("params/pretrained.yaml")
WRITER = Path("netformer/pretrained")
VALID = 24, 16  # batches of the validation stream, and tasks of each
COLUMNS = ("step", "tasks", "loss", "loss_of_fit", "mean_r2", "median_r2", "mean_r2_of_fit")
SHOWN = 100  # steps whose losses are averaged for a line


class TeacherParams(ParamsSection):
    """The whole of params/teacher.yaml."""

    teacher: TeacherOptions
    teach: TeachOptions


def folder_of(root: Path, params: TeacherParams, tasks: Params, writer: TransformerVAE) -> Path:
    """A folder named after all that matters but when the training ends: what a checkpoint of anything else has begun is
    never continued."""
    ends = {"teach": {"steps", "decay_share"}}
    words = params.model_dump_json(exclude=ends) + tasks.download.prior.__repr__() + repr(tasks.train.tables)
    return root / hashlib.sha256((words + digest_of(writer)).encode()).hexdigest()[:12]


def fit_r2(valid: list[TaskStack], writer: TransformerVAE, networks: int) -> float:
    """Mean R2 of the fit that the teacher corrects."""
    found = []
    for tasks in valid:
        fits = fits_of(tasks, writer, networks, torch.Generator().manual_seed(0))
        found.append(r2(tasks.y, fits.base, ~tasks.train))
    return float(torch.cat(found).mean())


def line_of(progress: Progress, answerer: Answerer, valid: list[TaskStack], base: float) -> dict[str, float]:
    """A line of the curve; of the losses the mean of the last `SHOWN` steps."""
    curve = torch.tensor(progress.curve, dtype=torch.float64)
    values = valid_r2(answerer, valid)
    loss, fit = curve[-SHOWN:, :2].mean(0).tolist()
    numbers = [len(curve), int(curve[:, 2].sum()), loss, fit, float(values.mean()), float(values.median()), base]
    return dict(zip(COLUMNS, (round(number, 5) for number in numbers), strict=True))


def main(
    repository: Path = Path(),
    minutes: float = math.inf,
    params: TeacherParams | None = None,
    accelerator: str = "cpu",
) -> None:
    """Train, or go on training. params: None: those of params/teacher.yaml. accelerator: see `devices.device_of`."""
    device = device_of(accelerator, "accelerator")
    params = params or read_params(repository / PARAMS, TeacherParams)
    tasks = read_params(repository / TASKS, Params)
    writer, _ = load_model(repository / WRITER)
    if params.teacher.max_features != writer.layout.max_features:
        found, least = params.teacher.max_features, writer.layout.max_features
        raise InputError(f"teacher.max_features must be {least}, as of the model in {WRITER}, got {found}")
    prior, tables = tasks.download.prior, tasks.train.tables
    valid = validation_tasks(*VALID, params.teach, max_features=params.teacher.max_features, prior=prior, tables=tables)
    root = repository / WORK
    folder = folder_of(root, params, tasks, writer)
    writer.to(device)
    valid = [moved(batch, device) for batch in valid]
    with made_on(device):
        base = fit_r2(valid, writer, params.teacher.networks)

    def log(progress: Progress) -> None:
        answerer = Answerer(progress.averaged(), writer)
        with made_on(device):
            line = line_of(progress, answerer, valid, base)
        progress.teacher.train()
        earlier = []
        if (folder / "curve.csv").exists():
            with (folder / "curve.csv").open(newline="") as file:
                earlier = [row for row in csv.DictReader(file) if int(row["step"]) < line["step"]]
        for where in (folder, root):
            with replacing(where / "curve.csv") as temporary, temporary.open("w", newline="") as file:
                table = csv.DictWriter(file, COLUMNS)
                table.writeheader()
                table.writerows([*earlier, line])
        save_teacher(answerer, root / "model")
        print(" ".join(f"{name} {value}" for name, value in line.items()), flush=True)

    teach(
        params.teacher,
        params.teach,
        writer,
        prior=prior,
        tables=tables,
        folder=folder,
        log=log,
        minutes=minutes,
        device=device,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop at the next checkpoint after as many")
    parser.add_argument("--accelerator", choices=ACCELERATORS, default="cpu", help="what it is trained on")
    arguments = parser.parse_args()
    run(lambda root: main(root, arguments.minutes, accelerator=arguments.accelerator))
