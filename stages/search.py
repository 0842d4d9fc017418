"""search: networks for held-out tasks by several objectives, searched in several ways; curves, fronts and pictures."""

from pathlib import Path

import pandas as pd

from netformer.artifacts import read_parquet, read_tasks, write_json
from netformer.evaluation.arms import positions_of_test
from netformer.files import replacing
from netformer.model.store import load_model
from netformer.report.search_pictures import FRONTS, anytime, front
from netformer.report.svg import save, sheet
from netformer.search.comparison import WAYS, compare, quartiles, summary
from netformer.search.problem import SearchTask
from netformer.tasks.metafeatures import metafeature_values
from netformer.tasks.view import stack_tasks
from stages import Bar, n_workers, run
from stages.params import load_params


def main(root: Path = Path()) -> None:
    params = load_params(root)
    p, data = params.search, root / "data"
    model, transform = load_model(root / "models" / "netformer")
    every = read_tasks(data / "tasks.parquet")
    first = [every[i] for i in positions_of_test(every) if every[i].repeat == 0]
    tasks = [first[i * len(first) // p.n_tasks] for i in range(min(p.n_tasks, len(first)))]  # of every kind
    stack = stack_tasks(tasks, params.zoo.max_features)
    given = None
    if model.condition == "metafeatures":
        values = read_parquet(data / "metafeatures.parquet")
        given = transform(metafeature_values(values, [task.task_id for task in tasks]))
    curves, fronts = [], []
    bar = Bar("search")
    for i, task in enumerate(tasks):
        about = SearchTask.of(model, stack[[i]].trim(), metafeatures=None if given is None else given[[i]])
        found = compare(
            task.task_id,
            about,
            list(WAYS),
            p.objectives,
            evaluations=p.evaluations,
            population=p.population,
            constraints=p.constraints,
            seed=p.seed,
            workers=n_workers(),
        )
        curves.append(found[0])
        fronts.append(found[1])
        bar(i + 1, len(tasks))
    curve, best = (pd.concat(parts, ignore_index=True).round(6) for parts in (curves, fronts))
    folder = root / "reports" / "search"
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in (("curves.csv", curve), ("fronts.csv", best)):
        with replacing(folder / name) as part:
            frame.to_csv(part, index=False)
    write_json(summary(curve, best), folder / "metrics.json")
    save(anytime(quartiles(curve)), folder / "curves.svg")
    y, x = p.objectives[:2]
    drawn = [front(best[best["task_id"] == task.task_id], x, y, task.task_id) for task in tasks[:FRONTS]]
    save(sheet("Fronts of held-out tasks", drawn, 2), folder / "fronts.svg")


if __name__ == "__main__":
    run(main)
