"""Scales that make the least error, found by trying: for each of a few ways to spread the levels over the values, round, and take the
scale (and minimum) that fits those levels best in the sense of least squares; then keep the best of these.

Arrays are (elements of a block, blocks), so that sums over a block are plain vector additions: the same on every CPU. Squares are weighted
by root mean square plus magnitude: large weights matter more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]

_STEPS = np.arange(-9, 10, dtype=np.float32) / 10  # how far the outermost value may miss the outermost level, in levels
_AFFINE_STEPS = np.arange(-10, 6, dtype=np.float32) / 5  # the same where a minimum is subtracted


def total(x: Floats) -> Floats:
    """Sums of the columns, added in order: numpy's own sum takes another one where there is one column."""
    out: Floats = x[0].copy()
    for row in x[1:]:
        out += row
    return out


def blocks_of(values: Floats, size: int) -> Floats:
    """(rows, k) -> (size, blocks), a copy."""
    return np.ascontiguousarray(values.reshape(-1, size).T)


def weights(x: Floats) -> Floats:
    out: Floats = np.sqrt(total(x * x) / np.float32(len(x))) + np.abs(x)
    return out


def quotient(a: Floats, b: Floats) -> Floats:
    """a / b, and 0 where b is 0."""
    out: Floats = np.divide(a, b, out=np.zeros_like(a), where=b != 0)
    return out


def symmetric(x: Floats, w: Floats, n: int) -> Floats:
    """(blocks): a scale s for levels -n to n - 1; of either sign, as there is one more level below."""
    extreme = np.take_along_axis(x, np.abs(x).argmax(0)[None], 0)[0]
    scale: Floats = np.zeros_like(extreme)
    best = scale
    for step in _STEPS:
        q = np.clip(np.rint(x * quotient(np.full_like(extreme, -n - step), extreme)), -n, n - 1)
        wq = w * q
        xq, qq = total(wq * x), total(wq * q)
        fit = quotient(xq, qq)
        gain = fit * xq  # by how much less the error is than with a scale of 0
        scale, best = np.where(gain > best, fit, scale), np.maximum(gain, best)
    return scale


def affine(x: Floats, w: Floats, n: int) -> tuple[Floats, Floats]:
    """(scale >= 0, minimum >= 0), (blocks) each, for s q - m with levels q from 0 to n."""
    low = np.minimum(x.min(0), np.float32(0))
    span = np.maximum(x.max(0) - low, 0)
    sum_w, sum_x = total(w), total(w * x)
    scale, minimum, best = quotient(span, np.full_like(span, n)), low, np.full_like(low, np.inf)
    for step in (None, *_AFFINE_STEPS):
        levels = n if step is None else n + step
        q = np.clip(np.rint((x - low) * quotient(np.full_like(span, levels), span)), 0, n)
        if step is None:
            s, m = scale, low
        else:
            wq = w * q
            sum_q, sum_qq, sum_xq = total(wq), total(wq * q), total(wq * x)
            det = sum_w * sum_qq - sum_q * sum_q
            s, m = quotient(sum_w * sum_xq - sum_x * sum_q, det), quotient(sum_qq * sum_x - sum_q * sum_xq, det)
            above = m > 0  # a minimum is subtracted
            s, m = np.where(above, quotient(sum_xq, sum_qq), s), np.where(above, np.float32(0), m)
        miss = q * s + (m - x)
        error = total(w * miss * miss)
        better = (error < best) & (s >= 0)
        scale, minimum, best = np.where(better, s, scale), np.where(better, m, minimum), np.where(better, error, best)
    return scale, -minimum


def halves(x: Floats) -> tuple[NDArray[np.float16], Floats]:
    """f16, and what that is as f32."""
    h = x.astype(np.float16)
    return h, h.astype(np.float32)


def codes(x: Floats, scale: Floats, low: int, high: int) -> NDArray[np.int8]:
    """Levels of (elements, blocks) under a scale for each block; 0 where that is 0."""
    q = np.rint(quotient(x, np.broadcast_to(scale, x.shape)))
    return np.clip(q, low, high).astype(np.int8)
