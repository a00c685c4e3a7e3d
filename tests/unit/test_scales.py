"""Scales of blocks of 256 and of MXFP4 that are not finite are found wherever a block has them, and nothing else is taken for one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infc.errors import InputError
from infc.formats import FORMATS
from infc.frontend import check_data
from infc.frontend.gguf import TensorInfo

# type -> where its f16 fields are, as ggml-common.h declares the blocks
HALVES = {
    "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,), "TQ1_0": (52,),
    "TQ2_0": (64,),
}  # fmt: skip
BLOCKS = 40


class File:
    """What ``check`` asks of a model file that holds one tensor."""

    def __init__(self, type: str, blocks: np.ndarray[Any, Any]) -> None:
        f = FORMATS[type]
        self.bytes = blocks.ravel()
        self.tensors = {"t": TensorInfo("t", type, (f.block_size, BLOCKS), 64, self.bytes.nbytes)}

    def data(self, name: str) -> np.ndarray[Any, Any]:
        return self.bytes

    def pieces(self, name: str) -> list[np.ndarray[Any, Any]]:
        half = self.bytes.size // 2  # of an even number of blocks
        return [self.bytes[:half], self.bytes[half:]]


def check(type: str, blocks: np.ndarray[Any, Any]) -> list[str]:
    warnings: list[str] = []
    check_data.check(File(type, blocks), warnings)  # type: ignore[arg-type]
    return warnings


def ones(type: str) -> np.ndarray[Any, Any]:
    """Blocks whose every byte but the scales is 255."""
    blocks = np.full((BLOCKS, FORMATS[type].raw_bytes), 255, np.uint8)
    for at in HALVES.get(type, ()):
        blocks[:, at : at + 2] = np.array([0.01], np.float16).view(np.uint8)
    if type == "MXFP4":
        blocks[:, 0] = 252
    return blocks


@pytest.mark.parametrize("type", [*HALVES, "MXFP4"])
def test_quants_and_small_scales_are_not_taken_for_scales(type: str) -> None:
    assert check(type, ones(type)) == []


@pytest.mark.parametrize("type", HALVES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_every_scale_is_looked_at(type: str, value: float) -> None:
    for at in HALVES[type]:
        for block in (0, 17, BLOCKS - 1):
            blocks = ones(type)
            blocks[block, at : at + 2] = np.array([value], np.float16).view(np.uint8)
            with pytest.raises(InputError) as caught:
                check(type, blocks)
            assert caught.value.code == "G63"
            assert caught.value.where == f"tensor t: offset {64 + block * FORMATS[type].raw_bytes + at}"


@pytest.mark.parametrize("power", [253, 255])
def test_powers_of_two_whose_weights_are_infinite(power: int) -> None:
    blocks = ones("MXFP4")
    blocks[9, 0] = power
    with pytest.raises(InputError) as caught:
        check("MXFP4", blocks)
    assert (caught.value.code, caught.value.where) == ("G63", f"tensor t: offset {64 + 9 * 17}")


@pytest.mark.parametrize("type", HALVES)
def test_scales_that_are_all_subnormal_are_reported(type: str) -> None:
    blocks = ones(type)
    for at in HALVES[type]:
        blocks[:, at : at + 2] = np.array([2.0**-24], np.float16).view(np.uint8)
    assert "G66" in check(type, blocks)[0]
