"""Readers of every exported format: rows in, answers out."""

import ctypes
import importlib.util
import itertools
import json
import math
import subprocess

import numpy as np
import onnx
import onnxruntime
import torch

COUNT = itertools.count()
FUNCTIONS = {
    "identity": lambda a: a,
    "relu": lambda a: np.maximum(a, 0),
    "tanh": np.tanh,
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "gelu": lambda a: 0.5 * a * (1 + np.vectorize(math.erf)(a / math.sqrt(2))),
}


def imported(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiled(path):
    library = path.with_suffix(f".{next(COUNT)}.so")  # under a name it has seen the loader answers with what it has
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2", "-fPIC", "-shared"]
    subprocess.run(["gcc", *strict, str(path), "-o", str(library), "-lm"], check=True)
    predict = ctypes.CDLL(str(library)).predict
    predict.restype, predict.argtypes = ctypes.c_double, [ctypes.POINTER(ctypes.c_double)]
    return predict


def answers_of_c(path, X):
    predict = compiled(path)
    pointer = ctypes.POINTER(ctypes.c_double)
    return np.array([predict(np.ascontiguousarray(row).ctypes.data_as(pointer)) for row in X])


def answers_of_json(path, X):
    """The schema's own description of what to compute."""
    d = json.loads(path.read_text())
    center, scale = (np.array([c[name] for c in d["columns"]]) for name in ("center", "scale"))
    z = np.clip((X - center) / scale, -d["limit"], d["limit"])
    y = d["bias"] + z @ d["skip"]
    for body in d["bodies"]:
        h = z
        for layer in body["layers"]:
            h = FUNCTIONS[layer["activation"]](layer["bias"] + h @ np.array(layer["weight"]).T)
        y = y + h @ body["head"]
    return y * d["target"]["scale"] + d["target"]["center"]


def answers_of_onnx(path, X):
    model = onnx.load(str(path))
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (y,) = session.run(["y"], {"x": X})
    assert y.shape == (len(X), 1)
    assert y.dtype == np.float64
    return y[:, 0]


def answers_of_torch(path, X):
    with torch.no_grad():
        y = imported(path).load()(torch.from_numpy(X))
    assert y.shape == (len(X), 1)
    return y[:, 0].numpy()


ANSWERS = {
    "onnx": answers_of_onnx,
    "torch": answers_of_torch,
    "sklearn": lambda path, X: imported(path).load().predict(np.clip(X, imported(path).LOW, imported(path).HIGH)),
    "json": answers_of_json,
    "c": answers_of_c,
    "numpy": lambda path, X: np.array(imported(path).predict(X)),
}


SUFFIX = {"onnx": "onnx", "json": "json", "c": "c"}
