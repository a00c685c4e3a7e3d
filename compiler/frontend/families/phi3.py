"""Phi 3 and 4 (arXiv:2404.14219, 2412.08905): LLaMA's layer with q, k and v in one matrix, gate and up in another, part of a head
turning, and two sets of factors for the frequencies: LongRoPE (arXiv:2402.13753)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from infc.frontend import rules
from infc.frontend.builder import Builder
from infc.frontend.config import ModelConfig
from infc.frontend.dense import dense, rope, scale, windows
from infc.frontend.families.family import Family
from infc.frontend.gguf import ModelFile
from infc.frontend.keys import Keys
from infc.ir.graph import Graph
from infc.limits import Limits


def config(keys: Keys, limits: Limits) -> ModelConfig:
    turn = rope(keys, limits, halves=True, partial=True)
    turn = replace(turn, attn_factor=scale(keys, ".rope.scaling.attn_factor"))
    return dense(keys, limits, (turn,), windows(keys, limits))


def tensors(c: ModelConfig) -> Iterator[rules.Rule]:
    yield from rules.ends(c)
    for i in range(c.n_layers):
        blk = f"blk.{i}."
        yield from rules.norm(blk, "attn_norm", c.dim)
        yield from rules.fused_attention(c, blk, bias=False)
        yield from rules.norm(blk, "ffn_norm", c.dim)
        yield rules.matrix(blk + "ffn_up", c.dim, 2 * c.hidden_dim)
        yield rules.matrix(blk + "ffn_down", c.hidden_dim, c.dim)


def build(model: ModelFile, config: ModelConfig) -> Graph:
    b = Builder(model, config)
    x = b.embed()
    for i in range(config.n_layers):
        q, k, v = b.qkv(b.norm(x, "attn_norm", i), i)
        a = b.attention(b.rope(q, i), b.rope(k, i), v, i)
        x = b.add(x, b.linear(a, "attn_output", i), i)
        gate, up = b.gate_up(b.norm(x, "ffn_norm", i), i)
        x = b.add(x, b.linear(b.mul(b.silu(gate), up), "ffn_down", i), i)
    return b.finish(x)


FAMILY = Family("phi3", config, tensors, build)
