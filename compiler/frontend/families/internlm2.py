"""InternLM 2 and 2.5 (arXiv:2403.17297): LLaMA's layer."""

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
        yield from rules.gated_mlp(c, blk)


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


FAMILY = Family("internlm2", config, tensors, build)
