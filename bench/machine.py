"""Speed, as ratios measured in one run: ours and what it is compared with take turns, the fastest of each counts.

    python -m bench.machine [--quick] [--out reports/bench.json]

Everything runs on one thread unless its key says otherwise. The machine's own limits (large matrix products, memory
bandwidth) are measured in the same run; fractions of peak count the multiply-adds that a result needs, padding and
biases not among them. Other load hits all sides alike, but absolute times are those of a shared machine. Compilation,
once a machine, is left out. `scale.exponent`, of seconds against networks, is that of `scale.json` beside the output
(`make scale`).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from netformer.artifacts import write_json
from netformer.networks.specs import Layout, Specs, draw_specs
from netformer.networks.stack import Networks
from netformer.report.charts import Axis, Curve, Points, plane
from netformer.report.svg import Drawing, save, sheet
from netformer.tasks.scores import r2, scores
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.task import TEST, TRAIN
from netformer.tasks.view import TaskStack, stack_tasks
from netformer.workers import one_thread
from netformer.zoo.build import initialize, train_networks

BATCH_SIZE, LR = 50, 0.01
ENGINE_LR, SHORT_LR, WEIGHT_DECAY = 0.03, 0.06, 0.05  # peaks: of the default zoo, of schedules of few hundred steps
MOST_RATIO = 30.0  # drawn: rounding errors would stretch the axis
PICTURE_WIDTH = 720
ASKED = {  # mark, and whether more is better
    "zoo.speedup_vs_loop": (400, True),
    "zoo.fraction_of_peak": (0.06, True),
    "zoo.seconds_to_quality_ratio": (500, True),
    "tokenize.networks_per_second": (100_000, True),
    "metafeatures.speedup_vs_pymfe": (30, True),
    "metafeatures.max_abs_difference": (1e-6, False),
    "train.fraction_of_peak": (0.4, True),
    "train.speedup_vs_edge_sequence": (20, True),
    "sample.networks_per_second": (3000, True),
    "sample.ms_first_16": (50, False),
    "fit.ms": (60, False),  # 300 x 10
    "fit.large_ms": (150, False),  # 2,000 x 12
    "fit.classes_ms": (120, False),  # 300 x 10, 3 classes
    "fit.many_classes_seconds": (3, False),  # 200 classes, 2,000 rows
    "fit.groups_seconds": (60, False),  # 1,000 groups of 100 x 6
    "scale.exponent": (1.05, False),
}


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(rounds: int, **works: Callable[[], Any]) -> dict[str, float]:
    """Seconds of each work, the fastest of `rounds`; they take turns, so that other load hits all alike."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            best[name] = min(best[name], seconds(work))
    return best


def product(size: int, dtype: torch.dtype) -> tuple[Callable[[], Any], float]:
    """A large matrix product, and its multiply-adds."""
    a, b = (torch.randn(size, size, generator=torch.Generator().manual_seed(i)).to(dtype) for i in (0, 1))
    out = torch.empty_like(a)
    torch.mm(a, b, out=out)
    return lambda: torch.mm(a, b, out=out), float(size) ** 3


def measure_machine(*, size: int, megabytes: int, rounds: int) -> dict[str, float]:
    """Limits: 10^9 multiply-adds a second of products in float32 and bfloat16, on one thread and on all; GB a second
    read and written by a copy that no cache holds."""
    threads, found = torch.get_num_threads(), {}
    source = torch.ones(megabytes * 2**18)
    target = torch.empty_like(source)
    for label, count in (("", 1), ("_all_threads", threads)):
        torch.set_num_threads(count)
        try:
            works = {"fp32": product(size, torch.float32), "bf16": product(size, torch.bfloat16)}
            spent = in_turns(rounds, copy=lambda: target.copy_(source), **{k: work for k, (work, _) in works.items()})
        finally:
            torch.set_num_threads(threads)
        for name, (_, operations) in works.items():
            found[f"machine.{name}_gmacs{label}"] = operations / spent[name] / 1e9
        found[f"machine.copy_gb{label}"] = 2 * source.nbytes / spent["copy"] / 1e9
    return found | {"machine.threads": threads}


def multiply_adds(specs: Specs, batch_size: int) -> Tensor:
    """(n,) multiply-adds one training step of each network needs: an edge and row one forward, one for the gradient of
    its weight and, where it comes from a hidden unit, one for that unit's gradient. Bias edges need none."""
    hidden = specs.mask[:, :, 1 + specs.layout.max_features :].sum((1, 2))
    return batch_size * (2 * specs.mask[:, :, 1:].sum((1, 2)) + hidden)


