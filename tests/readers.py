"""Readers of every exported format: rows in, answers out."""

import ctypes
import importlib.util
import itertools
import json
import math
import re
import shutil
import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from netformer.sources.web import NETWORK

COUNT = itertools.count()
FUNCTIONS = {
    "identity": lambda a: a,
    "relu": lambda a: np.maximum(a, 0),
    "tanh": np.tanh,
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "gelu": lambda a: 0.5 * a * (1 + np.vectorize(math.erf)(a / math.sqrt(2))),
    "step": lambda a: (a > 0) * 1.0,
}


def imported(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STRICT = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2"]


def library(path):
    """A C file as a shared library, with the types of its functions."""
    made = path.with_suffix(f".{next(COUNT)}.so")  # under a name it has seen the loader answers with what it has
    subprocess.run([*STRICT, "-fPIC", "-shared", str(path), "-o", str(made), "-lm"], check=True)
    loaded, row = ctypes.CDLL(str(made)), ctypes.POINTER(ctypes.c_double)
    classes = "int predict(" in path.read_text()
    loaded.predict.restype, loaded.predict.argtypes = (
        (ctypes.c_int, [row, row]) if classes else (ctypes.c_double, [row])
    )
    if hasattr(loaded, "predict_quantile"):
        loaded.predict_quantile.restype, loaded.predict_quantile.argtypes = ctypes.c_double, [row, ctypes.c_double]
    return loaded


def compiled(path):
    return library(path).predict


def program(path):
    """The program of a C file and the reader beside it."""
    made = path.with_suffix(f".{next(COUNT)}")
    beside = path.with_name(f"{path.stem}_csv.c")
    subprocess.run([*STRICT, str(path), str(beside), "-o", str(made), "-lm"], check=True)
    return made


def answers_of_c(path, X):
    predict = compiled(path)
    pointer = ctypes.POINTER(ctypes.c_double)
    return np.array([predict(np.ascontiguousarray(row).ctypes.data_as(pointer)) for row in X])


def answers_of_json(path, X):
    """The schema's own description of what to compute. X: rows of cells: numbers, seconds, text."""
    d = json.loads(path.read_text())
    one = {"bias": d["bias"], "skip": d["skip"], "heads": [body["head"] for body in d["bodies"]]}
    (y,) = outputs_of_json(d, [one], X)
    return y * d["target"]["scale"] + d["target"]["center"]


def outputs_of_json(d, outputs, X):
    """y of each of these outputs."""
    z = np.array([[cell_of_json(d, one, row[one["column"]]) for one in d["inputs"]] for row in X])
    y = [one["bias"] + z @ one["skip"] for one in outputs]
    for number, body in enumerate(d["bodies"]):
        h = z
        for layer in body["layers"]:
            h = FUNCTIONS[layer["activation"]](layer["bias"] + h @ np.array(layer["weight"]).T)
        y = [before + h @ one["heads"][number] for before, one in zip(y, outputs, strict=True)]
    return y


def classes_of_json(path, X):
    """Labels, probabilities and classes."""
    d = json.loads(path.read_text())
    assert d["version"] == 3
    y, classes = np.array(outputs_of_json(d, d["outputs"], X)), d["target"]["classes"]
    if len(classes) == 2:
        shares = np.stack([1 / (1 + np.exp(y[0])), 1 / (1 + np.exp(-y[0]))])
    else:
        shares = np.exp(y) / np.exp(y).sum(0)
    return [classes[k] for k in shares.argmax(0)], shares.T, classes


def cell_of_json(d, one, cell):
    column, part = d["columns"][one["column"]], one["part"]
    if column["kind"] == "category":
        return one["values"][column["levels"].index(cell) if cell in column["levels"] else -1]
    gap = cell in column.get("words", []) or math.isnan(cell) or cell in column.get("gaps", [])
    if part == "missing":
        return one["values"][gap]
    if part == "code":
        return one["values"][one["levels"].index(cell) if cell in one["levels"] else -1]
    x = column["fill"] if gap else cell
    if part in ("sin", "cos"):
        x = getattr(math, part)(2 * math.pi * x / one["period"])
    r = min(max((x - one["center"]) / one["scale"], one["low"]), one["high"])
    return (r / math.hypot(1, r / d["squash"]) - one["shift"]) / one["spread"]


def answers_of_onnx(path, X):
    """X: an array, or arrays (rows, 1) by name."""
    model = onnx.load(str(path))
    text = isinstance(X, dict) and any(cells.dtype == object for cells in X.values())
    assert {o.domain: o.version for o in model.opset_import} == {"": 17} | ({"ai.onnx.ml": 3} if text else {})
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    cells = X if isinstance(X, dict) else {"x": X}
    (y,) = session.run(["y"], cells)
    assert y.shape == (len(next(iter(cells.values()))), 1)
    assert y.dtype == np.float64
    return y[:, 0]


def answers_of_torch(path, X):
    with torch.no_grad():
        y = imported(path).load()(torch.from_numpy(X))
    assert y.shape == (len(X), 1)
    return y[:, 0].numpy()


NODE = r"""
const fs = require("fs"), { rows, pages } = JSON.parse(fs.readFileSync(0)), code = fs.readFileSync("NETWORK", "utf8");
require("vm").runInThisContext(code + ";globalThis.network = network; globalThis.numberOf = numberOf");
const cell = x => (x === null ? NaN : x);
process.stdout.write(JSON.stringify(pages.map(page => CALL)));
"""


def in_node(call, pages=(), rows=()):
    """What an expression of JavaScript says of each page; it knows `page`, the data of a page, `net`, its network, and
    `rows`, of numbers, nan for a gap. Skips the test where there is no Node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node.js here to run the page's script")
    code = NODE.replace("NETWORK", str(NETWORK)).replace("CALL", f"((net) => {call})(page.columns && network(page))")
    cells = [[None if math.isnan(x) else x for x in row] for row in np.asarray(rows, dtype=np.float64).tolist()]
    sent = json.dumps({"rows": cells, "pages": list(pages)})
    done = subprocess.run([node, "-e", code], input=sent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def data_of(page):
    """The data in a page. page: its text, or its path."""
    text = page if isinstance(page, str) else page.read_text()
    return json.loads(re.search(r'<script type="application/json" id="data">(.*)</script>', text)[1])


def answers_of_html(path, X):
    (answers,) = in_node("rows.map(row => net.answer(row.map(cell)).prediction)", [data_of(path)], X)
    return np.array(answers)


ANSWERS = {
    "onnx": answers_of_onnx,
    "onnx32": lambda path, X: answers_of_onnx(path, X.astype(np.float32)),
    "torch": answers_of_torch,
    "sklearn": lambda path, X: imported(path).load().predict(X),
    "json": answers_of_json,
    "c": answers_of_c,
    "numpy": lambda path, X: np.array(imported(path).predict(X)),
    "html": answers_of_html,
}


SUFFIX = {"onnx": "onnx", "onnx32": "onnx", "json": "json", "c": "c", "html": "html"}
