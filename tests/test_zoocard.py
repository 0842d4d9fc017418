"""The zoo card: every figure beside one computed here by other means, and what it refuses."""

import json
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import draw

from netformer.artifacts import networks_table, write_json, write_parquet, write_tasks
from netformer.networks.specs import Layout
from netformer.tasks.stream import synthetic_tasks
from netformer.zoo.card import zoo_card

ROOT = Path(__file__).resolve().parents[1]
COUNTS = {"drawn": 50, "kept": 40, "rejected_not_finite": 0, "rejected_below_min_valid_r2": 10}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """40 drawn networks on 8 of 12 synthetic tasks, and two tasks of a family that no network is trained on."""
    sizes = {"seed": 0, "max_features": 10, "min_rows": 40, "max_rows": 50}
    tasks = [t for split in ("train", "valid", "test") for t in synthetic_tasks(4, stream=split, split=split, **sizes)]
    held_out = synthetic_tasks(2, stream="heldout_family", split="test", **sizes)
    owners = [tasks[i % 8].task_id for i in range(40)]
    r2 = torch.from_numpy(np.random.default_rng(0).uniform(size=(40, 3)))
    table = networks_table(
        draw(40, layout=Layout()), owners, r2=r2, arm=["zoo"] * 40, init_seed=torch.arange(40).clamp(max=37)
    )
    write_tasks([*tasks, *held_out], tmp_path / "data" / "tasks.parquet")
    write_parquet(table, tmp_path / "data" / "zoo.parquet")
    write_json(COUNTS, tmp_path / "reports" / "zoo" / "metrics.json")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return tmp_path


def tables(card: str) -> dict[str, dict[str, list[str]]]:
    """First cell -> the others, of each section's table."""
    found = {}
    for section in card.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        rows = [line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("| ")]
        found[title] = {cells[0]: cells[1:] for cells in rows[2:]}
    return found


def test_the_stage_writes_what_the_files_say(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import_module("stages.zoo_card").main(root)
    assert "card.md" in capsys.readouterr().out
    card = (root / "reports" / "zoo" / "card.md").read_text()
    found = tables(card)
    zoo, tasks = (pd.read_parquet(root / "data" / f"{name}.parquet") for name in ("zoo", "tasks"))
    split = dict(zip(tasks["task_id"], tasks["split"], strict=True))
    for name in ("train", "valid"):
        r2 = np.array([r for t, r in zip(zoo["task_id"], zoo["test_r2"], strict=True) if split[t] == name])
        expected = [f"{q:.3f}" for q in np.percentile(r2, [25, 50, 75])]
        assert found["Splits"][name][:6] == ["4", str(len(r2)), "5", *expected]
    assert "test" not in found["Splits"]
    assert sum(int(cells[3]) for cells in found["Families"].values()) == 40
    assert [sum(int(cells[i]) for cells in found["Families"].values()) for i in range(3)] == [4, 4, 0]
    assert found["Rejected"]["kept"] == ["40", "80.0%"]
    assert found["Rejected"]["rejected below min valid r2"] == ["10", "20.0%"]
    assert "3 networks share their initialisation" in card
    assert found["How it was made"]["`networks_per_task`"] == ["`24`"]
    without = re.findall(r"\| (\w+) \| test \| (\d+) \|", card[card.index("## Tasks without") :])
    assert sum(int(n) for _, n in without) == 6
    assert sum(int(n) for family, n in without if family.startswith("friedman")) == 2


def test_a_zoo_without_counts_or_params_has_a_card(root: Path) -> None:
    zoo, tasks = (pd.read_parquet(root / "data" / f"{name}.parquet") for name in ("zoo", "tasks"))
    card = zoo_card(tasks, zoo)
    assert "this zoo came without counts" in card
    assert "How it was made" not in card
    assert "nan" not in card


def test_what_does_not_belong_together_is_refused(root: Path) -> None:
    zoo, tasks = (pd.read_parquet(root / "data" / f"{name}.parquet") for name in ("zoo", "tasks"))
    with pytest.raises(ValueError, match="must hold at least one network, found none"):
        zoo_card(tasks, zoo[:0])
    with pytest.raises(ValueError, match=r"the tasks must hold every task of the zoo, 8 are missing"):
        zoo_card(tasks[:0], zoo)
    (root / "reports" / "zoo" / "metrics.json").write_text(json.dumps(COUNTS | {"kept": 41}))
    with pytest.raises(ValueError, match="counts must be of this zoo of 40 networks, found 41 kept"):
        import_module("stages.zoo_card").main(root)
