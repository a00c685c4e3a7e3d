"""Every value of every format, to the bit: what a row of the embedding is, and what gguf's own dequantization makes of the same bytes.

Blocks are random, or made of the least and the largest that a field can hold: f16 scales that are the largest, the smallest normal,
subnormal, zero of either sign; small scales and quants of all zeros and all ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from infc.formats import FORMATS
from infc.weights.repack import repack, unpack
from tests.kernels import reference as ref
from tests.kernels.build import c
from tests.kernels.guard import guarded, poisoned
from tests.kernels.reference_formats import HALVES
from tests.kernels.test_linear import random_rows

TYPES = [f.name for f in FORMATS.values() if f.activation == "q8"]
EXTREMES = np.array([65504, -65504, 2.0**-14, -(2.0**-14), 2.0**-24, -(2.0**-24), 1023 * 2.0**-24, 1, 0, -0.0], np.float16)


def extreme_rows(type: str) -> np.ndarray[Any, Any]:
    """(48, bytes of two blocks): 16 rows of random bytes, 16 of zeros, 16 of ones, under scales of EXTREMES."""
    f, rng = FORMATS[type], np.random.default_rng(11)
    raw = random_rows(type, 48, 2 * f.block_size, seed=12).reshape(48, 2, f.raw_bytes)
    raw[16:32], raw[32:] = 0, 255
    for at in HALVES[type]:
        raw[..., at : at + 2] = rng.choice(EXTREMES, (48, 2, 1)).view(np.uint8)
    raw[-1] = 0  # a block of nothing but zeros
    if type == "MXFP4":
        raw[..., 0] = np.arange(96).reshape(48, 2) * 252 // 95  # the least, subnormals, ..., the largest whose weights are finite
    if type == "TQ1_0":  # bytes as a quantizer writes them
        digits = quants.quantize(np.repeat([[-1.0], [1.0]], 256, axis=1).astype(np.float32), GGMLQuantizationType.TQ1_0)
        raw[16:32, :, :52], raw[32:, :, :52] = digits[:, None, None, :52]
    return raw.reshape(48, -1)


def bits(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Floats as integers: zeros of different signs differ."""
    return np.ascontiguousarray(x, np.float32).view(np.uint32)


def expected(type: str, raw: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return bits(quants.dequantize(raw, GGMLQuantizationType[type]))


@pytest.mark.parametrize("type", [f.name for f in FORMATS.values()])
def test_an_embedding_is_gguf_s_dequantization(type: str, lib: Any) -> None:
    blocks = 3 if FORMATS[type].block_size == 32 else 2
    raws = [random_rows(type, 40, blocks * max(FORMATS[type].block_size, 32), seed=7)]
    if type in TYPES:
        raws.append(extreme_rows(type))
    for raw in raws:
        values, panels = expected(type, raw), guarded(repack(type, raw))
        for token in (0, 1, 15, 16, 31, 33, 39, len(raw) - 1):
            out = poisoned((values.shape[1],))
            getattr(lib, f"t_embed_{type.lower()}_row")(c(panels), values.shape[1], token, c(out))
            np.testing.assert_array_equal(bits(out), values[token])


@pytest.mark.parametrize("type", TYPES)
def test_extreme_blocks_survive_repacking(type: str) -> None:
    raw = extreme_rows(type)
    np.testing.assert_array_equal(unpack(type, repack(type, raw)), raw)


@pytest.mark.parametrize("type", TYPES)
def test_the_reference_reads_blocks_as_gguf_does(type: str) -> None:
    for raw in (random_rows(type, 16, 2 * FORMATS[type].block_size, seed=2), extreme_rows(type)):
        q, d, m = ref.decode(type, raw)
        exact = q * d[..., None].astype(np.float64)  # fits in a double; one rounding is left
        values = (exact + m[..., None]).astype(np.float32) if len(HALVES[type]) == 2 else exact.astype(np.float32)
        np.testing.assert_array_equal(values.reshape(len(raw), -1), expected(type, raw).view(np.float32))


def test_digits_that_no_quantizer_writes_keep_their_values() -> None:
    """256 bytes stand for 243 groups of five digits: 13 are aliases."""
    raw = np.zeros((16, FORMATS["TQ1_0"].raw_bytes), np.uint8)
    raw[:, :48] = np.arange(16 * 48).reshape(16, 48)
    raw[:, 52:] = np.array([1], np.float16).view(np.uint8)
    back = unpack("TQ1_0", repack("TQ1_0", raw))
    np.testing.assert_array_equal(expected("TQ1_0", back), expected("TQ1_0", raw))


@pytest.mark.parametrize("type", TYPES)
def test_the_registry_says_how_large_blocks_are(type: str) -> None:
    """The file's sizes are gguf's; a format that takes more bytes when repacked says so here."""
    f = FORMATS[type]
    assert (f.block_size, f.raw_bytes) == quants.GGML_QUANT_SIZES[GGMLQuantizationType[type]]
    more = {"Q3_K": 4, "Q4_K": 4, "Q5_K": 4, "IQ4_XS": 2, "TQ1_0": 12}
    assert f.r16_bytes == 16 * (f.raw_bytes + more.get(type, 0))
