"""Shared by tests of the command line: a run of it, a small model for the package's, tables with one flaw each."""

from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import make_friedman1
from typer.testing import CliRunner

from netformer.cli.app import app
from netformer.generation import estimator
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
        patch.setattr(estimator, "_package", lambda: NetFormer(model, MetaFeatureTransform((0.0,), (1.0,))))
        yield


def write_tables(path):
    """t.csv, t.tsv, t.parquet: one table; nets: networks written for it; other tables have one flaw each."""
    X, y = make_friedman1(120, n_features=5, noise=0.5, random_state=0)
    table = pd.DataFrame(X, columns=list("abcde")).assign(price=y)
    table.to_csv(path / "t.csv", index=False)
    table.to_csv(path / "t.tsv", index=False, sep="\t")
    table.to_parquet(path / "t.parquet")
    table.assign(city="Rome").to_csv(path / "text.csv", index=False)
    table.assign(a="low", b="x", c="y", d="z", e="w").to_csv(path / "only_text.csv", index=False)
    table.assign(price="cheap").to_csv(path / "text_target.csv", index=False)
    table.assign(price=1.0).to_csv(path / "constant.csv", index=False)
    table.assign(c=np.nan).to_csv(path / "empty_column.csv", index=False)
    table.assign(b=table["b"].where(table.index > 4)).to_csv(path / "gaps.csv", index=False)
    table.assign(price=table["price"].where(table.index > 2)).to_csv(path / "no_target.csv", index=False)
    table.head(9).to_csv(path / "small.csv", index=False)
    (path / "twice.csv").write_text((path / "t.csv").read_text().replace("a,b", "a,a", 1))
    (path / "latin.csv").write_bytes("größe,price\n1,2\n".encode("latin-1"))
    (path / "colon.csv").write_text((path / "t.csv").read_text().replace(",", ":"))
    (path / "nothing.csv").write_text("")
    run("generate", path / "t.csv", "--target", "price", "-n", 4, "--out", path / "nets", "--quiet")
