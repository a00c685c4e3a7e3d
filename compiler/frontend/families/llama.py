"""LLaMA 1, 2 and 3 (arXiv:2302.13971, 2307.09288, 2407.21783), Code Llama, Mistral (arXiv:2310.06825), SmolLM2:
norm, attention, norm, SwiGLU. Llama 3.1's factors of the frequencies are a tensor, Mistral's window a key. Mixtral (arXiv:2401.04088)
has the same name, and several SwiGLU layers to choose from."""

from __future__ import annotations

from collections.abc import Iterator

from infc.frontend import rules
from infc.frontend.builder import Builder
from infc.frontend.config import ModelConfig
from infc.frontend.dense import dense, rope, windows
from infc.frontend.experts import expert_tensors, has_experts, mixture, read_experts
from infc.frontend.families.family import Family
from infc.frontend.gguf import ModelFile
from infc.frontend.keys import Keys
from infc.ir.graph import Graph
from infc.limits import Limits


def config(keys: Keys, limits: Limits) -> ModelConfig:
    experts = read_experts(keys, limits, ".feed_forward_length", renormalise=True) if has_experts(keys, limits) else None
    return dense(keys, limits, (rope(keys, limits, halves=False),), windows(keys, limits), experts=experts)


def tensors(c: ModelConfig) -> Iterator[rules.Rule]:
    yield from rules.ends(c)
    for i in range(c.n_layers):
        blk = f"blk.{i}."
        yield from rules.norm(blk, "attn_norm", c.dim)
        yield from rules.attention(c, blk, bias=None, output_bias=None)
        yield from rules.norm(blk, "ffn_norm", c.dim)
        yield from rules.gated_mlp(c, blk, bias=None) if c.experts is None else expert_tensors(c, blk)


def build(model: ModelFile, config: ModelConfig) -> Graph:
    b = Builder(model, config)
    x = b.embed()
    for i in range(config.n_layers):
        q, k, v = b.qkv(b.norm(x, "attn_norm", i), i)
        a = b.attention(b.rope(q, i), b.rope(k, i), v, i)
        x = b.add(x, b.linear(a, "attn_output", i), i)
        n = b.norm(x, "ffn_norm", i)
        if config.experts is not None:
            x = mixture(b, x, n, i)
            continue
        gate, up = b.gate_up(n, i)
        x = b.add(x, b.linear(b.mul(b.silu(gate), up), "ffn_down", i), i)
    return b.finish(x)


FAMILY = Family("llama", config, tensors, build)
