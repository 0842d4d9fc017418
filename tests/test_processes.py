"""Processes: several that share the steps of a training do what one does, and a dead one costs no finished step."""

import hashlib
import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import save
from torch import Tensor

from netformer.model.grammar import Structure, read_structure
from netformer.model.prompt import FREE
from netformer.networks.specs import WRITTEN, Layout
from netformer.networks.symmetry import canonicalize
from netformer.options import LossWeights, ModelOptions, TaskPrior, TrainOptions
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.view import stack_tasks
from netformer.training.batches import Corpus, ahead, draw_batch
from netformer.training.loop import train
from netformer.training.losses import PARTS, shares
from netformer.training.processes import launch, processes
from netformer.zoo.build import build_zoo

LAYOUT, STEPS = Layout(), 20
MODEL = {
    "d_model": 16,
    "d_condition": 16,
    "n_heads": 2,
    "d_writer": 32,
    "d_global": 8,
    "d_vertex": 2,
    "d_row": 16,
    "order_noise": 0.5,
}
# Odd numbers of tasks: two processes have unequal shares of every step.
OPTIONS = TrainOptions(
    zoo_tasks=5,
    networks_per_task=2,
    stream_tasks=7,
    budget_share=0.5,
    mode_share=0.5,
    condition_dropout=0.2,
    metafeature_noise=0.5,
    min_rows=20,
    max_rows=30,
    seed=0,
    steps=STEPS,
    lr=1e-3,
    weight_decay=0.01,
    precision="32-true",
    loss=LossWeights(prior_raw=1.0, prior_solved=1.0),
)
DRAW = {"options": OPTIONS, "seed": 0, "d_latent": 11, "prior": TaskPrior()}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    made = synthetic_tasks(6, seed=2, stream="train", split="train", max_features=10, min_rows=40, max_rows=50)
    tasks = stack_tasks(made, 10)
    zoo, _ = build_zoo(
        tasks, layout=LAYOUT, spec={}, networks_per_task=3, duplicate_share=0.0, min_valid_r2=-1.0, max_gap=9.0,
        seed=0, optimizer={"steps": 10, "lr": 0.03, "batch_size": 16, "weight_decay": 0.0},
    )  # fmt: skip
    networks, g = canonicalize(zoo.networks), torch.Generator().manual_seed(0)
    sensitivity = torch.rand(len(networks), LAYOUT.n_patches, generator=g)
    return Corpus(networks, zoo.task_index, sensitivity, tasks, torch.randn(6, 4, generator=g))


def curve(
    corpus: Corpus,
    fabric: Fabric | None = None,
    checkpoint: Path | None = None,
    victim: int = 0,
    condition: str = "both",
) -> tuple[list[int], list[list[float]], str]:
    """Steps told of, losses of each of them, and SHA-256 of the weights; `victim` is killed after step 5."""
    told: dict[int, dict[str, float]] = {}

    def log(step: int, losses: dict[str, float]) -> None:
        told[step] = losses
        if victim and step == 5:
            os.kill(victim, signal.SIGKILL)

    model = train(
        corpus,
        ModelOptions(condition=condition, **MODEL),
        OPTIONS,
        fabric=fabric,
        checkpoint=checkpoint,
        checkpoint_every=4,
        log=log,
        log_every=1,
    )
    weights = hashlib.sha256(save(model.state_dict())).hexdigest()
    assert all(losses["skipped"] == 0 for losses in told.values())
    return list(told), [[losses[name] for name in PARTS] for losses in told.values()], weights


def trainings(fabric: Fabric, corpus: Corpus, folder: Path) -> dict:
    """What the tests below look at, in one start of processes."""
    both = curve(corpus, fabric, folder / "two.safetensors")
    found = {"both": both, "task": curve(corpus, fabric, condition="task")}
    found["resumed"] = curve(corpus, fabric, folder / "one.safetensors")
    found["weights"] = fabric.all_gather(torch.tensor(list(bytes.fromhex(both[2])))).tolist()
    found["threads"] = fabric.all_gather(torch.tensor(torch.get_num_threads())).tolist()
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def alone(corpus: Corpus, folder: Path) -> tuple:
    return curve(corpus, checkpoint=folder / "one.safetensors")


@pytest.fixture(scope="module")
def together(corpus: Corpus, folder: Path, alone: tuple) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)
        return launch(processes(2), trainings, corpus, folder)


def gap(first: list[list[float]], second: list[list[float]]) -> Tensor:
    """Largest relative difference of a loss at each step."""
    a, b = torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64)
    return ((a - b).abs() / b.abs()).amax(1)


def test_the_parts_of_a_batch_add_up_to_it(corpus: Corpus) -> None:
    batch = draw_batch(3, corpus, order_noise=0.5, **DRAW)
    for world in (1, 2, 3, 5):
        parts = [shares(batch, rank, world) for rank in range(world)]
        for name, count in batch.counts.items():
            assert sum(part.counts[name] for part, _ in parts) == count
            assert sum(share[name] for _, share in parts) / world == pytest.approx(1)
        for rank, (part, _) in enumerate(parts):
            assert torch.equal(part.prior_eps, batch.prior_eps[rank::world])
            assert torch.equal(part.eps.view(-1, 2, 11), batch.eps.view(-1, 2, 11)[rank::world])
    assert shares(batch, 0, 1)[0] is batch
    assert set(shares(batch, 0, 1)[1].values()) == {1.0}


