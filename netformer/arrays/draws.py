"""Draws: the random numbers of torch's CPU generator, without torch.

Both are the Mersenne Twister (Matsumoto and Nishimura 1998) with the same start for the same seed. A uniform float32 is
its lowest 24 bits; normal numbers are those of Box and Muller (1958), of 16 and more in blocks of 16, in which eight
pairs make the first and the last eight. Uniform numbers equal torch's; normal ones to the rounding of its own
logarithm, sine and cosine.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

BITS = 24  # of a uniform float32
BLOCK, HALF = 16, 8


class Generator:
    """What `torch.Generator` is; a generator draws the same numbers in the same order."""

    def manual_seed(self, seed: int) -> Generator:
        """Start from a seed, 0 to 2^32 - 1."""
        self._state = np.random.RandomState(seed)
        return self

    def uniform(self, n: int) -> Float[np.ndarray, " n"]:
        """n numbers in [0, 1), as `torch.rand` draws them."""
        raw = self._state.randint(0, 2**32, n, np.uint32) & (2**BITS - 1)
        return raw.astype(np.float32) * np.float32(2.0**-BITS)

    def normal(self, n: int) -> Float[np.ndarray, " n"]:
        """n normal numbers, as `torch.randn` draws them; n is at least 16, as fewer are drawn in another way."""
        if n < BLOCK:
            raise ValueError(f"at least {BLOCK} normal numbers are drawn at once, got {n}")
        drawn = self.uniform(n)
        whole = n - n % BLOCK
        drawn[:whole] = _box_muller(drawn[:whole])
        if whole < n:  # the last block reaches back into the one before
            drawn[-BLOCK:] = _box_muller(self.uniform(BLOCK))
        return drawn


def _box_muller(uniform: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    pairs = uniform.reshape(-1, 2, HALF)
    radius = np.sqrt(np.float32(-2.0) * np.log(np.float32(1.0) - pairs[:, 0]))
    angle = np.float32(2.0 * math.pi) * pairs[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).ravel()
