"""The arithmetic contract (DESIGN section 4) in numpy, written from the text and not from the C."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from infc.formats import FORMATS
from tests.kernels import reference_formats

F32 = NDArray[np.float32]


def fma(a: Any, b: Any, c: Any) -> F32:
    """a * b + c rounded once to float32.

    The product of two floats is exact in double. The sum is rounded to odd (Boldo and Melquiond, 2008) by its exact error (TwoSum:
    Knuth), after which rounding to float cannot go wrong.
    """
    with np.errstate(all="ignore"):
        p = np.asarray(a, np.float64) * np.asarray(b, np.float64)
        c = np.asarray(c, np.float64)
        s = np.asarray(p + c)
        t = s - p
        e = (p - (s - t)) + (c - t)
        even = (s.view(np.int64) & 1) == 0
        up = np.nextafter(s, np.where(e > 0, np.inf, -np.inf))
        return np.where(np.isfinite(s) & even & (e != 0), up, s).astype(np.float32)


def fold(lanes: F32) -> F32:
    """16 -> 8 -> 4 -> 2 -> 1 over the last axis."""
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = lanes[..., :half] + lanes[..., half:]
    return lanes[..., 0]


class Activations:
    """q8 blocks of (M, K): ``q`` int8, and per block ``d``, ``s`` (two sums), ``ds``.

    q = round(y), y = x * 127 / max|x|; d = (sum y q / sum q^2) * (max|x| / 127), each sum in sixteen lanes and the fixed fold.
    """

    def __init__(self, x: F32) -> None:
        m, k = x.shape
        blocks = x.reshape(m, k // 32, 32)
        with np.errstate(all="ignore"):
            amax = np.abs(blocks).max(axis=2)
            bad, tiny = ~np.isfinite(amax), amax < np.float32(1e-30)
            none = bad | tiny
            y = np.where(none[..., None], 0, blocks * np.where(none, 0, np.float32(127) / amax)[..., None]).astype(np.float32)
            q = np.rint(y)
            yq, qq = (self._sum(v, q) for v in (y, q))
            d = yq / qq * (amax / np.float32(127))
            self.d = np.where(bad, np.nan, np.where(tiny, 0, d)).astype(np.float32)
            self.q = q.astype(np.int8)
            # two sums: all, and the first half
            self.s = np.stack([self.q.sum(axis=2, dtype=np.int16), self.q[..., :16].sum(axis=2, dtype=np.int16)], axis=2)
            self.ds = self.d * self.s[..., 0].astype(np.float32)

    @staticmethod
    def _sum(a: F32, b: F32) -> F32:
        """Sum over the block of a * b."""
        return fold(fma(a[..., 16:], b[..., 16:], a[..., :16] * b[..., :16]))


def tiled(blocks: NDArray[Any]) -> NDArray[Any]:
    """(M, blocks, ...) in tiles of sixteen rows, (M / 16, blocks, 16, ...); rows that do not exist hold the largest values there are."""
    m = len(blocks)
    fill = np.nan if blocks.dtype.kind == "f" else np.iinfo(blocks.dtype).max
    whole = np.full((-(-m // 16) * 16, *blocks.shape[1:]), fill, blocks.dtype)
    whole[:m] = blocks
    return np.ascontiguousarray(whole.reshape(-1, 16, *blocks.shape[1:]).swapaxes(1, 2))


def decode(type: str, raw: NDArray[np.uint8]) -> tuple[NDArray[np.int32], F32, F32]:
    """ggml's blocks (n, row bytes) -> q (n, parts, size) with its zero point taken off, d and m (n, parts): weight = q d + m."""
    return reference_formats.decode(type, raw, FORMATS[type].raw_bytes)


def linear_q8(type: str, raw: NDArray[np.uint8], x: Activations) -> F32:
    """(M, n): one float32 accumulator per output, scales ascending."""
    q, d, m = decode(type, raw)
    rows, size = len(x.q), q.shape[2]
    xq = x.q.reshape(rows, -1, size).astype(np.int32)
    xd = np.repeat(x.d, 32 // size, axis=1)
    acc = np.zeros((rows, len(raw)), np.float32)
    with np.errstate(all="ignore"):
        xds = xd * xq.sum(axis=2).astype(np.float32)
        for b in range(q.shape[1]):
            dots = (xq[:, b] @ q[:, b].T).astype(np.float32)
            acc = fma(dots, xd[:, b, None] * d[None, :, b], acc)
            if len(reference_formats.HALVES[type]) == 2:
                acc = fma(m[None, :, b], xds[:, b, None], acc)
    return acc


def weights_f32(type: str, raw: NDArray[np.uint8]) -> F32:
    """(n, K) of an unquantized format."""
    if type == "F32":
        return raw.view(np.float32)
    if type == "F16":
        return raw.view(np.float16).astype(np.float32)
    return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def linear_f32(type: str, raw: NDArray[np.uint8], x: F32) -> F32:
    """(M, n): one float32 accumulator per output, k ascending."""
    w = weights_f32(type, raw)
    acc = np.zeros((len(x), len(raw)), np.float32)
    for k in range(w.shape[1]):
        acc = fma(w[None, :, k], x[:, k, None], acc)
    return acc


def rms_scale(x: F32, eps: float) -> np.float32:
    """1 / sqrt(mean(x^2) + eps) with sixteen partial sums."""
    lanes = np.zeros(16, np.float32)
    for i in range(0, len(x), 16):
        v = np.zeros(16, np.float32)
        v[: len(x[i : i + 16])] = x[i : i + 16]
        lanes = fma(v, v, lanes)
    return np.float32(1) / np.sqrt(fold(lanes) / np.float32(len(x)) + np.float32(eps))
