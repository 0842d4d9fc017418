"""Hostile input: valid files of every format that is read, ways to damage them, and the readers that must refuse them.

A case is the bytes of a file; of a folder, its files one after the other behind a line with their lengths.
`Reader.mutate` damages what a file means (a value, a shape, a column) as well as its bytes, and puts checksums right,
so that what lies behind them is reached. `make fuzz` and tests/test_hostile.py share this module.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.feather
from damage import (
    case_of,
    case_of_folder,
    damaged_arrow,
    damaged_bytes,
    damaged_folder,
    damaged_gzip,
    damaged_json,
    damaged_lines,
    damaged_parquet,
    damaged_zip,
    parts_of,
)
from hostile_files import (
    GENOMES,
    LAYOUT,
    OBJECTIVES,
    SETTINGS,
    tasks_to_test,
    write_artifacts,
    write_delivered,
    write_search,
)

from netformer.artifacts import read_class_tasks, read_parquet, read_tasks
from netformer.errors import InputError
from netformer.evaluation.scored import read_samples
from netformer.exports.groups import Groups
from netformer.exports.population import Population
from netformer.model.store import load_model
from netformer.search.engine import _Store
from netformer.tables.files import read_raw, read_table
from netformer.zoo.load import load_tokens, load_zoo
from stages.params import load_params

READERS = (
    "table.csv", "table.tsv", "table.csv.gz", "table.json", "table.jsonl", "table.xlsx", "table.parquet", "table.arrow",
    "tasks.parquet", "class_tasks.parquet", "zoo.parquet", "tokens.parquet", "samples.parquet", "model", "params",
    "population", "groups", "search",
)  # fmt: skip
HUNG = 1.0  # CPU seconds
LONGEST = 6000  # characters of a message, beside what it quotes


@dataclass(frozen=True)
class Reader:
    """How a kind of file is read, valid ones of it, and how they are damaged."""

    name: str
    read: Callable[[Path], None]  # of a file or folder
    seeds: tuple[bytes, ...]
    mutate: Callable[[bytes, random.Random], bytes]

    def write(self, data: bytes, folder: Path) -> Path:
        """The case as a file or folder in `folder`."""
        if "." in self.name:
            path = folder / f"case{self.name[self.name.index('.') :]}"
            path.write_bytes(data)
            return path
        for name, part in parts_of(data).items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(part)
        return folder

    def check(self, data: bytes, folder: Path) -> str:
        """Read a case: the message of the refusal, or "" where it was taken. Any other exception is a finding, and so
        are a message of several lines and more than `HUNG` seconds of CPU."""
        path, start = self.write(data, folder), time.process_time()
        try:
            self.read(path)
            said = ""
        except InputError as error:
            said = str(error)
            assert "\n" not in said, f"a message must be one line, got {said!r}"
            assert 0 < len(said) <= LONGEST + 4 * len(data), f"a message must be short, got {len(said)} characters"
        took = time.process_time() - start
        assert took < HUNG, f"a case must be read in {HUNG:g} s, took {took:.2f} s"
        return said


def read_a_table(path: Path) -> None:
    """As the command line does, and, where all of a table is numbers, as the stages do."""
    frame = read_raw(path).frame
    if len(frame.columns) and all(pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes):
        read_table(path, str(frame.columns[-1]))


def read_tokens(path: Path) -> None:
    """Every network, as a stack and one by one."""
    tokens = load_tokens(path)
    _ = tokens.networks, tokens.task_ids
    for i in range(min(len(tokens), 3)):
        _ = tokens[i]
    if "sensitivity" in tokens.table.column_names:
        _ = tokens.sensitivity


def read_zoo(path: Path) -> None:
    """Every network and score."""
    zoo = load_zoo(path)
    _ = zoo.networks, zoo.r2, zoo.task_ids


def read_search(path: Path) -> None:
    """A generation that was kept."""
    _Store(path, SETTINGS).read(0, GENOMES, OBJECTIVES)


def read_population(path: Path) -> None:
    """A folder of networks; what is taken must answer."""
    population = Population.load(path)
    population.reading.described()


def example_frame() -> pd.DataFrame:
    """Numbers, gaps, dates, text and truth values."""
    return pd.DataFrame(
        {
            "size": [1.5, -2.0, None, 4e10, 5.0, 6.25, 7.0, 8.0, 9.0, 10.0, 0.5, 2.0],
            "town": ["Ulm", "Köln", 'a "b", c', "", "x", "Ulm", "y", "Ulm", "Ulm", "x", "x", "y"],
            "sold": [f"2020-02-{d:02d}" for d in range(1, 13)],
            "open": [True, False] * 6,
            "y": [1.0, 2.5, 3.0, 4.0, 5.0, 2.0, 7.0, 8.0, 1.0, 0.0, 3.0, 2.0],
        }
    )


def table_readers() -> list[Reader]:
    """Readers of tables as users hold them."""
    frame = example_frame()
    numbers = frame[["size", "y"]].fillna(0.0)
    text = frame.to_csv(index=False).encode()
    made: dict[str, io.BytesIO] = {kind: io.BytesIO() for kind in ("xlsx", "parquet", "arrow")}
    numbers.to_excel(made["xlsx"], index=False)
    frame.to_parquet(made["parquet"])
    pyarrow.feather.write_feather(frame, made["arrow"])
    plain = numbers.to_csv(index=False).encode()
    semicolons = numbers.to_csv(index=False, sep=";", decimal=",").encode()
    rows = json.loads(frame.to_json(orient="records"))
    lines = b"\n".join(json.dumps(row).encode() for row in rows)
    columns = frame.to_json(orient="columns").encode()
    return [
        Reader("table.csv", read_a_table, (text, plain, semicolons, b"#a,b\n1,2\n3,4\n5,6\n"), damaged_bytes),
        Reader("table.tsv", read_a_table, (text.replace(b",", b"\t"),), damaged_bytes),
        Reader("table.csv.gz", read_a_table, (gzip.compress(text),), damaged_gzip),
        Reader("table.json", read_a_table, (json.dumps(rows).encode(), columns), damaged_json),
        Reader("table.jsonl", read_a_table, (lines,), damaged_lines),
        Reader("table.xlsx", read_a_table, (made["xlsx"].getvalue(),), damaged_zip),
        Reader("table.parquet", read_a_table, (made["parquet"].getvalue(),), damaged_parquet),
        Reader("table.arrow", read_a_table, (made["arrow"].getvalue(),), damaged_arrow),
    ]


def pipeline_readers(root: Path) -> list[Reader]:
    """Readers of what stages write. root: a folder in which the tiny pipeline ran up to `train`."""
    data, tested = root / "data", tasks_to_test()
    names = ("tasks", "class_tasks", "zoo", "tokens", "samples")
    cases = {name: ((data / f"{name}.parquet").read_bytes(),) for name in names}
    model = case_of_folder(root / "models" / "netformer")
    params = case_of({"params.yaml": (root / "params.yaml").read_bytes()})
    return [
        Reader("tasks.parquet", lambda path: void(read_tasks(path)), cases["tasks"], damaged_parquet),
        Reader("zoo.parquet", read_zoo, cases["zoo"], damaged_parquet),
        Reader("tokens.parquet", read_tokens, cases["tokens"], damaged_parquet),
        Reader("class_tasks.parquet", lambda path: void(read_class_tasks(path)), cases["class_tasks"], damaged_parquet),
        Reader(
            "samples.parquet",
            lambda path: void(read_samples(read_parquet(path), tested, LAYOUT, 1, 2)),
            cases["samples"],
            damaged_parquet,
        ),
        Reader("model", lambda path: void(load_model(path)), (model,), damaged_folder),
        Reader("params", lambda path: void(load_params(path)), (params,), damaged_folder),
    ]


def delivered_readers(folder: Path) -> list[Reader]:
    """Readers of what the library saves. folder: holds `nets`, `groups` and `search`."""
    nets, groups, search = (case_of_folder(folder / name) for name in ("nets", "groups", "search"))
    return [
        Reader("population", read_population, (nets,), damaged_folder),
        Reader("groups", lambda path: void(Groups.load(path)), (groups,), damaged_folder),
        Reader("search", read_search, (search,), damaged_folder),
    ]


def every_reader(folder: Path) -> list[Reader]:
    """All of the above, their valid files made in `folder`."""
    write_artifacts(folder / "root")
    write_delivered(folder / "delivered")
    write_search(folder / "delivered" / "search")
    return [*table_readers(), *pipeline_readers(folder / "root"), *delivered_readers(folder / "delivered")]


def hostile(reader: Reader, number: int) -> bytes:
    """Case `number` of a reader: one of its valid files, damaged one to five times."""
    rng = random.Random(f"{reader.name}/{number}")
    data = rng.choice(reader.seeds)
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        data = reader.mutate(data, rng)
    return data


def void(_: object) -> None:
    """Nothing: what was read is not looked at."""
