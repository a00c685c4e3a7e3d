"""The dense families: which settings each has, and what it calls its tensors."""

from __future__ import annotations

import re

from infc.errors import InputError
from infc.frontend.hf.config import Config, common
from infc.frontend.hf.family import ATTENTION, HEAD_NORMS, LLAMA, MLP, NORMS, Family, no_window, pattern, window
from infc.frontend.hf.folder import CONFIG
from infc.frontend.hf.rope import Made, parameters, rope


def llama(c: Config) -> Made:
    common(c)
    made = rope(c)
    c.only("hidden_act", "silu")
    return made


def mistral(c: Config, window_missing: int = 4096) -> Made:
    made = llama(c)
    window(c, window_missing)
    return made


def qwen(c: Config) -> Made:
    common(c)
    made = rope(c)
    c.only("hidden_act", "silu")
    no_window(c)
    return made


def _gemma(c: Config) -> Made:
    common(c)
    made = rope(c)
    for name in ("hidden_activation", "hidden_act"):
        c.only(name, "gelu_pytorch_tanh", *(("gelu",) if name == "hidden_act" else ()))  # "gelu" stood for tanh's in the first files
    return made


def _query_scale(c: Config, large: int) -> None:
    """Scores are divided by the root of head_dim, in the family's largest model by that of dim / heads: no key says otherwise."""
    n, _, head_dim = c.heads
    expected = c.number("hidden_size") / n if c.layers == large else head_dim
    if c.real("query_pre_attn_scalar", default=expected) != expected:
        raise InputError("S11", f"query_pre_attn_scalar {c.get('query_pre_attn_scalar')} is not supported (only {expected:g})", CONFIG)


def _gemma2(c: Config) -> Made:
    made = _gemma(c)
    _query_scale(c, 46)
    c.put(".attn_logit_softcapping", "f32", c.real("attn_logit_softcapping", default=50.0))
    c.put(".final_logit_softcapping", "f32", c.real("final_logit_softcapping", default=30.0))
    c.put(".attention.sliding_window", "u32", c.number("sliding_window", default=4096))
    if c.get("layer_types") is not None:
        pattern(c, 2)
    return made


def _gemma3(c: Config) -> Made:
    c.values.setdefault("rope_theta", 1000000.0)
    for key, value in (("num_attention_heads", 8), ("num_key_value_heads", 4), ("head_dim", 256), ("max_position_embeddings", 131072)):
        c.values.setdefault(key, value)
    made = _gemma(c)
    _query_scale(c, 62)
    c.only("attn_logit_softcapping", None)
    c.only("use_bidirectional_attention", False)
    if c.get("final_logit_softcapping") is not None:
        c.put(".final_logit_softcapping", "f32", c.real("final_logit_softcapping"))
    c.put(".attention.sliding_window", "u32", c.number("sliding_window", default=4096))
    sets = c.get("rope_parameters") or {}
    if isinstance(sets.get("sliding_attention"), dict):
        local = parameters(c, "sliding_attention") if c.get("rope_scaling") is None else {}
        if local.get("rope_type") != "default":
            raise InputError("S11", "RoPE scaling in the layers with a window is not supported in gemma3", CONFIG)
        c.values["rope_local_base_freq"] = local["rope_theta"]
    c.put(".rope.freq_base_swa", "f32", c.real("rope_local_base_freq", default=10000.0))
    if c.get("layer_types", "sliding_window_pattern") is not None:
        pattern(c, 6)
    return made


def _phi3(c: Config) -> Made:
    common(c)
    made = rope(c, partial=True)
    c.only("hidden_act", "silu")
    window(c)
    return made


def _granite(c: Config) -> Made:
    made = llama(c)
    c.put(".attention.scale", "f32", c.real("attention_multiplier", default=1.0))
    c.put(".embedding_scale", "f32", c.real("embedding_multiplier", default=1.0))
    c.put(".residual_scale", "f32", c.real("residual_multiplier", default=1.0))
    c.put(".logit_scale", "f32", c.real("logits_scaling", default=1.0))
    return made


def _olmo2(c: Config) -> Made:
    common(c)
    made = rope(c)
    c.only("hidden_act", "silu")
    if c.get("sliding_window") is not None:  # OLMo 3
        c.put(".attention.sliding_window", "u32", c.number("sliding_window"))
        pattern(c, 4)
    return made


def _smollm3(c: Config) -> Made:
    turned = c.get("no_rope_layers")
    expected = [int(i % 4 != 3) for i in range(c.layers)]
    if turned is not None and turned != expected or c.number("no_rope_layer_interval", default=4) != 4:
        raise InputError("S11", "positions must turn in all but every fourth layer: other no_rope_layers are not supported", CONFIG)
    no_window(c)
    return llama(c)


