"""Stack: n networks as one padded tensor of weights, evaluated together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Bool, Float

from netformer.arrays import functions
from netformer.arrays.array import Array
from netformer.arrays.devices import on_cpu
from netformer.arrays.namespace import Tensor, namespace
from netformer.errors import InputError, need
from netformer.networks.convert import sklearn_regressor
from netformer.networks.specs import ACTIVATIONS, FUNCTIONS, Layout, Specs, activate, dense_mask

if TYPE_CHECKING:
    from torch import nn

LONG = 512  # rows from which networks are run one after the other


@dataclass(frozen=True, eq=False, repr=False)
class Networks:
    """n target networks, as tensors or as arrays. `weight` is zero wherever `specs.mask` has no edge."""

    specs: Specs
    weight: Float[Tensor, "n patches slots"]

    def __len__(self) -> int:
        return len(self.weight)

    def __repr__(self) -> str:
        shape, count = self.layout, f"{len(self)} network{'s' * (len(self) != 1)}"
        layers = f"{shape.max_hidden_layers} hidden layer{'s' * (shape.max_hidden_layers != 1)}"
        ends = f"{shape.max_features} inputs" + (f", {shape.n_outputs} outputs" if shape.n_outputs > 1 else "")
        return f"Networks: {count}, {ends}, at most {layers} of {shape.max_width} units"

    def __getitem__(self, index) -> Networks:
        """A sub-stack; `index` selects along the first axis and keeps it (slice, list, mask or index tensor)."""
        return Networks(self.specs[index], self.weight[index])

    @property
    def layout(self) -> Layout:
        """Shape of the stack."""
        return self.specs.layout

    def hidden(self, x: Float[Tensor, "m rows features"]) -> list[Float[Tensor, "n rows width"]]:
        """Activations of every hidden layer; a shallower net repeats its last one, so that [-1] is the penultimate.

        x: rows for each network, or one set of rows (m = 1) for all. Units that do not exist hold arbitrary values,
        which no edge reads.
        """
        features, out, xp = self.layout.max_features, [], namespace(x)
        h = x.expand(len(self), -1, -1)
        for index in range(self.layout.max_hidden_layers):
            patches = self.weight[:, self.layout.layer(index)]
            w = patches[:, :, 1 : 1 + features] if index == 0 else patches[:, :, 1 + features :]
            a = xp.baddbmm(patches[:, None, :, 0], h, w.transpose(1, 2))
            a = activate(a, self.specs.activations[:, index])
            if not on_cpu(a):
                h = xp.where(self.specs.widths[:, index].view(-1, 1, 1) > 0, a, h) if index else a
                out.append(h)
                continue
            shallower = xp.nonzero(self.specs.widths[:, index] == 0).squeeze(1)
            h = a.index_copy(0, shallower, h.index_select(0, shallower)) if index and len(shallower) else a
            out.append(h)
        return out

    def last_hidden(self, x: Float[Tensor, "m rows features"]) -> Float[Tensor, "n rows width"]:
        """The last of `hidden`; of many rows network by network, so that they stay in the cache."""
        if x.shape[1] < LONG or self.weight.requires_grad or x.requires_grad or not on_cpu(x):
            return self.hidden(x)[-1]
        xp, layout, rows = namespace(x), self.layout, x.expand(len(self), -1, -1)
        out = x.new_empty(len(self), x.shape[1], layout.max_width)
        codes, depth = self.specs.activations.tolist(), self.specs.depth.tolist()
        for i, h in enumerate(rows):
            for index in range(depth[i]):
                bias, inputs, units = self.weight[i, layout.layer(index)].split(
                    [1, layout.max_features, layout.max_width], 1
                )
                w = units if index else inputs
                h = FUNCTIONS[codes[i][index]](xp.addmm(bias.flatten().contiguous(), h, w.T))
            out[i] = h
        return out

    def predict(self, x: Float[Tensor, "m rows features"]) -> Float[Tensor, "n rows"]:
        """The output of each network on its own rows, or on one shared set of rows (m = 1). Raises InputError for
        networks of several outputs, which `answers` answers for."""
        return self.output(self.last_hidden(x), x)

    def answers(self, x: Float[Tensor, "m rows features"]) -> Float[Tensor, "n rows outputs"]:
        """All outputs of each network on its own rows, or on one shared set of rows (m = 1)."""
        return self.outputs(self.last_hidden(x), x)

    def outputs(
        self, h: Float[Tensor, "n rows width"], x: Float[Tensor, "m rows features"]
    ) -> Float[Tensor, "n rows outputs"]:
        """The output layer, from the last hidden activations and the inputs (skip)."""
        if self.specs.n_outputs == 1:
            return self.output(h, x).unsqueeze(2)
        bias, direct, units = self.weight[:, self.layout.outputs].split(
            [1, self.layout.max_features, self.layout.max_width], 2
        )
        return namespace(x).baddbmm(bias.transpose(1, 2), h, units.transpose(1, 2)) + x @ direct.transpose(1, 2)

    def output(self, h: Float[Tensor, "n rows width"], x: Float[Tensor, "m rows features"]) -> Float[Tensor, "n rows"]:
        """`outputs` of networks with one output. Raises InputError for several."""
        if self.specs.n_outputs != 1:
            raise InputError(f"predict needs networks of one output, got {self.specs.n_outputs}; use answers")
        features = self.layout.max_features
        last = self.weight[:, -1]
        y = namespace(x).baddbmm(last[:, None, :1], h, last[:, 1 + features :, None])
        return (y + x @ last[:, 1 : 1 + features, None]).squeeze(2)

    def matrices(self, index: int) -> list[tuple[Tensor, Tensor | None, str]]:
        """(weight, bias or None, activation) of each layer of network `index`, output last, without its skip."""
        features, spec = self.layout.max_features, self.specs
        depth, d_in = int(spec.depth[index]), int(spec.n_inputs[index])
        layers, start = [], 1
        for layer in range(depth + 1):
            hidden = layer < depth
            rows = self.layout.layer(layer) if hidden else self.layout.outputs
            d_out = int(spec.widths[index, layer]) if hidden else spec.n_outputs
            patches, mask = self.weight[index, rows][:d_out], spec.mask[index, rows][:d_out]
            bias = patches[:, 0].clone() if bool(mask[:, 0].any()) else None
            name = ACTIVATIONS[int(spec.activations[index, layer])] if hidden else "identity"
            layers.append((patches[:, start : start + d_in].clone(), bias, name))
            start, d_in = 1 + features, d_out
        return layers

    def numpy(self) -> Networks:
        """The same networks as arrays (`arrays.array`), without a copy where they can share memory."""
        return self._made(lambda x: x if isinstance(x, Array) else functions.from_numpy(x.detach().numpy()))

    def tensors(self) -> Networks:
        """The same networks as tensors; a copy of arrays. Raises InputError without torch."""
        need("torch", "a network of tensors")
        import torch

        return self._made(lambda x: torch.from_numpy(x.numpy().copy()) if isinstance(x, Array) else x)

    def _made(self, kind: Callable[[Any], Any]) -> Networks:
        s = self.specs
        specs = Specs(kind(s.n_inputs), kind(s.widths), kind(s.activations), kind(s.mask), s.n_outputs)
        return Networks(specs, kind(self.weight))

    def to_torch(self, index: int) -> nn.Module:
        """Network `index` as `nn.Sequential`, inside a `SkipNetwork` where its spec has a skip; output (rows, K)."""
        skip, own = None, self.tensors()
        from netformer.networks.modules import torch_module

        if bool(self.specs.skip[index]):
            skip = own.weight[index, self.layout.outputs, 1 : 1 + int(self.specs.n_inputs[index])].clone()
        return torch_module(own.matrices(index), skip)

    def to_sklearn(self, index: int) -> Any:
        """Network `index` as a fitted `MLPRegressor`; edges that do not exist become zeros.

        Raises InputError for what MLPRegressor cannot express: a skip, GELU, activations that differ between layers.
        """
        if bool(self.specs.skip[index]):
            raise InputError(f"MLPRegressor has no edges from inputs to outputs, network {index} has; use to_torch")
        return sklearn_regressor(self.matrices(index))

    def merged_size(self) -> tuple[int, int]:
        """Hidden units before the output, and edges, of the one network that answers with the mean of all of them:
        bodies side by side under one output layer, in which an output has one bias and one edge from an input."""
        layout, last = self.layout, self.specs.depth.unsqueeze(1) - 1
        outputs, first = self.specs.mask[:, layout.outputs], 1 + layout.max_features
        shared = outputs[:, :, :first].any(0)
        own = self.specs.mask[:, : layout.outputs.start].sum() + outputs[:, :, first:].sum()
        return int(self.specs.widths.gather(1, last).sum()), int(own + shared.sum())


def concatenate(parts: Sequence[Networks]) -> Networks:
    """One stack from several of the same layout."""
    specs, xp = [part.specs for part in parts], namespace(parts[0].weight)
    joined = Specs(
        xp.cat([s.n_inputs for s in specs]),
        xp.cat([s.widths for s in specs]),
        xp.cat([s.activations for s in specs]),
        xp.cat([s.mask for s in specs]),
        specs[0].n_outputs,
    )
    return Networks(joined, xp.cat([part.weight for part in parts]))


def with_outputs(networks: Networks, units: Bool[Tensor, "n width"], outputs: Float[Tensor, "n slots k"]) -> Networks:
    """The same hidden layers under output layers of k outputs. units: the last hidden ones that exist. outputs: weights
    of each network on [1, inputs, its last hidden units]."""
    first, specs, xp = networks.layout.outputs.start, networks.specs, namespace(networks.weight)
    dense = xp.ones(len(units), outputs.shape[1] - units.shape[1], dtype=xp.bool)
    edges = xp.cat([dense, units], 1).unsqueeze(1).expand(-1, outputs.shape[2], -1)
    mask, last = xp.cat([specs.mask[:, :first], edges], 1), outputs.mT.to(networks.weight.dtype) * edges
    weight = xp.cat([networks.weight[:, :first], last], 1)
    return Networks(Specs(specs.n_inputs, specs.widths, specs.activations, mask, outputs.shape[2]), weight)


def spread(wide: Float[Tensor, "all_slots k"], units: Bool[Tensor, "n width"]) -> Float[Tensor, "n own_slots k"]:
    """Output weights on [1, x, all hidden units] as those of networks whose mean they are."""
    n, first = len(units), len(wide) - int(units.sum())
    heads = wide.new_zeros(*units.shape, wide.shape[1])
    heads[units] = n * wide[first:]
    return namespace(wide).cat([wide[:first].expand(n, -1, -1), heads], 1)


def weight_scale(networks: Networks) -> Float[Tensor, "patches slots"]:
    """Root mean square of the existing weights by layer and kind of slot (bias, input, unit)."""
    layout, xp = networks.layout, namespace(networks.weight)
    scale = xp.ones(layout.n_patches, layout.n_slots)
    groups = [layout.layer(i) for i in range(layout.max_hidden_layers)] + [layout.outputs]
    kinds = [slice(0, 1), slice(1, 1 + layout.max_features), slice(1 + layout.max_features, None)]
    for rows in groups:
        for kind in kinds:
            mask = networks.specs.mask[:, rows, kind]
            if bool(mask.any()):
                block = networks.weight[:, rows, kind]
                scale[rows, kind] = (block.square() * mask).sum().div(mask.sum()).sqrt().clamp(min=1e-3)
    return scale


def constant_network(n_features: int, n_outputs: int = 1) -> Networks:
    """One network whose outputs are 0, the mean of a standardised target, whatever it reads; in arrays."""
    one, yes = functions.ones(1, 1, dtype=int), functions.ones(1, 1 + n_outputs, 2 + n_features, dtype=bool)
    yes[0, 0, -1] = yes[0, 1:, 1:-1] = False
    specs = Specs(functions.tensor([n_features]), one, 0 * one, yes, n_outputs)
    return Networks(specs, functions.zeros(*yes.shape))


def _check_stack(name: str, stack: Networks, n_features: int) -> None:
    """Raises InputError for a stack that is no stack, or that does not read `n_features` inputs."""
    xp, s, (n, layers) = namespace(stack.weight), stack.specs, stack.specs.widths.shape
    shape, patches, ends = tuple(s.mask.shape), tuple(stack.weight.shape), s.n_outputs
    if ends < 1:
        raise InputError(f"{name}: n_outputs must be at least 1, got {ends}")
    if layers < 1 or s.n_inputs.shape != (n,) or s.activations.shape != (n, layers) or len(shape) != 3:
        raise InputError(
            f"{name}: n_inputs, widths, activations and mask must describe {n} networks of {layers} layers"
        )
    if shape != patches or shape[0] != n or (shape[1] - ends) % layers or s.layout.max_features != n_features:
        raise InputError(
            f"{name}: weight and mask must be ({n}, {ends} + {layers} * width, 1 + {n_features} + width), "
            f"got {patches} and {shape}"
        )
    if not bool((s.n_inputs == n_features).all()):
        raise InputError(
            f"{name}: n_inputs must be {n_features}, one per column, got {sorted(set(s.n_inputs.tolist()))}"
        )
    present = s.widths > 0
    valid = (s.widths >= 0) & (s.widths <= s.layout.max_width) & (present == (xp.arange(layers) < s.depth[:, None]))
    if not bool((valid.all(1) & (s.depth > 0)).all()):
        raise InputError(f"{name}: widths must be 1 to {s.layout.max_width} in each layer, and 0 behind the last")
    if not bool(((s.activations >= 0) & (s.activations < len(ACTIVATIONS))).all()):
        raise InputError(f"{name}: activations must be 0 to {len(ACTIVATIONS) - 1}")
    yes = xp.ones(n, dtype=xp.bool)
    if bool((s.mask & ~dense_mask(s.layout, s.n_inputs, s.widths, yes, yes)).any()):
        raise InputError(f"{name}: mask must hold no edge from or to a vertex that does not exist")
    if stack.weight.dtype not in (xp.float32, xp.float64):
        raise InputError(f"{name}: weight must be float32 or float64, got {stack.weight.dtype}")
    if not bool(xp.isfinite(stack.weight).all()) or bool((stack.weight[~s.mask] != 0).any()):
        raise InputError(f"{name}: weight must be finite, and 0 where mask has no edge")
