"""GPT-2 (Radford et al., 2019): LayerNorm, learned positions, q, k and v in one matrix, a plain MLP with GELU, biases everywhere."""

from __future__ import annotations

from collections.abc import Iterator

from infc.frontend import rules
from infc.frontend.builder import Builder
from infc.frontend.config import ModelConfig
from infc.frontend.dense import LAYER_NORM, dense
from infc.frontend.families.family import Family
from infc.frontend.gguf import ModelFile
from infc.frontend.keys import Keys
from infc.ir.graph import Graph
from infc.limits import Limits


def config(keys: Keys, limits: Limits) -> ModelConfig:
    return dense(keys, limits, (), eps=LAYER_NORM)


def tensors(c: ModelConfig) -> Iterator[rules.Rule]:
    yield from rules.ends(c, norm_bias=True)
    yield rules.matrix("position_embd", c.dim, c.n_ctx_train)
    for i in range(c.n_layers):
        blk = f"blk.{i}."
        yield from rules.norm(blk, "attn_norm", c.dim, bias=True)
        yield from rules.fused_attention(c, blk, bias=True)
        yield from rules.norm(blk, "ffn_norm", c.dim, bias=True)
        yield from rules.mlp(c, blk, bias=True)


def build(model: ModelFile, config: ModelConfig) -> Graph:
    b = Builder(model, config)
    x = b.embed()
    for i in range(config.n_layers):
        q, k, v = b.qkv(b.norm(x, "attn_norm", i), i)
        a = b.attention(q, k, v, i)
        x = b.add(x, b.linear(a, "attn_output", i), i)
        h = b.gelu(b.linear(b.norm(x, "ffn_norm", i), "ffn_up", i))
        x = b.add(x, b.linear(h, "ffn_down", i), i)
    return b.finish(x)


FAMILY = Family("gpt2", config, tensors, build)
