"""structure_card: what a small network is worth when its structure is chosen for the task; `reports/structures/`.

    python -m stages.structure_card [--tasks 200]

No stage of the pipeline: it needs no data. Weights of the package, random tasks of 40 to 1,000 rows of the stream for
tests (seed 22) that nothing was chosen on. Writes tasks.csv (a line per task, bound and method), metrics.json
(`search.worth.summary`) and two pictures.
"""

import argparse
from functools import partial
from pathlib import Path

from netformer.artifacts import write_json
from netformer.report.structure_pictures import chosen_structures, sizes_and_scores
from netformer.report.svg import save
from netformer.search.worth import measure, summary
from netformer.tasks.stream import synthetic_tasks
from stages import n_workers, run
from stages.params import Params, read_params

FOLDER = Path("reports/structures")
SEED, MIN_ROWS, MAX_ROWS = 22, 40, 1000


def main(repository: Path = Path(), count: int = 200) -> None:
    params = read_params(repository / "params" / "pretrained.yaml", Params)
    tasks = synthetic_tasks(
        count,
        seed=SEED,
        stream="test",
        split="test",
        max_features=params.zoo.max_features,
        min_rows=MIN_ROWS,
        max_rows=MAX_ROWS,
        prior=params.download.prior,
    )
    measured = measure(tasks, workers=n_workers())
    folder = repository / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    measured.round(4).to_csv(folder / "tasks.csv", index=False)
    found = {name: round(value, 4) if isinstance(value, float) else value for name, value in summary(measured).items()}
    write_json(found, folder / "metrics.json")
    save(sizes_and_scores(measured), folder / "sizes.svg")
    save(chosen_structures(measured), folder / "chosen.svg")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=200)
    run(partial(main, count=parser.parse_args().tasks))
