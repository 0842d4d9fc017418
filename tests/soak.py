"""`make soak`: fit, predict, intervals, explanations, saving, loading and export without a pause.

    python tests/soak.py --minutes 30

Tables differ in rows, columns, kinds and targets, and come again in the same order. Printed: rounds, errors, the memory
of the process after a tenth of the time and at the end, and from then on, of predict and of fit, the median of the time
and the 99th percentile of the time over the median of the same table: time of the processor, so that others who use it
do not count, and for predict by the clock too. Exit code 1 for an error, for memory that grew by more than 5 %, and for
a 99th percentile of predict beyond 3.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
import traceback
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
MOST_GROWTH, MOST_TAIL = 1.05, 3.0
WARM = 0.1  # of the time, until the memory is that of a process at work
TABLES = 8
CALLS = 20  # of predict, of each network


def tables() -> list[tuple[pd.DataFrame, np.ndarray]]:
    """Tables of several sizes and kinds of columns, with targets of numbers and of classes."""
    made = []
    for seed in range(TABLES):
        rng = np.random.default_rng(seed)
        X = pd.DataFrame(rng.normal(size=(60 + 60 * seed, 2 + seed)), columns=[f"x{k}" for k in range(2 + seed)])
        y = X["x0"] * X["x1"] + 0.1 * rng.normal(size=len(X))
        if seed % 2:
            X = X.assign(kind=rng.choice(["a", "b", "c"], len(X)), gap=X["x1"].where(rng.random(len(X)) < 0.8))
        made.append((X, y.to_numpy() > 0 if seed % 4 == 3 else y.to_numpy()))
    return made


def memory() -> float:
    """Resident megabytes of this process."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1000 for line in status.splitlines() if line.startswith("VmRSS"))


def times(found: dict[int, list[float]]) -> tuple[float, float]:
    """The median of the milliseconds, and the 99th percentile of those of each table over their own median."""
    over = np.concatenate([np.array(some) / np.median(some) for some in found.values()])
    return 1000 * float(np.median(np.concatenate(list(found.values())))), float(np.quantile(over, 0.99))


def work(
    X: pd.DataFrame, y: np.ndarray, folder: Path, fits: list[float], predicts: list[float], waited: list[float]
) -> None:
    """Everything that a service does with a table."""
    from netformer import NetFormerClassifier, NetFormerRegressor, Population, export

    classes = y.dtype == bool
    start = time.process_time()
    model = (NetFormerClassifier if classes else NetFormerRegressor)(n_samples=4, random_state=0).fit(X, y)
    fits.append(time.process_time() - start)
    rows = X.head(50)
    first = model.predict(rows)
    for _ in range(CALLS):
        start, used = time.perf_counter(), time.process_time()
        again = model.predict(rows)
        predicts.append(time.process_time() - used)
        waited.append(time.perf_counter() - start)
        assert (again == first).all()
    if not classes:
        model.predict_interval(rows)
    model.explain(rows.head(2), n_pairs=8)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        model.to_bundle().save(Path(place) / "nets")
        assert (Population.load(Path(place) / "nets").predict(rows) == first).all()
        for name in ("net.py", "net.c", "net.json"):
            export(model, "wide", Path(place) / name)


def main() -> int:
    """Rounds over all tables until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    fits: dict[int, list[float]] = defaultdict(list)
    predicts: dict[int, list[float]] = defaultdict(list)
    waited: dict[int, list[float]] = defaultdict(list)
    begin, warm, rounds, errors = time.monotonic(), None, 0, 0
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        while time.monotonic() - begin < 60 * given.minutes or not predicts:
            for number, (X, y) in enumerate(tables()):
                try:
                    work(X, y, Path(folder), fits[number], predicts[number], waited[number])
                except Exception:
                    errors += 1
                    traceback.print_exc()
            rounds += 1
            if warm is None and time.monotonic() - begin > WARM * 60 * given.minutes:
                warm = memory()
                fits.clear()
                predicts.clear()
                waited.clear()
    end = memory()
    (median, tail), (fit, slow), (_, wait) = times(predicts), times(fits), times(waited)
    print(f"{rounds} rounds of {TABLES} tables in {given.minutes:g} minutes, {errors} errors")
    print(f"memory {warm:.0f} MB, at the end {end:.0f} MB: {100 * (end / warm - 1):+.1f} %")
    print(f"predict, 50 rows: median {median:.2f} ms, 99th percentile {tail:.2f} times it, by the clock {wait:.2f}")
    print(f"fit: median {fit:.0f} ms, 99th percentile {slow:.2f} times the median")
    return int(errors > 0 or end > MOST_GROWTH * warm or tail > MOST_TAIL)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]
    sys.exit(main())
