"""download: fetch or draw the tasks."""

from pathlib import Path

import pandas as pd

from netformer.artifacts import write_class_tasks, write_tasks
from netformer.files import replacing
from netformer.tasks.classes import synthetic_class_tasks
from netformer.tasks.real import real_tasks
from netformer.tasks.sources import fetch, tasks_from_folder, tasks_from_predecessor_csv
from netformer.tasks.stream import synthetic_tasks
from stages import run
from stages.params import load_params


def main(root: Path = Path()) -> None:
    params = load_params(root)
    p, tasks = params.download, []
    report = pd.DataFrame(columns=["table"])
    for source in p.sources:
        if source == "synthetic":
            sizes = {"train": p.n_train, "valid": p.n_valid, "test": p.n_test, "heldout_family": p.n_heldout_family}
            for stream, n in sizes.items():
                tasks += synthetic_tasks(
                    n,
                    seed=p.seed,
                    stream=stream,
                    split="test" if stream == "heldout_family" else stream,
                    max_features=params.zoo.max_features,
                    min_rows=p.min_rows,
                    max_rows=p.max_rows,
                    prior=p.prior,
                )
        elif source == "csv":
            tasks += tasks_from_predecessor_csv(root / p.csv, p.seed)
        elif source == "folder":
            tasks += tasks_from_folder(root / p.folder, p.target, p.seed)
        elif source == "url":
            tasks += tasks_from_predecessor_csv(fetch(p.url, p.sha256, root / "build" / "downloads"), p.seed)
        else:
            real, report = real_tasks(p.seed, p.max_real_rows, p.real_splits)
            tasks += real
    write_tasks(tasks, root / "data" / "tasks.parquet")
    sizes = {"class_train": p.n_class_train, "class_test": p.n_class_test}
    classes = [
        task
        for stream, n in sizes.items()
        for task in synthetic_class_tasks(
            n,
            seed=p.seed,
            stream=stream,
            split=stream.removeprefix("class_"),
            max_features=params.zoo.max_features,
            min_rows=p.min_rows,
            max_rows=p.max_rows,
            prior=p.prior,
        )
    ]
    write_class_tasks(classes, root / "data" / "class_tasks.parquet")
    folder = root / "reports" / "download"
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "real_tables.csv") as part:
        report.to_csv(part, index=False)


if __name__ == "__main__":
    run(main)
