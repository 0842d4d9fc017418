"""Bundle: a population as one folder without pickles.

networks.safetensors   the stacks (shapes, a bit per place of an edge, the weights of those there are), expected R2,
                       intervals, maps of inputs, units of the target
networks.json          format, columns and inputs of the reading, `about`, and the SHA-256 of the other file
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import load, save

from netformer.arrays import functions as xp
from netformer.arrays.namespace import Tensor
from netformer.errors import InputError
from netformer.exports.intervals import LEVELS, Intervals
from netformer.files import replacing
from netformer.networks.specs import Specs
from netformer.networks.stack import Networks
from netformer.tables.cells import DATE_FORMATS
from netformer.tables.columns import Column
from netformer.tables.inputs import PERIODS, Input
from netformer.tables.reading import Reading
from netformer.tables.scaling import Target

FORMAT = 7  # 6: classes; 7: weights of edges alone
_SHOWN = 200  # characters of a value that is wrong
_JSON, _TENSORS = "networks.json", "networks.safetensors"
GROUPS = "groups.json"  # of a folder that holds a network per group (`exports.groups`)
_KEYS = {"about": dict, "format": int, "reading": dict, "sha256": str}
_FORMS = {"number": ("", ","), "date": ("", *DATE_FORMATS), "category": ("", "text")}
_PARTS_OF = {  # of an input, by kind of its column
    "number": ("value", "missing", "mean"),
    "date": ("value", "missing", "sin", "cos"),
    "category": ("level", "rank", "mean", "count"),
}
_READING = {"table", "inputs", "target", "given", "left_out", "notes", "classes"}
_PARTS = {"n_inputs": 1, "widths": 2, "activations": 2}  # of specs, whole numbers in as many dimensions


def write_folder(
    folder: str | Path,
    reading: Reading,
    networks: Networks,
    expected_r2: Float[Tensor, " n"],
    wide: Networks | None,
    about: dict,
    intervals: Intervals | None = None,
) -> None:
    """Write the folder, complete or not at all. Raises InputError for a folder that is not empty, and for an `about`
    that JSON cannot hold."""
    folder = Path(folder).resolve()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{folder} must be a new or an empty folder; remove it or choose another name")
    tensors = {
        "maps": reading.maps,
        "target": _several(np.stack([reading.centers, reading.scales], 1)),
        "expected_r2": expected_r2.float(),
    }
    for name, stack in (("networks", networks), ("wide", wide)):
        if stack is not None:
            tensors |= _packed(name, stack)
    if intervals is not None:
        tensors["intervals.output"] = _several(np.asarray(intervals.output.transpose(0, 1)))
        tensors["intervals.table"] = _several(np.concatenate([intervals.bounds, intervals.scores], 1))
    data = save({name: np.ascontiguousarray(value) for name, value in tensors.items()})
    described = {"about": about, "format": FORMAT, "reading": _described(reading)}
    try:
        described["sha256"] = hashlib.sha256(data).hexdigest()
        text = json.dumps(described, indent=2, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"about must hold finite numbers, text, lists and dicts only: {error}") from None
    with replacing(folder) as partial:
        partial.mkdir()
        (partial / _TENSORS).write_bytes(data)
        (partial / _JSON).write_text(text + "\n", encoding="utf-8")


def _packed(name: str, stack: Networks) -> dict[str, np.ndarray]:
    """A stack as tensors: most of its places hold no edge."""
    mask, weight = (np.asarray(part) for part in (stack.specs.mask, stack.weight))
    parts = {part: np.asarray(getattr(stack.specs, part)) for part in _PARTS}
    parts |= {"shape": np.array(mask.shape[1:]), "edges": np.packbits(mask), "weight": weight[mask]}
    return {f"{name}.{part}": value for part, value in parts.items()}


def _several(parts: np.ndarray) -> np.ndarray:
    """What is kept of each target: of one alone without that dimension, the first."""
    return parts[0] if len(parts) == 1 else parts


def is_groups(folder: str | Path) -> bool:
    """Whether a folder is one of `exports.groups`."""
    return (Path(folder) / GROUPS).is_file()


def read_folder(
    folder: str | Path,
) -> tuple[Reading, Networks, Float[Tensor, " n"], Networks | None, dict, Intervals | None]:
    """reading, networks, expected_r2, wide, about and intervals of a folder that `write_folder` wrote. Raises
    InputError, one line, for one that is incomplete, damaged or of another format."""
    folder = Path(folder)
    for path in (folder / _JSON, folder / _TENSORS):
        if not path.is_file():
            raise InputError(f"{path} must be a file that Bundle.save wrote, found none")
    described = _read_json(folder / _JSON)
    data = (folder / _TENSORS).read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != described["sha256"]:
        raise InputError(
            f"{folder / _TENSORS}: sha256 must be {described['sha256']}, found {found}; the file was changed or cut"
        )
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise InputError(f"{folder / _TENSORS} must be a safetensors file, found: {error}") from None
    except (KeyError, TypeError) as error:  # a type that numpy has not
        raise InputError(f"{folder / _TENSORS} must hold floats and whole numbers, found {error}") from None
    try:
        maps = _tensor(tensors, "maps", np.float64, 2)
        reading = _reading_of(described["reading"], maps.numpy(), tensors)
        outputs = reading.n_outputs
        wide = _stack_of(tensors, "wide", outputs) if any(name.startswith("wide.") for name in tensors) else None
        expected = _tensor(tensors, "expected_r2", np.float32, 1)
        networks = _stack_of(tensors, "networks", outputs)
        return reading, networks, expected, wide, described["about"], _intervals_of(tensors, outputs)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} must be JSON, found: {error}") from None
    found = value.get("format") if isinstance(value, dict) else None
    if found != FORMAT:
        raise InputError(f"{path}: format must be {FORMAT}, found {found!r}; save it again with this version")
    for key, kind in _KEYS.items():
        if not isinstance(value.get(key), kind):
            raise InputError(f"{path}: {key} must be a {kind.__name__}, found {value.get(key)!r}")
    return value


def _described(reading: Reading) -> dict[str, Any]:
    """A reading but for its maps and the units of its target, as JSON values."""
    return {
        "table": [asdict(column) for column in reading.table],
        "inputs": [asdict(one) for one in reading.inputs],
        "target": reading.targets[0].name if len(reading.targets) == 1 else [one.name for one in reading.targets],
        "given": list(reading.given),
        "left_out": [list(pair) for pair in reading.left_out],
        "notes": list(reading.notes),
        "classes": list(reading.classes),
    }


def _targets_of(names: Any, tensors: Mapping[str, np.ndarray]) -> tuple[Target, ...]:
    """The targets under these names: one, or a list of several."""
    one = isinstance(names, str)
    _require(one or (isinstance(names, list) and len(names) > 1), "target", "a name, or a list of several", names)
    units = _tensor(tensors, "target", np.float64, 1 if one else 2)
    listed = (names,) if one else _texts(names, "target")
    if units.shape != ((2,) if one else (len(listed), 2)):
        raise InputError(f"target must be center and scale of each, found shape {tuple(units.shape)}")
    return tuple(Target(name, *unit) for name, unit in zip(listed, units.view(-1, 2).tolist(), strict=True))


def _reading_of(described: dict[str, Any], maps: np.ndarray, tensors: Mapping[str, np.ndarray]) -> Reading:
    """The reading of `_described`. Raises InputError for values that no reading has."""
    _require(set(described) == _READING, "reading", f"an object of {', '.join(sorted(_READING))}", described)
    table = tuple(_column(one) for one in _list(described["table"], "table"))
    inputs = tuple(_input(one, table) for one in _list(described["inputs"], "inputs"))
    given, notes = (_texts(described[name], name) for name in ("given", "notes"))
    pairs = [_texts(pair, "left_out") for pair in _list(described["left_out"], "left_out")]
    _require(all(len(pair) == 2 for pair in pairs), "left_out", "pairs of a column and a reason", pairs)
    left_out = tuple((name, reason) for name, reason in pairs)
    targets = _targets_of(described["target"], tensors)
    classes = _labels(described["classes"])
    reading = Reading(table, inputs, maps, targets, given, left_out, notes, classes)
    crossed = reading.low > reading.high
    _require(not crossed.any(), "low of an input", "at most high", list(np.array(reading.input_names)[crossed]))
    names = [*reading.columns, *(name for name, _ in left_out)]
    _require(sorted(given or reading.columns) == sorted(names), "given", "the columns in use and those left out", given)
    for index, column in enumerate(table):
        read = [one.part for one in inputs if one.column == index]
        _require(column.kind == "category" or read.count("value") == 1, "inputs", f"one value of {column.name!r}", read)
    return reading


def _column(one: Any) -> Column:
    _require(isinstance(one, dict) and set(one) == set(Column.__dataclass_fields__), "table", "columns", one)
    texts = [one[part] for part in ("name", "kind", "form", "note")]
    _require(all(isinstance(text, str) for text in texts), "table", "columns with names", texts)
    name, kind, form, note = texts
    _require(kind in _FORMS, f"kind of {name!r}", "number, date or category", kind)
    _require(form in _FORMS[kind], f"form of {name!r}", f"one of {', '.join(map(repr, _FORMS[kind]))}", form)
    numbers = kind == "number"
    levels: tuple[Any, ...] = (_numbers if numbers else _texts)(one["levels"], f"levels of {name!r}")
    _require(len(set(levels)) == len(levels), f"levels of {name!r}", "distinct", levels)
    _require(kind != "date" or not levels, f"levels of {name!r}", "none", levels)
    gaps, (fill,) = _numbers(one["gaps"], f"gaps of {name!r}"), _numbers([one["fill"]], f"fill of {name!r}")
    _require(numbers or not gaps, f"gaps of {name!r}", "none", gaps)
    words, (missing,) = _texts(one["words"], f"words of {name!r}"), _numbers([one["missing"]], f"missing of {name!r}")
    _require(numbers or not words, f"words of {name!r}", "none", words)
    _require(0 <= missing <= 1, f"missing of {name!r}", "a share from 0 to 1", missing)
    return Column(name, kind, levels, fill, gaps, form, note, words, missing)


def _input(one: Any, table: Sequence[Column]) -> Input:
    _require(isinstance(one, dict) and set(one) == set(Input.__dataclass_fields__), "inputs", "inputs of columns", one)
    index, part = one["column"], one["part"]
    known = isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(table)
    _require(known, "column of an input", f"from 0 to {len(table) - 1}", index)
    column = table[index]
    allowed = _PARTS_OF[column.kind]
    _require(part in allowed, f"part of {column.name!r}", f"one of {', '.join(allowed)}", part)
    values, (period,) = _numbers(one["values"], "values of an input"), _numbers([one["period"]], "period of an input")
    expected = 0 if part in ("value", "missing", "sin", "cos") else len(column.levels) + 1
    what = f"{expected} numbers, one per level and one for any other"
    _require(len(values) == expected, f"values of {column.name!r}", what, values)
    one_level = part != "level" or (sorted(values) == [0.0] * len(column.levels) + [1.0] and values[-1] == 0)
    _require(one_level, f"values of {column.name!r}", "1 for one level and 0 for all others", values)
    periods = tuple(PERIODS.values()) if part in ("sin", "cos") else (0.0,)
    _require(period in periods, f"period of {column.name!r}", f"one of {', '.join(map(str, periods))}", period)
    return Input(index, part, values, period)


def _require(holds: bool, name: str, what: str, found: Any) -> None:
    if not holds:
        raise InputError(f"{name} must be {what}, found {repr(found)[:_SHOWN]}")


def _list(value: Any, name: str) -> list:
    _require(isinstance(value, list), name, "a list", value)
    return value


def _texts(value: Any, name: str) -> tuple[str, ...]:
    texts = _list(value, name)
    _require(all(isinstance(text, str) for text in texts), name, "a list of text", value)
    return tuple(texts)


def _labels(value: Any) -> tuple[Any, ...]:
    """Labels of classes: all text, all truth values or all numbers, in order."""
    labels = _list(value, "classes")
    text, truth = (all(isinstance(label, kind) for label in labels) for kind in (str, bool))
    if not (text or truth):
        _numbers(labels, "classes")
    _require(sorted(labels) == labels, "classes", "in order", labels)
    return tuple(labels)


def _numbers(value: Any, name: str) -> tuple[float, ...]:
    numbers = _list(value, name)
    most = sys.float_info.max  # no nan, no infinity and no whole number beyond is within
    finite = all(isinstance(x, int | float) and not isinstance(x, bool) and -most <= x <= most for x in numbers)
    _require(finite, name, "finite numbers", value)
    return tuple(map(float, numbers))


def _tensor(tensors: Mapping[str, np.ndarray], name: str, dtype: Any, dims: int) -> Any:
    found = tensors.get(name)
    if found is None or found.dtype != dtype or found.ndim != dims:
        what = "none" if found is None else f"{found.dtype} {tuple(found.shape)}"
        raise InputError(f"{name} must be a tensor of {np.dtype(dtype)} with {dims} dimensions, found {what}")
    return xp.from_numpy(found)


def _intervals_of(tensors: Mapping[str, np.ndarray], count: int) -> Intervals | None:
    if not any(name.startswith("intervals.") for name in tensors):
        return None
    more = int(count > 1)
    output = _tensor(tensors, "intervals.output", np.float64, 2 + more)
    table = _tensor(tensors, "intervals.table", np.float64, 1 + more).numpy()
    output, table = (output, table) if more else (output[None], table[None])
    known = table.shape == (count, 2 + len(LEVELS))
    _require(known, "intervals.table", f"2 bounds and {len(LEVELS)} scores", table.shape)
    return Intervals(output.transpose(0, 1).contiguous(), table[:, :2], table[:, 2:])


def _stack_of(tensors: Mapping[str, np.ndarray], name: str, n_outputs: int) -> Networks:
    """The stack of `_packed`. What is allocated is bounded by what the file holds: eight places for a byte."""
    inputs, widths, codes = (_tensor(tensors, f"{name}.{part}", np.int64, dims) for part, dims in _PARTS.items())
    if len({len(inputs), len(widths), len(codes)}) != 1 or widths.shape != codes.shape:
        found = [tuple(part.shape) for part in (inputs, widths, codes)]
        raise InputError(f"{name}: all parts must describe the same networks, found {found}")
    shape = (len(inputs), *_tensor(tensors, f"{name}.shape", np.int64, 1).tolist())
    bits = _tensor(tensors, f"{name}.edges", np.uint8, 1).numpy()
    places = math.prod(shape)
    if len(shape) != 3 or min(shape) < 1 or len(bits) != -(-places // 8):
        raise InputError(f"{name}: edges must have a bit for each of {shape} places, found {8 * len(bits)} bits")
    mask = np.unpackbits(bits, count=places).astype(bool).reshape(shape)
    given = tensors.get(f"{name}.weight")
    dtype = np.float64 if given is not None and given.dtype == np.float64 else np.float32
    values = _tensor(tensors, f"{name}.weight", dtype, 1).numpy()
    if len(values) != mask.sum():
        raise InputError(f"{name}: weight must have a number for each of {mask.sum()} edges, found {len(values)}")
    weight = np.zeros(shape, dtype)
    weight[mask] = values
    specs = Specs(inputs, widths, codes, xp.from_numpy(mask), n_outputs)
    return Networks(specs, xp.from_numpy(weight))
