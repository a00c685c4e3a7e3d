"""TQ1_0, five digits of base 3 in a byte, from and to TQ2_0, two bits a digit.

A byte is ceil(256 n / 243) of n = sum d_i 3^(4-i), so that each digit comes out by a multiplication: byte * 3^i modulo 256, times 3,
divided by 256. 240 elements are in 48 bytes, 32 and then 16 bytes at a time, digit i of byte b being element 32 i + b (160 + 16 i + b); the
last 16 are in 4 bytes of four digits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
_PARTS = ((32, 5), (16, 5), (4, 4))  # (bytes, digits in each)
RAW_BYTES, TQ2_BYTES = 54, 66


def to_tq2(raw: Bytes) -> Bytes:
    """(..., 54) -> (..., 66)."""
    digits, at = [], 0
    for size, count in _PARTS:
        part = raw[..., at : at + size]
        at += size
        digits += [((part * np.uint8(3**i)).astype(np.uint16) * 3 >> 8).astype(np.uint8) for i in range(count)]
    q = np.concatenate(digits, axis=-1).reshape(*raw.shape[:-1], 2, 4, 32)
    pairs = q[..., 0, :] | q[..., 1, :] << 2 | q[..., 2, :] << 4 | q[..., 3, :] << 6
    return np.concatenate([pairs.reshape(*raw.shape[:-1], 64), raw[..., 52:]], axis=-1)


def from_tq2(raw: Bytes) -> Bytes:
    """(..., 66) -> (..., 54): the bytes that ggml's quantizer writes (a few others mean the same digits)."""
    pairs = raw[..., :64].reshape(*raw.shape[:-1], 2, 1, 32)
    q = ((pairs >> np.array([0, 2, 4, 6], np.uint8)[:, None]) & np.uint8(3)).reshape(*raw.shape[:-1], 256)
    out, at = [], 0
    for size, count in _PARTS:
        d = q[..., at : at + size * count].reshape(*raw.shape[:-1], count, size).astype(np.uint16)
        at += size * count
        n = sum(d[..., i, :] * np.uint16(3 ** (4 - i)) for i in range(count))
        out.append(((n * np.uint16(256) + np.uint16(242)) // np.uint16(243)).astype(np.uint8))
    return np.concatenate([*out, raw[..., 64:]], axis=-1)
