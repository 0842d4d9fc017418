"""A table as people hold them, and networks for it: gaps, a number that stands for one, codes, dates, categories with
few and many levels, ordered, and whole numbers far from 0."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import torch
from drawn import draw
from grown import some_trees, with_trees

from netformer import NetFormerRegressor, Population
from netformer.exports.intervals import LEVELS, Intervals
from netformer.networks.specs import Layout
from netformer.networks.stack import Networks
from netformer.tables.reading import read

STREETS = [f"street {i}" for i in range(37)] + [
    '"quoted", with comma',
    "größe",
    "two\nlines",
    "what??/",
    "x\\y",
    "*/ a",
]


def rows_of(n, seed=0):
    """The columns of the table in n rows, and a target."""
    rng = np.random.default_rng(seed)
    size = rng.lognormal(3, 0.5, n).round(3)
    days = rng.integers(0, 1500, n)
    town, street, firm = rng.integers(0, 4, n), rng.integers(0, len(STREETS), n), rng.integers(0, 12, n)
    grade = rng.integers(0, 4, n)
    y = (
        0.05 * size
        + 2 * np.sin(2 * np.pi * days / 365.25)
        + town**2
        + 5.0 * np.cos(7.0 * firm)
        + np.sin(street)
        + grade
    )
    gap = rng.random(n) < 0.15
    table = pd.DataFrame(
        {
            "size": size,
            "age, in years": np.where(gap, np.nan, rng.integers(0, 90, n)),
            "stand": np.where(rng.random(n) < 0.1, -999.0, rng.uniform(0, 100, n).round(2)),
            "firm": 1000 + firm,
            "town": np.array(["Ulm", "Bonn", "", "Kiel"], dtype=object)[town],
            "street": np.array(STREETS, dtype=object)[street],
            "grade": pd.Categorical(
                np.array(["low", "mid", "high", "top"])[grade], ["low", "mid", "high", "top"], True
            ),
            "sold": pd.Timestamp("2019-03-01 07:30")
            + pd.to_timedelta(days * 86400 + 3600 * rng.integers(0, 24, n), "s"),
            "seen": [f"{1 + d % 28:02d}.{1 + d % 12:02d}.{1990 + d % 30}" for d in days],
            "far": 1e9 + rng.integers(0, 1000, n),
            "open": rng.random(n) < 0.5,
        }
    )
    table["town"] = table["town"].replace("", None)
    return table, y + 5.0 * gap


def later_rows(n=1000, seed=1):
    """Rows with gaps, unseen levels and values beyond the range where there were none."""
    table, _ = rows_of(n, seed)
    rng = np.random.default_rng(seed + 100)
    for name in ("size", "firm", "sold", "seen", "street", "far"):
        table[name] = table[name].astype(object).where(rng.random(n) > 0.05, None)
    table["size"] = table["size"].astype(float) * np.where(rng.random(n) < 0.02, 1e4, 1.0)
    table["grade"] = table["grade"].astype(object).where(rng.random(n) > 0.05, "unknown")
    table["town"] = table["town"].where(rng.random(n) > 0.05, "Wien")
    table["firm"] = table["firm"].astype(float).where(rng.random(n) > 0.05, 2000.0)
    table["far"] = table["far"].astype(float)
    table["sold"] = pd.to_datetime(table["sold"])
    return table


@cache
def mixed(without=(), **options):
    """A population of 6 networks and a wide one for the table, but for some columns."""
    table, y = rows_of(600)
    return networks_for(table.drop(columns=list(without)), y, **options)


def networks_for(table, y, **options):
    """Such a population for a table."""
    return drawn_for(read(table, y, target="price")[0], **options)


def drawn_for(reading, n_outputs=1, **options):
    """6 random networks and a wide one for a reading. options: of `draw`."""
    inputs = len(reading.inputs)
    layout = Layout(inputs, 2, 8, n_outputs)

    def stack(n, seed, **more):
        networks = draw(n, seed, inputs=inputs, layout=layout, min_width=1, **(options | more))
        fan = networks.specs.mask.sum(2, keepdim=True).clamp(min=1)
        return Networks(networks.specs, networks.weight * (2 / fan) ** 0.5)

    networks = stack(6, 2, sparse_share=0.5, bias_share=0.5)
    return Population(reading, networks, torch.zeros(6), stack(4, 3), {"seed": 0})


def numbers(n=300, columns=5, seed=0):
    """A table of plain numbers, and such a population for it."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, columns))
    return X, networks_for(X, X @ np.arange(1.0, columns + 1) + np.sin(3 * X[:, 0]) * X[:, 1])


