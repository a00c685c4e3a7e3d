"""Qwen2-VL and Qwen2.5-VL (arXiv:2409.12191, 2502.13923), their language model: Qwen 2. Where a text has no picture the three positions of
their rotation (time, height, width) are one, and the rotation is the usual one."""

from __future__ import annotations

from infc.frontend.config import ModelConfig
from infc.frontend.dense import without_pictures
from infc.frontend.families import qwen2
from infc.frontend.families.family import Family
from infc.frontend.keys import Keys
from infc.limits import Limits


def config(keys: Keys, limits: Limits) -> ModelConfig:
    without_pictures(keys)
    return qwen2.config(keys, limits)


FAMILY = Family("qwen2vl", config, qwen2.tensors, qwen2.build)
