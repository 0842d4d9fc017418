"""Small teachers and tasks that tests share."""

import torch

from netformer.model.vae import TransformerVAE
from netformer.networks.specs import Layout
from netformer.options import ModelOptions
from netformer.tasks.stream import stream_batch
from netformer.tasks.view import TaskStack
from netformer.teacher.answers import Answerer
from netformer.teacher.transformer import Teacher, TeacherOptions

FEATURES = 4
OPTIONS = TeacherOptions(max_features=FEATURES, d_model=16, n_heads=2, n_blocks=2, d_hidden=24, networks=2)


def writer() -> TransformerVAE:
    """A model with random weights that writes networks of 4 inputs."""
    options = ModelOptions(d_model=16, d_condition=16, n_heads=2, n_encoder_layers=1, d_writer=16, d_vertex=2, d_row=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return TransformerVAE(Layout(FEATURES, 2, 6), 3, options).eval()


def answerer(networks: int = 2) -> Answerer:
    """A teacher whose every weight is random, so that nothing it reads is multiplied by 0."""
    options = TeacherOptions(**{**vars(OPTIONS), "networks": networks})
    teacher, g = Teacher.seeded(options, 0), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=g)
    return Answerer(teacher.eval(), writer())


def tasks(n: int = 3, rows: int = 30, index: int = 0) -> TaskStack:
    """Canonical tasks of `rows` train rows, with half as many to ask about behind them."""
    return stream_batch(index, n, seed=4, max_features=FEATURES, min_rows=rows, max_rows=rows).float()
