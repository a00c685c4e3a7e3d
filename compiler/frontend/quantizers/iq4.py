"""IQ4_NL and IQ4_XS: four bits that name one of sixteen levels, dense around zero; ggml's bytes (dequantized in ggml-quants.c)."""

from __future__ import annotations

import numpy as np

from infc.frontend.quantizers.search import Codes, Floats, blocks_of, halves, quotient, total, weights

_LEVELS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)
_EDGE = 256
# Halfway between two levels is always a multiple of a half, so the nearest level of x follows from floor(2 x): a table.
_NEAREST = np.searchsorted((_LEVELS[1:] + _LEVELS[:-1]) / 2, np.arange(-_EDGE, _EDGE) / 2, side="right").astype(np.uint8)
_STEPS = np.arange(-7, 8, dtype=np.float32)  # by how much the outermost value may miss the outermost level
_PART, _BLOCK = 32, 256


def _nearest(x: Floats) -> Codes:
    """Which level; of two equally near the upper."""
    found: Codes = np.take(_NEAREST, np.clip(np.floor(x + x), -_EDGE, _EDGE - 1).astype(np.int16) + np.int16(_EDGE))
    return found


def _scale(x: Floats) -> Floats:
    """(blocks): the scale that fits (32, blocks) best, of either sign."""
    w = weights(x)
    extreme = np.take_along_axis(x, np.abs(x).argmax(0)[None], 0)[0]
    scale: Floats = np.zeros_like(extreme)
    best = scale
    for outermost in (*(_LEVELS[0] + _STEPS), -_LEVELS[0]):
        q = _LEVELS[_nearest(x * quotient(np.full_like(extreme, outermost), extreme))]
        wq = w * q
        xq = total(wq * x)
        fit = quotient(xq, total(wq * q))
        gain = fit * xq
        scale, best = np.where(gain > best, fit, scale), np.maximum(gain, best)
    return scale


def _packed(x: Floats, scale: Floats) -> Codes:
    """(blocks, 16): element j below element j + 16."""
    q = np.ascontiguousarray(_nearest(quotient(x, np.broadcast_to(scale, x.shape))).T)
    return q[:, :16] | q[:, 16:] << np.uint8(4)


def iq4_nl(values: Floats) -> Codes:
    x = blocks_of(values, _PART)
    h, d = halves(_scale(x))
    return np.concatenate([h.astype("<f2").view(np.uint8).reshape(-1, 2), _packed(x, d)], 1)


def iq4_xs(values: Floats) -> Codes:
    """Eight scales of 6 bits, less 32: low 4 bits two a byte, upper 2 in one word."""
    x = blocks_of(values, _PART)
    scale = _scale(x).reshape(-1, _BLOCK // _PART)
    extreme = np.take_along_axis(scale, np.abs(scale).argmax(1)[:, None], 1)[:, 0]
    h, d = halves(extreme / np.float32(-32))
    small = np.clip(np.rint(quotient(scale, np.broadcast_to(d[:, None], scale.shape))), -32, 31)
    q = _packed(x, (small * d[:, None]).reshape(-1)).reshape(len(h), -1)
    code = (small.astype(np.int8) + np.int8(32)).view(np.uint8)
    low = code[:, 0::2] & np.uint8(15) | (code[:, 1::2] & np.uint8(15)) << np.uint8(4)
    high = np.bitwise_or.reduce((code >> np.uint8(4)).astype(np.uint16) << np.arange(0, 16, 2, dtype=np.uint16), axis=1)
    ends = [a.view(np.uint8).reshape(-1, 2) for a in (h.astype("<f2"), high.astype("<u2"))]
    return np.concatenate([*ends, low, q], 1)
