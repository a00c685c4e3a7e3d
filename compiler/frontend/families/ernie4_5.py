"""ERNIE 4.5 without experts (Baidu, 2025): LLaMA's layer."""

from __future__ import annotations

from collections.abc import Iterator

from infc.frontend import rules
from infc.frontend.config import ModelConfig
from infc.frontend.dense import dense, rope
from infc.frontend.families import internlm2
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
        yield from rules.attention(c, blk, bias=None, output_bias=None)
        yield from rules.norm(blk, "ffn_norm", c.dim)
        yield from rules.gated_mlp(c, blk)


FAMILY = Family("ernie4_5", config, tensors, internlm2.build)
