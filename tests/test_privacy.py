"""Privacy: no file that is handed over holds a row of the table, or a level that few rows have; docs/privacy.md."""

import inspect
import re

import numpy as np
import pandas as pd
import pytest
from commands import run

from netformer import InputError, NetFormer, NetFormerRegressor, export
from netformer.cli.app import generate
from netformer.sources.formats import FORMATS
from netformer.tables.columns import MIN_FREQUENCY
from netformer.tables.reading import read

N = 400
NUMBERS = ["wage", "height", "born"]
ONCE, TWICE = "Zacharias-Sole-Bearer", "Wilhelmina-One-Of-Two"
CODE, STRAY = 1031, "ask-my-brother-Anselm"  # a number among codes and a cell among numbers, of one row each
FOLDER = "folder"


def table_of():
    """Names with rare ones, codes with a rare one, numbers that tell every row apart, a cell that is no number."""
    rng = np.random.default_rng(0)
    name, code = rng.integers(0, 14, N), rng.integers(0, 9, N)
    X = pd.DataFrame({"name": [f"name {i}" for i in name], "code": 1000 + 13 * code})
    for number, column in enumerate(NUMBERS):
        X[column] = 7654.321 + 1234.5 * number + 100 * rng.normal(size=N)
    X.loc[[5], "name"], X.loc[[8, 9], "name"], X.loc[3, "code"] = ONCE, TWICE, CODE
    y = 3.0 * np.cos(5 * code) + np.sin(name) + X["wage"] / 50 + X["height"] / 150 + 0.3 * rng.normal(size=N)
    X["born"] = X["born"].astype(object)
    X.loc[6, "born"] = STRAY
    return X, y.to_numpy()


def population_of(**options):
    X, y = table_of()
    with pytest.warns(UserWarning, match=STRAY):
        return NetFormerRegressor(n_samples=4, random_state=0, **options).fit(X, y).to_bundle()


@pytest.fixture(scope="module")
def population():
    return population_of()


def written(population, folder, format):
    """The bytes of every file of a format."""
    if format == FOLDER:
        population.save(folder / FOLDER)
        return b"\n".join(path.read_bytes() for path in sorted((folder / FOLDER).iterdir()))
    return b"\n".join(path.read_bytes() for path in export(population, "wide", folder / "exported", format))


def numbers_in(data):
    """Every number of a file: as text, and as doubles and floats that begin at any byte."""
    text = [float(number) for number in re.findall(rb"-?\d+\.?\d*(?:[eE][-+]?\d+)?", data) if len(number) < 40]
    found = [np.array(text)]
    for dtype in (np.float64, np.float32):
        size = np.dtype(dtype).itemsize
        for start in range(size):
            part = data[start : start + (len(data) - start) // size * size]
            with np.errstate(invalid="ignore"):  # of a float that is none
                found.append(np.frombuffer(part, dtype).astype(np.float64))
    numbers = np.concatenate(found)
    return np.unique(numbers[np.isfinite(numbers)])


def holds(numbers, values):
    """Which of the values are among the numbers, also when written as a float or with 9 digits."""
    values = np.asarray(values, np.float64)
    near = np.abs(numbers[np.clip(np.searchsorted(numbers, values), 1, len(numbers) - 1)[:, None] + [-1, 0]].T - values)
    return near.min(0) <= 1e-9 * np.abs(values)


@pytest.mark.parametrize("format", [*FORMATS, FOLDER])
def test_no_file_holds_a_rare_level_or_a_row(tmp_path, population, format):
    data = written(population, tmp_path, format)
    X, y = table_of()
    numbers = numbers_in(data)
    assert b"name 3" in data  # a level that many rows have, and so has 1013
    assert holds(numbers, [1013.0]).all()
    assert not any(text.encode() in data for text in (ONCE, STRAY))
    assert not holds(numbers, [CODE, *y]).any()
    left = np.zeros(N, int)
    for name in NUMBERS:
        values = pd.to_numeric(X[name], errors="coerce").to_numpy()
        known = holds(numbers, values)
        ends = (np.nanmin(values), np.nanmax(values), np.nanquantile(values, 0.5, method="lower"))
        assert set(values[known]) <= set(ends), name
        left += known
    assert left.max() <= 1  # of no row two cells


def test_the_scan_finds_what_is_there(tmp_path):
    """With every level kept the rare name is in every file, and a row would be found in any form."""
    population = population_of(min_frequency=1)
    for format in (FOLDER, *FORMATS):
        folder = tmp_path / format
        folder.mkdir()
        assert ONCE.encode() in written(population, folder, format), format
    wage = table_of()[0]["wage"].to_numpy()
    for data in (wage[7:9].tobytes(), b"x" + wage[7:9].tobytes(), repr(wage[7:9].tolist()).encode()):
        assert holds(numbers_in(data), wage).sum() == 2


def test_a_rarer_level_is_read_as_any_other():
    X, y = table_of()
    X = X[["name", "code"]]
    counts = X["name"].value_counts()
    for least in (1, 2, 3):
        reading = read(X, y, min_frequency=least)[0]
        assert set(reading.table[0].levels) == set(counts.index[counts >= least])
        rare = X.assign(name=X["name"].where(X["name"].map(counts) >= least, "never seen"))
        np.testing.assert_array_equal(reading.numbers(X), reading.numbers(rare))
    codes = read(X, y, min_frequency=MIN_FREQUENCY)[0].table[1].levels
    assert len(codes) == 9
    assert CODE not in codes
    without = read(X, y, min_frequency=N)[0]
    assert without.columns == ("code",)
    assert without.left_out == (("name", "every level of it is rare"),)


def test_what_networks_alone_are_written_for_holds_no_cell(tmp_path):
    """`NetFormer.generate` reads a table itself, stray cells and lists too."""
    X, y = table_of()
    X["lists"] = [["secret", i] for i in range(N)]
    NetFormer.load().generate(X, y, n_samples=1).save(tmp_path / FOLDER)
    data = (tmp_path / FOLDER / "networks.json").read_text()
    assert not any(text in data for text in (STRAY, "secret", ONCE))


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True, "2", None])
def test_min_frequency_is_a_whole_number(wrong):
    X, y = table_of()
    with pytest.raises(InputError, match="min_frequency must be a whole number of rows from 1 on"):
        NetFormerRegressor().set_params(min_frequency=wrong).fit(X[["name"]], y)


def test_the_command_line_has_the_same_default(tmp_path):
    """And passes on what it is given."""
    parameter = inspect.signature(generate).parameters["min_frequency"]
    assert parameter.default == MIN_FREQUENCY
    X, y = table_of()
    X.assign(y=y).to_csv(tmp_path / "t.csv", index=False)
    found = {}
    for least in (1, 3):
        out = tmp_path / f"nets{least}"
        run(
            "generate",
            tmp_path / "t.csv",
            "-t",
            "y",
            "-n",
            2,
            "--beside",
            "ridge",
            "--min-frequency",
            least,
            "--out",
            out,
        )
        found[least] = TWICE in (out / "networks.json").read_text()
    assert found == {1: True, 3: False}
