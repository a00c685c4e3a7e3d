"""OLMo 2 (arXiv:2501.00656): norms after the blocks, none before them, and a norm of the whole row of q and of k. OLMo 3's window,
of four layers three, is read as well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from infc.frontend import rules
from infc.frontend.builder import Builder
from infc.frontend.config import ModelConfig, Rope
from infc.frontend.dense import dense, rope, windows
from infc.frontend.families.family import Family
from infc.frontend.gguf import ModelFile
from infc.frontend.keys import Keys
from infc.ir.graph import Graph
from infc.limits import Limits


def config(keys: Keys, limits: Limits) -> ModelConfig:
    layers = windows(keys, limits, every=4)
    main = rope(keys, limits, halves=True)
    if all(layer.window == 0 for layer in layers):
        return dense(keys, limits, (main,), layers)
    # layers with a window are not stretched
    local = Rope(main.dim, keys.f32(".rope.freq_base_swa", "G34", lambda x: x >= 1, main.base), orig_ctx=main.orig_ctx, halves=True)
    ropes = (main,) if local == main else (main, local)
    return dense(keys, limits, ropes, tuple(replace(layer, rope=len(ropes) - 1 if layer.window else 0) for layer in layers))


def tensors(c: ModelConfig) -> Iterator[rules.Rule]:
    yield from rules.ends(c)
    for i in range(c.n_layers):
        blk = f"blk.{i}."
        yield from rules.attention(c, blk)
        yield from rules.norm(blk, "attn_q_norm", c.n_heads * c.head_dim)
        yield from rules.norm(blk, "attn_k_norm", c.n_kv_heads * c.head_dim)
        yield from rules.norm(blk, "post_attention_norm", c.dim)
        yield from rules.gated_mlp(c, blk)
        yield from rules.norm(blk, "post_ffw_norm", c.dim)


def build(model: ModelFile, config: ModelConfig) -> Graph:
    b = Builder(model, config)
    x = b.embed()
    for i in range(config.n_layers):
        q, k, v = b.qkv(x, i)
        q, k = b.row_norm(q, "attn_q_norm", i), b.row_norm(k, "attn_k_norm", i)
        a = b.attention(b.rope(q, i), b.rope(k, i), v, i)
        x = b.add(x, b.norm(b.linear(a, "attn_output", i), "post_attention_norm", i), i)
        gate, up = b.gate_up(x, i)
        y = b.linear(b.mul(b.silu(gate), up), "ffn_down", i)
        x = b.add(x, b.norm(y, "post_ffw_norm", i), i)
    return b.finish(x)


FAMILY = Family("olmo2", config, tensors, build)
