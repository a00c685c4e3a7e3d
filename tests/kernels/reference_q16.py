"""The contract of a q16 KV cache (docs/arithmetic.md) in numpy, written from the text and not from the C."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.kernels.reference import F32, fma, fold

PAGE, KEY_MAX, VALUE_MAX = 64, 4095, 2047
NAN = np.float32(np.nan)
_POLYNOMIAL = [np.float32(float.fromhex(c)) for c in ("0x1.3a02ccp+7", "0x1.c9fc46p+9", "0x1.ec0378p+11", "0x1.62e12cp+13", "0x1p+14")]


def quantize(x: F32, most: int) -> tuple[NDArray[np.int64], F32]:
    """(n, head_dim) -> integers and one scale a row: max|x| becomes ``most``; rows with Inf or NaN: 0 and NaN."""
    with np.errstate(all="ignore"):
        largest = np.abs(x).max(axis=1)
        bad, tiny = ~np.isfinite(largest), largest < np.float32(1e-30)
        factor = np.where(bad | tiny, 0, np.float32(most) / largest).astype(np.float32)
        q = np.rint(np.where((bad | tiny)[:, None], 0, x) * factor[:, None]).astype(np.int64)
        scale = np.where(bad, NAN, np.where(tiny, 0, largest / np.float32(most))).astype(np.float32)
    return q, scale


def quantize_values(v: F32) -> tuple[NDArray[np.int64], F32]:
    """(n, head_dim) -> integers and the exponent e of each row: the least power of two with max|v| / 2047 <= 2^e, e >= -40."""
    with np.errstate(all="ignore"):
        largest = np.abs(v).max(axis=1)
        bad = ~np.isfinite(largest)
        mantissa, exponent = np.frexp(np.where(bad, 1, largest) / np.float32(VALUE_MAX))
        e = np.where(mantissa == 0.5, exponent - 1, exponent)  # frexp: mantissa in [1/2, 1)
        e = np.where(mantissa == 0, -40, np.maximum(e, -40))
        q = np.rint(np.ldexp(np.where(bad[:, None], 0, v), -e[:, None])).astype(np.int64)
    return q, np.where(bad, NAN, e).astype(np.float32)


def exp2(x: F32) -> F32:
    """2^14 2^x for x <= 0."""
    with np.errstate(all="ignore"):
        c = np.where(x < np.float32(-126), np.float32(-126), x).astype(np.float32)
        n = np.rint(c)
        r = (c - n).astype(np.float32)
        p = np.full_like(r, _POLYNOMIAL[0])
        for a in _POLYNOMIAL[1:]:
            p = fma(p, r, a)
        return np.ldexp(p, np.where(np.isnan(n), 0, n).astype(np.int32)).astype(np.float32)


def attend(q: F32, k: F32, v: F32) -> F32:
    """(n, head_dim): each query over all positions of k and v, page by page."""
    n, head_dim = q.shape
    ki, dk = quantize(k, KEY_MAX)
    vi, e = quantize_values(v)
    qi, dq = quantize(q, min(8191, (2**31 - 1) // KEY_MAX // head_dim))
    most = np.full(n, -np.inf, np.float32)
    lanes, o = np.zeros((n, 16), np.float32), np.zeros((n, head_dim), np.float32)
    unit = np.float32(2**-14)
    with np.errstate(all="ignore"):
        for first in range(0, len(k), PAGE):
            at = slice(first, min(first + PAGE, len(k)))
            s = (qi @ ki[at].T).astype(np.float32)
            u = fma(s, dq[:, None] * dk[None, at], e[None, at])
            page = u.max(axis=1)
            x = exp2(u - page[:, None])
            weights = np.nan_to_num(np.rint(x), nan=0).astype(np.int64)
            total = (weights @ vi[at]).astype(np.float32)
            z = np.zeros((n, 16), np.float32)
            inverse = np.exp2(-e[at]).astype(np.float32)
            for j in range(0, x.shape[1], 16):
                width = min(16, x.shape[1] - j)
                z[:, :width] = fma(x[:, j : j + width], inverse[None, j : j + width], z[:, :width])
            new = np.maximum(most, page)
            c, f = exp2(most - new) * unit, exp2(page - new) * unit
            most = new
            lanes = fma(z, f[:, None], lanes * c[:, None])
            o = fma(total, f[:, None], o * c[:, None])
        return np.asarray(o * (np.float32(1) / fold(lanes))[:, None], np.float32)


def page_part(k: F32, v: F32, fill: int = 255) -> NDArray[np.uint8]:
    """One page part with the first len(k) positions written and every other byte ``fill``."""
    n, head_dim = k.shape
    part: NDArray[np.uint8] = np.full(4 * PAGE * head_dim + 12 * PAGE, fill, np.uint8)
    keys = part[: 2 * PAGE * head_dim].view(np.int16).reshape(4, head_dim // 2, 16, 2)
    values = part[2 * PAGE * head_dim : 4 * PAGE * head_dim].view(np.int16).reshape(2, 16, head_dim, 2)
    scales = part[4 * PAGE * head_dim :].view(np.float32).reshape(3, PAGE)
    ki, scales[0, :n] = quantize(k, KEY_MAX)
    vi, scales[1, :n] = quantize_values(v)
    scales[2, :n] = np.where(np.isnan(scales[1, :n]), NAN, np.exp2(-scales[1, :n]))
    for i in range(n):
        keys[i // 16, :, i % 16] = ki[i].reshape(-1, 2)
        values[i // 32, i % 16, :, i // 16 % 2] = vi[i]
    return part


def pool(k: F32, v: F32, pages: NDArray[np.int32], stride: int, offset: int) -> NDArray[np.uint8]:
    """A pool whose page ``pages[i]`` holds positions 64i.. at ``offset``; all other bytes are 255, NaN as floats."""
    out: NDArray[np.uint8] = np.full((int(pages.max()) + 2, stride), 255, np.uint8)
    for i, page in enumerate(pages):
        part: Any = page_part(k[i * PAGE : (i + 1) * PAGE], v[i * PAGE : (i + 1) * PAGE])
        out[page, offset : offset + len(part)] = part
    return out.reshape(-1)
