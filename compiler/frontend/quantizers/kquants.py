"""Q2_K to Q6_K: 256 weights whose parts of 16 or 32 have small integer scales; ggml's bytes (dequantized in ggml-quants.c).

The scales of the parts are searched for one by one, then rounded to multiples of one f16 scale, which with a minimum is fitted once more;
the levels are chosen last, for the scales as they came out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infc.frontend.quantizers.search import Codes, Floats, affine, blocks_of, codes, halves, quotient, symmetric, total, weights

_BLOCK = 256
_2, _3, _4, _6, _15 = (np.uint8(i) for i in (2, 3, 4, 6, 15))


def _bytes(h: NDArray[np.float16]) -> Codes:
    """(blocks) -> (blocks, 2)."""
    return h.astype("<f2").view(np.uint8).reshape(-1, 2)


def _levels(x: Floats, scale: Floats, minimum: Floats | None, low: int, high: int) -> NDArray[np.int8]:
    """(blocks, 256) levels of parts (elements, parts) under their final scales."""
    shifted = x if minimum is None else x + minimum
    return np.ascontiguousarray(codes(shifted, scale, low, high).T).reshape(-1, _BLOCK)


def _refit(x: Floats, w: Floats, q: Floats, sc: Floats, mn: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """(d, dmin, whether they are any good) of each block: what fits its levels, scales and minima best."""
    a, b = q * sc.reshape(-1), -mn.reshape(-1)
    wa = w * a

    def of_blocks(sums: Floats) -> Floats:
        return total(np.ascontiguousarray(sums.reshape(sc.shape).T))

    aa, ab, bb = of_blocks(total(wa * a)), of_blocks(total(wa) * b), of_blocks(total(w) * b * b)
    ax, bx = of_blocks(total(wa * x)), of_blocks(total(w * x) * b)
    det = aa * bb - ab * ab
    d, dmin = quotient(ax * bb - bx * ab, det), quotient(bx * aa - ax * ab, det)
    return d, dmin, (det > 0) & (d > 0) & (dmin > 0)


def _with_minimum(values: Floats, size: int, n: int, top: int) -> tuple[NDArray[np.float16], NDArray[np.float16], Codes, Codes, Codes]:
    """(d, dmin, scales, minima, levels): parts of ``size`` with levels 0 to ``n``, their scales and minima 0 to ``top``."""
    x = blocks_of(values, size)
    w = weights(x)

    def rounded(part: Floats) -> tuple[Floats, Floats]:
        """Multiples of one scale a block: (f32 of its f16, the multiples)."""
        of_block = part.reshape(-1, _BLOCK // size)
        d = halves(of_block.max(1) / np.float32(top))[1]
        return d, np.clip(np.rint(quotient(of_block, np.broadcast_to(d[:, None], of_block.shape))), 0, top)

    (d, sc), (dmin, mn) = (rounded(part) for part in affine(x, w, n))
    q = codes(x + (mn * dmin[:, None]).reshape(-1), (sc * d[:, None]).reshape(-1), 0, n).astype(np.float32)
    better_d, better_m, good = _refit(x, w, q, sc, mn)
    d16, d = halves(np.where(good, better_d, d))
    m16, dmin = halves(np.where(good, better_m, dmin))
    s, m = (sc * d[:, None]).reshape(-1), (mn * dmin[:, None]).reshape(-1)
    return d16, m16, sc.astype(np.uint8), mn.astype(np.uint8), _levels(x, s, m, 0, n).view(np.uint8)


def _symmetric(values: Floats, n: int, top: int) -> tuple[NDArray[np.float16], NDArray[np.int8], NDArray[np.int8]]:
    """(d, scales, levels): parts of 16 with levels -n to n - 1, their scales -top to top - 1."""
    x = blocks_of(values, 16)
    scale = symmetric(x, weights(x), n).reshape(-1, 16)
    extreme = np.take_along_axis(scale, np.abs(scale).argmax(1)[:, None], 1)[:, 0]
    h, d = halves(extreme / np.float32(-top))
    small = np.clip(np.rint(quotient(scale, np.broadcast_to(d[:, None], scale.shape))), -top, top - 1)
    return h, small.astype(np.int8), _levels(x, (small * d[:, None]).reshape(-1), None, -n, n - 1)


def _six_bits(sc: Codes, mn: Codes) -> Codes:
    """Eight scales and eight minima of 6 bits in 12 bytes: the first four of each in the low bits of bytes 0 to 3 and 4 to 7, the others'
    low 4 bits in the halves of bytes 8 to 11 and their upper 2 in the top of bytes 0 to 7."""
    low = [a[:, :4] | (a[:, 4:] >> _4) << _6 for a in (sc, mn)]
    return np.concatenate([*low, sc[:, 4:] & _15 | (mn[:, 4:] & _15) << _4], 1)


def _pairs(q: Codes) -> Codes:
    """(blocks, 256) of 4 bits -> (blocks, 128): of 64 the first 32 below the others."""
    q = q.reshape(-1, 4, 2, 32)
    return (q[:, :, 0] | q[:, :, 1] << _4).reshape(-1, 128)


def _quarters(q: Codes) -> Codes:
    """(blocks, 256) of 2 bits -> (blocks, 64): of 128 the first 32 lowest."""
    q = q.reshape(-1, 2, 4, 32)
    out: Codes = (q[:, :, 0] | q[:, :, 1] << _2 | q[:, :, 2] << _4 | q[:, :, 3] << _6).reshape(-1, 64)
    return out


def _planes(q: Codes) -> Codes:
    """(blocks, 256) of 1 bit -> (blocks, 32): the j-th 32 in bit j."""
    return np.packbits(q.reshape(-1, 8, 32), axis=1, bitorder="little").reshape(-1, 32)


def q2_k(values: Floats) -> Codes:
    d, dmin, sc, mn, q = _with_minimum(values, 16, 3, 15)
    return np.concatenate([sc | mn << _4, _quarters(q), _bytes(d), _bytes(dmin)], 1)


def q3_k(values: Floats) -> Codes:
    d, sc, q = _symmetric(values, 4, 32)
    levels, scales = (q + np.int8(4)).view(np.uint8), (sc + np.int8(32)).view(np.uint8)
    upper = scales.reshape(-1, 4, 4) >> _4
    packed = [scales[:, :8] & _15 | (scales[:, 8:] & _15) << _4, upper[:, 0] | upper[:, 1] << _2 | upper[:, 2] << _4 | upper[:, 3] << _6]
    return np.concatenate([_planes(levels >> _2), _quarters(levels & _3), *packed, _bytes(d)], 1)


def q4_k(values: Floats) -> Codes:
    d, dmin, sc, mn, q = _with_minimum(values, 32, 15, 63)
    return np.concatenate([_bytes(d), _bytes(dmin), _six_bits(sc, mn), _pairs(q)], 1)


def q5_k(values: Floats) -> Codes:
    d, dmin, sc, mn, q = _with_minimum(values, 32, 31, 63)
    return np.concatenate([_bytes(d), _bytes(dmin), _six_bits(sc, mn), _planes(q >> _4), _pairs(q & _15)], 1)


def q6_k(values: Floats) -> Codes:
    d, sc, q = _symmetric(values, 32, 128)
    levels = (q + np.int8(32)).view(np.uint8)
    low = levels.reshape(-1, 2, 2, 64) & _15
    return np.concatenate([(low[:, :, 0] | low[:, :, 1] << _4).reshape(-1, 128), _quarters(levels >> _4), sc.view(np.uint8), _bytes(d)], 1)
