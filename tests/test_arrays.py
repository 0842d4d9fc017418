"""Arrays: numpy in torch's words says what torch says, and the model without torch writes what the model writes."""

import numpy as np
import pytest
import torch

from netformer.arrays import draws, functions
from netformer.arrays.array import Array
from netformer.arrays.namespace import alike, namespace

SEEDS = (0, 1, 123456789, 2**31 - 2)


def both(call, *arrays):
    """What a call gives of tensors and of our arrays, as plain arrays."""
    expected = call(torch, *map(torch.from_numpy, arrays))
    found = call(functions, *map(functions.from_numpy, (array.copy() for array in arrays)))
    return expected, found


def equal(expected, found, tolerance=0.0):
    if isinstance(expected, tuple | list):
        assert len(expected) == len(found)
        for one, other in zip(expected, found, strict=True):
            equal(one, other, tolerance)
        return
    assert isinstance(found, Array)
    assert str(expected.dtype).removeprefix("torch.") == found.dtype.name
    assert tuple(expected.shape) == found.shape
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=tolerance, atol=tolerance)


def numbers(*shape, dtype=np.float32):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


INDEX = np.random.default_rng(1).integers(0, 3, (2, 2, 4))
EXACT = {
    "shapes": lambda xp, x: [
        x.unsqueeze(1),
        x.transpose(1, 2),
        x.permute(2, 0, 1),
        x.flatten(1),
        x.view(2, -1),
        x[:, None].expand(-1, 5, -1, 4),
        x.expand(2, 3, 4).contiguous(),
        x[0].expand_as(x),
        x.clone(),
        x.mT,
        x.squeeze(0),
        x[:, :1].squeeze(1),
        x[0, 0, 0],
    ],
    "parts": lambda xp, x: [*x.split(2, 1), *x.split([1, 3], 2), *x.chunk(2, 2), *xp.split(x, [1, 1]), *x.split(5)],
    "joined": lambda xp, x: [
        xp.cat([x, x], 2),
        xp.stack([x, x], 1),
        x.repeat_interleave(2, 1),
        x.flatten().repeat_interleave(3),
    ],
    "reduced": lambda xp, x: [
        x.amax(2),
        x.amax((1, 2)),
        *x.max(1),
        *x.min(2),
        x.max(),
        x.min(),
        x.argmax(2),
        x.argmax(2, keepdim=True),
        x.argmin(1, keepdim=True),
        (x > 0).any(1),
        (x > 0).all(2),
        (x > 0).any((1, 2)),
        (x > 0).sum((1, 2)),
        (x > 0).sum(1, keepdim=True),
        (x > 0).cumsum(1),
        x.argsort(1),
        (x > 0).any(),
        (x > 5).all(),
        x.diagonal(0, 1, 2),
    ],
    "ordered": lambda xp, x: [
        xp.argsort(x, dim=1, descending=True, stable=True),
        xp.argsort((x > 0).long(), dim=2, stable=True),
    ],
    "elements": lambda xp, x: [
        x.square(),
        x.abs(),
        x.clamp(min=0),
        x.clamp(-1, 1),
        x.clamp(max=0.5),
        x.masked_fill(x > 0, -xp.inf),
        x.div(2),
        x.to(xp.float64),
        x.double(),
        x.long(),
        (x > 0).float(),
        xp.where(x > 0, x, 0.0),
        xp.where(x > 0, 1.0, -1.0),
        xp.relu(x),
        xp.copysign(x, -x),
        xp.minimum(x, -x),
        xp.isfinite(x),
        x.square().sqrt(),
        xp.maximum(x, x.square()),
    ],
    "made": lambda xp, x: [
        xp.zeros(2, 3),
        xp.zeros(2, dtype=xp.bool),
        xp.ones(3, dtype=xp.float64),
        xp.full((2,), xp.nan),
        xp.full((1, 2), 3),
        xp.arange(4),
        xp.arange(2, 9, 3),
        xp.tensor([1.5]),
        xp.tensor([1, 2]),
        xp.tensor([True]),
        xp.full_like(x, 2),
        xp.zeros_like(x),
        xp.ones_like(x),
        x.new_zeros(2, 3),
        xp.diag_embed(x),
        x.new_empty(0, 2),
        xp.nn.functional.pad(x, (1, 2)),
        xp.nn.functional.pad(x, (0, 0, 2, 0), value=7),
        xp.nonzero(x > 0),
        xp.nn.functional.one_hot(x.long().abs(), 4),
        xp.bincount((x > 0).flatten().long(), minlength=4),
    ],
    "indexed": lambda xp, x: [
        x.gather(1, alike(INDEX, x)),
        xp.gather(x, 1, alike(INDEX, x)),
        x.scatter(1, alike(INDEX, x), 3.0),
        x.clone().scatter_add_(1, alike(INDEX[:, :, :2] % 3, x), x[:, :2, :2]),
        x.index_select(1, alike(INDEX[0, 0], x)),
        x.index_copy(0, xp.tensor([1]), x[:1]),
        x[xp.tensor([1, 0])],
        x[x > 0],
        x[:, x[0, :, 0] > 0],
        x[[0, 0]],
    ],
}
CLOSE = {
    "reduced": lambda xp, x: [
        x.sum(1),
        x.mean(2),
        x.mean(),
        x.sum(),
        x.sum((1, 2), keepdim=True),
        x.std(0, correction=0),
    ],
    "elements": lambda xp, x: [
        x.exp(),
        x.square().log(),
        x.square().rsqrt(),
        xp.tanh(x),
        xp.sigmoid(x),
        xp.logit(xp.sigmoid(x)),
        xp.log1p(x.square()),
        xp.nn.functional.gelu(3 * x),
        xp.nn.functional.softplus(x),
        xp.nn.functional.softplus(x.double()),
        xp.nn.functional.gelu(x.double()),
        xp.softmax(x, 2),
        xp.log_softmax(x, 1),
        xp.logsumexp(x, 2),
    ],
    "products": lambda xp, x: [
        x @ x.mT,
        xp.baddbmm(x[:, :1, :3], x, x.mT),
        xp.addmm(x[0, 0, :3], x[0], x[0].T),
        xp.einsum("nij,nkj->nik", x, x),
    ],
    "solved": lambda xp, x: [xp.linalg.eigh(x[0] @ x[0].T)[0]],
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_say_what_tensors_say(name, dtype):
    equal(*both(EXACT[name], numbers(2, 3, 4, dtype=dtype)))


@pytest.mark.parametrize("name", CLOSE)
def test_arrays_say_nearly_what_tensors_say(name):
    equal(*both(CLOSE[name], numbers(2, 3, 4)), tolerance=5e-6)


def test_a_grid_of_powers_is_that_of_torch():
    for ends in ((-3, 3, 13), (-1, 5, 13), (-1, 2, 7), (-2, 3, 11)):
        equal(torch.logspace(*ends, dtype=torch.float64), functions.logspace(*ends))


def test_gelu_is_exact_to_single_precision_everywhere():
    x = np.linspace(-12, 12, 200_001).astype(np.float32)
    exact = torch.nn.functional.gelu(torch.from_numpy(x).double()).numpy()
    assert np.abs(functions.gelu(functions.from_numpy(x)).numpy() - exact).max() < 1e-6


def test_a_namespace_is_that_of_the_array():
    assert namespace(torch.ones(1)) is torch
    assert namespace(functions.ones(1)) is functions
    assert type(functions.ones(1).numpy()) is np.ndarray


@pytest.mark.parametrize("seed", SEEDS)
def test_draws_are_those_of_torch(seed):
    ours, theirs = draws.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
    for n in (16, 17, 31, 1000, 34048):
        np.testing.assert_allclose(ours.normal(n), torch.randn(n, generator=theirs).numpy(), rtol=2e-6, atol=2e-7)
        assert (ours.uniform(7) == torch.rand(7, generator=theirs).numpy()).all()


def test_fewer_than_a_block_of_normal_numbers_are_refused():
    with pytest.raises(ValueError, match="at least 16 normal numbers are drawn at once, got 15"):
        draws.Generator().manual_seed(0).normal(15)
