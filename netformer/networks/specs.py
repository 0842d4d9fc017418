"""Specs: architectures without weights, as stacks of equal shape.

A *layout* fixes the shape of every stack. A network has one *patch* per hidden or output vertex, and a patch has one
*slot* per vertex that may be its parent:

    patch  l * W + u   hidden unit u of layer l            (l < L hidden layers, u < W units)
    patch  L * W + k   output k                             (k < K outputs, the last patches)
    slot   0           the bias vertex
    slot   1 + f       input f                              (first hidden layer, and outputs of a net with a skip)
    slot   1 + F + u   unit u of the layer before           (outputs read the last hidden layer)

Shape letters used everywhere: n networks, L layers, W width, F features, K outputs, P patches = L * W + K,
C slots = 1 + F + W.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int

from netformer.arrays.devices import on_cpu
from netformer.arrays.namespace import Generator, Tensor, namespace


def sigmoid(a: Tensor) -> Tensor:
    """1 / (1 + exp(-a)) by way of tanh: `torch.sigmoid` rounds the end of each thread's share in another way."""
    return 0.5 + 0.5 * namespace(a).tanh(0.5 * a)


def step(a: Tensor) -> Tensor:
    """Heaviside step: 1 where a > 0, else 0."""
    return (a > 0).to(a.dtype)


WRITTEN = ("identity", "relu", "tanh", "sigmoid", "gelu")  # what the zoo trains and a transformer writes
ACTIVATIONS = (*WRITTEN, "step")  # a new one comes last: stored codes keep their meaning
FUNCTIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda a: a,
    lambda a: namespace(a).relu(a),
    lambda a: namespace(a).tanh(a),
    sigmoid,
    lambda a: namespace(a).nn.functional.gelu(a),
    step,
)


@dataclass(frozen=True)
class Layout:
    """Shape of a stack: F inputs, L hidden layers of at most W units, K outputs."""

    max_features: int = 10
    max_hidden_layers: int = 3
    max_width: int = 8
    n_outputs: int = 1

    @property
    def n_patches(self) -> int:
        """Hidden and output vertices a network can have: L * W + K."""
        return self.max_hidden_layers * self.max_width + self.n_outputs

    @property
    def n_slots(self) -> int:
        """Vertices that can be a parent in one patch: bias, inputs, units of the layer before."""
        return 1 + self.max_features + self.max_width

    @property
    def n_numbers(self) -> int:
        """Vertex numbers a network can have: the bias, its inputs, its patches (`patch_numbers`)."""
        return 1 + self.max_features + self.n_patches

    def layer(self, index: int) -> slice:
        """Patches of hidden layer `index`."""
        return slice(index * self.max_width, (index + 1) * self.max_width)

    @property
    def outputs(self) -> slice:
        """Patches of the outputs, the last ones."""
        return slice(self.max_hidden_layers * self.max_width, self.n_patches)