def test_fresh_tasks_come_in_orientations_of_their_own_and_those_of_the_zoo_in_the_canonical_one(
    corpus: Corpus,
) -> None:
    plain, turned = (draw_batch(3, corpus, order_noise=noise, **DRAW) for noise in (0.0, 1.0))
    assert torch.equal(plain.tasks.x, turned.tasks.x)
    assert torch.equal(plain.fresh_eps, turned.fresh_eps)
    assert not torch.equal(plain.fresh.x, turned.fresh.x)
    assert torch.equal(plain.fresh.y.abs(), turned.fresh.y.abs())
    assert torch.equal(plain.fresh.x.abs().sort(2).values, turned.fresh.x.abs().sort(2).values)


def test_a_share_of_the_steps_asks_for_networks_under_bounds_that_can_be_met(corpus: Corpus) -> None:
    budgets = [draw_batch(step, corpus, order_noise=0.0, **DRAW).budget for step in range(60)]
    asked = [budget for budget in budgets if budget != FREE]
    assert 20 <= len(asked) <= 40  # of 60, at a share of a half
    assert {budget.max_hidden_layers for budget in asked} == set(range(1, LAYOUT.max_hidden_layers + 1))
    assert {name for budget in asked for name in budget.activations} == set(WRITTEN)
    n_inputs = torch.arange(1, LAYOUT.max_features + 1)
    g, patches = torch.Generator().manual_seed(0), LAYOUT.n_patches
    shapes = (len(WRITTEN) + 2, 1 + LAYOUT.max_features + patches, LAYOUT.n_slots)
    logits = Structure(*(torch.randn(len(n_inputs), patches, k, generator=g) for k in shapes))
    for budget in asked:
        specs = read_structure(logits, n_inputs, LAYOUT, budget)
        assert int(specs.n_params.max()) <= budget.max_params


def test_a_batch_is_drawn_ahead_in_order_by_a_thread_like_the_callers() -> None:
    seen: list[int] = []

    def draw(step: int) -> tuple[int, int]:
        if step == 6:
            raise ValueError("step 6 has no data")
        seen.append(step)
        return threading.get_ident(), torch.get_num_threads()

    drawn = ahead(draw, range(2, 9))
    for expected in (2, 3, 4, 5):
        step, (thread, threads) = next(drawn)
        assert step == expected
        assert thread != threading.get_ident()
        assert threads == torch.get_num_threads()
        assert max(seen) <= step + 1
    with pytest.raises(ValueError, match="step 6 has no data"):
        next(drawn)
    assert seen == [2, 3, 4, 5]
    assert list(ahead(draw, range(0))) == []


def test_two_processes_learn_what_one_learns(corpus: Corpus, alone: tuple, together: dict) -> None:
    steps, losses, _ = together["both"]
    assert steps == alone[0] == list(range(1, STEPS + 1))
    assert len(losses[0]) == len(PARTS)
    difference = gap(losses, alone[1])
    assert difference[0] < 1e-5
    assert difference.max() < 1e-3
    other = gap(together["task"][1], curve(corpus, condition="task")[1])  # a part of a step may stray, and returns
    assert other[0] < 1e-5
    assert other.max() < 1e-2
    assert other.median() < 1e-3


def test_every_process_has_the_same_weights_and_one_thread(together: dict) -> None:
    first, second = together["weights"]
    assert first == second
    assert together["threads"] == [1, 1]


def test_a_training_goes_on_with_another_number_of_processes(
    corpus: Corpus, folder: Path, alone: tuple, together: dict
) -> None:
    before = gap(together["resumed"][1], alone[1])
    assert before[:16].max() == 0, "what one process had learned, two took over"
    assert 0 < before[16:].max() < 1e-3
    steps, losses, _ = curve(corpus, checkpoint=folder / "two.safetensors")
    assert steps == alone[0]
    assert gap(losses, together["both"][1])[:16].max() == 0
    assert gap(losses, alone[1]).max() < 1e-3


def killed(fabric: Fabric, corpus: Corpus, path: Path) -> None:
    victim = int(fabric.all_gather(torch.tensor(os.getpid()))[1])
    curve(corpus, fabric, path, victim)


def test_a_killed_process_ends_the_training_in_one_line_and_the_next_one_resumes(
    corpus: Corpus, tmp_path: Path, alone: tuple
) -> None:
    path = tmp_path / "state.safetensors"
    with pytest.raises(
        OSError, match=r"^process [01] of 2 .*; run again to go on from the last checkpoint.*$"
    ) as error:
        launch(processes(2), killed, corpus, path)
    assert "\n" not in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    steps, losses, _ = curve(corpus, checkpoint=path)
    assert steps == alone[0]
    assert gap(losses, alone[1]).max() < 1e-3


def refused(fabric: Fabric, corpus: Corpus) -> None:
    raise ValueError("X must be finite")


def test_bad_input_of_a_process_is_one_line(corpus: Corpus) -> None:
    with pytest.raises(OSError, match=r"^X must be finite$"):
        launch(processes(strategy="ddp"), refused, corpus)


def test_numbers_that_contradict_the_launcher_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_NTASKS", "SLURM_JOB_NAME", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        ValueError, match="nodes must be 1 unless srun or torchrun starts the command on every node, got 2"
    ):
        processes(1, 2)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="devices x nodes must be 4, the processes torchrun started, got 2 x 1"):
        processes(2)
