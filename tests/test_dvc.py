"""DVC runs the pipeline of a copy of the repository: once, with the same bytes again, and only what has changed."""

import json
from pathlib import Path

import pytest
from tiny import STAGES
from workspace import Workspace

from stages.params import load_params

pytestmark = pytest.mark.slow


def test_dvc_builds_once_repeats_itself_and_reruns_only_what_a_parameter_reaches(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    assert space.ran(space.dvc("repro")) == set(STAGES)
    first = space.lock()
    assert set(first) == set(STAGES)
    assert space.ran(space.dvc("repro")) == set()
    assert json.loads(space.dvc("status", "--json")) == {}

    assert space.ran(space.dvc("repro", "--force")) == set(STAGES)
    assert space.lock() == first

    assert space.ran(space.dvc("exp", "run", "-S", "train.lr=1e-5")) == {"train", "sample", "evaluate", "search"}
    assert load_params(space.root).train.lr == 1e-5
    second = space.lock()
    assert second["train"]["outs"] != first["train"]["outs"]
    assert {name for name in STAGES if second[name] == first[name]} == {"download", "zoo", "tokenize", "metafeatures"}
