"""Populations for a target of classes that the tests share: random networks, labels of every type, hostile names."""

from functools import cache

import numpy as np
import pandas as pd
from mixed import drawn_for, later_rows, rows_of

from netformer.exports.classes import n_outputs_of
from netformer.tables.reading import read_classes

HOSTILE = (
    "",
    "'single' and \\",
    '"double", with a comma',
    "*/ int x; /*",
    "what??/",
    "two\nlines",
    "</script><script>alert(1)</script>",
    "<!-- a",
    "a&amp;b",
    "{{DATA}}",
    "größe \U0001f600",
    "\u2028",
    "nul\0 within",
    "nul at the end\0",
)
LABELS = {
    "two texts": ("*/ no; /*", '"yes" </script>'),
    "texts": HOSTILE,
    "two ints": (0, 1),
    "ints": (-3, 0, 70000),
    "two floats": (0.1, 2.5),
    "floats": (-1.5, 0.0, 1e300),
    "whole floats": (1.0, 2.0, 3.0, 4.0),
    "bools": (False, True),
}
LABELS = {name: tuple(sorted(labels)) for name, labels in LABELS.items()}


def jumping(rows=400, seed=0):
    """A table of numbers, dates and levels, and the number of each row's class, 0 to 2, which jumps."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(size=(rows, 3))
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.floor(365 * z[:, 1]), "D")
    table = pd.DataFrame({"size": z[:, 0], "sold": days, "kind": rng.choice(["a", "b", "c"], rows), "width": z[:, 2]})
    table.loc[rng.random(rows) < 0.1, "width"] = np.nan
    high, late, odd = z[:, 0] > 0.45, z[:, 1] > 0.6, (table["kind"] == "b").to_numpy()
    codes = np.where(high ^ late, 1 + (odd & (z[:, 0] > 0.2)), 0)
    return table, np.where(rng.random(rows) < 0.05, rng.integers(0, 3, rows), codes)


@cache
def of_classes(name, kind="mixed", **options):
    """6 networks and a wide one that tell the classes of `LABELS[name]` apart, and 120 new rows of their table: that of
    `mixed`, or of kind "numbers" one of plain numbers. options: of `draw`."""
    labels = LABELS[name]
    if kind == "mixed":
        table, y = rows_of(600)
        rows = later_rows(120)
    else:
        rng = np.random.default_rng(0)
        table = rng.normal(size=(600, 5))
        y, rows = table @ np.arange(1.0, 6), 2 * rng.normal(size=(120, 5))
    codes = np.digitize(y, np.quantile(y, np.arange(1, len(labels)) / len(labels)))
    outputs = n_outputs_of(len(labels))
    shares = np.eye(len(labels))[-outputs:, codes]
    targets = (shares - shares.mean(1, keepdims=True)) / shares.std(1, keepdims=True)
    reading, _ = read_classes(table, targets, labels, target="class */")
    return drawn_for(reading, outputs, **options), rows
