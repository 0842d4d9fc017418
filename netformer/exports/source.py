"""Sources: a formula as the text of one C99 or Python file that needs nothing of this package."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from netformer.exports.formula import ALPHABET, EXACT_DIGITS, Formula, coded, decimal, fewest_characters, fewest_digits
from netformer.tables.reading import CUT, Reading

_WIDTH = 116  # of a line of numbers
PLAIN_C = 10_000  # bytes of a C file up to which its weights stand in it as decimal numbers
_C_KINDS = {
    "relu": "a < 0 ? 0 : a",
    "tanh": "tanh(a)",
    "sigmoid": "1 / (1 + exp(-a))",
    "gelu": "0.5 * a * (1 + erf(a * 0.70710678118654752))",
}
_MODULES = {"relu": "nn.ReLU()", "tanh": "nn.Tanh()", "sigmoid": "nn.Sigmoid()", "gelu": "nn.GELU()"}
_PYTHON_KINDS = {
    "identity": "lambda a: a",
    "relu": "lambda a: max(a, 0.0)",
    "tanh": "math.tanh",
    "sigmoid": "lambda a: 0.5 + 0.5 * math.tanh(0.5 * a)",
    "gelu": "lambda a: 0.5 * a * (1.0 + math.erf(a * 0.5**0.5))",
}


def c_source(formula: Formula) -> str:
    """One C99 file: `double predict(const double x[N])`, no allocation, no state, only <math.h>.

    Arithmetic is in double, since float could not hold a raw column far from 0. Weights are stored as float where that
    changes no answer by more than `formula.TOLERANCE`, with no more digits than that takes. A file that would be
    larger than PLAIN_C has them as text instead, a few characters each, as precise.
    """
    digits, single = fewest_digits(formula)
    values, real = _c_values(formula), "float" if single else "double"
    plain = _c_file(formula, len(values), _c_array(real, "weights", values, digits), "weights[{}]")
    code = fewest_characters(formula) if len(plain) > PLAIN_C else None
    if code is None:
        return plain
    return min(plain, _c_file(formula, len(values), _c_coded(values, *code), "weight({})"), key=len)


def _c_values(formula: Formula) -> list[float]:
    """All weights as `_c_file` reads them: bias, skip, then of each body its layers, unit by unit, and its head."""
    values = [formula.bias, *(formula.skip if formula.skip.any() else [])]
    for body, head in zip(formula.bodies, formula.heads, strict=True):
        for layer in body:
            values += np.column_stack([layer.bias, layer.weight]).ravel().tolist()
        values += head.tolist()
    return values


def _c_coded(values: Sequence[float], count: int, step: float) -> list[str]:
    """The weights as strings, none longer than a C compiler must take, and the function that reads one."""
    row, base = _WIDTH // count, len(ALPHABET)
    text = "".join(coded(value, count, step) for value in values)
    rows = [text[at : at + row * count] for at in range(0, len(text), row * count)]
    return [
        f"/* {count} characters a weight, base {base}, counting steps of {step:.9g} */",
        f"static const char weights[{len(rows)}][{row * count + 1}] = {{",
        *(f'"{part}",' for part in rows),
        "};",
        "static double weight(int i) {",
        f"    const char *text = weights[i / {row}] + {count} * (i % {row});",
        "    double k = 0;",
        f"    for (int j = 0; j < {count}; j++) k = {base} * k + text[j] - 35 - (text[j] > 63) - (text[j] > 92);",
        f"    return (k - {(base**count - 1) // 2}.0) * {step:.9g};",
        "}",
    ]


def _c_file(formula: Formula, n_values: int, weights: Sequence[str], read: str) -> str:
    """weights: the lines that hold them. read: the expression for weight number {}."""
    n, deepest = len(formula.reading.columns), max(len(body) for body in formula.bodies)
    width = max(len(layer.bias) for body in formula.bodies for layer in body)
    calls = [f"    p = dot(p, {n}, z, &y); /* straight from the columns */"] if formula.skip.any() else []
    for body, head in zip(formula.bodies, formula.heads, strict=True):
        source = "z"
        for number, layer in enumerate(body):
            kind, out = formula.activations.index(layer.activation), "ab"[number % 2]
            units, inputs = layer.weight.shape
            calls.append(f"    p = layer(p, {kind}, {inputs}, {units}, {source}, {out}); /* {layer.activation} */")
            source = out
        calls.append(f"    p = dot(p, {len(head)}, {source}, &y);")
    kinds = [
        f"        case {kind}: a = {_C_KINDS[name]}; break;"
        for kind, name in enumerate(formula.activations)
        if name in _C_KINDS
    ]
    names = [f" * x[{i}]: {_comment(name)}" for i, name in enumerate(formula.reading.columns)]
    lines = [
        f"/* {_comment(formula.reading.target)}, predicted by a NetFormer network of {n_values} weights; C99, -lm.",
        " * double predict(const double x[]) reads raw columns and answers in units of the target:",
        *names,
        " */",
        "#include <math.h>",
        "",
        *weights,
        *_c_array("double", "center", formula.reading.center, EXACT_DIGITS),
        *_c_array("double", "scale", formula.reading.scale, EXACT_DIGITS),
        "",
        "/* y += weights . x; p: the first of its weights, returned: the first of the next ones */",
        "static int dot(int p, int n, const double *x, double *y) {",
        f"    for (int i = 0; i < n; i++) *y += {read.format('p++')} * x[i];",
        "    return p;",
        "}",
        "",
        "/* h = activation(bias + weights . x), a unit after the other: its bias, its weights */",
        "static int layer(int p, int kind, int inputs, int units, const double *x, double *h) {",
        "    for (int u = 0; u < units; u++) {",
        f"        double a = {read.format('p++')};",
        "        p = dot(p, inputs, x, &a);",
        "        switch (kind) {",
        *kinds,
        "        default: break;",
        "        }",
        "        h[u] = a;",
        "    }",
        "    return p;",
        "}",
        "",
        f"double predict(const double x[{n}]) {{",
        f"    double z[{n}], a[{width}]{f', b[{width}]' if deepest > 1 else ''};",
        f"    for (int i = 0; i < {n}; i++) {{",
        "        double s = (x[i] - center[i]) / scale[i];",
        f"        z[i] = s < -{CUT:g} ? -{CUT:g} : s > {CUT:g} ? {CUT:g} : s;",
        "    }",
        f"    double y = {read.format('0')};",
        "    int p = 1;",
        *calls,
        "    (void)p;",
        f"    return y * {_double(formula.reading.target_scale)} + {_double(formula.reading.target_center)};",
        "}",
    ]
    return "\n".join(lines) + "\n"


def python_source(formula: Formula) -> str:
    """One Python file of the standard library alone: `predict(rows)`, a list of floats for rows of raw columns."""
    bodies = []
    for body, head in zip(formula.bodies, formula.heads, strict=True):
        layers = [f"({layer.activation!r}, {_literal(np.column_stack([layer.bias, layer.weight]))})" for layer in body]
        bodies.append(f"    ([{', '.join(layers)}], {_literal(head)}),")
    kinds = [f"    {name!r}: {_PYTHON_KINDS[name]}," for name in formula.activations]
    return "\n".join(
        [
            '"""A network written by NetFormer: raw columns in, units of the target out. It needs Python alone."""',
            "",
            "import math",
            "",
            *_constants(formula.reading),
            f"SKIP, BIAS = {_literal(formula.skip)}, {_number(formula.bias)}",
            "BODIES = [  # ([(activation, [[bias, weight, ...] of each unit]) of each layer], output weights)",
            *bodies,
            "]",
            "ACTIVATIONS = {",
            *kinds,
            "}",
            "",
            "",
            "def predict(rows):",
            '    """A float for each row; a row holds one number for each of COLUMNS."""',
            "    return [_predict(row) for row in rows]",
            "",
            "",
            "def _predict(row):",
            "    if len(row) != len(COLUMNS):",
            '        raise ValueError(f"a row must hold {len(COLUMNS)} numbers, got {len(row)}")',
            "    z = [(float(v) - c) / s for v, c, s in zip(row, CENTER, SCALE)]",
            f"    z = [min(max(v, -{CUT:g}), {CUT:g}) for v in z]",
            "    y = BIAS + sum(w * v for w, v in zip(SKIP, z))",
            "    for layers, head in BODIES:",
            "        h = z",
            "        for name, units in layers:",
            "            activate = ACTIVATIONS[name]",
            "            h = [activate(unit[0] + sum(w * v for w, v in zip(unit[1:], h))) for unit in units]",
            "        y += sum(w * v for w, v in zip(head, h))",
            "    return y * TARGET_SCALE + TARGET_CENTER",
            "",
        ]
    )


def torch_source(formula: Formula) -> str:
    """One Python file with the network as `nn.Module` in float64: raw columns (rows, features) to (rows, 1).

    Its weights are parameters, ready for more training; center and scale are buffers. `load()` makes one.
    """
    bodies = []
    for body in formula.bodies:
        bodies.append("                nn.Sequential(")
        for layer in body:
            bodies.append(f"                    _linear({_literal(layer.weight)}, {_literal(layer.bias)}),")
            if layer.activation in _MODULES:
                bodies.append(f"                    {_MODULES[layer.activation]},")
        bodies.append("                ),")
    return "\n".join(
        [
            '"""A network written by NetFormer, for PyTorch: raw columns in, units of the target out."""',
            "",
            "import torch",
            "from torch import nn",
            "",
            *_constants(formula.reading),
            "",
            "",
            "def load():",
            '    """The network, a `Network` in eval mode."""',
            "    return Network().eval()",
            "",
            "",
            "def _tensor(values):",
            "    return torch.tensor(values, dtype=torch.float64)",
            "",
            "",
            "def _linear(weight, bias):",
            "    weight, bias = _tensor(weight), _tensor(bias)",
            "    linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)",
            "    linear.weight, linear.bias = nn.Parameter(weight), nn.Parameter(bias)",
            "    return linear",
            "",
            "",
            "class Network(nn.Module):",
            '    """x (rows, features) as in COLUMNS -> (rows, 1)."""',
            "",
            "    def __init__(self):",
            "        super().__init__()",
            '        self.register_buffer("center", _tensor(CENTER))',
            '        self.register_buffer("scale", _tensor(SCALE))',
            "        self.bodies = nn.ModuleList(",
            "            [",
            *bodies,
            "            ]",
            "        )",
            f"        self.head = nn.Parameter(_tensor({_literal(np.concatenate(formula.heads))}))",
            f"        self.skip = nn.Parameter(_tensor({_literal(formula.skip)}))",
            f"        self.bias = nn.Parameter(_tensor({_number(formula.bias)}))",
            "",
            "    def forward(self, x):",
            "        z = (x.to(self.center.dtype) - self.center) / self.scale",
            f"        z = z.clamp(-{CUT:g}, {CUT:g})",
            "        h = torch.cat([body(z) for body in self.bodies], 1)",
            "        y = h @ self.head + z @ self.skip + self.bias",
            "        return (y * TARGET_SCALE + TARGET_CENTER).unsqueeze(1)",
            "",
        ]
    )


def sklearn_source(regressor: Any, reading: Reading) -> str:
    """One Python file whose `load()` makes this fitted `MLPRegressor` again, on raw columns within LOW and HIGH."""

    def arrays(values: Iterable[np.ndarray]) -> list[str]:
        return [f"        np.array({_literal(v, EXACT_DIGITS)})," for v in values]

    return "\n".join(
        [
            '"""A network written by NetFormer, for scikit-learn: raw columns in, units of the target out.',
            "",
            "It was made for rows within LOW and HIGH; give it np.clip(X, LOW, HIGH).",
            '"""',
            "",
            "import numpy as np",
            "from sklearn.neural_network import MLPRegressor",
            "",
            f"COLUMNS = {list(reading.columns)!a}",
            f"TARGET = {reading.target!a}",
            f"LOW = np.array({_literal(reading.low, EXACT_DIGITS)})",
            f"HIGH = np.array({_literal(reading.high, EXACT_DIGITS)})",
            "",
            "",
            "def load():",
            '    """The fitted `MLPRegressor`."""',
            f"    sizes, activation = {tuple(regressor.hidden_layer_sizes)!r}, {regressor.activation!r}",
            "    regressor = MLPRegressor(hidden_layer_sizes=sizes, activation=activation)",
            "    regressor.coefs_ = [",
            *arrays(regressor.coefs_),
            "    ]",
            "    regressor.intercepts_ = [",
            *arrays(regressor.intercepts_),
            "    ]",
            "    regressor.n_features_in_, regressor.n_outputs_ = len(COLUMNS), 1",
            "    regressor.n_layers_, regressor.out_activation_ = len(regressor.coefs_) + 1, 'identity'",
            "    # What an optimiser would have left: partial_fit continues from here.",
            "    regressor.n_iter_, regressor.t_, regressor.loss_, regressor.best_loss_ = 0, 0, np.inf, np.inf",
            "    regressor.loss_curve_, regressor._no_improvement_count = [], 0",
            "    regressor.validation_scores_ = regressor.best_validation_score_ = None",
            "    return regressor",
            "",
        ]
    )


