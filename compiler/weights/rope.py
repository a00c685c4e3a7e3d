"""RoPE tables, computed in double at compile time (Su et al., 2021; linear scaling: Chen et al., 2023; YaRN: Peng et al., 2023)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from infc.frontend.config import Rope, Yarn


def _yarn_factors(rope: Rope, yarn: Yarn) -> NDArray[np.float64]:
    """What each frequency is multiplied by: 1 up to pair ``low``, 1 / factor from pair ``high`` on, a straight line between."""

    def pair(turns: float) -> float:
        """The pair that turns so many times in the original context."""
        return rope.dim * math.log(rope.orig_ctx / (turns * 2 * math.pi)) / (2 * math.log(rope.base))

    low, high = max(0, math.floor(pair(yarn.beta_fast))), min(rope.dim - 1, math.ceil(pair(yarn.beta_slow)))
    ramp = np.clip((np.arange(rope.dim // 2) - low) / max(0.001, high - low), 0.0, 1.0)
    kept = (1 - ramp) * yarn.mix
    return (1 - kept) / rope.factor + kept


def rope_table(rope: Rope, n_ctx: int, freq_factors: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """(n_ctx, dim / 2, 2): cosine and sine of position * frequency, rounded once from double.

    Frequency i is base^(-2 i / dim) / factor, divided by ``freq_factors[i]`` where the model has them (dim / 2 values).
    """
    frequency = np.array([rope.base ** (-2.0 * i / rope.dim) for i in range(rope.dim // 2)])
    if freq_factors is not None:
        frequency /= freq_factors.astype(np.float64)
    if rope.yarn is None:
        frequency /= rope.factor
    else:
        frequency *= _yarn_factors(rope, rope.yarn)
    angle = (np.arange(n_ctx, dtype=np.float64)[:, None] * frequency[None, :]).ravel()
    # libm, not numpy: numpy's sine differs in the last place between CPUs, and a build must not.
    table = np.empty((angle.size, 2), dtype=np.float64)
    table[:, 0] = np.fromiter(map(math.cos, angle), np.float64, angle.size)
    table[:, 1] = np.fromiter(map(math.sin, angle), np.float64, angle.size)
    return (table * rope.attn_factor).astype(np.float32).reshape(n_ctx, -1, 2)
