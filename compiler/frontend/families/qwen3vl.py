"""Qwen3-VL (arXiv:2511.21631), its language model: Qwen 3. Without a picture its positions are as in qwen2vl.py, and nothing joins the
first layers (DeepStack)."""

from __future__ import annotations

from infc.frontend.config import ModelConfig
from infc.frontend.dense import without_pictures
from infc.frontend.families import qwen3
from infc.frontend.families.family import Family
from infc.frontend.keys import Keys
from infc.limits import Limits


def config(keys: Keys, limits: Limits) -> ModelConfig:
    without_pictures(keys)
    return qwen3.config(keys, limits)


FAMILY = Family("qwen3vl", config, qwen3.tensors, qwen3.build)
