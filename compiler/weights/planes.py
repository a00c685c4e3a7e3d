"""Formats whose quants lie in bit planes, and whose scales may be small integers: from ggml's block to r16 and back.

ggml keeps a plane (all low nibbles of a block, say) as bytes of several consecutive fields; where the ``bits`` of element k lie differs
from format to format, but always four consecutive k lie in four consecutive bytes at one shift. So the unit here is the *group*: a dword
of 4 k, and a plane is a rule (block of 32 k, group of it) -> (dword of the plane, shift). In r16 a block of 32 k is 8
groups; where in its vectors of 16 rows a plane's field of a group goes is a second rule, mostly in order. Before the quants of eight
blocks of 32 k, or behind those of one, lie their scales (see ``runtime_c/quant``), byte arrays first, then f16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infc.formats import ROWS, format_of
from infc.weights import scales as sc

Bytes = NDArray[np.uint8]
Dwords = NDArray[np.uint32]
_CHUNK = 1 << 19  # bytes of the file repacked together: temporaries are a few times that


@dataclass(frozen=True)
class Plane:
    """``bits`` of every element, ``size`` bytes from ``at`` in the file's block; ``where(block, group)`` -> (dword, shift).

    ``to(bits, group)`` -> (vector, shift) in r16, vectors counted from the plane's ``first``."""

    bits: int
    at: int
    size: int
    where: Callable[[int, int], tuple[int, int]]
    first: int = 0
    to: Callable[[int, int], tuple[int, int]] = lambda bits, g: (g * bits // 8, g * bits % 8)


@dataclass(frozen=True)
class Layout:
    """A format's planes and scales. ``halves``: offsets of f16 values in the file's block; ``negated``: those whose sign r16 turns.
    ``small`` unpacks the bytes at ``small_at`` into one byte a scale (see ``scales``). ``vectors`` of 64 bytes hold the quants of
    16 rows x 32 k."""

    vectors: int
    planes: tuple[Plane, ...]
    halves: tuple[int, ...]
    negated: tuple[int, ...] = ()
    small: sc.Codec = sc.NONE
    small_at: int = 0


def _split(j: int, g: int) -> tuple[int, int]:
    """Nibbles of one block of 32: k below 16 in the low halves of 16 bytes, the others in the high ones."""
    return 4 * j + g % 4, 4 * (g // 4)


def _pair(j: int, g: int) -> tuple[int, int]:
    """Nibbles of two blocks of 32 in 32 bytes, the first in the low halves."""
    return 8 * (j // 2) + g, 4 * (j % 2)


def _far_pair(j: int, g: int) -> tuple[int, int]:
    """Nibbles of four blocks of 32 in 64 bytes: blocks 0 and 1 in the low halves, 2 and 3 in the high ones."""
    return 16 * (j // 4) + 8 * (j % 2) + g, 4 * (j % 4 // 2)


def _four(j: int, g: int) -> tuple[int, int]:
    """Two bits of four blocks of 32 in 32 bytes."""
    return 8 * (j // 4) + g, 2 * (j % 4)


def _eight(j: int, g: int) -> tuple[int, int]:
    """One bit of eight blocks of 32 in 32 bytes."""
    return g, j


def _pairs(_bits: int, g: int) -> tuple[int, int]:
    """Two bits of one block in r16: neighbouring groups in two vectors, so that those of one half share their places."""
    return g % 2, 2 * (g // 2)


def _threes(bits: int, g: int) -> tuple[int, int]:
    """The lower two bits of three, and the upper one, in r16: six groups whole, two to a vector; the two others in what is left."""
    if g < 6:
        return g // 2, 3 * (g % 2) + (0 if bits == 2 else 2)
    return (g - 6, 6) if bits == 2 else (2, g)


LAYOUTS = {
    "Q2_K": Layout(2, (Plane(2, 16, 64, _four, 0, _pairs),), (80, 82), (82,), sc.BYTES_16, 0),
    "Q3_K": Layout(3, (Plane(2, 32, 64, _four, 0, _threes), Plane(1, 0, 32, _eight, 0, _threes)), (108,), (), sc.SIX_BITS_16, 96),
    "Q4_K": Layout(4, (Plane(4, 16, 128, _pair),), (0, 2), (2,), sc.SIX_BITS_8_8, 4),
    "Q5_K": Layout(5, (Plane(4, 48, 128, _pair), Plane(1, 16, 32, _eight, 4)), (0, 2), (2,), sc.SIX_BITS_8_8, 4),
    "Q6_K": Layout(6, (Plane(4, 0, 128, _far_pair), Plane(2, 128, 64, _four, 4, _pairs)), (208,), (), sc.BYTES_16, 192),
    "IQ4_NL": Layout(4, (Plane(4, 2, 16, _split),), (0,)),
    "IQ4_XS": Layout(4, (Plane(4, 8, 128, _split),), (0,), (), sc.SIX_BITS_8, 2),
    "MXFP4": Layout(4, (Plane(4, 1, 16, _split),), (), (), sc.BYTES_1, 0),
    "TQ2_0": Layout(2, (Plane(2, 0, 64, _four, 0, _pairs),), (64,)),
}


def _mask(p: Plane) -> np.uint32:
    return np.uint32(((1 << p.bits) - 1) * 0x01010101)


def _places(layout: Layout, n_blocks: int) -> tuple[int, int]:
    """Where quants and scales begin, in bytes."""
    scales = ROWS * (layout.small.count + 2 * len(layout.halves))
    return (scales, 0) if n_blocks > 1 else (0, 64 * layout.vectors)


def _chunks(n: int, row_bytes: int) -> list[tuple[int, int]]:
    step = max(1, _CHUNK // (ROWS * row_bytes))
    return [(i, min(i + step, n)) for i in range(0, n, step)]


def repack(type: str, raw: Bytes) -> Bytes:
    """(16 n, row bytes) as in the file -> (n, panel bytes)."""
    f = format_of(type)
    n, blocks = len(raw) // ROWS, raw.shape[1] // f.raw_bytes
    out = np.empty((n, blocks, f.r16_bytes), np.uint8)
    rows = raw.reshape(n, ROWS, blocks, f.raw_bytes)
    for i, j in _chunks(n, raw.shape[1]):
        _repack(LAYOUTS[type], f.block_size // 32, rows[i:j], out[i:j])
    return out.reshape(n, -1)


def _dwords(rows: Bytes, p: Plane) -> Dwords:
    """(panels, 16, blocks, bytes) -> the plane's dwords, (dword, panel, block, row): every later step is elementwise on long rows."""
    part = np.ascontiguousarray(rows[..., p.at : p.at + p.size]).view(np.dtype("<u4"))
    return np.ascontiguousarray(part.transpose(3, 0, 2, 1))


def _repack(layout: Layout, n_blocks: int, rows: Bytes, out: Bytes) -> None:
    words: Any = out.view(np.dtype("<u4"))
    quants, at = _places(layout, n_blocks)
    sources = [(p, _dwords(rows, p), _mask(p)) for p in layout.planes]
    for block in range(n_blocks):
        vectors: list[Any] = [0] * layout.vectors
        for p, source, mask in sources:
            for group in range(8):
                dword, shift = p.where(block, group)
                v, to = p.to(p.bits, group)
                vectors[p.first + v] = vectors[p.first + v] | ((source[dword] >> np.uint32(shift)) & mask) << np.uint32(to)
        for v, vector in enumerate(vectors):
            first = quants // 4 + ROWS * (layout.vectors * block + v)
            words[..., first : first + ROWS] = vector
    small = layout.small.unpack(rows[..., layout.small_at : layout.small_at + layout.small.packed])
    for i in range(layout.small.count):
        out[..., at : at + ROWS] = small[..., i].transpose(0, 2, 1)
        at += ROWS
    for i in layout.halves:
        half = np.ascontiguousarray(rows[..., i : i + 2]).view(np.dtype("<u2"))[..., 0].transpose(0, 2, 1)
        flipped = half ^ np.uint16(0x8000) if i in layout.negated else half
        out[..., at : at + 2 * ROWS] = np.ascontiguousarray(flipped).view(np.uint8)
        at += 2 * ROWS


def unpack(type: str, panels: Bytes) -> Bytes:
    """(n, panel bytes) -> (16 n, row bytes) as in a file: the inverse of ``repack``."""
    f = format_of(type)
    n, blocks = len(panels), panels.shape[1] // f.r16_bytes
    out = np.empty((n, ROWS, blocks, f.raw_bytes), np.uint8)
    packed = np.ascontiguousarray(panels).reshape(n, blocks, f.r16_bytes)
    for i, j in _chunks(n, blocks * f.raw_bytes):
        _unpack(LAYOUTS[type], f.block_size // 32, packed[i:j], out[i:j])
    return out.reshape(n * ROWS, -1)


def _unpack(layout: Layout, n_blocks: int, packed: Bytes, rows: Bytes) -> None:
    words: Any = packed.view(np.dtype("<u4"))
    n, blocks = packed.shape[:2]
    quants, at = _places(layout, n_blocks)
    for p in layout.planes:
        plane = np.zeros((p.size // 4, n, blocks, ROWS), np.dtype("<u4"))
        for block in range(n_blocks):
            for group in range(8):
                v, to = p.to(p.bits, group)
                first = quants // 4 + ROWS * (layout.vectors * block + p.first + v)
                codes = (words[..., first : first + ROWS] >> np.uint32(to)) & _mask(p)
                dword, shift = p.where(block, group)
                plane[dword] |= codes << np.uint32(shift)
        rows[..., p.at : p.at + p.size] = np.ascontiguousarray(plane.transpose(1, 3, 2, 0)).view(np.uint8)
    count = layout.small.count
    small = packed[..., at : at + ROWS * count].reshape(n, blocks, count, ROWS).transpose(0, 3, 1, 2)
    rows[..., layout.small_at : layout.small_at + layout.small.packed] = layout.small.pack(small)
    at += ROWS * count
    for i in layout.halves:
        half = np.ascontiguousarray(packed[..., at : at + 2 * ROWS]).view(np.dtype("<u2"))
        flipped = half ^ np.uint16(0x8000) if i in layout.negated else half
        rows[..., i : i + 2] = np.ascontiguousarray(flipped.transpose(0, 2, 1))[..., None].view(np.uint8)
        at += 2 * ROWS
