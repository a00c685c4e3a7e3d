"""Qwen 3 MoE (arXiv:2505.09388): Qwen 3's layer with experts in place of the SwiGLU; the weights of those chosen add up to 1."""

from __future__ import annotations

from collections.abc import Iterator

from infc.frontend import rules
from infc.frontend.builder import Builder
from infc.frontend.config import ModelConfig
from infc.frontend.dense import dense, rope
from infc.frontend.experts import expert_tensors, mixture, read_experts
from infc.frontend.families.family import Family
from infc.frontend.gguf import ModelFile
from infc.frontend.keys import Keys
from infc.ir.graph import Graph
from infc.limits import Limits


def config(keys: Keys, limits: Limits) -> ModelConfig:
    experts = read_experts(keys, limits, ".expert_feed_forward_length", renormalise=True)
    return dense(keys, limits, (rope(keys, limits, halves=True),), experts=experts)


def tensors(c: ModelConfig) -> Iterator[rules.Rule]:
    yield from rules.ends(c)
    for i in range(c.n_layers):
        blk = f"blk.{i}."
        yield from rules.norm(blk, "attn_norm", c.dim)
        yield from rules.attention(c, blk, bias=None, output_bias=None)
        yield from rules.norm(blk, "attn_q_norm", c.head_dim)
        yield from rules.norm(blk, "attn_k_norm", c.head_dim)
        yield from rules.norm(blk, "ffn_norm", c.dim)
        yield from expert_tensors(c, blk)


def build(model: ModelFile, config: ModelConfig) -> Graph:
    b = Builder(model, config)
    x = b.embed()
    for i in range(config.n_layers):
        q, k, v = b.qkv(b.norm(x, "attn_norm", i), i)
        q, k = b.head_norm(q, "attn_q_norm", i), b.head_norm(k, "attn_k_norm", i)
        a = b.attention(b.rope(q, i), b.rope(k, i), v, i)
        x = b.add(x, b.linear(a, "attn_output", i), i)
        x = mixture(b, x, b.norm(x, "ffn_norm", i), i)
    return b.finish(x)


FAMILY = Family("qwen3moe", config, tensors, build)
