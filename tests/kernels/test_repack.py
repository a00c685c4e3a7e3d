"""The r16 layout: repacking loses nothing and puts each weight where runtime_c/quant says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infc.errors import InputError
from infc.formats import FORMATS
from infc.weights.repack import repack, unpack
from tests.kernels import reference as ref
from tests.kernels.test_linear import random_rows

TYPES = [f.name for f in FORMATS.values()]


@pytest.mark.parametrize("type", TYPES)
def test_round_trip_is_byte_exact(type: str) -> None:
    k = 3 * max(FORMATS[type].block_size, 32)
    raw = random_rows(type, 45, k, seed=1)
    panels = repack(type, raw)
    assert panels.shape == (3, k // FORMATS[type].block_size * FORMATS[type].r16_bytes)
    back = unpack(type, panels)
    np.testing.assert_array_equal(back[:45], raw)
    assert not back[45:].any()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(TYPES), st.integers(1, 40), st.integers(1, 3), st.data())
def test_rows_may_be_chosen(type: str, n: int, blocks: int, data: Any) -> None:
    raw = random_rows(type, n, FORMATS[type].block_size * blocks, seed=n)
    rows = np.array(data.draw(st.lists(st.integers(-1, n - 1), min_size=1, max_size=40)))
    back = unpack(type, repack(type, raw, rows))
    expected = np.where((rows < 0)[:, None], 0, raw[np.maximum(rows, 0)])
    np.testing.assert_array_equal(back[: len(rows)], expected)


@pytest.mark.parametrize("type", ["Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_nibbles_lie_where_the_kernels_look(type: str) -> None:
    """Byte j of dword r of vector v: q[8v+j] below, q[8v+4+j] above; bit 8j+g of dword r: the fifth bit of q[4g+j]."""
    raw = random_rows(type, 16, 32, seed=3)
    zero = {"Q4_0": 8, "Q5_0": 16}.get(type, 0)
    q = ref.decode(type, raw)[0][:, 0] + zero
    block = repack(type, raw)[0]
    for row in range(16):
        for k in range(32):
            byte = int(block[64 * (k // 8) + 4 * row + k % 4])
            assert byte >> (4 * (k // 4 % 2)) & 15 == q[row, k] & 15
            if type.startswith("Q5"):
                assert int(block[256 + 4 * row + k % 4]) >> (k // 4) & 1 == q[row, k] >> 4


def test_unknown_type_is_refused() -> None:
    with pytest.raises(InputError):
        repack("IQ2_S", np.zeros((16, 82), np.uint8))
