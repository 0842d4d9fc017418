"""Loop: the teacher's training, resumable, and longer whenever somebody has the time.

The learning rate is constant until the last `decay_share` of the steps. A checkpoint of the constant part does not
depend on how many steps there will be, so a training of more steps goes on from where a shorter one began to decay:
that checkpoint, the trunk, is kept. Before the decay, the mean of the last checkpoints stands in for it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from netformer.arrays.devices import enough_memory
from netformer.model.store import write_tensors
from netformer.model.vae import TransformerVAE
from netformer.options import TablePrior, TaskPrior
from netformer.tasks.families import DEFAULT, NUMBERS
from netformer.teacher.batches import Lesson, TeachOptions, draw_lesson
from netformer.teacher.transformer import Teacher, TeacherOptions
from netformer.training.batches import ahead
from netformer.training.losses import function_loss

CPU = torch.device("cpu")
CLIP = 1.0  # the norm of the gradient is at most that
BETAS = (0.9, 0.98)  # of AdamW
CONSTANT = "constant"  # the rate at a checkpoint
CURVE = ("loss", "base", "tasks", "skipped")  # of a step: loss; that of the fit corrected; tasks; 1 if nothing moved


def rate(step: int, options: TeachOptions) -> float:
    """The learning rate of a step as a share of the highest: a linear warm-up, constant, then to zero as one minus the
    square root of the share of the decay that is over (Hägele et al. 2024, 2405.18392)."""
    start = decay_start(options)
    if step < options.warmup:
        return (step + 1) / options.warmup
    if step < start:
        return 1.0
    return 1 - math.sqrt((step - start + 1) / (options.steps - start + 1))


def decay_start(options: TeachOptions) -> int:
    """The first step at a lower rate."""
    return options.steps - round(options.decay_share * options.steps)


@dataclass(eq=False)
class Progress:
    """What a training is at: the teacher, its optimisers, the numbers of every step so far (`CURVE`), and the weights
    at the last checkpoints, oldest first."""

    teacher: Teacher
    optimizers: list[torch.optim.Optimizer]
    curve: list[list[float]] = field(default_factory=list)
    recent: list[dict[str, Tensor]] = field(default_factory=list)

    @classmethod
    def start(cls, model: TeacherOptions, options: TeachOptions, device: torch.device = CPU) -> Progress:
        """Before the first step. Muon (Jordan et al. 2024) moves the matrices of the blocks, AdamW the rest."""
        teacher = Teacher.seeded(model, options.seed).to(device)
        inner = [p for block in teacher.blocks for p in block.parameters() if p.ndim == 2]
        known = {id(p) for p in inner}
        outer = [p for p in teacher.parameters() if id(p) not in known]
        decay = options.weight_decay
        muon = torch.optim.Muon(inner, lr=options.lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
        adam = torch.optim.AdamW(outer, lr=options.outer_lr, weight_decay=decay, betas=BETAS, fused=True)
        return cls(teacher, [muon, adam])

    @property
    def device(self) -> torch.device:
        """Where the teacher is."""
        return self.teacher.head.weight.device

    def averaged(self) -> Teacher:
        """The teacher with the mean of the weights of the last checkpoints; as it is, where there are none."""
        result = Teacher.seeded(self.teacher.options, 0).to(self.device) if self.recent else self.teacher
        if self.recent:
            names = self.recent[0]
            result.load_state_dict({k: torch.stack([w[k] for w in self.recent]).mean(0) for k in names})
        return result.eval()

    def save(self, path: Path, end: str) -> None:
        """All of it into a file, complete or not at all. end: of the schedule that it decays under, or `CONSTANT`."""
        tensors = {f"model.{name}": value for name, value in self.teacher.state_dict().items()}
        for optimizer in self.optimizers:
            for name, parameter in self.teacher.named_parameters():
                for key, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"optimizer.{name}/{key}"] = value
        for number, weights in enumerate(self.recent):
            tensors |= {f"recent.{number}.{name}": value for name, value in weights.items()}
        tensors["curve"] = torch.tensor(self.curve, dtype=torch.float64).view(-1, len(CURVE))
        write_tensors(tensors, path, {"end": end})

    def resume(self, path: Path) -> None:
        """Go on from such a file, on the device where the teacher is."""
        tensors = {name: value.to(self.device) for name, value in load_file(path).items()}
        self.teacher.load_state_dict(_under("model.", tensors))
        parameters = dict(self.teacher.named_parameters())
        owner = {id(p): optimizer for optimizer in self.optimizers for p in optimizer.param_groups[0]["params"]}
        for where, value in _under("optimizer.", tensors).items():
            name, key = where.split("/")
            owner[id(parameters[name])].state[parameters[name]][key] = value
        while weights := _under(f"recent.{len(self.recent)}.", tensors):
            self.recent.append(weights)
        self.curve = tensors["curve"].tolist()


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def steps_in(path: Path) -> int:
    """Steps behind a checkpoint; 0 where there is none."""
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        return file.get_slice("curve").get_shape()[0]


def _end(options: TeachOptions) -> str:
    return f"{options.steps} {options.decay_share}"


def _leads_to(path: Path, options: TeachOptions) -> bool:
    """Whether a training with these options comes by this checkpoint: while the rate is constant, or in the same
    decay."""
    if not path.exists():
        return False
    with safe_open(path, "pt") as file:
        end = file.metadata()["end"]
    return end == _end(options) or (end == CONSTANT and steps_in(path) <= decay_start(options))


def teach(
    model: TeacherOptions,
    options: TeachOptions,
    writer: TransformerVAE | None,
    *,
    prior: TaskPrior = DEFAULT,
    tables: TablePrior = NUMBERS,
    folder: Path | None = None,
    log: Callable[[Progress], None] | None = None,
    minutes: float = math.inf,
    device: torch.device = CPU,
) -> Progress:
    """Train a teacher; the same arguments give the same weights, however often the training was interrupted.

    writer: writes the networks of which the fits are made (`TeacherOptions.networks`). prior, tables: of the tasks.
    folder: for `latest.safetensors`, written every `every` steps, and the trunk; the training goes on from
    what is there, so the caller names it after everything that matters but `steps`. log: called at every checkpoint and
    at the end. minutes: after which it stops at the next checkpoint. device: where it is trained; the writer is moved
    there. A checkpoint of one device is gone on from on another; the same bytes are promised on a CPU alone.

    Raises InputError when a GPU has too little memory.
    """
    o, progress, began = options, Progress.start(model, options, device), time.monotonic()
    if writer is not None:
        writer.to(device)
    latest, trunk = (None if folder is None else folder / f"{name}.safetensors" for name in ("latest", "trunk"))
    if latest is not None and trunk is not None:
        able = [path for path in (latest, trunk) if _leads_to(path, o)]
        if able:
            progress.resume(able[0])
    draw = partial(
        draw_lesson,
        options=o,
        max_features=model.max_features,
        networks=model.networks,
        writer=writer,
        prior=prior,
        tables=tables,
        device=device,
    )
    with enough_memory("teach.rows"):
        _steps(progress, draw, o, (latest, trunk), log, began + 60 * minutes)
    return progress


def _steps(
    progress: Progress,
    draw: Callable[[int], Lesson],
    o: TeachOptions,
    files: tuple[Path | None, Path | None],
    log: Callable[[Progress], None] | None,
    end: float,
) -> None:
    """All steps that are left, or those before the clock is at `end` (`time.monotonic`). files: the last checkpoint and
    the trunk."""
    latest, trunk = files
    for step, lesson in ahead(draw, range(len(progress.curve), o.steps)):
        progress.curve.append(_step(progress, lesson, rate(step, o), o))
        done = step + 1
        if done % o.every and done not in (o.steps, decay_start(o)):
            continue
        if done <= decay_start(o) and done % o.every == 0:
            progress.recent.append({k: v.detach().clone() for k, v in progress.teacher.state_dict().items()})
            del progress.recent[: -o.average]
        elif done > decay_start(o):
            progress.recent.clear()
        if latest is not None and trunk is not None:
            decays = done > decay_start(o)
            progress.save(latest, _end(o) if decays else CONSTANT)
            if done == decay_start(o):
                progress.save(trunk, CONSTANT)
        if log is not None:
            log(progress)
        if time.monotonic() > end:
            break


def _step(progress: Progress, lesson: Lesson, share: float, options: TeachOptions) -> list[float]:
    """One step of the optimisers; its numbers."""
    teacher, n = progress.teacher, lesson.n_train
    target = lesson.tasks.y[:, n:]
    bf16 = options.precision == "bf16-mixed"
    with torch.autocast(progress.device.type, torch.bfloat16) if bf16 else nullcontext():
        answer = teacher(lesson.tasks, lesson.fits, n)
    value, base = (mean_loss(said, target) for said in (answer, lesson.fits.base[:, n:]))
    teacher.zero_grad(set_to_none=True)
    value.backward()
    norm = nn.utils.clip_grad_norm_(teacher.parameters(), CLIP)
    loss, of_fit, size = torch.stack([value.detach(), base, norm]).tolist()  # here a GPU is waited for, once a step
    finite = math.isfinite(size)
    for optimizer, peak in zip(progress.optimizers, (options.lr, options.outer_lr), strict=True):
        optimizer.param_groups[0]["lr"] = share * peak
        if finite:
            optimizer.step()
    return [loss, of_fit, float(len(lesson)), float(not finite)]


def mean_loss(answer: Float[Tensor, "t rows"], target: Float[Tensor, "t rows"]) -> Float[Tensor, ""]:
    """`losses.function_loss` on all rows."""
    return function_loss(answer, target, torch.ones_like(target))
