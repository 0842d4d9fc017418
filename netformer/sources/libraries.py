"""Library sources: a formula as the text of one Python file for PyTorch."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import astuple
from functools import cache
from pathlib import Path

import numpy as np

from netformer import exports
from netformer.exports.formula import Formula, Spread
from netformer.exports.intervals import COVERAGE, ramps_of
from netformer.sources.digits import EXACT_DIGITS
from netformer.sources.literals import CELLS, ROWS, literal, number_text
from netformer.sources.python import answer_words, cell_lines, import_lines, name_lines, step_lines, unit_lines

_MODULES = {
    "relu": "nn.ReLU()",
    "tanh": "nn.Tanh()",
    "sigmoid": "nn.Sigmoid()",
    "gelu": "nn.GELU()",
    "step": "Step()",
}
_TORCH_STEP = [
    "class Step(nn.Module):",
    '    """1 where a > 0, else 0; its gradient is zero."""',
    "",
    "    def forward(self, a):",
    "        return (a > 0).to(a.dtype)",
    "",
    "",
]
_TORCH_CLASSES = [
    "    def _answer(self, z, h):",
    "        return self.classes(h @ self.head.T + z @ self.skip.T + self.bias)",
    "",
    "    def predict_proba(self, x):",
    '        """(rows, classes): the probability of each of CLASSES."""',
    "        return self(x).softmax(1)",
    "",
    "    def predict(self, x):",
    '        """A list with the label of the most probable class of each row."""',
    "        return self.classes.most_probable(self(x))",
]
_TORCH_NUMBERS = [
    "    def _answer(self, z, h):",
    "        y = h @ self.head + z @ self.skip + self.bias",
    "        return (y * TARGET_SCALE + TARGET_CENTER).unsqueeze(1)",
]
_TORCH_SEVERAL = [
    "    def _answer(self, z, h):",
    "        center, scale = _tensor(UNITS).to(z).T",
    "        return (h @ self.head.T + z @ self.skip.T + self.bias) * scale + center",
]
_TORCH_SEVERAL_INTERVALS = [
    "",
    "    def predict_quantiles(self, x, quantiles):",
    '        """(rows, targets, quantiles): for each row these quantiles of each target, numbers between 0 and 1."""',
    "        z, h = self._units(x)",
    "        logs = h @ self.scale_head.T + z @ self.scale_skip.T + self.scale_bias",
    "        off = torch.stack([one(logs[:, k], quantiles) for k, one in enumerate(self.quantiles)], 1)",
    "        return self._answer(z, h).unsqueeze(2) + off * _tensor(UNITS).to(z)[:, 1:]",
    "",
    f"    def predict_interval(self, x, coverage={COVERAGE}):",
    '        """(rows, targets, 2): low and high; each target lies between them with probability `coverage`."""',
    "        return self.predict_quantiles(x, [(1 - coverage) / 2, (1 + coverage) / 2])",
]
_TORCH_INTERVALS = [
    "",
    "    def predict_quantiles(self, x, quantiles):",
    '        """(rows, quantiles): for each row these quantiles of the target, numbers between 0 and 1."""',
    "        z, h = self._units(x)",
    "        log = h @ self.scale_head + z @ self.scale_skip + self.scale_bias",
    "        return self._answer(z, h) + self.quantiles(log, quantiles) * TARGET_SCALE",
    "",
    f"    def predict_interval(self, x, coverage={COVERAGE}):",
    '        """(rows, 2): low and high; the target lies between them with probability `coverage`."""',
    "        return self.predict_quantiles(x, [(1 - coverage) / 2, (1 + coverage) / 2])",
]


def torch_source(formula: Formula) -> str:
    """One Python file with the network as `nn.Module` in float64: rows as numbers (rows, columns) to (rows, 1), of
    several targets (rows, targets), or to logits (rows, classes), as `cross_entropy` reads them, with
    `predict_proba(x)` and `predict(x)` beside them.

    Its weights are parameters, ready for more training; what reads the columns, and what intervals are made of, are
    buffers. `load()` makes one, `encode(rows)` makes numbers of cells.
    """
    bodies = []
    for body in formula.bodies:
        bodies.append("                nn.Sequential(")
        for layer in body:
            bodies.append(f"                    _linear({literal(layer.weight)}, {literal(layer.bias)}),")
            if layer.activation in _MODULES:
                bodies.append(f"                    {_MODULES[layer.activation]},")
        bodies.append("                ),")
    classes, spreads, several = formula.reading.classes, formula.spreads, len(formula.reading.targets) > 1
    shape = "logits (rows, classes)" if classes else f"(rows, {'targets' if several else 1})"
    numbers = _TORCH_SEVERAL if several else _TORCH_NUMBERS
    intervals = _TORCH_SEVERAL_INTERVALS if several else _TORCH_INTERVALS
    trees = bool(formula.trees)
    return "\n".join(
        [
            '"""A network written by NetFormer, for PyTorch: rows as numbers in, '
            + ('logits of classes out."""' if classes else f'{answer_words(formula.reading)} out."""'),
            "",
            *import_lines(formula.reading),
            "",
            "import torch",
            "from torch import nn",
            "",
            *name_lines(formula.reading),
            *([f"CLASSES = {list(classes)!a}"] if classes else unit_lines(formula.reading)),
            *step_lines(formula.reading),
            "",
            "",
            "def load():",
            '    """The network, a `Network` in eval mode."""',
            "    return Network().eval()",
            "",
            "",
            "def encode(rows):",
            f'    """A tensor (rows, columns) for `Network`. rows: {ROWS};',
            f'    {CELLS}."""',
            "    return _tensor(list(numbers(rows)))",
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
            _class("Inputs"),
            "",
            *([_class("Quantiles"), ""] if spreads else []),
            *([_class("Leaves"), ""] if trees else []),
            *([_class("Classes"), ""] if classes else []),
            *(_TORCH_STEP if "step" in formula.activations else []),
            "class Network(nn.Module):",
            f'    """x (rows, columns) -> {shape}. A row holds a number for each of COLUMNS, nan for a gap: a date in',
            '    seconds since 1970 UTC, a category as the position of its level in LEVELS, -1 for any other."""',
            "",
            "    def __init__(self):",
            "        super().__init__()",
            "        self.inputs = Inputs(FILLS, GAPS_OF, STEPS)",
            "        self.bodies = nn.ModuleList(",
            "            [",
            *bodies,
            "            ]",
            "        )",
            *_torch_output(formula),
            *_torch_trees(formula),
            *_torch_scale(spreads),
            "    def forward(self, x):",
            "        return self._answer(*self._units(x))",
            "",
            "    def _units(self, x):",
            "        z = self.inputs(x)",
            "        return z, torch.cat([body(z) for body in self.bodies], 1)",
            "",
            *_torch_answer(_TORCH_CLASSES if classes else numbers, trees),
            *(intervals if spreads else []),
            *cell_lines(formula.reading),
            "",
        ]
    )