def without_edges(population, *inputs):
    """The same, but no network reads some of the inputs."""

    def cut(stack):
        weight, mask = stack.weight.clone(), stack.specs.mask.clone()
        for i in inputs:
            weight[:, :, 1 + i], mask[:, :, 1 + i] = 0.0, False
        return Networks(replace(stack.specs, mask=mask), weight)

    return replace(population, networks=cut(population.networks), wide=cut(population.wide))


# Names of columns and levels that a page must not take for its own
NAMES = ("</script><script>alert(1)</script>", "<!-- a", "a&amp;b", '"quoted"', "größe\n", "\u2028", "{{DATA}}")


def with_intervals(population, seed=0):
    """The same with random intervals for its wide network, whose scale differs by row and is cut on both sides."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    shape = population.wide.weight[:, population.wide.layout.outputs].shape
    output = 0.2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    bounds = np.tile([-0.8, 0.6], (shape[1], 1))
    intervals = Intervals(output, bounds, np.sort(rng.normal(size=(shape[1], len(LEVELS)))))
    return replace(population, intervals=intervals)


def odd_rows_first():
    """Later rows, one of each kind first: unseen levels, a code and a stand-in, gaps, values beyond the range."""
    rows = later_rows(400)
    odd = [rows["grade"] == "unknown", rows["town"] == "Wien", rows["firm"] == 2000.0, rows["stand"] == -999.0]
    odd += [rows[name].isna() for name in ("size", "age, in years", "sold", "seen", "street")] + [rows["size"] > 1e3]
    first = [int(np.flatnonzero(one)[0]) for one in odd]
    return rows.loc[[*dict.fromkeys([*first, *range(len(rows))])]].reset_index(drop=True)


@cache
def table(name):
    """A population and rows for it."""
    if name == "flats":  # a real one
        flats = pd.read_csv("examples/flats.csv", sep=";", na_values="to ask").dropna(subset=["rent"])
        X, y = flats.drop(columns=["rent", "rent_cents"]), flats["rent"]
        new = X.index % 20 == 0
        return NetFormerRegressor(random_state=0).fit(X[~new], y[~new]).to_bundle(), X[new].reset_index(drop=True)
    if name == "numbers":
        X, population = numbers()
        return with_intervals(population), pd.DataFrame(2 * X[:50], columns=population.columns)
    if name == "jumps":
        population, rows = table("numbers")
        return with_trees(population, [some_trees(5, count=20, depth=5)], [0.6]), rows
    if name == "mixed":
        return with_intervals(mixed()), odd_rows_first()[:50]
    rng = np.random.default_rng(0)
    written = [f"{x:.2f}".replace(".", ",") for x in 1000 * rng.uniform(size=200)]
    written[3::40] = ["to ask"] * 5  # a word for a gap
    levels = rng.choice([*NAMES, "b"], 200)
    cells = pd.DataFrame(
        {NAMES[0]: levels, NAMES[1]: written, "at": pd.date_range("2020-01-01", periods=200, freq="7h")}
    )
    later = pd.DataFrame(
        {
            NAMES[0]: [*NAMES, "b", "new", None],
            NAMES[1]: [*written[:7], "-1.234,5", "99999", None],
            "at": cells["at"][:10],
        }
    )
    later["at"] = later["at"] + pd.Timedelta(seconds=59)
    return with_intervals(networks_for(cells, rng.normal(size=200))), later


def cells(population, table):
    """Rows as every format without text takes them: numbers, seconds, positions; nan for a gap."""
    return population.to_torch(0).encode(table).numpy()


def positions(population, rows):
    """Rows as the script of a page takes them."""
    made = cells(population, rows).copy()
    for i, column in enumerate(population.reading.table):
        made[made[:, i] == -1, i] = len(column.levels)
    return made


def as_text(population, table):
    """Rows of numbers, seconds and texts, "" for a gap of a category."""
    encoded = cells(population, table).astype(object)
    for i, column in enumerate(population.reading.table):
        if column.kind == "category":
            encoded[:, i] = ["" if pd.isna(cell) else str(cell).strip() for cell in table[column.name]]
    return encoded


def by_name(population, table, real=np.float64):
    text = as_text(population, table)
    kinds = [object if column.kind == "category" else real for column in population.reading.table]
    return {name: text[:, [i]].astype(kinds[i]) for i, name in enumerate(population.columns)}
