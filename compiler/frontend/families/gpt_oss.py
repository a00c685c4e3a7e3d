"""gpt-oss (arXiv:2508.10925): biases everywhere, a learned logit of each head in the softmax's denominator, a window of 128 in every other
layer, YaRN, and experts with a clamped SwiGLU."""

from __future__ import annotations

from collections.abc import Iterator

from infc.frontend import rules
from infc.frontend.builder import Builder
from infc.frontend.config import ModelConfig
from infc.frontend.dense import dense, rope, windows
from infc.frontend.experts import expert_tensors, read_experts
from infc.frontend.families.family import Family
from infc.frontend.gguf import ModelFile
from infc.frontend.keys import Keys
from infc.ir.graph import Graph
from infc.limits import Limits


def config(keys: Keys, limits: Limits) -> ModelConfig:
    experts = read_experts(keys, limits, ".expert_feed_forward_length", renormalise=True)
    return dense(keys, limits, (rope(keys, limits, halves=True),), windows(keys, limits, every=2), experts=experts)


def tensors(c: ModelConfig) -> Iterator[rules.Rule]:
    yield from rules.ends(c)
    for i in range(c.n_layers):
        blk = f"blk.{i}."
        yield from rules.norm(blk, "attn_norm", c.dim)
        yield from rules.attention(c, blk, bias=True, output_bias=True)
        yield rules.vector(blk + "attn_sinks.weight", c.n_heads)
        yield from rules.norm(blk, "post_attention_norm", c.dim)
        yield from expert_tensors(c, blk, bias=True)


def build(model: ModelFile, config: ModelConfig) -> Graph:
    b = Builder(model, config)
    x = b.embed()
    for i in range(config.n_layers):
        q, k, v = b.qkv(b.norm(x, "attn_norm", i), i)
        a = b.attention(b.rope(q, i), b.rope(k, i), v, i)
        x = b.add(x, b.linear(a, "attn_output", i), i)
        n = b.norm(x, "post_attention_norm", i)
        choices, _ = b.route(n, i)
        gate, up = b.expert_linear(n, choices, "ffn_gate_exps", i), b.expert_linear(n, choices, "ffn_up_exps", i)
        x = b.expert_sum(x, b.expert_linear(b.swiglu_oai(gate, up), choices, "ffn_down_exps", i), choices, i)
    return b.finish(x)


FAMILY = Family("gpt-oss", config, tensors, build)
