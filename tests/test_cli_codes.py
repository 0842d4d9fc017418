"""Exit codes of every command: 0 done; 2 bad input, one line and nothing written; 1 a fault; 130 interrupted."""

import sys

import pandas as pd
import pytest
from commands import refused, run
from typer.testing import CliRunner

from netformer.cli.app import app
from netformer.cli.console import Talk

pytestmark = pytest.mark.usefixtures("small_package")
COMMANDS = [command.callback.__name__ for command in app.registered_commands]
GOOD = {
    "generate": ("{tables}/t.csv", "-t", "price", "-n", 2, "--out", "{out}/nets", "--report", "{out}/page.html"),
    "inspect": ("{tables}/nets", "--draw", "{out}/nets.svg"),
    "predict": ("{tables}/nets", "{tables}/t.csv", "--out", "{out}/p.csv", "--interval", 0.9),
    "export": ("{tables}/nets", "--format", "onnx", "--format", "sklearn", "--format", "c", "--out", "{out}/e"),
    "evaluate": ("{tables}/t.csv", "-t", "price", "-n", 1),
    "search": (
        *("{tables}/t.csv", "-t", "price", "--evaluations", 20, "--population", 10),
        *("--out", "{out}/front", "--report", "{out}/front.html"),
    ),
    "info": (),
}
BAD = {  # what comes instead of the options of GOOD, and what the line says
    "generate": [
        (("{tables}/absent.csv", "-t", "price", "--out", "{out}/nets"), "no such file"),
        (("{tables}/t.csv", "-t", "price", "--out", "{out}/nets", "--model", "{tables}/no"), "{tables}/no"),
        (("{tables}/t.csv", "-t", "price", "--out", "{out}/a", "--report", "{out}/a.txt"), "must end in .html"),
    ],
    "inspect": [
        (("{tables}/absent",), "no such folder of networks"),
        (("{tables}/nets", "--which", 9, "--draw", "{out}/a.svg"), "--which must be"),
        (("{tables}/nets", "--draw", "{out}/a.png"), "must end in .svg"),
    ],
    "predict": [
        (("{tables}/nets", "{tables}/names.csv", "--out", "{out}/p.csv"), "the table lacks"),
        (("{tables}/nets", "{tables}/t.csv", "--out", "{out}/p.csv", "--interval", 2), "coverage must be"),
        (("{tables}/nets", "{tables}/t.csv", "--out", "{out}/p.xls"), "must end in .csv"),
    ],
    "export": [
        (("{tables}/absent", "--format", "c", "--out", "{out}/e"), "no such folder of networks"),
        (("{tables}/nets", "--format", "pickle", "--out", "{out}/e"), "'pickle' is not one of"),
        (("{tables}/nets", "--format", "c", "--which", "best", "--out", "{out}/e"), "--which must be"),
    ],
    "evaluate": [
        (("{tables}/t.csv", "-t", "prize"), "did you mean 'price'?"),
        (("{tables}/t.csv", "{tables}/small.csv", "-t", "price"), "needs at least 10 rows"),
    ],
    "search": [
        (("{tables}/t.csv", "-t", "price", "--objectives", "beauty", "--out", "{out}/front"), "'beauty'"),
        (("{tables}/t.csv", "-t", "price", "--evaluations", 0, "--out", "{out}/front"), "evaluations"),
        (("{tables}/t.csv", "-t", "price", "--max-params", 1, "--out", "{out}/front"), "max_params"),
        (("{tables}/t.csv", "-t", "price", "--report", "{out}/front.txt"), "must end in .html"),
    ],
    "info": [(("--model", "{tables}/absent"), "absent")],
}
# What a command needs beside the package's own dependencies: the module, and the options that need it.
OPTIONAL = [
    ("onnx", "export", ("{tables}/nets", "--format", "c", "--format", "onnx", "--out", "{out}/e")),
    ("onnx", "export", ("{tables}/nets", "--format", "onnx32", "--out", "{out}/e")),
    ("openpyxl", "generate", ("{out}/t.xlsx", "-t", "price", "--out", "{out}/nets")),
    ("openpyxl", "evaluate", ("{out}/t.xlsx", "-t", "price")),
    ("openpyxl", "predict", ("{tables}/nets", "{out}/t.xlsx", "--out", "{out}/p.csv")),
]


def filled(options, folder, tmp_path):
    return [str(one).format(tables=folder, out=tmp_path) for one in options]


def test_every_command_is_here():
    assert sorted(GOOD) == sorted(BAD) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_done_is_0(folder, tmp_path, command):
    run(command, *filled(GOOD[command], folder, tmp_path))
    outputs = [one for one in map(str, GOOD[command]) if one.startswith("{out}/")]
    assert len(list(tmp_path.iterdir())) == len(outputs)


@pytest.mark.parametrize(("command", "options", "text"), [(c, *bad) for c, every in BAD.items() for bad in every])
def test_bad_input_is_2_and_one_line_and_nothing_written(folder, tmp_path, command, options, text):
    message = refused(command, *filled(options, folder, tmp_path))
    assert message.startswith("netformer: ")
    assert text.format(tables=folder) in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_use_is_2(command):
    assert "No such option" in refused(command, "--colour", "red")


@pytest.mark.parametrize(("module", "command", "options"), OPTIONAL)
def test_a_package_that_is_not_installed_is_2(folder, tmp_path, monkeypatch, module, command, options):
    pd.DataFrame({"price": [1.0]}).to_excel(tmp_path / "t.xlsx", index=False)
    monkeypatch.setitem(sys.modules, module, None)
    assert f"pip install {module}" in refused(command, *filled(options, folder, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["t.xlsx"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_fault_is_1_and_keeps_its_traceback_and_an_interruption_is_130(folder, tmp_path, monkeypatch, command):
    for raised, code in ((ZeroDivisionError("a fault"), 1), (KeyboardInterrupt(), 130)):

        def stop(*arguments, raised=raised):
            raise raised

        monkeypatch.setattr(Talk, "finish", stop)
        result = CliRunner().invoke(app, [command, *filled(GOOD[command], folder, tmp_path / str(code))])
        assert result.exit_code == code
        assert isinstance(result.exception, ZeroDivisionError) == (code == 1)
