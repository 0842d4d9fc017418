"""Shared by tests of the command line: a run of it, a small model for the package's, tables with one flaw each."""

from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import make_friedman1
from typer.testing import CliRunner

from netformer.cli.app import app
from netformer.generation import fitted
from netformer.generation.generator import NetFormer
from netformer.model.vae import TransformerVAE
from netformer.tasks.metafeatures import MetaFeatureTransform

TINY = {"max_features": 8, "max_hidden_layers": 2, "max_width": 6, "n_metafeatures": 37, "d_model": 16, "n_heads": 2}


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"NO_COLOR": "1"}, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def refused(*arguments):
    """The one line of stderr."""
    result = run(*arguments, code=2)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr


@contextmanager
def small_model():
    """An untrained model of few numbers, which writes in milliseconds, in place of the package's."""
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        model = TransformerVAE.from_arguments(d_vertex=2, d_row=16, condition="task", **TINY).eval()
        patch.setattr(fitted, "_package", lambda in_torch: NetFormer(model, MetaFeatureTransform((0.0,), (1.0,))))
        yield


def write_tables(path):
    """t.csv, t.tsv, t.parquet: one table; nets: networks written for it; other tables have one flaw each."""
    X, y = make_friedman1(120, n_features=5, noise=0.5, random_state=0)
    table = pd.DataFrame(X, columns=list("abcde")).assign(price=y)
    table.to_csv(path / "t.csv", index=False)
    table.to_csv(path / "t.tsv", index=False, sep="\t")
    table.to_parquet(path / "t.parquet")
    table.assign(city="Rome").to_csv(path / "text.csv", index=False)
    table.assign(a="low", b="x", c="y", d="z", e="w").to_csv(path / "one_level.csv", index=False)
    table[["price"]].assign(who=[f"person {i}" for i in range(120)]).to_csv(path / "names.csv", index=False)
    table.assign(b=table["b"].where(table.index != 6, np.inf)).to_csv(path / "endless.csv", index=False)
    table.assign(price="cheap").to_csv(path / "text_target.csv", index=False)
    table.assign(price=["sold" if i % 4 == 3 else i for i in range(120)]).to_csv(path / "mixed_target.csv", index=False)
    table.assign(price=[f"flat {i}" for i in range(120)]).to_csv(path / "unique_target.csv", index=False)
    table.assign(price=pd.date_range("2020-01-01", periods=120)).to_csv(path / "date_target.csv", index=False)
    table.assign(price=np.nan).to_csv(path / "empty_target.csv", index=False)
    table.assign(price=1.0).to_csv(path / "constant.csv", index=False)
    table.assign(b=table["b"].where(table.index > 4)).to_csv(path / "gaps.csv", index=False)
    table.assign(price=table["price"].where(table.index > 2)).to_csv(path / "no_target.csv", index=False)
    table.head(9).to_csv(path / "small.csv", index=False)
    (path / "twice.csv").write_text((path / "t.csv").read_text().replace("a,b", "a,a", 1))
    (path / "latin.csv").write_bytes("größe,price\n1,2\n".encode("latin-1"))
    (path / "colon.csv").write_text((path / "t.csv").read_text().replace(",", ":"))
    (path / "nothing.csv").write_text("")
    run("generate", path / "t.csv", "-t", "price", "-n", 4, "--beside", "ridge", "--out", path / "nets", "--quiet")


def dirty_table(n=200):
    """Flats with everything that a table has in practice: text, gaps, dates, money, percent, ?, -999, a cell that is no
    number, an id, a constant, a copy, and `cents`, which gives the target away. Numbers have a decimal comma."""
    rng = np.random.default_rng(5)
    area, share, built = rng.uniform(20, 120, n), rng.uniform(0, 9, n), rng.integers(1900, 2020, n)
    towns = np.array([f"town {i:02d}" for i in range(14)])
    town, heat = rng.integers(14, size=n), rng.choice(["gas", "oil", "wood"], n)
    day = pd.Timestamp("2021-03-01") + pd.to_timedelta(rng.integers(0, 1200, n), "D")
    rent = 200 + 9 * area + 40 * np.cos(town) * (1 + (heat == "oil")) + 3 * share + rng.normal(size=n)
    made = {
        "id": np.arange(500, 500 + n),
        "area": [f"{value:.1f}".replace(".", ",") for value in area],
        "town": towns[town],
        "heat": pd.Series(heat).where(rng.random(n) > 0.1),
        "built": np.where(rng.random(n) < 0.08, -999, built),
        "since": day.strftime("%d.%m.%Y"),
        "costs": [f"{1000 + 9 * value:,.2f} €".translate(str.maketrans(",.", ".,")) for value in area],
        "share": [f"{value:.1f} %".replace(".", ",") for value in share],
        "land": "DE",
        "place": towns[town],
        "cents": np.round(100 * rent).astype(int),
        "rent": [f"{value:.2f} €".replace(".", ",") for value in rent],
    }
    table = pd.DataFrame(made)
    table.loc[[3, 50, 51], "costs"] = "?"
    table.loc[[n - 1, 7], "area"] = ["on request", None]
    return table
