"""zoo_card: write `reports/zoo/card.md`, the data sheet of `data/zoo.parquet`.

No stage of the pipeline; run it after the stage zoo.
"""

import json
from pathlib import Path

from netformer.artifacts import read_parquet
from netformer.zoo.card import TASK_COLUMNS, ZOO_COLUMNS, zoo_card
from netformer.zoo.load import load_zoo
from stages import run
from stages.params import load_params


def main(root: Path = Path()) -> None:
    tasks = read_parquet(root / "data" / "tasks.parquet").select(TASK_COLUMNS).to_pandas()
    zoo = load_zoo(root / "data" / "zoo.parquet", columns=ZOO_COLUMNS).table.to_pandas()
    counts, out = root / "reports" / "zoo" / "metrics.json", root / "reports" / "zoo" / "card.md"
    known = json.loads(counts.read_text(encoding="utf-8")) if counts.exists() else None
    if known is not None:
        known.pop("classes", None)  # counts of the zoo of tasks with classes
    card = zoo_card(tasks, zoo, known, load_params(root).zoo.model_dump())
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(card, encoding="utf-8")
    print(f"written: {out}")


if __name__ == "__main__":
    run(main)