@cache
def _class(name: str) -> str:
    """The text of a class of `exports.objects`, which is not imported: that would import torch."""
    text = (Path(exports.__path__[0]) / "objects.py").read_text(encoding="utf-8")
    found = next(node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name == name)
    return "\n".join(text.splitlines()[found.lineno - 1 : found.end_lineno]) + "\n"


def _torch_output(formula: Formula) -> list[str]:
    """The lines of `__init__` that make the output layer: vectors and a number, or a row per output of classes."""
    heads = np.stack([np.concatenate(one.heads) for one in formula.outputs])
    skips, biases = np.stack([one.skip for one in formula.outputs]), np.array([one.bias for one in formula.outputs])
    head, skip, bias = literal(heads), literal(skips), literal(biases)
    if not formula.reading.classes and len(formula.outputs) == 1:
        head, skip, bias = literal(heads[0]), literal(skips[0]), number_text(biases[0])
    lines = [
        f"        self.{name} = nn.Parameter(_tensor({text}))"
        for name, text in (("head", head), ("skip", skip), ("bias", bias))
    ]
    return [*lines, *(["        self.classes = Classes(CLASSES)"] if formula.reading.classes else [])]


def _torch_trees(formula: Formula) -> list[str]:
    """The lines of `__init__` that make trees."""
    made = []
    for one in formula.trees:
        cut = literal(one.cut, EXACT_DIGITS)
        parts = one.first, len(formula.outputs), one.column.tolist(), cut, literal(one.leaf)
        made.append(f"                Leaves({', '.join(map(str, parts))}),")
    return ["        self.trees = nn.ModuleList(", "            [", *made, "            ]", "        )"] if made else []


def _torch_answer(lines: Sequence[str], trees: bool) -> list[str]:
    """The lines that answer, with those of trees in them."""
    if not trees:
        return list(lines)
    plus = " + sum(trees(z) for trees in self.trees)"
    ends = ("z @ self.skip.T + self.bias", "z @ self.skip + self.bias")
    return [line.replace(ends[0], ends[0] + plus).replace(ends[1], ends[1] + f"{plus}[:, 0]") for line in lines]


def _torch_scale(spreads: Sequence[Spread]) -> list[str]:
    """The lines of `__init__` that make the output layer of the scale, of several targets a row for each, and the blank
    one below it."""
    if not spreads:
        return [""]
    heads, skips = np.stack([np.concatenate(one.heads) for one in spreads]), np.stack([one.skip for one in spreads])
    quantiles = [f"Quantiles({one.bounds!r}, {astuple(ramps_of(one.scores))!r})" for one in spreads]
    head, skip, bias = literal(heads), literal(skips), literal(np.array([one.bias for one in spreads]))
    made = [
        "        self.quantiles = nn.ModuleList(",
        "            [",
        *(f"                {one}," for one in quantiles),
    ]
    made += ["            ]", "        )"]
    if len(spreads) == 1:
        head, skip, bias = literal(heads[0]), literal(skips[0]), number_text(spreads[0].bias)
        made = [f"        self.quantiles = {quantiles[0]}"]
    return [
        "        # Of intervals: the output layer whose answer is the logarithm of a row's scale",
        f'        self.register_buffer("scale_head", _tensor({head}))',
        f'        self.register_buffer("scale_skip", _tensor({skip}))',
        f'        self.register_buffer("scale_bias", _tensor({bias}))',
        *made,
        "",
    ]
