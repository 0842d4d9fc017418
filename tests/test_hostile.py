"""Hostile input: 20,000 damaged files and values, and every one that was ever found; all are refused in one line.

`make fuzz` tries a million.
"""

import json
import random
import warnings
from pathlib import Path

import pytest
import torch
from damage import damaged_value, parts_of
from hostile import READERS, every_reader, hostile
from safetensors.numpy import load

from netformer.errors import InputError
from netformer.exports import bundle
from netformer.networks.tokens import Tokens, detokenize, tokenize
from netformer.tasks.metafeatures import NAMES, MetaFeatureTransform

CASES = Path(__file__).parent / "cases"
FILES = 150  # of each reader
EDGES, READINGS, TRANSFORMS = 14_000, 1300, 2000
assert FILES * len(READERS) + EDGES + READINGS + TRANSFORMS == 20_000


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    return {reader.name: reader for reader in every_reader(tmp_path_factory.mktemp("valid"))}


@pytest.fixture(autouse=True)
def _warnings_are_no_errors():
    """pandas and openpyxl warn of much in files that are damaged; whether we take them is what counts here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_valid_files_are_taken(readers, tmp_path):
    assert set(readers) == set(READERS)
    for name, reader in readers.items():
        for number, seed in enumerate(reader.seeds):
            (tmp_path / f"{name}{number}").mkdir()
            assert reader.check(seed, tmp_path / f"{name}{number}") == ""


@pytest.mark.parametrize("name", READERS)
def test_damaged_files(readers, tmp_path, name):
    taken = 0
    for number in range(FILES):
        (folder := tmp_path / str(number)).mkdir()
        taken += readers[name].check(hostile(readers[name], number), folder) == ""
    assert taken < FILES * 0.9  # the damage is damage


FOUND = sorted(path for path in CASES.glob("*/*") if path.is_file())


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_once(readers, tmp_path, path):
    readers[path.parent.name].check(path.read_bytes(), tmp_path)


def one_line(error):
    """A refusal that a user can read."""
    assert "\n" not in str(error)
    assert str(error)


def test_damaged_edges():
    """Cycles, dangling parents, vertices that stand twice, gaps, lengths that differ, types that are none."""
    torch_net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    good = tokenize(torch_net)
    columns = {name: getattr(good, name).tolist() for name in ("parent", "vertex", "type")}
    x, taken = torch.ones(2, 2), 0
    for number in range(EDGES):
        rng = random.Random(f"edges/{number}")
        lists = {name: list(column) for name, column in columns.items()}
        for _ in range(rng.choice((1, 1, 2, 4))):
            name = rng.choice(sorted(lists))
            at = rng.randrange(len(lists[name]) - 1)
            way = rng.randrange(4)
            if way == 0:
                lists[name][at] = rng.choice((-1, 0, 1, 2, 3, 4, 5, 6, 7, 40, 2**31, 2**62, -(2**62)))
            elif way == 1:
                lists[name][at], lists[name][at + 1] = lists[name][at + 1], lists[name][at]
            elif way == 2:  # the whole edge is gone
                lists = {one: column[:at] + column[at + 1 :] for one, column in lists.items()}
            else:  # or there twice
                lists = {one: column[: at + 1] + column[at:] for one, column in lists.items()}
        parts = {name: torch.tensor(column) for name, column in lists.items()}
        weight = torch.ones(rng.choice((len(lists["parent"]), len(good))))
        sizes = rng.choice((2, 2, 2, 0, 1, 3, -1, 10**9)), rng.choice((1, 1, 1, 0, 2, 5, -1))
        try:
            net = detokenize(Tokens(parts["parent"], parts["vertex"], weight, parts["type"], *sizes))
        except InputError as error:
            one_line(error)
            continue
        taken += 1
        if sizes == (2, 1):
            assert net(x).shape == (2, 1)
    assert 0 < taken < EDGES / 2


def test_damaged_readings(readers):
    parts = parts_of(readers["population"].seeds[0])
    described = json.loads(parts["networks.json"])["reading"]
    tensors = load(parts["networks.safetensors"])
    taken = 0
    for number in range(READINGS):
        rng = random.Random(f"reading/{number}")
        part = rng.choice(sorted(described))
        value = described | {part: damaged_value(described[part], rng)}
        try:
            bundle._reading_of(value, tensors["maps"], tensors)
            taken += 1
        except InputError as error:
            one_line(error)
    assert 0 < taken < READINGS / 2


def test_damaged_transforms():
    state = MetaFeatureTransform((0.0,) * len(NAMES), (1.0,) * len(NAMES)).to_dict()
    for number in range(TRANSFORMS):
        value = damaged_value(state, random.Random(f"transform/{number}"))
        try:
            made = MetaFeatureTransform.from_dict(value)
        except (InputError, TypeError, ValueError, KeyError, OverflowError):  # `load_model` says which file it was
            continue
        assert made(torch.zeros(len(NAMES))).isfinite().all()
