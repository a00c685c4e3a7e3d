"""Arcee's AFM 4.5B (Arcee AI, 2025): LLaMA's layer with a plain MLP, whose activation is the square of ReLU (arXiv:2109.08668)."""

from __future__ import annotations

from collections.abc import Iterator

from infc.frontend import rules
from infc.frontend.builder import Builder
from infc.frontend.config import ModelConfig
from infc.frontend.dense import dense, rope
from infc.frontend.families.family import Family
from infc.frontend.gguf import ModelFile
from infc.frontend.keys import Keys
from infc.ir.graph import Graph
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


def build(model: ModelFile, config: ModelConfig) -> Graph:
    b = Builder(model, config)
    x = b.embed()
    for i in range(config.n_layers):
        q, k, v = b.qkv(b.norm(x, "attn_norm", i), i)
        a = b.attention(b.rope(q, i), b.rope(k, i), v, i)
        x = b.add(x, b.linear(a, "attn_output", i), i)
        h = b.relu2(b.linear(b.norm(x, "ffn_norm", i), "ffn_up", i))
        x = b.add(x, b.linear(h, "ffn_down", i), i)
    return b.finish(x)


FAMILY = Family("arcee", config, tensors, build)
