"""The arithmetic contract (DESIGN section 4) in numpy, written from the text and not from the C."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from infc.formats import FORMATS

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
    """q8 blocks of (M, K): ``q`` int8, and per block ``d``, ``s``, ``ds``.

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
            self.s = self.q.sum(axis=2, dtype=np.int32)
            self.ds = self.d * self.s.astype(np.float32)

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
    """ggml's blocks (n, row bytes) -> q (n, blocks, 32) with its zero point taken off, d and m (n, blocks): weight = q d + m."""
    b = raw.reshape(len(raw), -1, FORMATS[type].raw_bytes)
    scales = 2 if type.endswith("_1") else 1
    f16 = np.ascontiguousarray(b[..., : 2 * scales]).view(np.float16).astype(np.float32)
    d, m = f16[..., 0], f16[..., 1] if scales == 2 else np.zeros_like(f16[..., 0])
    rest = b[..., 2 * scales :]
    if type == "Q8_0":
        return np.ascontiguousarray(rest).view(np.int8).astype(np.int32), d, m
    nibbles = rest[..., -16:]
    q = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1).astype(np.int32)
    if type.startswith("Q5"):
        q |= np.unpackbits(rest[..., :4], axis=-1, bitorder="little").astype(np.int32) << 4
    return q - {"Q4_0": 8, "Q5_0": 16}.get(type, 0), d, m


def linear_q8(type: str, raw: NDArray[np.uint8], x: Activations) -> F32:
    """(M, n): one float32 accumulator per output, blocks ascending."""
    q, d, m = decode(type, raw)
    acc = np.zeros((len(x.q), len(raw)), np.float32)
    with np.errstate(all="ignore"):
        for b in range(q.shape[1]):
            dots = (x.q[:, b].astype(np.int32) @ q[:, b].T).astype(np.float32)
            acc = fma(dots, x.d[:, b, None] * d[None, :, b], acc)
            if type.endswith("_1"):
                acc = fma(m[None, :, b], x.ds[:, b, None], acc)
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
