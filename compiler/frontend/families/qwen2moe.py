"""Qwen 1.5 and 2 MoE (arXiv:2407.10671): Qwen 2's layer with experts in place of the SwiGLU, and beside them one that all rows share,
weighted by a sigmoid. The experts' weights are a softmax over all of them, so that they add up to less than 1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from infc.frontend import rules
from infc.frontend.builder import Builder
from infc.frontend.config import ModelConfig
from infc.frontend.dense import dense, layer_count, rope
from infc.frontend.experts import expert_tensors, read_experts
from infc.frontend.families.family import Family
from infc.frontend.gguf import ModelFile
from infc.frontend.keys import Keys
from infc.ir.graph import Graph
from infc.limits import Limits


def config(keys: Keys, limits: Limits) -> ModelConfig:
    experts = read_experts(keys, limits, ".expert_feed_forward_length", renormalise=False)
    full = keys.uniform_u32(".feed_forward_length", layer_count(keys, limits), "G33", 1)
    shared = keys.u32(".expert_shared_feed_forward_length", "G33", 1, default=full)
    return dense(keys, limits, (rope(keys, limits, halves=True),), experts=replace(experts, shared_dim=shared))


def tensors(c: ModelConfig) -> Iterator[rules.Rule]:
    yield from rules.ends(c)
    for i in range(c.n_layers):
        blk = f"blk.{i}."
        yield from rules.norm(blk, "attn_norm", c.dim)
        yield from rules.attention(c, blk, bias=None, output_bias=None)
        yield from rules.norm(blk, "ffn_norm", c.dim)
        yield from expert_tensors(c, blk)
        yield rules.vector(blk + "ffn_gate_inp_shexp.weight", c.dim)
        yield rules.matrix(blk + "ffn_gate_shexp", c.dim, c.hidden_dim)
        yield rules.matrix(blk + "ffn_up_shexp", c.dim, c.hidden_dim)
        yield rules.matrix(blk + "ffn_down_shexp", c.hidden_dim, c.dim)


def build(model: ModelFile, config: ModelConfig) -> Graph:
    b = Builder(model, config)
    x = b.embed()
    for i in range(config.n_layers):
        q, k, v = b.qkv(b.norm(x, "attn_norm", i), i)
        a = b.attention(b.rope(q, i), b.rope(k, i), v, i)
        x = b.add(x, b.linear(a, "attn_output", i), i)
        n = b.norm(x, "ffn_norm", i)
        choices, share = b.route(n, i)
        gate, up = b.expert_linear(n, choices, "ffn_gate_exps", i), b.expert_linear(n, choices, "ffn_up_exps", i)
        y = b.expert_linear(b.mul(b.silu(gate), up), choices, "ffn_down_exps", i)
        gate, up = b.linear(n, "ffn_gate_shexp", i), b.linear(n, "ffn_up_shexp", i)
        shared = b.linear(b.mul(b.silu(gate), up), "ffn_down_shexp", i)
        x = b.add(b.expert_sum(x, y, choices, i), b.scale_rows(shared, share, i), i)
    return b.finish(x)


FAMILY = Family("qwen2moe", config, tensors, build)
