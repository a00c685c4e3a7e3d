"""Arcee's AFM 4.5B (Arcee AI, 2025): LLaMA's layer with a plain MLP, whose activation is the square of ReLU (arXiv:2109.08668)."""

from __future__ import annotations

from collections.abc import Iterator

from infc.frontend import rules
from infc.frontend.config import ModelConfig
from infc.frontend.dense import dense, rope
from infc.frontend.families import nemotron
from infc.frontend.families.family import Family
from infc.frontend.keys import Keys
from infc.limits import Limits


def config(keys: Keys, limits: Limits) -> ModelConfig:
    return dense(keys, limits, (rope(keys, limits, halves=False),))


def tensors(c: ModelConfig) -> Iterator[rules.Rule]:
    yield from rules.ends(c)
    for i in range(c.n_layers):
        blk = f"blk.{i}."
        yield from rules.norm(blk, "attn_norm", c.dim)
        yield from rules.attention(c, blk, bias=None)
        yield from rules.norm(blk, "ffn_norm", c.dim)
        yield from rules.mlp(c, blk, bias=False)


FAMILY = Family("arcee", config, tensors, nemotron.build)
