"""class_card: the package's weights beside other learners where the target is a class; writes `reports/classes/`.

    python -m stages.class_card [--references]

No stage of the pipeline. Tables are real ones (`benchmark.class_tables`), in five row splits, and random tasks of the
held-out streams, whose true probabilities are known (row `floor`). Writes considered.csv (a line per real file, with
the reason where it is out), tables.csv (a line per table: what it holds, mean log loss over its row splits of every
row), scores.csv (a line per table, row split and row with all scores), metrics.json (`benchmark.standing.
class_summary`) and a picture. Mean seconds to fit and to predict are printed: no file holds them. Nothing may be chosen
by these numbers: they report. Answers of the other learners are kept under `build/classes/`, a file per table.
--references: fit the other learners alone; the report finds them.
"""

import argparse
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from netformer.artifacts import write_json
from netformer.benchmark.class_tables import ClassTable, class_tables
from netformer.benchmark.learners import CLASS_METHODS, Answer
from netformer.benchmark.standing import (
    OURS,
    STEPS,
    Answers,
    WithRandomUnits,
    class_sets,
    class_summary,
    class_table,
    own_answers,
    reference_answers,
    reference_key,
    true_answers,
)
from netformer.files import replacing
from netformer.generation.classifier import NetFormerClassifier
from netformer.report.charts import Axis, Points, plane
from netformer.report.svg import Drawing, save
from netformer.tasks.classes import synthetic_class_tasks
from netformer.tasks.task import ClassTask
from stages import Bar, n_workers, run

FOLDER, BUILD = Path("reports/classes"), Path("build/classes")
SEED, MAX_ROWS, SPLITS = 0, 1000, 5
DRAWN = {"class_test": 75, "class_heldout_family": 50}
SIZES: dict[str, Any] = {"max_features": 16, "min_rows": 40, "max_rows": 1000}
SHOWN = (("logistic", "cross", 5), ("rf", "square", 2), ("catboost", "triangle", 1), (STEPS, "diamond", 0))


def drawn_table(task: ClassTask) -> ClassTable:
    """A random task as a table."""
    labels = tuple(str(k) for k in range(task.n_classes))
    frame = pd.DataFrame(task.X.astype(np.float64), columns=[f"x{i}" for i in range(task.X.shape[1])])
    kinds = dict.fromkeys(frame.columns, "number")
    codes, splits = task.codes.astype(np.int64), [task.row_split]
    return ClassTable(task.task_id, frame, codes, "class", kinds, splits, labels, task.probabilities)


def every_table() -> tuple[list[ClassTable], pd.DataFrame]:
    """The tables, real ones first, and the report on the files of the real ones."""
    real, considered = class_tables(SEED, MAX_ROWS, SPLITS)
    tasks = [
        task
        for stream, n in DRAWN.items()
        for task in synthetic_class_tasks(n, seed=SEED, stream=stream, split="test", **SIZES)
    ]
    return [*real, *map(drawn_table, tasks)], considered


def kept(path: Path, key: str) -> Answers | None:
    """Answers that are kept, where they are those of the key."""
    try:
        with np.load(path) as file:
            if str(file["key"]) != key:
                return None
            seconds = {row: file[f"{row}_seconds"].tolist() for row in CLASS_METHODS}
            return {
                row: [Answer(file[f"{row}/{i}"].astype(np.float64), *taken) for i, taken in enumerate(every)]
                for row, every in seconds.items()
            }
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):  # not there, or of another layout
        return None


