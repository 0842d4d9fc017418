"""scale: a zoo of any size: tasks, networks, tokens, shard by shard (`netformer.zoo.shards`), no part of the pipeline.

Run again to make what is missing or damaged. Shards go to the Dask cluster of NETFORMER_DASK, if there is one: the
folder must then be on a disk that all workers share. With --report the figures of a run that made every shard are put
beside those of other sizes, with the exponent of time against networks and what a network and a step cost.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from netformer.artifacts import write_json
from netformer.errors import InputError
from netformer.report.charts import Axis, Curve, Points, plane
from netformer.report.svg import Drawing, save, sheet
from netformer.zoo.shards import TASKS, make_shards, return_memory
from stages import Bar, n_workers, run, shared
from stages.params import load_params

SHAPES = ("ring", "square", "triangle", "diamond")  # of the lines


@shared()
def main(
    root: Path = Path(),
    *,
    networks: int,
    networks_per_task: int | None = None,
    steps: int | None = None,
    out: Path = Path("build/scale"),
    report: Path | None = None,
) -> dict[str, int | float]:
    """networks: drawn in all, rounded up to whole shards. networks_per_task, steps: None as in params.yaml."""
    for name, value in (("networks", networks), ("networks_per_task", networks_per_task), ("steps", steps)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    params = load_params(root)
    p, each = params.zoo, networks_per_task or params.zoo.networks_per_task
    start, n_shards = time.perf_counter(), -(-networks // (TASKS * each))
    draw = params.download.model_dump(include={"seed", "min_rows", "max_rows"})
    zoo = p.model_dump(include={"seed", "duplicate_share", "min_valid_r2", "max_gap"})
    optimizer = p.optimizer | ({"steps": steps} if steps else {})
    point = make_shards(
        n_shards,
        root / out,
        draw=draw | {"max_features": p.max_features, "prior": params.download.prior},
        zoo=zoo | {"layout": p.layout, "spec": p.spec, "networks_per_task": each, "optimizer": optimizer},
        canonical=params.tokenize.canonical,
        workers=n_workers(),
        progress=Bar("scale"),
    )
    point |= {"seconds": time.perf_counter() - start, "steps": steps or p.steps, "networks": n_shards * TASKS * each}
    point |= {"tasks": n_shards * TASKS, "workers": n_workers()}
    if report is not None and point["made"] == n_shards:
        write_report(point, root / report)
    return point


def write_report(point: dict[str, int | float], path: Path) -> None:
    """Put a run's figures into the report, and draw it. The run replaces an earlier one of its size and steps."""
    points = json.loads(path.read_text())["runs"] if path.exists() else []
    size = ("steps", "networks")
    points = [other for other in points if any(other[name] != point[name] for name in size)] + [point]
    points.sort(key=lambda one: [one[name] for name in size])
    report: dict = {"runs": points}
    for steps in sorted({one["steps"] for one in points}):
        runs = [one for one in points if one["steps"] == steps]
        if len(runs) > 1:
            x = np.log([one["networks"] for one in runs])
            for name in ("seconds", "cpu_seconds"):
                slope = float(np.polyfit(x, np.log([one[name] for one in runs]), 1)[0])
                report.setdefault("exponent", {}).setdefault(f"{steps}_steps", {})[name] = slope
    if len({one["steps"] for one in points}) > 1 and len(points) > 2:
        report["cpu_seconds"] = _costs(points)
    write_json(report, path)
    save(picture(points), path.with_suffix(".svg"))


def _costs(points: list[dict[str, int | float]]) -> dict[str, float]:
    """CPU seconds = run + networks * (network + steps * step) with least relative errors, and the largest of these."""
    terms = np.array([[1, one["networks"], one["networks"] * one["steps"]] for one in points], np.float64)
    terms /= np.array([[one["cpu_seconds"]] for one in points])
    size = terms.max(0)
    solved = np.linalg.lstsq(terms / size, np.ones(len(terms)), rcond=None)[0] / size
    error = float(np.abs(terms @ solved - 1).max())
    return dict(zip(("run", "network", "step"), solved.tolist(), strict=True)) | {"largest_relative_error": error}


def picture(points: list[dict[str, int | float]]) -> Drawing:
    """Seconds and peak memory against the number of networks, a line a number of steps."""
    across = Axis("networks", min(one["networks"] for one in points), max(one["networks"] for one in points), log=True)
    drawn = []
    for name, title, unit, log in (("seconds", "time", "seconds", True), ("peak_memory", "memory", "GB", False)):
        parts: list[Points | Curve] = []
        for number, steps in enumerate(sorted({one["steps"] for one in points})):
            pairs = [(one["networks"], one[name] / (1 if log else 1e9)) for one in points if one["steps"] == steps]
            parts += [Curve(pairs, number), Points(pairs, SHAPES[number % len(SHAPES)], number, f"{steps} steps")]
        most = [value for part in parts for _, value in part.xy]
        drawn.append(plane(title, across, Axis(unit, min(most) if log else 0.0, max(most), log), parts))
    return sheet("time and peak memory of all processes", drawn, 2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, required=True, help="drawn in all, rounded up to whole shards")
    parser.add_argument("--networks-per-task", type=int, help=f"a shard is {TASKS} tasks; default: params.yaml")
    parser.add_argument("--steps", type=int, help="Adam steps; default: params.yaml")
    parser.add_argument("--out", type=Path, default=Path("build/scale"), help="folder of the shards")
    parser.add_argument("--report", type=Path, help="JSON of timed runs, with a picture beside it")
    arguments = vars(parser.parse_args())
    return_memory()
    run(lambda root: print(*(f"{name} {value:.6g}" for name, value in main(root, **arguments).items()), sep="\n"))