@dataclass(frozen=True, eq=False)
class Specs:
    """n architectures.

    n_inputs: inputs in use, 1..F. widths: units per hidden layer, 0 for an absent one (absent layers come last).
    activations: index into `ACTIVATIONS`, one per hidden layer, 0 where absent. mask: the edges that exist.
    n_outputs: outputs of every network, K.
    """

    n_inputs: Int[Tensor, " n"]
    widths: Int[Tensor, "n layers"]
    activations: Int[Tensor, "n layers"]
    mask: Bool[Tensor, "n patches slots"]
    n_outputs: int = 1

    def __len__(self) -> int:
        return len(self.n_inputs)

    def __getitem__(self, index) -> Specs:
        """A sub-stack; `index` is anything that selects along the first axis and keeps it."""
        parts = (self.n_inputs[index], self.widths[index], self.activations[index], self.mask[index])
        return Specs(*parts, self.n_outputs)

    @property
    def layout(self) -> Layout:
        """The layout of the stack, from the shapes of its tensors and the number of outputs."""
        layers = self.widths.shape[1]
        width = (self.mask.shape[1] - self.n_outputs) // layers
        return Layout(self.mask.shape[2] - 1 - width, layers, width, self.n_outputs)

    @property
    def depth(self) -> Int[Tensor, " n"]:
        """Hidden layers of each network, at least 1."""
        return (self.widths > 0).sum(1)

    @property
    def n_params(self) -> Int[Tensor, " n"]:
        """Edges of each network, those from the bias included: its weights."""
        return self.mask.sum((1, 2))

    @property
    def unit_mask(self) -> Bool[Tensor, "n layers width"]:
        """Hidden units that exist."""
        return namespace(self.widths).arange(self.layout.max_width) < self.widths.unsqueeze(2)

    @property
    def last_units(self) -> Bool[Tensor, "n width"]:
        """Units of the last hidden layer that exist."""
        last = self.widths.gather(1, self.depth.unsqueeze(1) - 1)
        return namespace(last).arange(self.layout.max_width) < last

    @property
    def patch_mask(self) -> Bool[Tensor, "n patches"]:
        """Hidden and output vertices that exist."""
        xp = namespace(self.widths)
        return xp.cat([self.unit_mask.flatten(1), xp.ones(len(self), self.n_outputs, dtype=xp.bool)], 1)

    @property
    def skip(self) -> Bool[Tensor, " n"]:
        """Networks with at least one edge from an input to an output."""
        layout = self.layout
        return self.mask[:, layout.outputs, 1 : 1 + layout.max_features].any((1, 2))

    @property
    def bias(self) -> Bool[Tensor, " n"]:
        """Networks with at least one bias edge."""
        return self.mask[:, :, 0].any(1)

    def key(self, index: int) -> bytes:
        """Equal for equal specs, whatever the padding of their weights."""
        parts = (self.n_inputs[index], self.widths[index], self.activations[index], self.mask[index])
        return b"".join(part.numpy().tobytes() for part in parts)


def dense_mask(
    layout: Layout,
    n_inputs: Int[Tensor, " n"],
    widths: Int[Tensor, "n layers"],
    bias: Bool[Tensor, " n"],
    skip: Bool[Tensor, " n"],
) -> Bool[Tensor, "n patches slots"]:
    """Every edge a dense network of that shape has."""
    xp, n, features, width = namespace(widths), len(n_inputs), layout.max_features, layout.max_width
    units = xp.arange(width) < widths.unsqueeze(2)
    inputs = xp.arange(features) < n_inputs.unsqueeze(1)
    last = xp.gather(units, 1, ((widths > 0).sum(1) - 1).view(n, 1, 1).expand(n, 1, width)).squeeze(1)
    mask = xp.zeros(n, layout.n_patches, layout.n_slots, dtype=xp.bool)
    for index in range(layout.max_hidden_layers):
        here = units[:, index]
        mask[:, layout.layer(index), 0] = here & bias.unsqueeze(1)
        if index == 0:
            mask[:, layout.layer(0), 1 : 1 + features] = here.unsqueeze(2) & inputs.unsqueeze(1)
        else:
            mask[:, layout.layer(index), 1 + features :] = here.unsqueeze(2) & units[:, index - 1].unsqueeze(1)
    mask[:, layout.outputs, 0] = bias.unsqueeze(1)
    mask[:, layout.outputs, 1 : 1 + features] = (inputs & skip.unsqueeze(1)).unsqueeze(1)
    mask[:, layout.outputs, 1 + features :] = last.unsqueeze(1)
    return mask