def references(repository: Path, tables: list[ClassTable]) -> dict[str, Answers]:
    """Answers of the other learners, by name of the table; what is kept and still holds stays."""
    found: dict[str, Answers] = {}
    bar = Bar("references")
    for done, table in enumerate(tables, 1):
        path, key = repository / BUILD / f"{table.name}.npz", reference_key(table)
        answers = kept(path, key)
        if answers is None:
            answers = reference_answers(table, n_workers())
            held: dict[str, Any] = {"key": np.array(key)}
            for row, own in answers.items():
                held |= {f"{row}/{i}": one.p.astype(np.float32) for i, one in enumerate(own)}
                held[f"{row}_seconds"] = np.array([one[1:] for one in own])
            with replacing(path) as temporary:
                np.savez_compressed(temporary, **held)
        found[table.name] = answers
        bar(done, len(tables))
    return found


def picture(losses: pd.DataFrame) -> Drawing:
    """Log loss of each real table over that of the majority, a line per table, sorted by ours. losses: a column per
    row."""
    shares = losses.div(losses["majority"], axis=0)
    order = shares.sort_values(STEPS if STEPS in shares else "logistic", ascending=False)
    parts = [
        Points([(value, float(i)) for i, value in enumerate(order[row])], shape, colour, row)
        for row, shape, colour in SHOWN
        if row in order
    ]
    y = Axis("", -1.0, float(len(order)), names=[str(name) for name in order.index])
    title, x = "real tables: log loss over that of the majority", Axis("log loss over the majority's", 0.0, 1.3)
    return plane(title, x, y, parts, size=(760, 90 + 13 * len(order)))


def single(fitted: WithRandomUnits, X: pd.DataFrame) -> np.ndarray:
    """Of the first network alone."""
    return fitted.networks_.predict_proba(X, 0)


def random_wide(fitted: WithRandomUnits, X: pd.DataFrame) -> np.ndarray:
    """Of random hidden units under the same output layer."""
    return fitted.random_.predict_proba(X, "wide")


HEADS = {OURS: WithRandomUnits.predict_proba, "single": single, "random_wide": random_wide}


def ours(table: ClassTable) -> Answers:
    """The package's classifier as networks are written, with random units in their place, and with step units."""
    written = own_answers(table, partial(WithRandomUnits, random_state=0, steps=False), HEADS, n_workers())
    steps = {STEPS: NetFormerClassifier.predict_proba}
    return {**own_answers(table, partial(NetFormerClassifier, random_state=0), steps, n_workers()), **written}


def main(repository: Path = Path()) -> None:
    tables, considered = every_table()
    answers = references(repository, tables)
    bar = Bar(OURS)
    for done, table in enumerate(tables, 1):
        answers[table.name] = {**ours(table), **answers[table.name], **true_answers(table)}
        bar(done, len(tables))
    write(repository / FOLDER, tables, considered, answers)


def write(folder: Path, tables: list[ClassTable], considered: pd.DataFrame, answers: dict[str, Answers]) -> None:
    """The report."""
    folder.mkdir(parents=True, exist_ok=True)
    considered.to_csv(folder / "considered.csv", index=False)
    scores = class_table(tables, answers)
    seconds = ["fit_seconds", "predict_seconds"]
    print(scores.groupby("row", sort=False)[seconds].mean().round(3).to_string())
    scores.drop(columns=seconds).round(4).to_csv(folder / "scores.csv", index=False)
    losses = scores.pivot_table(index="task_id", columns="row", values="log_loss", sort=False)
    facts = [(t.name, class_sets(t)[0], len(t.y), t.X.shape[1], len(t.labels), t.target) for t in tables]
    named = pd.DataFrame(facts, columns=["table", "set", "n_rows", "n_columns", "n_classes", "target"])
    named.join(losses, on="table").round(4).to_csv(folder / "tables.csv", index=False)
    write_json(class_summary(tables, answers, [STEPS, OURS, "single"]), folder / "metrics.json")
    real = [table.name for table in tables if table.true is None]
    save(picture(losses.loc[real]), folder / "tables.svg")


def fit_references(repository: Path = Path()) -> None:
    """The other learners on the tables."""
    references(repository, every_table()[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", action="store_true", help="fit the other learners and stop")
    run(fit_references if parser.parse_args().references else main)
