"""Gemma 3 (arXiv:2503.19786): Gemma 2 with norms of q's and k's heads in place of the soft caps; of six layers five have a window
and turn by a smaller base, and only the sixth's positions are stretched."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from infc.frontend import rules
from infc.frontend.builder import Builder
from infc.frontend.config import ModelConfig, Rope
from infc.frontend.dense import dense, rope, softcap, windows
from infc.frontend.families.family import Family
from infc.frontend.gguf import ModelFile
from infc.frontend.keys import Keys
from infc.ir.graph import Graph
from infc.limits import Limits


def config(keys: Keys, limits: Limits) -> ModelConfig:
    layers = windows(keys, limits, every=6)
    main = rope(keys, limits, halves=True)
    local = Rope(main.dim, keys.f32(".rope.freq_base_swa", "G34", lambda x: x >= 1, 10000.0), orig_ctx=main.orig_ctx, halves=True)
    layers = tuple(replace(layer, rope=1 if layer.window else 0) for layer in layers)
    ropes = (main, local) if any(layer.rope for layer in layers) else (main,)
    c = dense(keys, limits, ropes, layers)
    return replace(
        c,
        embedding_scale=math.sqrt(c.dim),
        # 27B divides by the root of dim / heads, the others by that of head_dim; no key says so
        attention_scale=(c.n_heads / c.dim) ** 0.5 if c.n_layers == 62 else 0.0,
        logit_softcap=softcap(keys, ".final_logit_softcapping"),
    )


def tensors(c: ModelConfig) -> Iterator[rules.Rule]:
    yield from rules.ends(c)
    for i in range(c.n_layers):
        blk = f"blk.{i}."
        yield from rules.norm(blk, "attn_norm", c.dim)
        yield from rules.attention(c, blk)
        yield from rules.norm(blk, "attn_q_norm", c.head_dim)
        yield from rules.norm(blk, "attn_k_norm", c.head_dim)
        yield from rules.norm(blk, "post_attention_norm", c.dim)
        yield from rules.norm(blk, "ffn_norm", c.dim)
        yield from rules.gated_mlp(c, blk)
        yield from rules.norm(blk, "post_ffw_norm", c.dim)


def build(model: ModelFile, config: ModelConfig) -> Graph:
    b = Builder(model, config)
    x = b.embed()
    for i in range(config.n_layers):
        q, k, v = b.qkv(b.norm(x, "attn_norm", i), i)
        q, k = b.head_norm(q, "attn_q_norm", i), b.head_norm(k, "attn_k_norm", i)
        a = b.attention(b.rope(q, i), b.rope(k, i), v, i)
        x = b.add(x, b.norm(b.linear(a, "attn_output", i), "post_attention_norm", i), i)
        gate, up = b.gate_up(b.norm(x, "ffn_norm", i), i)
        y = b.linear(b.mul(b.gelu(gate), up), "ffn_down", i)
        x = b.add(x, b.norm(y, "post_ffw_norm", i), i)
    return b.finish(x)


FAMILY = Family("gemma3", config, tensors, build)