def train_by_loop(initial: Networks, tasks: TaskStack, steps: int) -> list[nn.Module]:
    """The plain way: for network i a module, a shuffling DataLoader over the train rows of task i, and Adam."""
    trained = []
    for i in range(len(initial)):
        net, keep = initial.to_torch(i), tasks.rows[i] == TRAIN
        rows = TensorDataset(tasks.x[i][keep][:, : int(initial.specs.n_inputs[i])], tasks.y[i][keep])
        order = torch.Generator().manual_seed(i)
        loader = DataLoader(rows, BATCH_SIZE, shuffle=True, drop_last=True, generator=order)
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


def scores_of_modules(modules: list[nn.Module], initial: Networks, tasks: TaskStack) -> Tensor:
    """(n,) R2 of each network on the test rows of its task."""
    with torch.no_grad():
        y = [net(tasks.x[i, :, : int(initial.specs.n_inputs[i])]).squeeze(1) for i, net in enumerate(modules)]
    return r2(tasks.y, torch.stack(y), tasks.rows == TEST)


def measure_zoo(
    *, networks: int, copies: int, steps: int, rounds: int, judged: int | None = None, seed: int = 0
) -> dict[str, float]:
    """Engine against loop: the same networks on the same tasks, one task per network, batches of 50.

    `speedup_vs_loop`: time of one Adam step of one network. The engine gets many copies of the networks
    in one call, as a zoo does; its time covers all of the call, looks at valid rows too, which the loop does not pay
    for. `_all_threads`: torch with all of its threads in the loop, one network a thread in the engine;
    only on an idle machine, elsewhere torch's threads wait for one another.
    `fraction_of_peak`: multiply-adds a second against a large product. `seconds_to_quality_ratio`: seconds of the
    loop over seconds of the engine to the loop's own final median test R2 over `judged` networks, the timed ones first
    (a median over few hangs on one task), for the shortest whole schedule that gets there (lengths grow by a fifth to
    four times the loop's steps, which count even if they do not get there; AdamW, peak rate SHORT_LR); the loop's
    seconds are those of its steps. Beside it the same to the loop's mean (`mean_`), and until the median network is
    as good as its own copy from the loop (`paired_`). Networks have no missing edges: `nn.Linear` has none.
    """
    judged = max(networks, judged or 0)
    made = synthetic_tasks(
        judged, seed=seed, stream="train", split="train", max_features=10, min_rows=150, max_rows=300
    )
    tasks = stack_tasks(made, 10)
    generator = torch.Generator().manual_seed(seed)
    specs = draw_specs(
        tasks.n_features.clamp(min=1), layout=Layout(), skip_share=0.9, sparse_share=0.0, generator=generator
    )
    initial, every, index = initialize(specs, torch.arange(judged)), torch.arange(judged), torch.arange(networks)
    threads, many = torch.get_num_threads(), index.repeat(copies)

    def engine(at: Int[Tensor, " n"], steps: int, workers: int = 1, lr: float = ENGINE_LR) -> Networks:
        return train_networks(
            initial[at],
            tasks,
            at,
            steps=steps,
            lr=lr,
            batch_size=BATCH_SIZE,
            weight_decay=WEIGHT_DECAY,
            workers=workers,
        )

    def loop() -> list[nn.Module]:
        return train_by_loop(initial[index], tasks[index], steps)

    engine(index, 2)
    multiply, operations = product(2048, torch.float32)
    with one_thread():
        quality, needed = scores_of_modules(train_by_loop(initial, tasks, steps), initial, tasks), {}
        reached: dict[str, Callable[[Tensor], bool]] = {
            "": lambda found: bool(found.median() >= quality.median()),
            "mean_": lambda found: bool(found.mean() >= quality.mean()),
            "paired_": lambda found: bool((found - quality).median() >= 0),
        }
        for name, enough in reached.items():
            length = max(1, steps // 16)
            while length < 4 * steps:
                if enough(scores(engine(every, length, lr=SHORT_LR), tasks, every)[:, TEST]):
                    break
                length += max(1, length // 5)
            needed[name] = length
        whole = every.repeat(max(1, copies * networks // judged))
        to_quality = {
            f"to_{name}quality": partial(engine, whole, length, lr=SHORT_LR) for name, length in needed.items()
        }
        spent = in_turns(rounds, loop=loop, engine=lambda: engine(many, steps), peak=multiply, **to_quality)
    parallel = in_turns(rounds, loop=loop, engine=lambda: engine(many, steps, threads))
    loop_us, engine_us = 1e6 * spent["loop"] / (steps * networks), 1e6 * spent["engine"] / (steps * len(many))
    rate = float(multiply_adds(specs[index], BATCH_SIZE).double().mean()) / (engine_us / 1e6)
    found = {
        "zoo.loop_us": loop_us,
        "zoo.engine_us": engine_us,
        "zoo.loop_all_threads_us": 1e6 * parallel["loop"] / (steps * networks),
        "zoo.engine_all_threads_us": 1e6 * parallel["engine"] / (steps * len(many)),
        "zoo.engine_gmacs": rate / 1e9,
        "zoo.fraction_of_peak": rate / (operations / spent["peak"]),
        "zoo.speedup_vs_loop": loop_us / engine_us,
        "zoo.speedup_vs_loop_all_threads": copies * parallel["loop"] / parallel["engine"],
        "zoo.loop_median_test_r2": float(quality.median()),
        "zoo.loop_mean_test_r2": float(quality.mean()),
        "zoo.loop_steps": steps,
        "zoo.judged_networks": judged,
    }
    for name, length in needed.items():
        seconds_each = spent[f"to_{name}quality"] / len(whole)
        found[f"zoo.engine_steps_to_{name}quality"] = length
        found[f"zoo.seconds_to_{name}quality_ratio"] = spent["loop"] / networks / seconds_each
    return found


def picture(numbers: dict[str, float]) -> Drawing:
    """Reached over asked for every mark (the other way round where less is better), and multiply-adds a second."""
    names = [name for name in ASKED if name in numbers][::-1]
    parts: list[Points | Curve] = []
    labels = []
    for at, name in enumerate(names):
        asked, more = ASKED[name]
        ratio = numbers[name] / asked if more else asked / max(numbers[name], 1e-300)
        ratio = min(ratio, MOST_RATIO)
        colour = 2 if ratio >= 1 else 1
        labels.append(f"{name}: {numbers[name]:.3g}, asked {asked:g}")
        parts.append(Curve([(1.0, float(at)), (ratio, float(at))], colour, True))
        parts.append(Points([(ratio, float(at))], "dot" if ratio >= 1 else "cross", colour))
    low = min([0.5, *(value for part in parts for value, _ in part.xy)])
    reached = plane(
        "times the mark: right of 1 it is reached",
        Axis("", low, MOST_RATIO, log=True),
        Axis("", -0.6, len(names) - 0.4, names=labels),
        [Curve([(1.0, -0.6), (1.0, len(names) - 0.4)], 4), *parts],
        size=(PICTURE_WIDTH, 60 + 22 * len(names)),
    )
    rates = {name: value for name, value in reversed(numbers.items()) if name.endswith("_gmacs")}
    bars = [Curve([(1.0, float(i)), (rate, float(i))], 0, True) for i, rate in enumerate(rates.values())]
    speeds = plane(
        "multiply-adds",
        Axis("10^9 multiply-adds per second, one thread", 1.0, max(rates.values()), log=True),
        Axis("", -0.6, len(rates) - 0.4, names=[f"{name}: {rate:.3g}" for name, rate in rates.items()]),
        bars,
        size=(PICTURE_WIDTH, 60 + 22 * len(rates)),
    )
    return sheet("speed", [reached, speeds], 1)


def main() -> None:
    from bench import fit as benchfit
    from bench import model as benchmodel

    parser = argparse.ArgumentParser(description="Speed of every part, as ratios measured in one run.")
    parser.add_argument("--quick", action="store_true", help="under 2 minutes instead of about 5")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON, and a picture beside it")
    arguments = parser.parse_args()
    quick = arguments.quick
    numbers = measure_machine(size=2048, megabytes=256, rounds=5)
    numbers |= measure_zoo(
        networks=16 if quick else 32, copies=32, steps=500, rounds=2 if quick else 3, judged=32 if quick else 128
    )
    numbers |= benchmodel.measure_tokens(networks=20_000, rounds=5)
    numbers |= benchmodel.measure_metafeatures(tables=2 if quick else 6, rounds=2 if quick else 3)
    numbers |= benchmodel.measure_train(steps=5 if quick else 12)
    numbers |= benchmodel.measure_edge_sequence(networks=64, rounds=2 if quick else 4)
    numbers |= benchmodel.measure_sampling(tasks=64, rounds=3 if quick else 10)
    numbers |= benchfit.measure_fit(rounds=3 if quick else 10)
    if arguments.out:
        scale = arguments.out.with_name("scale.json")
        if scale.exists():
            groups = json.loads(scale.read_text())["exponent"].values()
            numbers["scale.exponent"] = max(group["seconds"] for group in groups)
        write_json(numbers, arguments.out)
        save(picture(numbers), arguments.out.with_suffix(".svg"))
    for name, value in sorted(numbers.items()):
        asked, more = ASKED.get(name, (None, True))
        print(f"{name:36} {value:<10.4g}" + (f" asked {'>=' if more else '<='} {asked:g}" if asked is not None else ""))


if __name__ == "__main__":
    main()
