"""Devices: what is asked for is there or refused in one line, and a training runs whole on a second one (`far`)."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import test_processes as given
import torch

from netformer import InputError, NetFormer
from netformer.arrays.devices import device_of, moved
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import Layout
from netformer.options import ModelOptions
from netformer.tasks.stream import stream_batch
from netformer.training import loop
from netformer.training.losses import Objective
from netformer.training.processes import processes

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
NEAR, NEAR_WEIGHT = 1e-3, 1e-4  # relative difference of losses, mean one of weights, which move by 1e-3 a step
OUT = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB\nof which 1 MiB is free"
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def far(name: str) -> dict:
    """What a function of `far` finds, in a process of its own."""
    command = [sys.executable, "-m", "far", name]
    done = subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_training_of_the_model_runs_whole_on_another_device():
    found = far("writer")
    assert max(run["loss"] for run in found.values()) < NEAR
    assert max(run["weights"] for run in found.values()) < NEAR_WEIGHT
    once_a_step = {"loop.py train": 3}
    assert found["plain"]["looks"] == once_a_step
    assert found["budget"]["looks"] == once_a_step | {"grammar.py read_structure": 3}
    assert found["classes"]["looks"] == once_a_step | {"class_head.py class_logits": 6}


def test_the_training_of_the_teacher_runs_whole_on_another_device():
    found = far("teacher")
    assert found.pop("digest"), "weights are the same model wherever they are"
    assert found.pop("r2") < NEAR
    assert max(run["loss"] for run in found.values()) < NEAR
    assert max(run["weights"] for run in found.values()) < NEAR_WEIGHT
    assert found["plain"]["looks"]["loop.py _step"] == 6, "one a step"


def test_networks_written_on_another_device_are_the_same_up_to_rounding():
    assert max(far("generated").values()) < NEAR


def test_what_is_moved_is_every_tensor_and_nothing_is_copied_in_vain():
    tasks = stream_batch(0, 2, seed=0, max_features=3, min_rows=5, max_rows=6)
    assert moved(tasks, torch.device("cpu")) is tasks
    assert moved((tasks, {"a": 1.0}), None)[0] is tasks
    there = moved((tasks, 2.0), torch.device("meta"))[0]
    parts = [there.x, there.y, there.rows, *vars(there.views).values()]
    assert {part.device.type for part in parts} == {"meta"}


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "cpu:0", "auto:1", ""])
def test_a_device_of_no_such_name(name):
    with pytest.raises(InputError, match=f"^device must be auto, cpu, cuda or cuda:N, got '{name}'$"):
        device_of(name)


@without_gpu
def test_a_gpu_that_is_not_there():
    assert device_of("auto") == device_of("cpu") == torch.device("cpu")
    line = r"^{} must be auto, cpu, or one of the 0 CUDA GPUs that torch \S+ finds, got 'cuda'; a GPU needs [^\n]+$"
    with pytest.raises(InputError, match=line.format("device")):
        NetFormer.load(device="cuda")
    with pytest.raises(InputError, match=line.format("accelerator")):
        processes(accelerator="cuda")
    command = [sys.executable, "-m", "stages.teach", "--accelerator", "cuda"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 2
    assert done.stderr.startswith("stages.teach: accelerator must be auto, cpu, or one of the 0 CUDA GPUs")
    assert done.stderr.count("\n") == 1


def test_a_gpu_for_each_process(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(device_of(name)) for name in ("auto", "cuda", "cuda:1", "cpu")] == ["cuda", "cuda", "cuda:1", "cpu"]
    with pytest.raises(InputError, match="one of the 2 CUDA GPUs that"):
        device_of("cuda:2")
    with pytest.raises(InputError, match=r"^devices must be at most 2, the GPUs of this machine, got 3$"):
        processes(devices=3, accelerator="auto")


def test_a_gpu_without_memory_is_one_line(monkeypatch):
    def forward(*_):
        raise torch.OutOfMemoryError(OUT)

    monkeypatch.setattr(Objective, "forward", forward)
    line = (
        "^the GPU has too little memory: CUDA out of memory; lower train.stream_tasks and train.zoo_tasks, "
        "or choose cpu$"
    )
    with pytest.raises(InputError, match=line):
        loop.train(given.corpus.__wrapped__(), ModelOptions(**given.MODEL), replace(given.OPTIONS, steps=1))
    options = ModelOptions(d_model=16, n_heads=2, d_condition=16, d_writer=16, d_row=16)
    model = NetFormer(TransformerVAE(Layout(4, 2, 4), 3, options).eval(), NetFormer.load_arrays().transform)
    monkeypatch.setattr(TransformerVAE, "embed", forward)
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)).numpy()
    with pytest.raises(InputError, match=r"lower n_samples, or choose cpu$"):
        model.generate(x, x[:, 0])


def test_the_target_for_a_gpu_trains_the_teacher_for_some_minutes():
    """tests/test_teaching.py runs what it calls."""
    command = ["make", "--dry-run", "--no-print-directory", "--old-file=.venv/done", "pretrain-gpu"]
    lines = [
        subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for words in ([], ["M=3", "ACCELERATOR=auto"])
    ]
    wanted = [("cuda", 15), ("auto", 3)]
    assert lines == [f".venv/bin/python -m stages.teach --accelerator {name} --minutes {m}\n" for name, m in wanted]
