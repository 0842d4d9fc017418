"""mixed_tables: the package's weights beside other learners on tables with text, dates and gaps; `reports/mixed/`.

    python -m stages.mixed_tables [--references]

No stage of the pipeline. Writes tables.csv (a line per table: what it holds, mean test R2 over its row splits of ours
and of every learner), considered.csv (a line per file of the packages, with the reason where it is out), metrics.json
(of `evaluation.comparison.zero_shot_metrics`: medians, means, paired differences with their standard error over tables,
on all tables and on those of fewer than 1,000 rows) and a picture. Nothing may be chosen by these numbers: they report.
references.csv holds what the other learners answer; those whose table, code and libraries are the same are not fitted
again. --references: fit them alone.
"""

import argparse
from pathlib import Path

import pandas as pd

from netformer.artifacts import write_json
from netformer.benchmark.learners import METHODS
from netformer.benchmark.mixed import MixedTable, mixed_tables
from netformer.benchmark.standing import OWN, SETS, over_splits, own_scores, reference_key, reference_scores
from netformer.evaluation.comparison import zero_shot_metrics
from netformer.files import replacing
from netformer.report.summaries import real_tables
from netformer.report.svg import save
from stages import Bar, n_workers, run

FOLDER = Path("reports/mixed")
SEED, MAX_ROWS, SPLITS = 0, 1500, 5


def references(repository: Path, tables: list[MixedTable]) -> pd.DataFrame:
    """Scores of the other learners, kept in the report table by table; what is kept and still holds stays."""
    path = repository / FOLDER / "references.csv"
    parts = [pd.read_csv(path)] if path.exists() else []
    known = set(parts[0]["key"]) if parts else set()
    keys, bar = [reference_key(table) for table in tables], Bar("references")
    for done, (key, table) in enumerate(zip(keys, tables, strict=True), 1):
        if key not in known:
            parts.append(reference_scores(table, n_workers()))
            with replacing(path) as temporary:
                pd.concat(parts).query("key in @keys").to_csv(temporary, index=False)
        bar(done, len(tables))
    return pd.concat(parts).query("key in @keys")


def main(repository: Path = Path()) -> None:
    tables, considered = mixed_tables(SEED, MAX_ROWS, SPLITS)
    scores = pd.concat([own_scores(tables, n_workers()), references(repository, tables)], ignore_index=True)
    long = over_splits(scores, tables)
    wide = long[long["set"] == SETS[0]].pivot(index="task_id", columns="row", values="test_r2")[[*OWN, *METHODS]]
    facts = considered[considered["kept"]].set_index("name").drop(columns=["kept", "removed", "reason"])
    folder = repository / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    considered.to_csv(folder / "considered.csv", index=False)
    facts.join(wide).rename_axis("table").round(4).to_csv(folder / "tables.csv")
    write_json(zero_shot_metrics(long), folder / "metrics.json")
    save(real_tables(wide), folder / "tables.svg")


def fit_references(repository: Path = Path()) -> None:
    """The other learners on the tables."""
    references(repository, mixed_tables(SEED, MAX_ROWS, SPLITS)[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", action="store_true", help="fit the other learners and stop")
    run(fit_references if parser.parse_args().references else main)
