"""search_comparison: what search finds, and what of it is the search and what the writer (`netformer.search.arms`).

    python -m stages.search_comparison [--tasks 50] [--tables 20] [--seeds 10] [--evaluations 2000] [--seconds 20]
                                       [--arms NAME ...] [--known] [--out FOLDER]

No stage of the pipeline. Weights of the package, random held-out tasks and real tables, their train, valid and test
rows. Every task and seed is kept under `build/search_comparison/`, so that a run goes on where it was interrupted, also
with more tasks, tables or seeds; --known runs nothing, and reports on those of which every arm is kept. Writes into
FOLDER (`reports/search_comparison/`): runs.csv (every arm, task, seed and budget), summary.csv, per_task.csv and
curves. For an hour on one core: --tasks 20 --tables 8 --seeds 1.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from netformer.errors import InputError
from netformer.files import replacing
from netformer.generation.generator import NetFormer
from netformer.model.prompt import whole_number
from netformer.report.search_pictures import anytime
from netformer.report.svg import save
from netformer.search.arms import ARMS, Budget, measured
from netformer.search.problem import SearchTask
from netformer.tasks.real import real_tasks
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.task import Task
from netformer.tasks.view import stack_tasks
from stages import Bar, run
from stages.params import load_params

WORK, FOLDER = Path("build/search_comparison"), Path("reports/search_comparison")
DRAWN = 100  # held-out tasks that those used are evenly spaced among
POINTS = 9  # budgets that are looked at, each twice the one before
WRITTEN = "random latents"  # what everything is divided by
TRAINED = "Optuna TPE, trained"  # what everything is held against
EARLY = 3  # halvings of the seconds, after which the valid error is held against that of TRAINED after all of them


def some(tasks: Sequence[Task], count: int) -> list[Task]:
    """So many of them, evenly spaced."""
    return [tasks[i * len(tasks) // count] for i in range(min(count, len(tasks)))]


def budgets(budget: Budget) -> dict[str, list[float]]:
    """What may be spent, by kind."""
    halves = 0.5 ** np.arange(POINTS)[::-1]
    counts = np.unique(np.maximum(1, np.round(budget.evaluations * halves))).tolist()
    return {"evaluations": counts, "seconds": (budget.seconds * halves).tolist()}


def path_of(task: Task, seed: int, arm: str, kept: Path) -> Path:
    """Where what an arm has of a task is kept."""
    return kept / f"{task.task_id.replace('/', '_')}-{seed}-{list(ARMS).index(arm)}.csv"


def compare(task: Task, about: SearchTask, seed: int, arms: Sequence[str], budget: Budget, kept: Path) -> pd.DataFrame:
    """What each arm has of a task at every budget; read where it is known."""
    parts = []
    for arm in arms:
        path = path_of(task, seed, arm, kept)
        if not path.exists():
            trace = ARMS[arm](about, budget, seed)
            rows = [
                {"task_id": task.task_id, "seed": seed, "way": arm, "by": by, "at": at} | measured(trace, about, by, at)
                for by, points in budgets(budget).items()
                for at in points
            ]
            spent = {"evaluations": int(trace.evaluations[-1]), "seconds": float(trace.seconds[-1])}
            with replacing(path) as part:
                pd.DataFrame(rows).assign(**spent).to_csv(part, index=False)
        parts.append(pd.read_csv(path))
    return pd.concat(parts, ignore_index=True)


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """For each arm and kind of budget, all of it spent: medians over tasks (each the mean of its seeds) of hypervolumes
    and test R2, the median ratio of the hypervolume on test rows to that of `WRITTEN`, the share of tasks with a higher
    test R2 than it, and what was spent. Against `TRAINED` with all of the budget: the share of tasks with a higher test
    R2, with a valid error that is no higher, and with one that is no higher after `EARLY` halvings."""
    most = runs.groupby("by")["at"].transform("max")
    last, early = runs[runs["at"] == most], runs[np.isclose(runs["at"], most * 0.5**EARLY)]
    out = []
    for by, part in last.groupby("by", sort=False):
        means = part.groupby(["way", "task_id"], sort=False).mean(numeric_only=True)
        begun = early[early["by"] == by].groupby(["way", "task_id"], sort=False)["valid_error"].mean()
        ways = {way: means.xs(way) for way in dict.fromkeys(part["way"])}
        for way, one in ways.items():
            row = {"by": by, "way": way, "n_tasks": len(one)}
            row |= {name: round(float(one[name].median()), 4) for name in MEDIANS}
            row["mean_test_r2"] = round(float(one["test_r2"].mean()), 4)
            if (plain := ways.get(WRITTEN)) is not None:
                row["over_written"] = round(float((one["test_hypervolume"] / plain["test_hypervolume"]).median()), 4)
                row["better_r2"] = round(float((one["test_r2"] > plain["test_r2"]).mean()), 4)
            if (trained := ways.get(TRAINED)) is not None:
                known = trained["valid_error"]
                row["better_than_trained"] = round(float((one["test_r2"] > trained["test_r2"]).mean()), 4)
                row["valid_as_low"] = round(float((one["valid_error"] <= known).mean()), 4)
                row["valid_as_low_early"] = round(float((begun.xs(way) <= known).mean()), 4)
            out.append(row)
    return pd.DataFrame(out)


MEDIANS = ("hypervolume", "test_hypervolume", "valid_error", "test_r2", "params", "evaluations", "seconds")


def main(
    root: Path = Path(),
    tasks: int = 50,
    tables: int = 20,
    seeds: int = 10,
    evaluations: int = 2000,
    seconds: float = 20.0,
    arms: Sequence[str] = (),
    out: Path = FOLDER,
    known: bool = False,
) -> None:
    counts = {"tasks": tasks, "tables": tables, "seeds": seeds, "evaluations": evaluations}
    for name, value in counts.items():
        whole_number(name, value, 0 if name in ("tasks", "tables") else 1)
    if not seconds > 0 or tasks + tables == 0:
        raise InputError(f"seconds must be above 0, and tasks or tables; got {seconds}, {tasks} and {tables}")
    if unknown := [arm for arm in arms if arm not in ARMS]:
        raise InputError(f"arms must be some of {', '.join(map(repr, ARMS))}, got {unknown[0]!r}")
    params = load_params(root)
    budget = Budget(evaluations, seconds, params.zoo.optimizer)
    kept = root / WORK
    settings = {"evaluations": evaluations, "seconds": seconds, **params.zoo.optimizer}
    note = kept / "settings.json"
    if note.exists() and json.loads(note.read_text()) != settings:
        raise InputError(f"{kept}: holds a comparison of another budget; remove it, or give its budget")
    with replacing(note) as part:
        part.write_text(json.dumps(settings, sort_keys=True) + "\n")
    d, model = params.download, NetFormer.load().model
    features = model.layout.max_features
    drawn = synthetic_tasks(
        DRAWN,
        seed=d.seed,
        stream="test",
        split="test",
        max_features=min(features, params.zoo.max_features),
        min_rows=d.min_rows,
        max_rows=d.max_rows,
        prior=d.prior,
    )
    chosen = [*some(drawn, tasks)]
    if tables:
        chosen += some(real_tasks(d.seed, d.max_real_rows, 1)[0], tables)
    wanted = [(seed, task) for seed in range(seeds) for task in chosen]
    ways = list(arms or ARMS)
    if known:
        wanted = [one for one in wanted if all(path_of(one[1], one[0], arm, kept).exists() for arm in ways)]
        if not wanted:
            raise InputError(f"{kept}: holds no task of which every arm is known; leave out --known")
    parts, bar = [], Bar("search_comparison")
    for i, (seed, task) in enumerate(wanted):
        about = SearchTask.of(model, stack_tasks([task], features))
        if i == 0 and not known:  # compiled before anything is timed
            ARMS["random structures, trained"](about, replace(budget, evaluations=1), 0)
        parts.append(compare(task, about, seed, ways, budget, kept))
        bar(i + 1, len(wanted))
    runs = pd.concat(parts, ignore_index=True).round(5)
    folder = root / out
    folder.mkdir(parents=True, exist_ok=True)
    runs.to_csv(folder / "runs.csv", index=False)
    found = summary(runs)
    found.to_csv(folder / "summary.csv", index=False)
    last = runs[runs["at"] == runs.groupby("by")["at"].transform("max")]
    per_task = last.groupby(["by", "task_id", "way"], sort=False)[["test_hypervolume", "test_r2", "params"]].mean()
    per_task.round(4).to_csv(folder / "per_task.csv")
    for by, one in runs.groupby("by"):
        means = one.groupby(["way", "task_id", "at"], sort=False)["test_hypervolume"].mean()
        groups = means.groupby(["way", "at"], sort=False)
        bands = {name: groups.quantile(q) for name, q in (("low", 0.25), ("median", 0.5), ("high", 0.75))}
        frame = pd.DataFrame(bands).reset_index().rename(columns={"at": str(by)})
        save(anytime(frame, str(by), f"Hypervolume on test rows against {by}"), folder / f"{by}.svg")
    print(found.to_string(index=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=50, help="random held-out tasks")
    parser.add_argument("--tables", type=int, default=20, help="real tables")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=2000, help="candidates per arm, task and seed")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the processor, that arms which train may take")
    parser.add_argument("--arms", nargs="+", default=(), help="some of them, by name")
    parser.add_argument("--known", action="store_true", help="run nothing; report on what is kept")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the results")
    a = parser.parse_args()
    run(lambda root: main(root, a.tasks, a.tables, a.seeds, a.evaluations, a.seconds, a.arms, a.out, a.known))