def draw_specs(
    n_inputs: Int[Tensor, " n"],
    *,
    layout: Layout,
    min_hidden_layers: int = 1,
    min_width: int = 4,
    activations: tuple[str, ...] = WRITTEN,
    bias_share: float = 0.9,
    skip_share: float = 0.9,
    sparse_share: float = 0.1,
    min_density: float = 0.5,
    generator: Generator,
) -> Specs:
    """Draw one random architecture for each entry of `n_inputs`.

    Depth and widths are uniform between the minimum and the layout's maximum; the activation is uniform over
    `activations` (a name may be given more than once) and drawn per layer. bias_share, skip_share: share of networks
    with biases, with edges from the inputs to the outputs. sparse_share: share of networks in which every edge from an
    input or a unit survives with probability uniform in (min_density, 1); a unit or an output that lost all of them
    keeps one. The defaults are those of params.yaml.
    """
    import torch

    n, layers = len(n_inputs), layout.max_hidden_layers

    def chance(share: float) -> Tensor:
        return torch.rand(n, generator=generator) < share

    depth = torch.randint(min_hidden_layers, layers + 1, (n,), generator=generator)
    present = torch.arange(layers) < depth.unsqueeze(1)
    widths = torch.randint(min_width, layout.max_width + 1, (n, layers), generator=generator) * present
    codes = torch.tensor([ACTIVATIONS.index(name) for name in activations])
    chosen = codes[torch.randint(len(codes), (n, layers), generator=generator)] * present
    dense = dense_mask(layout, n_inputs, widths, chance(bias_share), chance(skip_share))
    score = torch.rand(dense.shape, generator=generator)
    keep = min_density + (1 - min_density) * torch.rand(n, 1, 1, generator=generator)
    candidates = dense.clone()
    candidates[:, :, 0] = False
    lowest = score.masked_fill(~candidates, 2.0).argmin(2, keepdim=True)
    kept = (score < keep).scatter(2, lowest, True)
    kept[:, :, 0] = True
    sparse = chance(sparse_share).view(n, 1, 1)
    return Specs(n_inputs, widths, chosen, dense & (kept | ~sparse), layout.n_outputs)


def activate(a: Float[Tensor, "n rows width"], codes: Int[Tensor, " n"]) -> Float[Tensor, "n rows width"]:
    """Apply to each network of the stack its own activation. On a GPU all are computed and one is kept, so that the CPU
    need not wait for the codes."""
    xp = namespace(a)
    if not on_cpu(a):
        done = a
        for code, function in enumerate(FUNCTIONS):
            done = xp.where((codes == code).view(-1, 1, 1), function(a), done)
        return done
    order = xp.argsort(codes, stable=True)
    counts = xp.bincount(codes, minlength=len(ACTIVATIONS)).tolist()
    if max(counts) == len(codes):
        return FUNCTIONS[counts.index(len(codes))](a)
    parts = xp.split(a.index_select(0, order), counts)
    done = xp.cat([function(part) for function, part in zip(FUNCTIONS, parts, strict=True)])
    return done.index_select(0, xp.argsort(order))


ABSENT, OUTPUT = 0, len(WRITTEN) + 1
N_TYPES = len(WRITTEN) + 2  # of vertices of networks a transformer writes; those beyond come behind


def patch_types(specs: Specs) -> Int[Tensor, "n patches"]:
    """Vertex type of each patch: ABSENT, 1 + activation, or OUTPUT; 2 + activation of those not in `WRITTEN`."""
    layout, xp = specs.layout, namespace(specs.mask)
    types = specs.activations + 1 + (specs.activations >= len(WRITTEN))
    hidden = types.unsqueeze(2) * specs.unit_mask
    out = xp.full((len(specs), specs.n_outputs), OUTPUT)
    return xp.cat([hidden.reshape(len(specs), layout.max_hidden_layers * layout.max_width), out], 1)


def patch_numbers(specs: Specs) -> Int[Tensor, "n patches"]:
    """Vertex number of each patch as in its tokens: bias 0, inputs from 1, then patches; 0 for absent ones."""
    present = specs.patch_mask
    return (specs.n_inputs.unsqueeze(1) + present.long().cumsum(1)) * present
