"""Plain: how a Python file that stands alone reads rows. The text of these functions stands in what `python` writes, so
they use nothing but the standard library and the two constants. What they take is described in `formula`."""

import math
from datetime import datetime

from netformer.tables.scaling import SQUASH

GAPS = {"", "nan", "none", "<na>", "nat"}  # a gap as text


def score_of(q, levels, scores):
    """The score of a quantile in (0, 1): linear in log(q / (1 - q)) between levels, in proportion to it beyond."""
    if not 0 < q < 1:
        raise ValueError(f"a quantile must be between 0 and 1, got {q!r}")
    at, known = math.log(q / (1 - q)), [math.log(level / (1 - level)) for level in levels]
    if at <= known[0] or at >= known[-1]:
        end = 0 if at < 0 else -1
        return scores[end] * (at / known[end] if scores[end] * at > 0 else 1)
    i = next(i for i, level in enumerate(known) if level > at)
    return scores[i - 1] + (scores[i] - scores[i - 1]) * (at - known[i - 1]) / (known[i] - known[i - 1])


def in_order(rows, names):
    """The cells of each row, in the order of names. rows: a DataFrame of pandas or polars, or rows that are lists,
    arrays or dicts."""
    if hasattr(rows, "to_dict"):
        rows = rows.to_dicts() if hasattr(rows, "to_dicts") else rows.to_dict("records")
    for row in rows:
        missing = [name for name in names if name not in row] if isinstance(row, dict) else []
        if missing:
            raise ValueError(f"a row lacks {missing}")
        cells = [row[name] for name in names] if isinstance(row, dict) else list(row)
        if len(cells) != len(names):
            raise ValueError(f"a row must hold {len(names)} cells, got {len(cells)}")
        yield cells


def number(cell, name, gaps, words):
    """A number, nan for a gap. gaps, words: numbers and text that stand for one."""
    text = str(cell).strip()
    if text in words or text.lower() in GAPS:
        return math.nan
    try:
        value = float(text.lower() == "true") if text.lower() in ("true", "false") else float(cell)
    except (TypeError, ValueError):
        raise ValueError(f"column {name!r} must hold a number, found {cell!r}") from None
    return math.nan if value in gaps else value


def date(cell, name, form):
    """Seconds since 1970 UTC of a date: a number of them, a datetime, or text, in ISO 8601 or in a form of strptime."""
    try:
        return number(cell, name, (), ())
    except ValueError:
        text = str(cell).strip()
    try:
        time = datetime.fromisoformat(text.replace("/", "-"))
    except ValueError:
        try:
            time = datetime.strptime(text, form)
        except ValueError:
            raise ValueError(f"column {name!r} must hold a date, found {cell!r}") from None
    return time.timestamp() if time.tzinfo else (time - datetime(1970, 1, 1)).total_seconds()


def position(cell, places):
    """The position of a cell of a category in its levels, their number for any other. places: of each level."""
    text = "" if cell is None or str(cell) in ("nan", "<NA>", "NaT") else str(cell).strip()
    if isinstance(cell, float) and cell.is_integer():
        text = str(int(cell))
    return float(places.get(text, len(places)))


def standardised(cell, fill, part, constants, more):
    """One input of the network. cell: a number, nan for a gap. fill: what a gap is read as. more: period or levels."""
    if part == "missing":
        return constants[cell != cell]
    if part == "code":
        return constants[more.index(cell) if cell in more else -1]
    x = fill if cell != cell else cell
    if part == "level":
        return constants[int(x)]
    if part != "value":
        x = (math.sin if part == "sin" else math.cos)(2 * math.pi * (x / more[0]))
    center, scale, low, high, shift, spread = constants
    r = min(max((x - center) / scale, low), high)
    return (r / math.sqrt(1 + (r / SQUASH) ** 2) - shift) / spread


def hidden(z, bodies, activations):
    """The last hidden units of each body, from what it reads."""
    last = []
    for layers, _ in bodies:
        h = z
        for name, units in layers:
            h = [activations[name](unit[0] + sum(w * v for w, v in zip(unit[1:], h, strict=True))) for unit in units]
        last.append(h)
    return last


def output(z, units, bias, skip, heads):
    """An output layer. heads: its weights on the hidden units of each body."""
    y = bias + sum(w * v for w, v in zip(skip, z, strict=True))
    return y + sum(w * v for head, h in zip(heads, units, strict=True) for w, v in zip(head, h, strict=True))


def added(z, trees, number=0):
    """What trees add to an output. trees: of each the first output it answers in, its questions (input, threshold), and
    its leaves for each of these outputs, the answers to the first question in the second half."""
    y = 0.0
    for first, questions, leaves in trees:
        if first <= number < first + len(leaves):
            place = 0
            for column, cut in questions:
                place = 2 * place + (z[column] > cut)
            y += leaves[number - first][place]
    return y


def probabilities(logits):
    """The probability of each class: the softmax; of two classes there is one logit, that of the second."""
    logits = [0.0, *logits] if len(logits) == 1 else logits
    most = max(logits)
    parts = [math.exp(logit - most) for logit in logits]
    total = sum(parts)
    return [part / total for part in parts]