def _starcoder2(c: Config) -> Made:
    common(c, "layer")
    made = rope(c)
    c.only("hidden_act", "gelu_pytorch_tanh")
    c.only("use_bias", True)
    window(c)
    return made


def _gpt2(c: Config) -> Made:
    common(c, "layer")
    c.only("activation_function", "gelu_new", "gelu_pytorch_tanh")
    c.only("scale_attn_weights", True)
    c.only("scale_attn_by_inverse_layer_idx", False)
    c.only("add_cross_attention", False)
    return {}


def _arcee(c: Config) -> Made:
    common(c)
    made = rope(c)
    c.only("hidden_act", "relu2")
    no_window(c)
    return made


def _half_turns(c: Config) -> None:
    """Half of each head turns where the file does not say."""
    if parameters(c).get("partial_rotary_factor") is None:
        c.values.setdefault("partial_rotary_factor", 0.5)


def _glm4(c: Config) -> Made:
    common(c)
    _half_turns(c)
    made = rope(c, partial=True)
    c.only("hidden_act", "silu")
    return made


def _seed_oss(c: Config) -> Made:
    common(c)
    made = rope(c)
    c.only("hidden_act", "silu")
    return made


def _relu2(c: Config) -> Made:
    """Jais 2 and Nemotron."""
    common(c, "layer")
    if c.arch == "nemotron":
        _half_turns(c)
    made = rope(c, partial=c.arch == "nemotron")
    c.only("hidden_act", "relu2")
    return made


_GEMMA2_NORMS = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
}  # fmt: skip
_GEMMA3 = Family("gemma3", _gemma3, _GEMMA2_NORMS | ATTENTION | MLP | HEAD_NORMS, norms_plus_one=True, tied=True)
_OLMO2 = Family("olmo2", _olmo2, {
    "post_attention_layernorm": "post_attention_norm", "post_feedforward_layernorm": "post_ffw_norm",
} | ATTENTION | MLP | HEAD_NORMS)  # fmt: skip

_PLAIN_MLP = {f"mlp.{a}_proj": f"ffn_{a}" for a in ("up", "down")}

# The class in config.json's "architectures" -> family.
DENSE: dict[str, Family] = {
    "LlamaForCausalLM": Family("llama", llama, permuted=True),
    "MistralForCausalLM": Family("llama", mistral, permuted=True),
    "Qwen2ForCausalLM": Family("qwen2", qwen),
    "Qwen3ForCausalLM": Family("qwen3", qwen, LLAMA | HEAD_NORMS),
    "GemmaForCausalLM": Family("gemma", _gemma, norms_plus_one=True, tied=True),
    "Gemma2ForCausalLM": Family("gemma2", _gemma2, _GEMMA2_NORMS | ATTENTION | MLP, norms_plus_one=True, tied=True),
    "Gemma3ForCausalLM": _GEMMA3,
    "Phi3ForCausalLM": Family("phi3", _phi3, NORMS | {
        "self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output", "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }),
    "GraniteForCausalLM": Family("granite", _granite, permuted=True),
    "Olmo2ForCausalLM": _OLMO2,
    "Olmo3ForCausalLM": _OLMO2,
    "SmolLM3ForCausalLM": Family("smollm3", _smollm3, permuted=True, tied=True),
    "Starcoder2ForCausalLM": Family(
        "starcoder2", _starcoder2, NORMS | ATTENTION | {"mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}, tied=True,
    ),
    "Glm4ForCausalLM": Family("glm4", _glm4, ATTENTION | {
        "input_layernorm": "attn_norm", "post_self_attn_layernorm": "post_attention_norm", "post_attention_layernorm": "ffn_norm",
        "post_mlp_layernorm": "post_ffw_norm", "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }),
    "SeedOssForCausalLM": Family("seed_oss", _seed_oss, ATTENTION | MLP | {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm",
    }),
    "ArceeForCausalLM": Family("arcee", _arcee, NORMS | ATTENTION | _PLAIN_MLP, permuted=True),
    "NemotronForCausalLM": Family("nemotron", _relu2, NORMS | ATTENTION | _PLAIN_MLP, norms_plus_one=True),
    "Jais2ForCausalLM": Family("jais2", _relu2, NORMS | ATTENTION | _PLAIN_MLP),
    "GPT2LMHeadModel": Family(
        "gpt2", _gpt2, {
            "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
            "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
        },
        {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "lm_head": "output"},
        prefix="h.", skipped=re.compile(r".*\.attn\.(masked_)?bias"), transposed=("attn_qkv", "attn_output", "ffn_up", "ffn_down"),
        tied=True,
    ),
}  # fmt: skip
