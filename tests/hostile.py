"""Hostile input: valid files of every format that is read, ways to damage them, and the readers that must refuse them.

A case is the bytes of a file; of a folder, its files one after the other behind a line with their lengths.
`Reader.mutate` damages what a file means (a value, a shape, a column) as well as its bytes, and puts checksums right,
so that what lies behind them is reached. `make fuzz` and tests/test_hostile.py share this module.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

from netformer.artifacts import read_tasks
from netformer.errors import InputError
from netformer.exports.groups import Groups
from netformer.exports.population import Population
from netformer.model.store import load_model
from netformer.tables.files import read_raw, read_table
from netformer.zoo.load import load_tokens, load_zoo
from stages.params import load_params

HUNG = 1.0  # CPU seconds
LONGEST = 6000  # characters of a message, beside what it quotes
WORDS = [
    b'"', b"'", b",", b";", b"\t", b"|", b"\n", b"\r", b"\r\n", b"\0", b"#", b"sep=;\n", b"\xef\xbb\xbf", b"\xff\xfe",
    b"nan", b"inf", b"-inf", b"1e308", b"1e309", b"5e-324", b"-0", b"9" * 40, b"9" * 400, b"1,234.5", b"1.234,5",
    b"0x1F", b"true", b"null", b"{", b"}", b"[", b"]", b"[" * 2000, b":", b"\\u0000", b"\\ud800", b"2020-02-30",
    b"31.12.99999", b"\xe2\x80\xae", b"</script>", b"*/", b"\x80", b"\xed\xa0\x80", b"Unnamed: 0", b" " * 300,
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 255, 2**31, 2**63, -(2**63), 10**18, 10**400, 0.5, -0.0, 1e308, 5e-324,
    float("nan"), float("inf"), "", "a", "\0", "nan", "a" * 5000, "\u202e", "../../etc/passwd", [], {}, [[]], [None],
    {"": 0}, [0] * 300, ["a", "a"], [float("nan")],
]  # fmt: skip


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


def parts_of(data: bytes) -> dict[str, bytes]:
    """The files of a case that is a folder; none where its head is damaged."""
    head, _, rest = data.partition(b"\n")
    try:
        lengths = json.loads(head)
        names = {str(name): int(length) for name, length in lengths.items()}
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        return {}
    parts = {}
    for name, length in names.items():
        if name in FILES:
            parts[name], rest = rest[: max(length, 0)], rest[max(length, 0) :]
    return parts


FILES = (
    "networks.json", "networks.safetensors", "groups.json", "groups.safetensors", "whole/networks.json",
    "whole/networks.safetensors", "config.json", "model.safetensors", "params.yaml",
)  # fmt: skip


def case_of(parts: dict[str, bytes]) -> bytes:
    """The inverse of `parts_of`."""
    return json.dumps({name: len(part) for name, part in parts.items()}).encode() + b"\n" + b"".join(parts.values())


def case_of_folder(folder: Path) -> bytes:
    """A folder as a case."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return case_of({str(path.relative_to(folder)): path.read_bytes() for path in found})


