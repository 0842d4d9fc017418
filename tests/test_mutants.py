"""The list that `make mutants` runs is not stale: each text is in its file exactly once, and each test exists."""

from collections import Counter
from dataclasses import replace

import pytest
from mutants import Mutant, read, stale

MUTANTS = read()
LEAST = 25


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.file}-{mutant.old[:40]}")
def test_a_fault_can_be_put_in_and_its_test_exists(mutant: Mutant) -> None:
    assert stale(mutant) == ""


def test_there_are_enough_and_no_two_are_the_same() -> None:
    assert len(MUTANTS) >= LEAST
    assert max(Counter((mutant.file, mutant.old, mutant.new) for mutant in MUTANTS).values()) == 1


def test_what_is_stale_is_named() -> None:
    good = MUTANTS[0]
    assert stale(replace(good, file="netformer/none.py")) == "no file netformer/none.py"
    assert "found 0 times: no such text" in stale(replace(good, old="no such text"))
    assert "found 0 times" not in stale(replace(good, old="import "))
    assert "must be in netformer/tasks/task.py once, found" in stale(replace(good, old="import "))
    assert "two texts of one line" in stale(replace(good, new=good.old))
    assert stale(replace(good, test="tests/test_tasks.py::test_none")) == "no test test_none in test_tasks.py"