def _constants(reading: Reading) -> list[str]:
    return [
        f"COLUMNS = {list(reading.columns)!a}",
        f"TARGET = {reading.target!a}",
        f"CENTER = {_literal(reading.center, EXACT_DIGITS)}",
        f"SCALE = {_literal(reading.scale, EXACT_DIGITS)}",
        f"TARGET_CENTER, TARGET_SCALE = {_double(reading.target_center)}, {_double(reading.target_scale)}",
    ]


def _number(value: float) -> str:
    return repr(float(f"{value:.9g}"))


def _literal(values: np.ndarray, digits: int = 9) -> str:
    """A list, or a list of lists, of floats; 9 digits keep what float32 holds."""
    if values.ndim > 1:
        return f"[{', '.join(_literal(row, digits) for row in values)}]"
    texts = (decimal(value, digits) for value in values)
    return f"[{', '.join(t if '.' in t or 'e' in t else t + '.' for t in texts)}]"


def _double(value: float) -> str:
    """A literal of C and of Python that is no integer."""
    return repr(float(value))


def _c_array(real: str, name: str, values: Sequence[float] | np.ndarray, digits: int) -> list[str]:
    """Lines of numbers, a comma between them and no blanks."""
    lines = [""]
    for text in (decimal(value, digits) for value in values):
        if len(lines[-1]) + len(text) > _WIDTH:
            lines.append("")
        lines[-1] += text + ","
    return [f"static const {real} {name}[{len(values)}] = {{", *lines, "};"]


def _comment(name: str) -> str:
    """A name that can neither end nor continue a C comment: ASCII, on one line, no trigraph."""
    plain = re.sub(r"[\x00-\x1f\x7f]", " ", name).encode("ascii", "backslashreplace").decode()
    return re.sub(r"\?(?=\?)", "? ", re.sub(r"(?<=[*/])(?=[*/])", " ", plain))
