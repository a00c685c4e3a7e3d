"""The float types of model files as numpy values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infc.frontend.model_file import Bytes


def to_f32(data: Bytes, type: str) -> NDArray[np.float32]:
    """Values of F32, F16 or BF16 as float32, exactly."""
    if type == "BF16":
        return (data.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    return data.view("<f2" if type == "F16" else "<f4").astype(np.float32, copy=False)
