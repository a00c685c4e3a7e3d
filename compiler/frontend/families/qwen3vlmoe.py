"""Qwen3-VL with experts (arXiv:2511.21631), its language model: Qwen 3 MoE. Without a picture nothing is different, as in qwen3vl.py."""

from __future__ import annotations

from infc.frontend.config import ModelConfig
from infc.frontend.dense import without_pictures
from infc.frontend.families import qwen3moe
from infc.frontend.families.family import Family
from infc.frontend.keys import Keys
from infc.limits import Limits


def config(keys: Keys, limits: Limits) -> ModelConfig:
    without_pictures(keys)
    return qwen3moe.config(keys, limits)


FAMILY = Family("qwen3vlmoe", config, qwen3moe.tensors, qwen3moe.build)
