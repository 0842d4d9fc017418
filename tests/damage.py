"""Damage: bytes, values, columns, members and tensors of valid files changed at random, for tests/hostile.py."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

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
    "search.json", "generation_00000.npz",
)  # fmt: skip


def case_of(parts: dict[str, bytes]) -> bytes:
    """The inverse of `parts_of`."""
    return json.dumps({name: len(part) for name, part in parts.items()}).encode() + b"\n" + b"".join(parts.values())


def case_of_folder(folder: Path) -> bytes:
    """A folder as a case."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return case_of({str(path.relative_to(folder)): path.read_bytes() for path in found})


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
    except (pa.ArrowException, OSError, ValueError, MemoryError):
        return damaged_bytes(data, rng)
    return made.getvalue()


def damaged_arrow(data: bytes, rng: random.Random) -> bytes:
    """Feather of another table, or its bytes."""
    if rng.random() < 0.3:
        return damaged_bytes(data, rng)
    try:
        made = io.BytesIO()
        pyarrow.feather.write_feather(damaged_table(pyarrow.feather.read_table(pa.BufferReader(data)), rng), made)
    except (pa.ArrowException, OSError, ValueError, MemoryError, SystemError):  # the last of a text of negative length
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
    how = {".json": damaged_json, ".yaml": damaged_yaml, ".npz": damaged_zip}.get(Path(name).suffix, damaged_tensors)
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
