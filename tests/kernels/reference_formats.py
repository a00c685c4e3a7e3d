"""ggml's block formats in numpy, written from their definitions: quants, scales and minima of each block, element by element.

Every function takes blocks (n, bytes) and returns q (n, parts, size) int32 with its zero point taken off, d and m (n, parts) float32: an
element is q d + m. A part is what one scale holds for, 32 or 16 elements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gguf import quants
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Parts = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]

# where the f16 fields of a block are
HALVES = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2),
    "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,), "MXFP4": (), "TQ1_0": (52,), "TQ2_0": (64,),
}  # fmt: skip


def _half(b: Bytes, at: int) -> NDArray[np.float32]:
    return np.ascontiguousarray(b[:, at : at + 2]).view(np.float16).astype(np.float32)


def _bit(byte: Any, i: Any, count: int = 1) -> Any:
    return byte.astype(np.int32) >> i & ((1 << count) - 1)


def _parts(q: Any, d: Any, m: Any = None) -> Parts:
    d = np.asarray(d, np.float32)
    m = np.zeros_like(d) if m is None else np.asarray(m, np.float32)
    return np.asarray(q, np.int32).reshape(len(d), d.shape[1], -1), d, m


def _nibbles(b: Bytes) -> Any:
    """16 bytes a block of 32: elements 0..15 in the low halves, 16..31 in the high ones."""
    return np.concatenate([b & 15, b >> 4], axis=-1).astype(np.int32)


def _simple(zero: int, fifth: bool, minimum: bool) -> Callable[[Bytes], Parts]:
    def read(b: Bytes) -> Parts:
        q = _nibbles(b[:, -16:])
        if fifth:
            at = 4 if minimum else 2
            q = q | np.unpackbits(b[:, at : at + 4], axis=-1, bitorder="little").astype(np.int32) << 4
        return _parts(q - zero, _half(b, 0), _half(b, 2) if minimum else None)

    return read


def _q8_0(b: Bytes) -> Parts:
    return _parts(np.ascontiguousarray(b[:, 2:]).view(np.int8), _half(b, 0))


def _elements(b: Bytes, at: int, bits: int, run: int, per: int) -> Any:
    """256 fields of ``bits`` bits: runs of ``run`` bytes from ``at`` hold their bytes' lowest fields first, ``per`` a byte."""
    e = np.arange(256)
    chunk, rest = e // (run * per), e % (run * per)
    return _bit(b[:, at + run * chunk + rest % run], bits * (rest // run), bits)


def _six_bits(b: Bytes) -> tuple[Any, Any]:
    """The scales and minima of Q4_K and Q5_K from their 12 bytes."""
    s = b[:, 4:16].astype(np.int32)
    scale = [s[:, j] & 63 if j < 4 else (s[:, j + 4] & 15) | s[:, j - 4] >> 6 << 4 for j in range(8)]
    minimum = [s[:, j + 4] & 63 if j < 4 else s[:, j + 4] >> 4 | s[:, j] >> 6 << 4 for j in range(8)]
    return np.stack(scale, axis=1), np.stack(minimum, axis=1)


def _q2_k(b: Bytes) -> Parts:
    return _parts(_elements(b, 16, 2, 32, 4), _half(b, 80) * (b[:, :16] & 15), -(_half(b, 82) * (b[:, :16] >> 4)))


def _q3_k(b: Bytes) -> Parts:
    s = b[:, 96:108].astype(np.int32)
    scale = [(s[:, j % 8] >> 4 * (j // 8) & 15 | (s[:, 8 + j % 4] >> 2 * (j // 4) & 3) << 4) - 32 for j in range(16)]
    q = _elements(b, 32, 2, 32, 4) | _elements(b, 0, 1, 32, 8) << 2
    return _parts(q - 4, _half(b, 108) * np.stack(scale, axis=1).astype(np.float32))


def _q4_k(b: Bytes) -> Parts:
    scale, minimum = _six_bits(b)
    return _parts(_elements(b, 16, 4, 32, 2), _half(b, 0) * scale, -(_half(b, 2) * minimum))


def _q5_k(b: Bytes) -> Parts:
    scale, minimum = _six_bits(b)
    q = _elements(b, 48, 4, 32, 2) | _elements(b, 16, 1, 32, 8) << 4
    return _parts(q, _half(b, 0) * scale, -(_half(b, 2) * minimum))


def _q6_k(b: Bytes) -> Parts:
    scale = np.ascontiguousarray(b[:, 192:208]).view(np.int8)
    return _parts((_elements(b, 0, 4, 64, 2) | _elements(b, 128, 2, 32, 4) << 4) - 32, _half(b, 208) * scale)


def _iq4_nl(b: Bytes) -> Parts:
    return _parts(np.array(quants.IQ4_NL.kvalues)[_nibbles(b[:, 2:])], _half(b, 0))


def _iq4_xs(b: Bytes) -> Parts:
    j = np.arange(8)
    scale = (_bit(b[:, 4 + j // 2], 4 * (j % 2), 4) | _bit(b[:, 2 + j // 4], 2 * (j % 4), 2) << 4) - 32
    q = np.array(quants.IQ4_NL.kvalues)[_nibbles(b[:, 8:].reshape(len(b), 8, 16))]
    return _parts(q, _half(b, 0) * scale.astype(np.float32))


def _mxfp4(b: Bytes) -> Parts:
    return _parts(np.array(quants.MXFP4.kvalues)[_nibbles(b[:, 1:])], np.ldexp(np.float32(1), b[:, :1].astype(np.int32) - 128))


def _tq2_0(b: Bytes) -> Parts:
    return _parts(_elements(b, 0, 2, 32, 4) - 1, np.repeat(_half(b, 64), 8, axis=1))


def _tq1_0(b: Bytes) -> Parts:
    q = np.empty((len(b), 256), np.int32)
    for e in range(256):
        at, digit = (e % 32, e // 32) if e < 160 else (32 + e % 16, (e - 160) // 16) if e < 240 else (48 + e % 4, (e - 240) // 4)
        q[:, e] = (b[:, at].astype(np.int32) * 3**digit & 255) * 3 >> 8
    return _parts(q - 1, np.repeat(_half(b, 52), 8, axis=1))


_READERS: dict[str, Callable[[Bytes], Parts]] = {
    "Q4_0": _simple(8, False, False), "Q4_1": _simple(0, False, True), "Q5_0": _simple(16, True, False), "Q5_1": _simple(0, True, True),
    "Q8_0": _q8_0, "Q2_K": _q2_k, "Q3_K": _q3_k, "Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k, "IQ4_NL": _iq4_nl, "IQ4_XS": _iq4_xs,
    "MXFP4": _mxfp4, "TQ1_0": _tq1_0, "TQ2_0": _tq2_0,
}  # fmt: skip


def decode(type: str, raw: Bytes, block_bytes: int) -> Parts:
    """Rows of blocks (n, row bytes) -> q (n, parts, size), d and m (n, parts)."""
    q, d, m = _READERS[type](raw.reshape(-1, block_bytes))
    n = len(raw)
    return q.reshape(n, -1, q.shape[2]), d.reshape(n, -1), m.reshape(n, -1)
