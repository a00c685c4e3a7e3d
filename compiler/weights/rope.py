"""RoPE tables, computed in double at compile time (Su et al., 2021; linear scaling: Chen et al., 2023)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from infc.frontend.config import Rope


def rope_table(rope: Rope, n_ctx: int, freq_factors: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """(n_ctx, dim / 2, 2): cosine and sine of position * frequency, rounded once from double.

    Frequency i is base^(-2 i / dim) / factor, divided by ``freq_factors[i]`` where the model has them (dim / 2 values).
    """
    frequency = np.array([rope.base ** (-2.0 * i / rope.dim) for i in range(rope.dim // 2)])
    if freq_factors is not None:
        frequency /= freq_factors.astype(np.float64)
    frequency /= rope.factor
    angle = (np.arange(n_ctx, dtype=np.float64)[:, None] * frequency[None, :]).ravel()
    # libm, not numpy: numpy's sine differs in the last place between CPUs, and a build must not.
    table = np.empty((angle.size, 2), dtype=np.float64)
    table[:, 0] = np.fromiter(map(math.cos, angle), np.float64, angle.size)
    table[:, 1] = np.fromiter(map(math.sin, angle), np.float64, angle.size)
    return (table * rope.attn_factor).astype(np.float32).reshape(n_ctx, -1, 2)