# ---------------------------------------------------------------- damage


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut, repeated, or a word put among them."""
    at = rng.randrange(len(data) + 1)
    to = min(len(data), at + rng.choice((1, 1, 2, 8, 64, 1000)))
    way = rng.randrange(7)
    if way == 0:
        return data[:at] + rng.choice(WORDS) + data[at:]
    if way == 1:
        return data[:at] + rng.choice(WORDS) + data[to:]
    if way == 2:
        return data[:at] + data[to:]
    if way == 3:
        return data[:to] + data[at:]
    if way == 4:
        return data[:at]
    if way == 5:
        return data[:at] + bytes(b ^ (1 << rng.randrange(8)) for b in data[at:to][:1]) + data[at + 1 :]
    return data[:at] + rng.randbytes(to - at) + data[to:]


def damaged_value(value: Any, rng: random.Random) -> Any:
    """A JSON value with one place in it changed, taken out, doubled or made another."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        way = rng.randrange(12)
        if way == 0:
            return {name: one for name, one in value.items() if name != key}
        if way == 1:
            return value | {key + rng.choice(("", "x", "\0")): rng.choice(VALUES)}
        return value | {key: damaged_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at, way = rng.randrange(len(value)), rng.randrange(12)
        if way == 0:
            return value[:at] + value[at + 1 :]
        if way == 1:
            return value[: at + 1] + value[at:]
        if way == 2:
            return [*value[:at], rng.choice(VALUES), *value[at:]]
        return [*value[:at], damaged_value(value[at], rng), *value[at + 1 :]]
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.4:
        return rng.choice((value + 1, -value, value * 2, value * 1000, 0))
    return rng.choice(VALUES)


def damaged_json(data: bytes, rng: random.Random) -> bytes:
    """JSON that means another thing, or bytes that are none."""
    if rng.random() < 0.2:
        return damaged_bytes(data, rng)
    try:
        return json.dumps(damaged_value(json.loads(data), rng), ensure_ascii=rng.random() < 0.5).encode(
            errors="replace"
        )
    except (ValueError, RecursionError):
        return damaged_bytes(data, rng)


def damaged_lines(data: bytes, rng: random.Random) -> bytes:
    """One of several lines of JSON damaged."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    return b"\n".join([*lines[:at], damaged_json(lines[at], rng), *lines[at + 1 :]])


def damaged_gzip(data: bytes, rng: random.Random) -> bytes:
    """The text or the bytes of a .gz."""
    try:
        return (
            damaged_bytes(data, rng)
            if rng.random() < 0.3
            else gzip.compress(damaged_bytes(gzip.decompress(data), rng), 1)
        )
    except (OSError, EOFError, zlib.error):
        return damaged_bytes(data, rng)


def damaged_zip(data: bytes, rng: random.Random) -> bytes:
    """One member of a zip changed or taken out, or the bytes of the zip."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            members = {name: packed.read(name) for name in packed.namelist()}
    except Exception:  # whatever a damaged zip raises
        return damaged_bytes(data, rng)
    if rng.random() < 0.15 or not members:
        return damaged_bytes(data, rng)
    name = rng.choice([one for one in sorted(members) for _ in range(1 + 4 * ("sheet" in one or "shared" in one))])
    if rng.random() < 0.1:
        del members[name]
    elif rng.random() < 0.4:  # a number of the text
        text = members[name].decode("utf-8", "replace")
        at = [i for i, c in enumerate(text) if c.isdigit()] or [0]
        i = rng.choice(at)
        text = text[:i] + rng.choice(("", "0", "9", "-1", "99", "1048576", "9" * 20, "nan", "1e400")) + text[i + 1 :]
        members[name] = text.encode()
    else:
        members[name] = damaged_bytes(members[name], rng)
    packed_again = io.BytesIO()
    with zipfile.ZipFile(packed_again, "w", zipfile.ZIP_STORED) as packed:
        for one, part in members.items():
            packed.writestr(one, part)
    return packed_again.getvalue()


def damaged_tensors(data: bytes, rng: random.Random) -> bytes:
    """safetensors: the header, the numbers, or bytes."""
    if len(data) < 8 or rng.random() < 0.1:
        return damaged_bytes(data, rng)
    (length,) = struct.unpack("<Q", data[:8])
    head, body = data[8 : 8 + length], data[8 + length :]
    way = rng.randrange(4)
    if way == 0:
        return struct.pack("<Q", rng.choice((0, length + 8, 2**40, 2**63))) + head + body
    if way == 1:
        head = damaged_json(head, rng)
    else:
        at = rng.randrange(len(body) // 8 + 1) * 8
        number = struct.pack("<d", rng.choice((0.0, -1.0, 1e308, float("nan"), float("inf"), 5e-324)))
        whole = struct.pack("<q", rng.choice((-1, 0, 1, 2, 7, 300, 2**31, 2**62)))
        single = struct.pack("<f", rng.choice((float("nan"), float("inf"), -1.0))) * 2
        body = body[:at] + rng.choice((number, whole, single, b"\1" * 8)) + body[at + 8 :]
    return struct.pack("<Q", len(head)) + head + body


def damaged_table(table: pa.Table, rng: random.Random) -> pa.Table:
    """A column that holds, is or is called something else, or is not there."""
    at, way = rng.randrange(table.num_columns), rng.randrange(9)
    name, column = table.column_names[at], table.column(at)
    if way == 0:
        return table.remove_column(at)
    if way == 1:
        return table.append_column(rng.choice((name, "", "\0", "y" * 3000)), column)
    if way == 2:
        return table.slice(rng.randrange(table.num_rows + 1), rng.randrange(3))
    if way == 3:
        kinds = (pa.string(), pa.float64(), pa.int64(), pa.bool_(), pa.list_(pa.float32()), pa.binary(), pa.null())
        kind = rng.choice((*kinds, pa.timestamp("ns"), pa.date32(), pa.decimal128(5, 2), pa.struct([("a", pa.int8())])))
        return table.set_column(at, name, pa.nulls(table.num_rows, kind))
    values = column.to_pylist()
    if not values:
        return table.remove_column(at)
    row = rng.randrange(len(values))
    if way == 4 and isinstance(values[row], list) and values[row]:
        values[row] = [*values[row], values[row][-1]] if rng.random() < 0.5 else values[row][1:]
    else:
        values[row] = damaged_value(values[row], rng)
    try:
        return table.set_column(at, name, pa.array(values, column.type if rng.random() < 0.9 else None))
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return table.set_column(at, name, pa.array([rng.choice((None, "x")) for _ in values]))


def damaged_parquet(data: bytes, rng: random.Random) -> bytes:
    """Parquet of another table, or its bytes."""
    if rng.random() < 0.15:
        return damaged_bytes(data, rng)
    try:
        table = pq.read_table(pa.BufferReader(data))
        made = io.BytesIO()
        pq.write_table(damaged_table(table, rng), made, compression="zstd")
    except (pa.ArrowException, OSError, ValueError):
        return damaged_bytes(data, rng)
    return made.getvalue()


def damaged_arrow(data: bytes, rng: random.Random) -> bytes:
    """Feather of another table, or its bytes."""
    if rng.random() < 0.3:
        return damaged_bytes(data, rng)
    try:
        made = io.BytesIO()
        pyarrow.feather.write_feather(damaged_table(pyarrow.feather.read_table(pa.BufferReader(data)), rng), made)
    except (pa.ArrowException, OSError, ValueError):
        return damaged_bytes(data, rng)
    return made.getvalue()


def damaged_folder(data: bytes, rng: random.Random) -> bytes:
    """One file of a folder, its checksum put right in most cases."""
    parts = parts_of(data)
    if not parts:
        return data
    name = rng.choice(sorted(parts))
    if rng.random() < 0.02:
        del parts[name]
        return case_of(parts)
    how = {".json": damaged_json, ".yaml": damaged_yaml, ".safetensors": damaged_tensors}[Path(name).suffix]
    parts[name] = how(parts[name], rng)
    if rng.random() < 0.9:
        for described, tensors in (("networks.json", "networks.safetensors"), ("groups.json", "groups.safetensors")):
            for at in ("", "whole/"):
                if at + described in parts and at + tensors in parts:
                    digest = hashlib.sha256(parts[at + tensors]).hexdigest()
                    parts[at + described] = with_sum(parts[at + described], digest)
    return case_of(parts)


def with_sum(text: bytes, digest: str) -> bytes:
    """A JSON object with its `sha256` put right, where it has one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return json.dumps(value | {"sha256": digest}).encode() if isinstance(value, dict) and "sha256" in value else text


def damaged_yaml(data: bytes, rng: random.Random) -> bytes:
    """A value of a line, or bytes."""
    lines = data.split(b"\n")
    at = rng.choice([i for i, line in enumerate(lines) if b":" in line] or [0])
    if rng.random() < 0.3:
        return damaged_bytes(data, rng)
    value = rng.choice(
        ("-1", "1e400", "[]", "{}", "~", "*a", "&a [*a]", "!!python/object:os.system x", "9" * 400, ".nan", "'")
    )
    lines[at] = lines[at].split(b":")[0] + b": " + value.encode()
    return b"\n".join(lines)


# ---------------------------------------------------------------- readers


def read_a_table(path: Path) -> None:
    """As the command line does, and as the stages do."""
    frame = read_raw(path).frame
    if len(frame.columns):
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
        Reader("table.csv", read_a_table, (text, plain, semicolons, b"#a,b\n1,2\n" * 3), damaged_bytes),
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
    data = root / "data"
    cases = {name: ((data / f"{name}.parquet").read_bytes(),) for name in ("tasks", "zoo", "tokens")}
    model = case_of_folder(root / "models" / "netformer")
    params = case_of({"params.yaml": (root / "params.yaml").read_bytes()})
    return [
        Reader("tasks.parquet", lambda path: void(read_tasks(path)), cases["tasks"], damaged_parquet),
        Reader("zoo.parquet", read_zoo, cases["zoo"], damaged_parquet),
        Reader("tokens.parquet", read_tokens, cases["tokens"], damaged_parquet),
        Reader("model", lambda path: void(load_model(path)), (model,), damaged_folder),
        Reader("params", lambda path: void(load_params(path)), (params,), damaged_folder),
    ]


def delivered_readers(folder: Path) -> list[Reader]:
    """Readers of delivered networks. folder: holds `nets` and `groups`, saved."""
    nets, groups = (case_of_folder(folder / name) for name in ("nets", "groups"))
    return [
        Reader("population", read_population, (nets,), damaged_folder),
        Reader("groups", lambda path: void(Groups.load(path)), (groups,), damaged_folder),
    ]


def void(_: object) -> None:
    """Nothing: what was read is not looked at."""
