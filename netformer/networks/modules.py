"""Modules: layers of a network as PyTorch modules."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from netformer.networks.specs import step


class Step(nn.Module):
    """Heaviside step, for which PyTorch has no module: 1 where a > 0, else 0. Its gradient is zero."""

    def forward(self, a: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """The step of each number."""
        return step(a)


_MODULES = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU, "step": Step}


class SkipNetwork(nn.Module):
    """A body and a linear path from the inputs to its output: body(x) + x @ skip.T."""

    def __init__(self, body: nn.Sequential, skip: Float[Tensor, "outputs features"]) -> None:
        super().__init__()
        self.body = body
        self.skip = nn.Parameter(skip)

    def forward(self, x: Float[Tensor, "rows features"]) -> Float[Tensor, "rows outputs"]:
        """The body's output plus the linear path."""
        return self.body(x) + x @ self.skip.T


def torch_module(
    layers: Sequence[tuple[Tensor, Tensor | None, str]], skip: Float[Tensor, "outputs features"] | None
) -> nn.Module:
    """`nn.Sequential` of these (weight, bias or None, activation) layers, output last, in their dtype; inside a
    `SkipNetwork` where there is a skip. No generator is touched."""
    modules: list[nn.Module] = []
    for weight, bias, name in layers:
        # skip_init: nothing is drawn from the global generator, every value is replaced below.
        linear = nn.utils.skip_init(
            nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype
        )
        linear.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
        modules.extend([linear] if name == "identity" else [linear, _MODULES[name]()])
    body = nn.Sequential(*modules)
    return body if skip is None else SkipNetwork(body, skip)
