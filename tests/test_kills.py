"""Ten kills at random moments; `make faults` sends 200, to every stage."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from netformer.files import replacing

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_ten_kills_are_survived_and_a_report_is_gone_on_with(tmp_path):
    report = tmp_path / "kills.jsonl"
    for kills in (4, 10):
        command = [sys.executable, "tests/kills.py", "--kills", str(kills), "--few", "--report", str(report)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{kills} of {kills} kills survived" in done.stdout
        assert [json.loads(line)["number"] for line in report.read_text().splitlines()] == list(range(kills))


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_is_not(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    with replacing(tmp_path / "a.csv") as temporary:
        host = temporary.name.split("-")[0]
        (tmp_path / f"{host}-{dead.stdout.strip()}-0.tmp.a.csv").write_text("left")
        (tmp_path / f"{host}-{dead.stdout.strip()}-0.tmp.b.csv").write_text("of another file")
        (tmp_path / f"{host}-1-0.tmp.a.csv").write_text("of a process that runs")
        (tmp_path / f".elsewhere-{dead.stdout.strip()}-0.tmp.a.csv").write_text("of another machine")
        temporary.write_text("outer")
        with replacing(tmp_path / "a.csv") as inner:
            assert inner != temporary
            inner.write_text("inner")
        assert temporary.read_text() == "outer"
    assert (tmp_path / "a.csv").read_text() == "outer"
    left = sorted(path.name.split("-", 1)[1] for path in tmp_path.iterdir() if path.name != "a.csv")
    assert left == sorted([f"{dead.stdout.strip()}-0.tmp.b.csv", "1-0.tmp.a.csv", f"{dead.stdout.strip()}-0.tmp.a.csv"])
