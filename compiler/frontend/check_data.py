"""No NaN and no infinity in the weights: one would spread to every logit. Reads each byte of the file once, at memory speed.

A float is not finite when its exponent bits are all set, so the largest exponent of a chunk decides: no float arithmetic.
"""

from __future__ import annotations

import numpy as np

from infc.errors import InputError
from infc.frontend.gguf import Bytes, ModelFile, TensorInfo

_CHUNK = 1 << 22  # bytes looked at together, rounded down to whole blocks: the temporaries stay in the cache
# type -> (exponent mask, bytes)
_FLOATS = {"F32": (0x7F800000, 4), "F16": (0x7C00, 2), "BF16": (0x7F80, 2)}
# type -> (bytes a block, f16 scales at its start)
_BLOCKS = {"Q4_0": (18, 1), "Q4_1": (20, 2), "Q5_0": (22, 1), "Q5_1": (24, 2), "Q8_0": (34, 1)}
_F16 = 0x7C00
_FACTORS = ("rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight")


def check(model: ModelFile, warnings: list[str]) -> None:
    """Raise InputError G63 (scale) or G64 (float) for a value that is not finite, G34 for a bad RoPE factor.

    A tensor whose every scale is subnormal or zero gets a warning (G66).
    """
    for t in model.tensors.values():
        check_values(t, model.data(t.name), warnings)
    for factors in (t for t in model.tensors.values() if t.name in _FACTORS):
        if float(model.data(factors.name).view("<f4").min()) <= 0:
            raise InputError("G34", "a RoPE factor that is not positive", f"tensor {factors.name}: offset {factors.offset}")


def check_values(t: TensorInfo, data: Bytes, warnings: list[str]) -> None:
    """The same for one tensor."""
    if t.type in _FLOATS:
        _check_floats(t, data)
    else:
        _check_scales(t, data, warnings)


def _check_floats(t: TensorInfo, data: Bytes) -> None:
    mask, size = _FLOATS[t.type]
    words = data.view(f"<u{size}")
    step = _CHUNK // size
    for i in range(0, len(words), step):
        exponents = words[i : i + step] & words.dtype.type(mask)
        if int(exponents.max()) == mask:
            _fail("G64", "a weight that is NaN or infinite", t, (i + int(exponents.argmax())) * size)


def _check_scales(t: TensorInfo, data: Bytes, warnings: list[str]) -> None:
    size, n_scales = _BLOCKS[t.type]
    words = data.view("<u2").reshape(-1, size // 2)
    step = _CHUNK // size
    largest = 0
    for i in range(0, len(words), step):
        for column in range(n_scales):
            exponents = words[i : i + step, column] & np.uint16(_F16)
            top = int(exponents.max())
            if top == _F16:
                _fail(
                    "G63",
                    "a scale that is NaN or infinite",
                    t,
                    (i + int(exponents.argmax())) * size + 2 * column,
                )
            largest = max(largest, top)
    if largest == 0:
        warnings.append(f"warning[G66]: every scale of tensor {t.name} is zero or subnormal")


def _fail(code: str, what: str, t: TensorInfo, at: int) -> None:
    raise InputError(code, what, f"tensor {t.name}: offset {t.offset + at}")
