"""Weights from ggml's row-major blocks to the r16 layout: 16 output rows interleaved, so that rows are SIMD lanes.

A panel is 16 rows. Per block of 32 k it holds dwords, one per row, of 4 consecutive k (see ``runtime_c/quant/*.h``), then one f16
scale (and minimum) per row; unquantized formats hold 16 values per k. ``unpack`` is the exact inverse. Formats of bit planes are in
``planes``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from infc.formats import ROWS, format_of
from infc.weights import planes, ternary

Bytes = NDArray[np.uint8]
Words = NDArray[Any]

# ggml's block: 2-byte scales, then fifth bits, then quants: (scales, fifth bits, quant dwords).
_PARTS = {"Q4_0": (1, 0, 4), "Q4_1": (2, 0, 4), "Q5_0": (1, 1, 4), "Q5_1": (2, 1, 4), "Q8_0": (1, 0, 8)}
_LOW = np.uint32(0x0F0F0F0F)


def _bit_places() -> list[tuple[int, int]]:
    """ggml keeps the fifth bit of element k at bit k; r16 keeps it at bit g of byte j, k = 4 g + j."""
    return [(k, 8 * (k % 4) + k // 4) for k in range(32)]


def _move_bits(h: Words, places: list[tuple[int, int]]) -> Words:
    out: Words = np.zeros_like(h)
    for source, target in places:
        out |= ((h >> np.uint32(source)) & np.uint32(1)) << np.uint32(target)
    return out


def _nibbles_to_groups(q: Words) -> Words:
    """(4, ...) dwords, low halves k = 0..15, high halves k = 16..31 -> dwords whose halves are neighbouring groups of 4 k."""
    low, high = q & _LOW, (q >> np.uint32(4)) & _LOW
    four = np.uint32(4)
    return np.stack([low[0] | low[1] << four, low[2] | low[3] << four, high[0] | high[1] << four, high[2] | high[3] << four])


def _groups_to_nibbles(g: Words) -> Words:
    first, second = g & _LOW, (g >> np.uint32(4)) & _LOW
    low = np.stack([first[0], second[0], first[1], second[1]])
    high = np.stack([first[2], second[2], first[3], second[3]])
    both: Words = low | high << np.uint32(4)
    return both


def _panels(raw: Bytes) -> Bytes:
    """Zero rows up to a multiple of 16."""
    short = -len(raw) % ROWS
    return np.concatenate([raw, np.zeros((short, raw.shape[1]), np.uint8)]) if short else raw


def repack(type: str, raw: Bytes, rows: NDArray[np.integer[Any]] | None = None) -> Bytes:
    """(n_rows, row bytes) as in the file -> (n_panels, panel bytes).

    ``rows`` chooses and orders source rows, -1 being a row of zeros; the last panel is padded with such rows.
    Peak memory: the result and about one copy of it. Raises InputError for an unsupported type.
    """
    f = format_of(type)
    if rows is not None:
        chosen = raw[np.maximum(rows, 0)]
        chosen[np.asarray(rows) < 0] = 0
        raw = chosen
    raw = np.ascontiguousarray(_panels(raw))
    if type == "TQ1_0":
        type, raw = "TQ2_0", ternary.to_tq2(raw.reshape(len(raw), -1, ternary.RAW_BYTES)).reshape(len(raw), -1)
    if type in planes.LAYOUTS:
        return planes.repack(type, raw)
    panels, blocks = len(raw) // ROWS, raw.shape[1] // f.raw_bytes
    if type not in _PARTS:
        values = raw.view(np.dtype(f"<u{f.raw_bytes}")).reshape(panels, ROWS, blocks)
        return np.ascontiguousarray(values.transpose(0, 2, 1)).view(np.uint8).reshape(panels, -1)
    n_scales, n_fifth, n_quants = _PARTS[type]
    # (u16 of a block, panel, block, row): every later step is elementwise on long rows
    half = raw.view(np.dtype("<u2")).reshape(panels, ROWS, blocks, f.raw_bytes // 2)
    out = np.empty((panels, blocks, f.r16_bytes), np.uint8)
    words, halves = out.view(np.dtype("<u4")), out.view(np.dtype("<u2"))

    def dword(i: int) -> Words:
        pair = np.ascontiguousarray(half[..., i : i + 2]).view(np.dtype("<u4"))[..., 0]
        return pair.transpose(0, 2, 1)

    first = n_scales + 2 * n_fifth
    q = np.stack([dword(first + 2 * i) for i in range(n_quants)])
    for i, group in enumerate(q if type == "Q8_0" else _nibbles_to_groups(q)):
        words[..., ROWS * i : ROWS * (i + 1)] = group
    if n_fifth:
        words[..., 64:80] = _move_bits(dword(n_scales), _bit_places())
    end = f.r16_bytes // 2 - ROWS * n_scales
    for i in range(n_scales):
        halves[..., end + ROWS * i : end + ROWS * (i + 1)] = half[..., i].transpose(0, 2, 1)
    return out.reshape(panels, -1)


def unpack(type: str, panels: Bytes) -> Bytes:
    """(n_panels, panel bytes) -> (16 n_panels, row bytes) as in a file: the inverse of ``repack``."""
    f = format_of(type)
    if type == "TQ1_0":
        tq2 = unpack("TQ2_0", panels)
        return ternary.from_tq2(tq2.reshape(len(tq2), -1, ternary.TQ2_BYTES)).reshape(len(tq2), -1)
    if type in planes.LAYOUTS:
        return planes.unpack(type, panels)
    n, blocks = len(panels), panels.shape[1] // f.r16_bytes
    panels = np.ascontiguousarray(panels)
    if type not in _PARTS:
        values = panels.view(np.dtype(f"<u{f.raw_bytes}")).reshape(n, blocks, ROWS)
        return np.ascontiguousarray(values.transpose(0, 2, 1)).view(np.uint8).reshape(n * ROWS, -1)
    n_scales, n_fifth, n_quants = _PARTS[type]
    words = panels.view(np.dtype("<u4")).reshape(n, blocks, -1)
    halves = panels.view(np.dtype("<u2")).reshape(n, blocks, -1)
    out = np.empty((n, ROWS, blocks, f.raw_bytes // 2), np.dtype("<u2"))

    def store(i: int, dwords: Words) -> None:
        out[..., i : i + 2] = np.ascontiguousarray(dwords.transpose(0, 2, 1)).view(np.dtype("<u2")).reshape(n, ROWS, blocks, 2)

    q = np.stack([words[..., ROWS * i : ROWS * (i + 1)] for i in range(n_quants)])
    for i, dwords in enumerate(q if type == "Q8_0" else _groups_to_nibbles(q)):
        store(n_scales + 2 * n_fifth + 2 * i, dwords)
    if n_fifth:
        store(n_scales, _move_bits(words[..., 64:80], [(b, a) for a, b in _bit_places()]))
    end = f.r16_bytes // 2 - ROWS * n_scales
    for i in range(n_scales):
        out[..., i] = halves[..., end + ROWS * i : end + ROWS * (i + 1)].transpose(0, 2, 1)
    return out.view(np.uint8).reshape(n * ROWS, -1)
