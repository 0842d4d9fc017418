"""Arrays: the model's forward pass in numpy, from a task to written networks, so that writing needs no torch.

What `vae.TransformerVAE` computes from its weights without the encoder of networks, which only training reads; a test
compares both. Each function says which module it follows. Inside, arrays are plain ones of float32; `ArrayModel` takes
and gives those of `netformer.arrays`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from netformer.arrays import functions as xp
from netformer.arrays.namespace import Tensor
from netformer.model.grammar import Structure
from netformer.networks.specs import N_TYPES, Layout, Specs, patch_types
from netformer.networks.stack import Networks
from netformer.options import ModelOptions
from netformer.tables.inputs import KINDS
from netformer.tasks.view import CUT, TaskStack

Weights = dict[str, np.ndarray]
# The modules in torch read these here too, so that both forward passes have the same ones.
LAYOUT = ("max_features", "max_hidden_layers", "max_width")  # as stored; what is written has one output
RIDGE, RIDGE_PER_ROW = 0.02, 2.0  # the ridge fit on m rows has the penalty RIDGE + RIDGE_PER_ROW / m
LOG_ROWS_SCALE, LOG_ROWS_SHIFT = 3.0, 1.5  # the number m of rows is read as log(m) / 3 - 1.5
POOL_EPS = 1e-6  # added to a variance over rows
LOGVAR_LOW, LOGVAR_HIGH = -10.0, 4.0  # of a latent number
PENALTY_LOW, PENALTY_HIGH = -12.0, 6.0  # of the logarithm of a ridge penalty
EPS = 1e-5  # of a layer norm, as torch has it


def shapes_of(
    max_features: int, max_hidden_layers: int, max_width: int, n_metafeatures: int, **options: Any
) -> dict[str, tuple[int, ...]]:
    """The name and the shape of every weight but those of the encoder of networks. The arguments are those of
    `TransformerVAE.from_arguments`. Raises InputError and TypeError for others."""
    layout, o = Layout(max_features, max_hidden_layers, max_width), ModelOptions(**options)
    f, patches, slots, d_c = max_features, layout.n_patches, layout.n_slots, 2 * o.d_condition
    d_latent = o.d_global + patches * o.d_vertex
    rows, c, said = "condition_encoder.task_encoder", o.d_condition, "condition_encoder.metafeature_encoder"
    linear: dict[str, tuple[int, ...]] = {
        f"{rows}.rows.0": (o.d_row, 6 * f + 3),
        f"{rows}.rows.2": (o.d_row, o.d_row),
        f"{rows}.rows.4": (o.d_row, o.d_row),
        f"{rows}.out.0.0": (o.d_row, 2 * o.d_row + 3 * f + f * (f + 1) + 2),
        f"{rows}.out.0.2": (c, o.d_row),
        f"{said}.0": (c, n_metafeatures),
        f"{said}.2": (c, c),
        "structure_decoder.whole": (o.d_model, o.d_global + d_c),
        "structure_decoder.type_head": (N_TYPES, o.d_model),
        "structure_decoder.number_head": (layout.n_numbers, o.d_model),
        "structure_decoder.parent_head": (slots, o.d_model),
        "writer.layers.0": (o.d_writer, d_c + patches * (o.d_vertex + N_TYPES + 2)),
        "writer.layers.2": (o.d_writer, o.d_writer),
        "writer.layers.4": (patches * slots, o.d_writer),
        "writer.vertex": (slots, o.d_vertex),
        "penalties.linear": (3, d_c),
    }
    for i in range(o.rounds):
        linear |= {f"{rows}.told.{i}": (o.d_row, 2 * o.d_row), f"{rows}.moves.{i}": (o.d_row, o.d_row)}
    if o.prior == "learned":
        linear |= {
            "latent_prior.layers.0": (2 * o.d_model, d_c),
            "latent_prior.layers.2": (2 * d_latent, 2 * o.d_model),
        }
    norms = {f"{rows}.out.1": c, "structure_decoder.blocks.norm": o.d_model}
    found: dict[str, tuple[int, ...]] = {}
    for i in range(o.n_structure_layers):
        block = f"structure_decoder.blocks.layers.{i}"
        linear |= {f"{block}.linear1": (2 * o.d_model, o.d_model), f"{block}.linear2": (o.d_model, 2 * o.d_model)}
        linear[f"{block}.self_attn.out_proj"] = (o.d_model, o.d_model)
        found[f"{block}.self_attn.in_proj_weight"] = (3 * o.d_model, o.d_model)
        found[f"{block}.self_attn.in_proj_bias"] = (3 * o.d_model,)
        norms |= {f"{block}.norm1": o.d_model, f"{block}.norm2": o.d_model}
    for name, shape in linear.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name, width in norms.items():
        found |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    if o.kinds:
        found[f"{rows}.kinds.weight"] = (o.d_row, f * (1 + len(KINDS)))
    found |= {f"condition_encoder.null_{name}": (c,) for name in ("task", "metafeatures")}
    found["structure_decoder.position"] = (patches, o.d_model)
    return found | {"writer.template": (patches, slots), "scale": (patches, slots)}


class ArrayModel:
    """What writes networks, of weights as arrays. Methods are those of `TransformerVAE`.

    weights: by name, see `shapes_of`, of any float; arguments: as there. Nothing is checked again here.
    """

    device = None  # as of its arrays

    def __init__(self, weights: Weights, **arguments: Any) -> None:
        self.layout = Layout(*(arguments.pop(name) for name in LAYOUT))
        self.n_metafeatures = arguments.pop("n_metafeatures")
        self.options = o = ModelOptions(**arguments)
        self.weights = {name: value.astype(np.float32) for name, value in weights.items()}
        self.condition = o.condition
        self.temperature, self.structure_temperature = o.temperature, o.structure_temperature
        self.orientations, self.order_noise = o.orientations, o.order_noise
        self.d_global, self.d_latent = o.d_global, o.d_global + self.layout.n_patches * o.d_vertex

    def state_dict(self) -> Weights:
        """The weights by name."""
        return self.weights

    def embed(
        self, n: int, tasks: TaskStack | None = None, metafeatures: Float[Tensor, "n k"] | None = None
    ) -> Float[Tensor, "n two_c"]:
        """The condition of n tasks (`task_encoder.ConditionEncoder`)."""
        channels = []
        encoders: tuple[tuple[str, Any, Any], ...] = (
            ("task", tasks, self._tasks),
            ("metafeatures", metafeatures, self._metafeatures),
        )
        for name, given, encoder in encoders:
            empty = np.broadcast_to(self.weights[f"condition_encoder.null_{name}"], (n, self.options.d_condition))
            channels.append(encoder(given) if given is not None and self.condition in (name, "both") else empty)
        return xp.from_numpy(np.concatenate(channels, 1))

    def _metafeatures(self, values: Float[Tensor, "n k"]) -> np.ndarray:
        return self._mlp("condition_encoder.metafeature_encoder", values.numpy(), 2)

    def _tasks(self, tasks: TaskStack) -> np.ndarray:
        """`task_encoder.TaskEncoder`."""
        name, read = "condition_encoder.task_encoder", tasks.train.numpy().any(0)
        x, y = (part.numpy()[:, read] for part in (tasks.x, tasks.y))
        keep = tasks.train.numpy()[:, read].astype(np.float32)
        rows, fixed = row_inputs(x, y, keep, tasks.n_features.numpy())
        said = [0.0] * len(rows)
        if self.options.kinds:
            said = list(_kinds(tasks).reshape(len(rows), -1) @ self.weights[f"{name}.kinds.weight"].T)
        pooled = np.concatenate([self._summary(name, *one) for one in zip(rows, keep, said, strict=True)])
        out = self._mlp(f"{name}.out.0", np.concatenate([pooled, fixed], 1), 2)
        return self._norm(f"{name}.out.1", out)

    def _summary(self, name: str, rows: np.ndarray, keep: np.ndarray, said: Any) -> Float[np.ndarray, "1 two_d"]:
        """Of one task, whose rows stay in the cache."""
        rows = self._mlp(f"{name}.rows", rows, 3) + said
        for i in range(self.options.rounds):
            moved = rows + self._linear(f"{name}.told.{i}", _pool(rows, keep))
            rows = rows + self._linear(f"{name}.moves.{i}", _gelu(moved))
        return _pool(rows, keep)

    def prior_of(self, c: Float[Tensor, "n two_c"]) -> tuple[np.ndarray, np.ndarray]:
        """Means and log-variances of p(z | condition) (`latent.LatentPrior`)."""
        if self.options.prior != "learned":
            return np.zeros((len(c), self.d_latent), np.float32), np.zeros((len(c), self.d_latent), np.float32)
        mu, logvar = np.split(self._mlp("latent_prior.layers", c.numpy(), 2), 2, 1)
        return mu, np.clip(logvar, LOGVAR_LOW, LOGVAR_HIGH)

    def draw(
        self, prior: tuple[np.ndarray, np.ndarray], eps: Float[Tensor, "n z"], temperature: float | None = None
    ) -> Float[Tensor, "n z"]:
        """A latent of the prior from normal noise; temperature: see `TransformerVAE.draw`."""
        times = np.full(self.d_latent, self.temperature if temperature is None else temperature, np.float32)
        times[: self.d_global] = self.structure_temperature
        mu, logvar = prior
        return xp.from_numpy(mu + np.exp(np.float32(0.5) * logvar) * (times * eps.numpy()))

    def structure_logits(self, z: Float[Tensor, "n z"], c: Float[Tensor, "n two_c"]) -> Structure:
        """Logits of vertex types, vertex numbers and parents (`decoder.StructureDecoder`)."""
        name = "structure_decoder"
        whole = self._linear(f"{name}.whole", np.concatenate([z.numpy()[:, : self.d_global], c.numpy()], 1))
        h = whole[:, None] + self.weights[f"{name}.position"]
        for i in range(self.options.n_structure_layers):
            block = f"{name}.blocks.layers.{i}"
            h = h + self._attention(f"{block}.self_attn", self._norm(f"{block}.norm1", h))
            inner = _gelu(self._linear(f"{block}.linear1", self._norm(f"{block}.norm2", h)))
            h = h + self._linear(f"{block}.linear2", inner)
        h = self._norm(f"{name}.blocks.norm", h)
        heads = (self._linear(f"{name}.{kind}_head", h) for kind in ("type", "number", "parent"))
        return Structure(*map(xp.from_numpy, heads))

    def _attention(self, name: str, h: np.ndarray) -> np.ndarray:
        """Multi-head self-attention (Vaswani et al. 2017), as `torch.nn.MultiheadAttention` has it."""
        n, patches, d = h.shape
        joint = h @ self.weights[f"{name}.in_proj_weight"].T + self.weights[f"{name}.in_proj_bias"]
        q, k, v = joint.reshape(n, patches, 3, self.options.n_heads, -1).transpose(2, 0, 3, 1, 4)
        score = (q / np.float32(math.sqrt(q.shape[-1]))) @ k.transpose(0, 1, 3, 2)
        mixed = xp.softmax(xp.from_numpy(score), 3).numpy() @ v
        return self._linear(f"{name}.out_proj", mixed.transpose(0, 2, 1, 3).reshape(n, patches, d))

    def write(self, z: Float[Tensor, "n z"], c: Float[Tensor, "n two_c"], specs: Specs) -> Networks:
        """Networks with the given specs, every weight written (`decoder.Writer`)."""
        vertices = z.numpy()[:, self.d_global :]
        types = xp.one_hot(patch_types(specs), N_TYPES).float().flatten(1)
        edges = xp.cat([specs.mask[:, :, 0], specs.mask.float().mean(2)], 1).float()
        h = self._mlp("writer.layers", np.concatenate([vertices, c.numpy(), types.numpy(), edges.numpy()], 1), 3)
        direct = self._linear("writer.vertex", vertices.reshape(len(c), self.layout.n_patches, -1))
        written = (h.reshape(direct.shape) + direct + self.weights["writer.template"]) * self.weights["scale"]
        return Networks(specs, xp.where(specs.mask, xp.from_numpy(written), 0.0))

    def penalties(self, c: Float[Tensor, "n two_c"]) -> Float[Tensor, "n slots"]:
        """Ridge penalties of the output layer (`decoder.Penalties`)."""
        share = xp.sigmoid(xp.from_numpy(self._linear("penalties.linear", c.numpy())))
        log = (PENALTY_HIGH - PENALTY_LOW) * share + PENALTY_LOW
        counts = [1, self.layout.max_features, self.layout.max_width]
        return log[:, [2, 0, 1]].exp().repeat_interleave(counts, 1)

    def _linear(self, name: str, x: np.ndarray) -> np.ndarray:
        weight = self.weights[f"{name}.weight"]
        out = x.reshape(-1, x.shape[-1]) @ weight.T
        out += self.weights[f"{name}.bias"]
        return out.reshape(*x.shape[:-1], len(weight))

    def _mlp(self, name: str, x: np.ndarray, count: int) -> np.ndarray:
        """`layers.mlp`: `count` linear layers with GELU between them."""
        for i in range(0, 2 * count, 2):
            x = self._linear(f"{name}.{i}", _gelu(x) if i else x)
        return x

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        """`layers.Norm`."""
        away = x - x.mean(-1, keepdims=True)
        unit = away / np.sqrt(np.square(away).mean(-1, keepdims=True) + np.float32(EPS))
        return unit * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]


def row_inputs(
    x: Float[np.ndarray, "t rows features"],
    y: Float[np.ndarray, "t rows"],
    keep: Float[np.ndarray, "t rows"],
    n_features: np.ndarray,
) -> tuple[Float[np.ndarray, "t rows k"], Float[np.ndarray, "t m"]]:
    """Inputs of the row MLP, and the numbers that need no network (`task_encoder.TaskEncoder._read`)."""
    f, kept = x.shape[2], keep[:, :, None]
    x, y = x * kept, np.clip(y, -CUT, CUT)[:, :, None] * kept
    count = np.maximum(keep.sum(1, keepdims=True), 1)
    m, across = count[:, :, None], x.transpose(0, 2, 1)
    second = across @ x / m
    penalty = (RIDGE + RIDGE_PER_ROW / m) * np.eye(f, dtype=np.float32)
    ridge = np.linalg.solve(second + penalty, across @ y / m)
    r = y - x @ ridge
    third = (x * r).transpose(0, 2, 1) @ x / m
    i, j = np.triu_indices(f)
    fixed = [
        second[:, i, j],
        2 * third[:, i, j],
        2 * (np.abs(x) * r).sum(1) / count,
        ridge[:, :, 0],
        np.square(r).sum(1) / count,
        (np.arange(f) < n_features[:, None]).astype(np.float32),
        np.log(count) / LOG_ROWS_SCALE - LOG_ROWS_SHIFT,
    ]
    size = np.abs(x)
    rows = [x, y, r, x * y, x * r, size * r, size * y, np.square(x) - 1, np.square(y) - 1]
    return _squash(np.concatenate(rows, 2)), _squash(np.concatenate(fixed, 1))


def _kinds(tasks: TaskStack) -> np.ndarray:
    if tasks.kinds is not None:
        return tasks.kinds.numpy()
    kinds = np.zeros((len(tasks), tasks.x.shape[2], 1 + len(KINDS)), np.float32)
    kinds[:, :, KINDS.index("value")] = np.arange(tasks.x.shape[2]) < tasks.n_features.numpy()[:, None]
    return kinds


def _pool(rows: Float[np.ndarray, "rows d"], keep: Float[np.ndarray, " rows"]) -> Float[np.ndarray, "1 two_d"]:
    """Mean and standard deviation over the kept rows of one task."""
    count = max(float(keep.sum()), 1.0)
    mean = keep @ rows / np.float32(count)
    variance = keep @ np.square(rows - mean) / np.float32(count)
    return np.concatenate([mean, np.sqrt(variance + np.float32(POOL_EPS))])[None]


def _squash(x: np.ndarray) -> np.ndarray:
    """`layers.squash`: asinh."""
    size = np.abs(x)
    square = size * size
    return np.copysign(np.log1p(size + square / (1 + np.sqrt(square + 1))), x)


def _gelu(x: np.ndarray) -> np.ndarray:
    return xp.gelu(xp.from_numpy(x)).numpy()
