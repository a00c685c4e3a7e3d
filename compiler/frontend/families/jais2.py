"""Jais 2 (Inception and MBZUAI, 2025): LayerNorm, biases everywhere, rotations, a plain MLP with the square of ReLU."""

from __future__ import annotations

from collections.abc import Iterator

from infc.frontend import rules
from infc.frontend.config import ModelConfig
from infc.frontend.dense import LAYER_NORM, dense, rope
from infc.frontend.families import nemotron
from infc.frontend.families.family import Family
from infc.frontend.keys import Keys
from infc.limits import Limits


def config(keys: Keys, limits: Limits) -> ModelConfig:
    return dense(keys, limits, (rope(keys, limits, halves=True),), eps=LAYER_NORM)


def tensors(c: ModelConfig) -> Iterator[rules.Rule]:
    yield from rules.ends(c, norm_bias=True)
    for i in range(c.n_layers):
        blk = f"blk.{i}."
        yield from rules.norm(blk, "attn_norm", c.dim, bias=True)
        yield from rules.attention(c, blk, bias=None, output_bias=True)
        yield from rules.norm(blk, "ffn_norm", c.dim, bias=True)
        yield from rules.mlp(c, blk, bias=True)


FAMILY = Family("jais2", config, tensors, nemotron.build)
