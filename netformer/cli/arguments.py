"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

TablePath = Annotated[
    Path, typer.Argument(metavar="TABLE", help="CSV, TSV, JSON, Parquet or Excel file; - is standard input.")
]
Target = Annotated[
    str, typer.Option("--target", "-t", help="Name of the column to predict; several numbers with commas between: a,b.")
]
Nets = Annotated[Path, typer.Argument(metavar="NETS", help="Folder that `generate --out` wrote.")]
Which = Annotated[str, typer.Option(help="wide (all networks merged), mean (of their answers), or the number of one.")]
Interval = Annotated[float | None, typer.Option(help="Also columns _low and _high; this share lies between them.")]
Columns = Annotated[str | None, typer.Option(help="Use these columns only, such as age,city.")]
Drop = Annotated[str | None, typer.Option(help="Leave these columns out, such as id,note.")]
Header = Annotated[bool, typer.Option("--header/--no-header", help="Text has column names; else they are x0, x1, ..")]
Encoding = Annotated[str | None, typer.Option(help="Of text; else UTF-8, or what its byte order mark says.")]
Separator = Annotated[str | None, typer.Option("--sep", help="Between columns of text, tab for a tab; else found out.")]
Sheet = Annotated[str | None, typer.Option(help="Of Excel: name or number; else the first that holds a table.")]
Format = StrEnum("Format", ["onnx", "onnx32", "torch", "sklearn", "json", "c", "numpy", "html"])
Refine = Annotated[int, typer.Option(help="Gradient steps for each network after it is written.")]
Count = Annotated[int, typer.Option("--n", "-n", help="Networks to write.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of the networks and of the rows held out.")]
Model = Annotated[
    Path | None,
    typer.Option(help="Folder of a model of your own, such as models/netformer."),
]
MinFrequency = Annotated[int, typer.Option(min=1, help="Rows of a level that the networks may hold; see privacy.")]
By = Annotated[str | None, typer.Option(help="A network per group: the column that names it, such as store.")]
Group = Annotated[str | None, typer.Option(help="Of networks by group: the name of one.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")]
GroupsOf = Annotated[
    str | None, typer.Option(help="Score on whole groups: rows that share a value of this column, which is not read.")
]
Times = Annotated[str | None, typer.Option("--time", help="Score on later rows, in the order of this column.")]
InOrder = Annotated[bool, typer.Option("--in-order", help="Score on later rows, the rows being in order of time.")]
Test = Annotated[Path | None, typer.Option(help="Score on the rows of this file, which has the target too.")]
Beside = Annotated[
    str | None,
    typer.Option(
        help="Learners scored too, of ridge (of classes: logistic),hgb,catboost,constant; else all that are installed."
    ),
]
TaskKind = StrEnum("TaskKind", ["auto", "classification", "regression"])
TaskOf = Annotated[
    TaskKind, typer.Option("--task", help="What the target is: classes or a number; auto decides by what it holds.")
]
