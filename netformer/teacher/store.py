"""Store: a teacher on disk, with the model it corrects."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from netformer.artifacts import write_json
from netformer.errors import InputError
from netformer.model.store import check_tensors, write_tensors
from netformer.model.vae import TransformerVAE
from netformer.teacher.answers import Answerer
from netformer.teacher.transformer import Teacher, TeacherOptions

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "teacher.safetensors"


def digest_of(writer: TransformerVAE | None) -> str:
    """What tells the weights of one model that writes networks from another's."""
    digest = hashlib.sha256()
    for name, value in ({} if writer is None else writer.state_dict()).items():
        digest.update(name.encode() + value.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_teacher(answerer: Answerer, folder: Path) -> None:
    """Write `teacher.safetensors` (half precision) and `config.json` (format, options, digest of the writer)."""
    weights = answerer.teacher.state_dict()
    write_tensors({name: value.half() for name, value in weights.items()}, folder / WEIGHTS)
    options, writer = answerer.teacher.arguments, digest_of(answerer.writer)
    write_json({"format": FORMAT, "teacher": options, "writer": writer}, folder / CONFIG)


def load_teacher(folder: Path, writer: TransformerVAE | None) -> Answerer:
    """The teacher in a folder of `save_teacher`, in float32. writer: the model it was trained with.

    Raises InputError, one line, for a folder that is missing, incomplete, damaged or of another format, and for another
    writer.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} does not exist; train a teacher first (make teach)")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        found = config.get("format") if isinstance(config, dict) else None
        if found != FORMAT:
            raise InputError(
                f"{folder}: format must be {FORMAT}, found {found!r}; train the teacher again (make teach)"
            )
        teacher = Teacher.seeded(TeacherOptions(**config["teacher"]), 0)
        tensors = load_file(folder / WEIGHTS)
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError, OSError) as error:
        line = " ".join(str(error).split())
        raise InputError(
            f"{folder} must hold a teacher as make teach writes it, found: {line}; copy it again"
        ) from None
    if config["teacher"]["networks"] and config.get("writer") != digest_of(writer):
        raise InputError(
            f"{folder}: writer must be {digest_of(writer)}, the model given, found "
            f"{config.get('writer')!r}; load the model the teacher was trained with, or train it again (make teach)"
        )
    check_tensors(folder, tensors, teacher.state_dict())
    teacher.load_state_dict(tensors)
    return Answerer(teacher.eval(), writer)
