"""GLM-4-0414 and GLM-Z1 (arXiv:2406.12793; Z.ai, 2025): norms before and after attention and MLP, rotations of half of each head, gate and
up in one matrix."""

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
    return dense(keys, limits, (rope(keys, limits, halves=False, partial=True),))


def tensors(c: ModelConfig) -> Iterator[rules.Rule]:
    yield from rules.ends(c)
    for i in range(c.n_layers):
        blk = f"blk.{i}."
        yield from rules.norm(blk, "attn_norm", c.dim)
        yield from rules.attention(c, blk, bias=None)
        yield from rules.norm(blk, "post_attention_norm", c.dim)
        yield from rules.norm(blk, "ffn_norm", c.dim)
        yield rules.matrix(blk + "ffn_up", c.dim, 2 * c.hidden_dim)
        yield rules.matrix(blk + "ffn_down", c.hidden_dim, c.dim)
        yield from rules.norm(blk, "post_ffw_norm", c.dim)


def build(model: ModelFile, config: ModelConfig) -> Graph:
    b = Builder(model, config)
    x = b.embed()
    for i in range(config.n_layers):
        q, k, v = b.qkv(b.norm(x, "attn_norm", i), i)
        a = b.attention(b.rope(q, i), b.rope(k, i), v, i)
        x = b.add(x, b.norm(b.linear(a, "attn_output", i), "post_attention_norm", i), i)
        gate, up = b.gate_up(b.norm(x, "ffn_norm", i), i)
        y = b.linear(b.mul(b.silu(gate), up), "ffn_down", i)
        x = b.add(x, b.norm(y, "post_ffw_norm", i), i)
    return b.finish(x)


FAMILY = Family("glm4", config, tensors, build)
