"""No NaN and no infinity in the weights: one would spread to every logit. Reads each byte of the file once, at memory speed.

A float is not finite when its exponent bits are all set, so the largest exponent of a chunk decides: no float arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from infc.errors import InputError
from infc.formats import format_of
from infc.frontend.gguf import Bytes, ModelFile, TensorInfo

_CHUNK = 1 << 22  # bytes looked at together, rounded down to whole blocks: the temporaries stay in the cache
# type -> (exponent mask, bytes)
_FLOATS = {"F32": (0x7F800000, 4), "F16": (0x7C00, 2), "BF16": (0x7F80, 2)}
# type -> where the f16 scales of a block are; MXFP4's scale is a power of two in one byte
_SCALES = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2),
    "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,), "TQ1_0": (52,), "TQ2_0": (64,),
}  # fmt: skip
_F16 = 0x7C00
_FACTORS = ("rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight")
_MXFP4_MOST = 252  # 12 * 2^(252 - 128) is finite, twice that is not; 255 means NaN


def check(model: ModelFile, warnings: list[str]) -> None:
    """Raise InputError G63 (scale) or G64 (float) for a value that is not finite, G34 for a bad RoPE factor.

    A tensor whose every scale is subnormal or zero gets a warning (G66).
    """
    for t in model.tensors.values():
        check_values(t, model.pieces(t.name), warnings)
    for factors in (t for t in model.tensors.values() if t.name in _FACTORS):
        if float(model.data(factors.name).view("<f4").min()) <= 0:
            raise InputError("G34", "a RoPE factor that is not positive", f"tensor {factors.name}: offset {factors.offset}")


def check_values(t: TensorInfo, pieces: Iterable[Bytes], warnings: list[str]) -> None:
    """The same for one tensor, whose bytes are ``pieces`` one behind the other."""
    at, largest = 0, None
    for data in pieces:
        if t.type in _FLOATS:
            _check_floats(t, data, at)
        elif t.type == "MXFP4":
            _check_powers(t, data, at)
        else:
            largest = max(largest or 0, _check_scales(t, data, at))
        at += len(data)
    if largest == 0:
        warnings.append(f"warning[G66]: every scale of tensor {t.name} is zero or subnormal")


def _check_floats(t: TensorInfo, data: Bytes, at: int) -> None:
    mask, size = _FLOATS[t.type]
    words = data.view(f"<u{size}")
    step = _CHUNK // size
    for i in range(0, len(words), step):
        exponents = words[i : i + step] & words.dtype.type(mask)
        if int(exponents.max()) == mask:
            _fail("G64", "a weight that is NaN or infinite", t, at + (i + int(exponents.argmax())) * size)


def _check_scales(t: TensorInfo, data: Bytes, at: int) -> int:
    """The largest exponent bits of a scale."""
    size = format_of(t.type).raw_bytes
    words = data.view("<u2").reshape(-1, size // 2)
    step = _CHUNK // size
    largest = 0
    for i in range(0, len(words), step):
        for column in _SCALES[t.type]:
            exponents = words[i : i + step, column // 2] & np.uint16(_F16)
            top = int(exponents.max())
            if top == _F16:
                _fail(
                    "G63",
                    "a scale that is NaN or infinite",
                    t,
                    at + (i + int(exponents.argmax())) * size + column,
                )
            largest = max(largest, top)
    return largest


def _check_powers(t: TensorInfo, data: Bytes, at: int) -> None:
    size = format_of(t.type).raw_bytes
    powers = data.reshape(-1, size)[:, 0]
    if len(powers) and int(powers.max()) > _MXFP4_MOST:
        _fail("G63", "a scale that is NaN or makes weights infinite", t, at + int(powers.argmax()) * size)


def _fail(code: str, what: str, t: TensorInfo, at: int) -> None:
    raise InputError(code, what, f"tensor {t.name}: offset {t.offset + at}")
