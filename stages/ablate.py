"""ablate: train the model with one part of the method left out at a time, small budget, several seeds.

    python -m stages.ablate [--steps 300] [--seeds 3] [--arms NAME ...] [--out FOLDER]

No stage of the pipeline. Works on the pipeline's tasks, zoo, tokens and meta-features with its own `tokenize` and
`train`, under `build/ablations/`; what is finished is not repeated, an interrupted training resumes. Writes
`reports/ablations/`: every run, and mean and standard deviation over the seeds.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from netformer.artifacts import read_parquet, read_tasks
from netformer.errors import InputError
from netformer.evaluation import ablation
from netformer.evaluation.scored import read_scored
from netformer.model.store import load_model
from netformer.report.summaries import ablations
from netformer.report.svg import save
from netformer.tasks.metafeatures import metafeature_values
from stages import Bar, run
from stages.params import load_params
from stages.roots import once, write_params

WORK, FOLDER = Path("build/ablations"), Path("reports/ablations")
DATA = ("tasks", "zoo", "class_tasks", "class_zoo", "metafeatures", "tokens")


def prepare(repository: Path, root: Path, changes: dict[str, object]) -> None:
    """A root of its own: the pipeline's params with `changes`, its data by link, tokens made anew if they differ."""
    usual = load_params(repository)  # bad params are one line, before anything is written
    write_params(repository / "params.yaml", root, changes)
    own_tokens = load_params(root).tokenize != usual.tokenize
    for name in DATA[:-1] if own_tokens else DATA:
        source, link = (folder / "data" / f"{name}.parquet" for folder in (repository, root))
        if not source.exists():
            raise FileNotFoundError(f"{source} does not exist; run dvc repro tokenize metafeatures first")
        link.unlink(missing_ok=True)
        link.symlink_to(source.resolve())
    if own_tokens:
        once(repository, root, "tokenize")


def measure(root: Path) -> list[dict[str, float]]:
    params, data = load_params(root), root / "data"
    model, transform = load_model(root / "models" / "netformer")
    tasks = read_tasks(data / "tasks.parquet")
    stored = read_parquet(data / "metafeatures.parquet")
    metafeatures = transform(metafeature_values(stored, [task.task_id for task in tasks]))
    zoo_table, tokens = (read_parquet(data / f"{name}.parquet") for name in ("zoo", "tokens"))
    zoo = read_scored(zoo_table, tokens, tasks, params.zoo.layout)
    p = params.sample
    return ablation.measure(model, zoo, tasks, metafeatures, n_samples=p.n_samples, seed=p.seed)


def main(
    repository: Path = Path(), steps: int = 300, seeds: int = 3, arms: Sequence[str] = (), out: Path = FOLDER
) -> None:
    if unknown := [arm for arm in arms if arm not in ablation.ARMS]:
        raise InputError(f"arms must be some of {', '.join(map(repr, ablation.ARMS))}, got {unknown[0]!r}")
    bar, found, chosen = Bar("ablate"), [], list(arms or ablation.ARMS)
    for number, arm in enumerate(chosen):
        changes = ablation.ARMS[arm]
        for seed in range(seeds):
            root = repository / WORK / f"{list(ablation.ARMS).index(arm)}-{seed}"
            prepare(repository, root, {"train.steps": steps, "train.seed": seed, **changes})
            once(repository, root, "train")
            names = (arm, ablation.BOTH_CHANNELS) if arm == "full" else (arm,)
            found += [{"arm": name, "seed": seed, **row} for name, row in zip(names, measure(root), strict=False)]
            bar(number * seeds + seed + 1, len(chosen) * seeds)
    runs = pd.DataFrame(found).round(4)
    folder = repository / out
    folder.mkdir(parents=True, exist_ok=True)
    runs.to_csv(folder / "runs.csv", index=False)
    summary = ablation.by_arm(runs).round(4)
    summary.to_csv(folder / "ablations.csv")
    save(ablations(runs), folder / "ablations.svg")
    print(summary.to_string())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="training steps of every run")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of every arm")
    parser.add_argument("--arms", nargs="+", default=(), help="some of them, by name")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the results")
    arguments = parser.parse_args()
    run(lambda root: main(root, arguments.steps, arguments.seeds, arguments.arms, arguments.out))
