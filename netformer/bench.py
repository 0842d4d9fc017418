"""Speed of the zoo engine against a plain torch loop a network, and of generation, measured in one run.

    python -m netformer.bench [--quick] [--out reports/bench.json]

Both sides train the same networks on the same tasks, with the same batch size and steps, on one thread, in turns; the
fastest round of each counts, so other load on the machine hits both alike. The unit is the net-step: one Adam step of
one network. The engine gets many copies of the networks in one call, as a zoo does; its time covers all of the call,
with its looks at valid rows, which the loop does not pay for. Compilation, once a machine, is left out.
Generation is of 16 networks for a table of 300 x 10, by a model of default size. Its weights are untrained, which does
not change its speed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from netformer.artifacts import write_json
from netformer.metafeatures import NAMES, MetaFeatureTransform
from netformer.model import TransformerVAE
from netformer.networks import Networks
from netformer.sampling import NetFormer
from netformer.specs import Layout, draw_specs
from netformer.synthetic import synthetic_tasks
from netformer.tasks import TEST, TRAIN, TaskStack, r2, stack_tasks
from netformer.zoo import initialize, scores, train_networks

BATCH_SIZE, LR = 50, 0.01


def train_by_loop(initial: Networks, tasks: TaskStack, steps: int) -> list[nn.Module]:
    """The plain way: for network i a module, a shuffling DataLoader over the train rows of task i, and Adam."""
    trained = []
    for i in range(len(initial)):
        net, keep = initial.to_torch(i), tasks.rows[i] == TRAIN
        rows = TensorDataset(tasks.x[i][keep][:, : int(initial.specs.n_inputs[i])], tasks.y[i][keep])
        loader = DataLoader(rows, BATCH_SIZE, shuffle=True, drop_last=True)
        optimizer, left = torch.optim.Adam(net.parameters(), lr=LR), steps
        while left:
            for x, y in loader:
                optimizer.zero_grad()
                nn.functional.mse_loss(net(x).squeeze(1), y).backward()
                optimizer.step()
                left -= 1
                if not left:
                    break
        trained.append(net)
    return trained


def median_test_r2(modules: list[nn.Module], initial: Networks, tasks: TaskStack) -> float:
    """Median over the networks, each on the test rows of its task."""
    with torch.no_grad():
        y = [net(tasks.x[i, :, : int(initial.specs.n_inputs[i])]).squeeze(1) for i, net in enumerate(modules)]
    return float(r2(tasks.y, torch.stack(y), tasks.rows == TEST).median())


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall time of a call, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def measure(*, networks: int, copies: int, steps: int, rounds: int, seed: int = 0) -> dict[str, float]:
    """Times in microseconds a net-step, and ratios; one task a network, `copies` of each network for the engine.

    `speedup_vs_loop`: time of the loop over time of the engine, on one thread, for one net-step. `speedup_to_quality`:
    the same for the steps the engine needs (doubling, at most 4 `steps`, each time a whole one-cycle schedule) to reach
    the loop's median test R2.
    """
    made = synthetic_tasks(
        networks, seed=seed, stream="train", split="train", max_features=10, min_rows=150, max_rows=300
    )
    tasks = stack_tasks(made, 10)
    generator = torch.Generator().manual_seed(seed)
    specs = draw_specs(tasks.n_features.clamp(min=1), layout=Layout(), sparse_share=0.0, generator=generator)
    initial, index = initialize(specs, torch.arange(networks)), torch.arange(networks)
    threads, many = torch.get_num_threads(), index.repeat(copies)

    def engine(at: Int[Tensor, " n"], steps: int, workers: int = 1) -> Networks:
        return train_networks(initial[at], tasks, at, steps=steps, lr=3 * LR, batch_size=BATCH_SIZE, workers=workers)

    engine(index, 2)
    loop_s, engine_s, parallel_s = [], [], []
    for _ in range(rounds):
        torch.set_num_threads(1)
        try:
            spent, modules = seconds(lambda: train_by_loop(initial, tasks, steps))
            loop_s.append(spent)
            engine_s.append(seconds(lambda: engine(many, steps))[0])
        finally:
            torch.set_num_threads(threads)
        parallel_s.append(seconds(lambda: engine(many, steps, threads))[0])
    loop_us, engine_us, parallel_us = (
        1e6 * min(times) / (steps * n)
        for times, n in ((loop_s, networks), (engine_s, len(many)), (parallel_s, len(many)))
    )
    quality, needed = median_test_r2(modules, initial, tasks), max(1, steps // 8)
    while float(scores(engine(index, needed), tasks, index)[:, TEST].median()) < quality and needed < 4 * steps:
        needed *= 2
    return {
        "zoo.loop_us": loop_us,
        "zoo.engine_us": engine_us,
        "zoo.engine_all_threads_us": parallel_us,
        "zoo.threads": threads,
        "zoo.speedup_vs_loop": loop_us / engine_us,
        "zoo.loop_median_test_r2": quality,
        "zoo.engine_steps_to_quality": needed,
        "zoo.speedup_to_quality": loop_us * steps / (engine_us * needed),
    }


def measure_generation(rounds: int) -> dict[str, float]:
    """Milliseconds from table to 16 networks, without and with meta-features: best of `rounds` warm calls."""
    layout = Layout()
    model = TransformerVAE(
        max_features=layout.max_features,
        max_hidden_layers=layout.max_hidden_layers,
        max_width=layout.max_width,
        n_metafeatures=len(NAMES),
    ).eval()
    netformer = NetFormer(model, MetaFeatureTransform((0.0,) * len(NAMES), (1.0,) * len(NAMES)))
    table = np.random.default_rng(0).normal(size=(300, 11))
    result = {}
    for name, known in (("sample.ms_first_16", False), ("sample.ms_first_16_with_metafeatures", True)):

        def generate(known: bool = known) -> Any:
            return netformer.generate(table[:, 1:], table[:, 0], 16, metafeatures=known)

        generate()
        result[name] = 1e3 * min(seconds(generate)[0] for _ in range(rounds))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Zoo engine against a plain torch loop, and generation, in one run.")
    parser.add_argument("--quick", action="store_true", help="a few seconds instead of about a minute")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    arguments = parser.parse_args()
    if arguments.quick:
        numbers = measure(networks=8, copies=64, steps=200, rounds=2)
    else:
        numbers = measure(networks=25, copies=40, steps=500, rounds=3)
    numbers |= measure_generation(rounds=10)
    for name, value in numbers.items():
        print(f"{name:30} {value:.4g}")
    if arguments.out:
        write_json(numbers, arguments.out)


if __name__ == "__main__":
    main()
