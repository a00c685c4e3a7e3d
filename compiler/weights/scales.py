"""The small integer scales of ggml's blocks: as they are packed in the file, and one byte each, as kernels read them.

Arrays are (..., bytes); the last axis changes its length, the others are anything. ``pack`` is the exact inverse of ``unpack``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Codec:
    """``packed`` bytes in the file are ``count`` scales of one byte."""

    packed: int
    count: int
    unpack: Callable[[Bytes], Bytes]
    pack: Callable[[Bytes], Bytes]


def _as_it_is(x: Bytes) -> Bytes:
    return x


def _bits(x: Bytes, first: int, count: int) -> Bytes:
    """The ``count`` bits of every byte from bit ``first`` on."""
    out: Bytes = (x >> np.uint8(first)) & np.uint8((1 << count) - 1)
    return out


def _unpack_8_8(x: Bytes) -> Bytes:
    """Eight scales and eight minima of 6 bits in 12 bytes -> scale 0, minimum 0, scale 1, ...

    Of the first four each the file has the 6 bits in the low bits of bytes 0..3 (scales) and 4..7 (minima); of the last four the
    low 4 bits in the nibbles of bytes 8..11 (scale below), the upper 2 in the top bits of bytes 0..3 and 4..7.
    """
    out = np.empty((*x.shape[:-1], 16), np.uint8)
    d, m, low = x[..., 0:4], x[..., 4:8], x[..., 8:12]
    out[..., 0:8:2], out[..., 1:8:2] = _bits(d, 0, 6), _bits(m, 0, 6)
    out[..., 8::2] = _bits(low, 0, 4) | _bits(d, 6, 2) << 4
    out[..., 9::2] = _bits(low, 4, 4) | _bits(m, 6, 2) << 4
    return out


def _pack_8_8(x: Bytes) -> Bytes:
    d, m = x[..., 0::2], x[..., 1::2]
    first = [v[..., :4] | _bits(v[..., 4:], 4, 2) << 6 for v in (d, m)]
    return np.concatenate([*first, _bits(d[..., 4:], 0, 4) | _bits(m[..., 4:], 0, 4) << 4], axis=-1)


def _unpack_16(x: Bytes) -> Bytes:
    """Sixteen scales of 6 bits, less 32, in 12 bytes: low 4 bits in the nibbles of bytes 0..7 (scales 0..7 below), the upper 2 in pairs of
    bits of bytes 8..11 (scales 0..3 lowest)."""
    low = np.concatenate([_bits(x[..., :8], 0, 4), _bits(x[..., :8], 4, 4)], axis=-1)
    high = np.concatenate([_bits(x[..., 8:], 2 * i, 2) for i in range(4)], axis=-1)
    out: Bytes = (low | high << 4) - np.uint8(32)
    return out


def _pack_16(x: Bytes) -> Bytes:
    x = x + np.uint8(32)
    low, high = _bits(x, 0, 4), _bits(x, 4, 2)
    last = high[..., 0:4] | high[..., 4:8] << 2 | high[..., 8:12] << 4 | high[..., 12:] << 6
    return np.concatenate([low[..., :8] | low[..., 8:] << 4, last], axis=-1)


def _unpack_8(x: Bytes) -> Bytes:
    """Eight scales of 6 bits, less 32, in 6 bytes: upper 2 bits in pairs of bits of bytes 0 and 1, low 4 in the nibbles of bytes 2..5."""
    out = np.empty((*x.shape[:-1], 8), np.uint8)
    for i in range(8):
        out[..., i] = _bits(x[..., 2 + i // 2], 4 * (i % 2), 4) | _bits(x[..., i // 4], 2 * (i % 4), 2) << 4
    return out - np.uint8(32)


def _pack_8(x: Bytes) -> Bytes:
    x = x + np.uint8(32)
    out = np.zeros((*x.shape[:-1], 6), np.uint8)
    for i in range(8):
        out[..., 2 + i // 2] |= _bits(x[..., i], 0, 4) << (4 * (i % 2))
        out[..., i // 4] |= _bits(x[..., i], 4, 2) << (2 * (i % 4))
    return out


NONE = Codec(0, 0, _as_it_is, _as_it_is)
BYTES_1 = Codec(1, 1, _as_it_is, _as_it_is)
BYTES_16 = Codec(16, 16, _as_it_is, _as_it_is)
SIX_BITS_8 = Codec(6, 8, _unpack_8, _pack_8)
SIX_BITS_8_8 = Codec(12, 16, _unpack_8_8, _pack_8_8)
SIX_BITS_16 = Codec(12, 16, _unpack_16, _pack_16)
