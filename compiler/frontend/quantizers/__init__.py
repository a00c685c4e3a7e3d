"""Floats to ggml's blocks, in numpy: the reference arithmetic of the ``gguf`` package where it has any, and a search for scales of our own
for the formats that it only reads (the K-quants and IQ4)."""

from __future__ import annotations

from typing import Any

import numpy as np
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize as reference
from numpy.typing import NDArray

from infc.frontend.quantizers import iq4, kquants
from infc.frontend.quantizers.search import Codes

_OWN = {
    "Q2_K": kquants.q2_k, "Q3_K": kquants.q3_k, "Q4_K": kquants.q4_k, "Q5_K": kquants.q5_k, "Q6_K": kquants.q6_k,
    "IQ4_NL": iq4.iq4_nl, "IQ4_XS": iq4.iq4_xs,
}  # fmt: skip
_PIECE = 1 << 17  # elements that the search works on at a time: its temporaries stay in the cache
_MOST = 1e9  # past every format's range, and where the squares of the search are still finite


def quantize(values: NDArray[np.float32], type: str) -> Codes:
    """(rows, k) -> (rows, row bytes). What overflows a scale comes out as one that is infinite: look for it afterwards."""
    if type not in _OWN:
        with np.errstate(all="ignore"):
            out: NDArray[Any] = reference(values, GGMLQuantizationType[type])
        return out.view(np.uint8).reshape(len(values), -1)
    rows = max(1, _PIECE // values.shape[1])
    parts = []
    for i in range(0, len(values), rows):
        part = values[i : i + rows]
        with np.errstate(all="ignore"):
            far = np.abs(part) > _MOST
            parts.append(_OWN[type](np.where(far, np.copysign(np.float32(_MOST), part), part) if far.any() else part))
    return np.concatenate(parts).reshape(len(values), -1)
