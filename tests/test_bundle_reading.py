"""The reading in a folder: every part comes back, and a part that no reading has is named in one line."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from mixed import later_rows, networks_for, rows_of

from netformer import Bundle
from netformer.errors import InputError


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The JSON and the folder of a saved population, with columns left out and notes."""
    table, y = rows_of(600)
    size = table["size"].astype(object).where(table.index % 50 > 0, "to ask")
    table = table.assign(constant=1, size=size, copy=size, telling=y)
    population = networks_for(table, y)
    assert len(population.reading.left_out) == 2
    assert len(population.reading.notes) == 1
    folder = tmp_path_factory.mktemp("kept") / "nets"
    population.save(folder)
    return population, json.loads((folder / "networks.json").read_text()), folder


def test_every_part_of_the_reading_comes_back(kept):
    population, _, folder = kept
    again, reading = Bundle.load(folder), population.reading
    for name in ("table", "inputs", "targets", "given", "left_out", "notes"):
        assert getattr(again.reading, name) == getattr(reading, name), name
    np.testing.assert_array_equal(again.reading.maps, reading.maps)
    assert again.reading.described().equals(reading.described())
    rows = later_rows(200).assign(telling=1.0)
    for which in ("wide", "mean", "each", 0):
        np.testing.assert_array_equal(again.predict(rows, which), population.predict(rows, which))
    assert again.reading.outside(rows) == reading.outside(rows)
    assert again.reading.table[0].words == ("to ask",)
    assert again.reading.table[0].missing == 0.02


def test_a_saved_folder_is_saved_again_to_the_same_bytes(kept, tmp_path):
    _, _, folder = kept
    Bundle.load(folder).save(tmp_path / "again")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def column(reading, name, /, **change):
    next(one for one in reading["table"] if one["name"] == name).update(change)


def of(reading, part):
    return next(one for one in reading["inputs"] if one["part"] == part)


HUGE = int("9" * 400)
DAMAGE = {
    "reading must be an object of classes, given, inputs, left_out, notes, table, target": lambda r: r.update(more=1),
    "reading must be an object of classes, given, inputs": lambda r: r.pop("notes"),
    "table must be a list, found": lambda r: r.update(table={}),
    "table must be columns, found": lambda r: r["table"].append(1),
    "table must be columns, found {": lambda r: r["table"][0].pop("fill"),
    "table must be columns with names, found": lambda r: column(r, "size", kind=["number"]),
    "columns with names, found .*, 3": lambda r: column(r, "size", note=3),
    "kind of 'size' must be number, date or category, found 'text'": lambda r: column(r, "size", kind="text"),
    "form of 'size' must be one of '', ',', found '%Y'": lambda r: column(r, "size", form="%Y"),
    "form of 'seen' must be one of .*, found '%s%n'": lambda r: column(r, "seen", form="%s%n"),
    "form of 'town' must be one of '', 'text', found ','": lambda r: column(r, "town", form=","),
    "levels of 'size' must be finite numbers, found": lambda r: column(r, "size", levels=["a"]),
    "levels of 'town' must be a list of text, found": lambda r: column(r, "town", levels=[1, 2, 3, 4]),
    "levels of 'town' must be distinct, found": lambda r: column(r, "town", levels=["a", "a", "b", "c"]),
    "levels of 'sold' must be none, found": lambda r: column(r, "sold", levels=["a"]),
    "fill of 'size' must be finite numbers, found": lambda r: column(r, "size", fill=math.inf),
    "fill of 'size' must be finite numbers, found .None": lambda r: column(r, "size", fill=None),
    "fill of 'size' must be finite numbers, found .True": lambda r: column(r, "size", fill=True),
    "fill of 'size' must be finite numbers, found .9999": lambda r: column(r, "size", fill=HUGE),
    "gaps of 'stand' must be finite numbers, found .nan": lambda r: column(r, "stand", gaps=[math.nan]),
    "words of 'size' must be a list of text, found": lambda r: column(r, "size", words=[1]),
    "words of 'town' must be none, found": lambda r: column(r, "town", words=["a"]),
    "missing of 'size' must be a share from 0 to 1, found 1.5": lambda r: column(r, "size", missing=1.5),
    "missing of 'size' must be finite numbers, found": lambda r: column(r, "size", missing=None),
    "gaps of 'sold' must be none, found": lambda r: column(r, "sold", gaps=[1]),
    "columns must be at least one name, none of them twice": lambda r: column(r, "size", name="far"),
    "inputs must be a list, found 3": lambda r: r.update(inputs=3),
    "inputs must be inputs of columns, found": lambda r: r["inputs"].append({"column": 0}),
    "column of an input must be from 0 to 11, found 12": lambda r: of(r, "value").update(column=12),
    "column of an input must be from 0 to 11, found -1": lambda r: of(r, "value").update(column=-1),
    "column of an input must be from 0 to 11, found False": lambda r: of(r, "value").update(column=False),
    "column of an input must be from 0 to 11, found 0.0": lambda r: of(r, "value").update(column=0.0),
    "part of 'size' must be one of value, missing, mean, found 'rank'": lambda r: of(r, "value").update(part="rank"),
    "part of 'size' must be one of value, missing, mean, found None": lambda r: of(r, "value").update(part=None),
    "inputs must be one value of 'size', found": lambda r: of(r, "value").update(part="missing"),
    "values of 'town' must be 5 numbers, one per level and one for any other": lambda r: of(r, "level").update(
        values=[1]
    ),
    "values of 'town' must be 1 for one level and 0 for all": lambda r: of(r, "level").update(values=[0, 0, 0, 0, 1]),
    "values of 'size' must be 0 numbers": lambda r: of(r, "value").update(values=[1, 2]),
    "values of an input must be finite numbers": lambda r: of(r, "rank")["values"].append("1"),
    "period of 'sold' must be one of 31556952.0, 604800.0, 86400.0, found 7.0": lambda r: of(r, "sin").update(period=7),
    "period of 'size' must be one of 0.0, found 86400.0": lambda r: of(r, "value").update(period=86400.0),
    "target must be a name, or a list of several, found 3": lambda r: r.update(target=3),
    "given must be a list of text, found": lambda r: r.update(given=[1]),
    "given must be the columns in use and those left out, found": lambda r: r["given"].pop(),
    "left_out must be pairs of a column and a reason, found": lambda r: r["left_out"][0].append("more"),
    "left_out must be a list, found": lambda r: r["left_out"].append(3),
    "notes must be a list, found 'none'": lambda r: r.update(notes="none"),
    r"maps must be \(6, \d+\) finite float64": lambda r: r["inputs"].remove(of(r, "rank")),
}


def test_maps_that_cut_everything_are_named(kept, tmp_path):
    population, _, _ = kept
    maps = population.reading.maps[[1, 0, 2, 3, 4, 5]]
    replace(population, reading=replace(population.reading, maps=maps)).save(tmp_path / "nets")
    with pytest.raises(InputError, match="low of an input must be at most high, found"):
        Bundle.load(tmp_path / "nets")


@pytest.mark.parametrize("text", DAMAGE)
def test_a_part_that_no_reading_has_is_named_in_one_line(kept, tmp_path, text):
    _, described, folder = kept
    changed = json.loads(json.dumps(described))
    DAMAGE[text](changed["reading"])
    (tmp_path / "networks.json").write_text(json.dumps(changed))
    (tmp_path / "networks.safetensors").write_bytes((folder / "networks.safetensors").read_bytes())
    with pytest.raises(InputError, match=text) as caught:
        Bundle.load(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert str(caught.value).startswith(f"{tmp_path}: ")
