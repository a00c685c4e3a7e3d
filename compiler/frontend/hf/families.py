"""What each family calls its tensors, what is done to them on the way to GGUF's, and which settings it has.

The tables say what llama.cpp's converter does, so a folder and the GGUF file made from it compile to the same program:
rows of q and k are reordered where GGUF rotates neighbouring pairs (``permuted``), Gemma's norms get their one added.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from infc.errors import InputError
from infc.frontend.hf.config import Config, common, llama3_factors, longrope_factors, rope, rope_parameters
from infc.frontend.hf.folder import CONFIG

Made = dict[str, list[float]]  # tensors that config.json holds: name -> float32 values

_ATTENTION = {f"self_attn.{a}_proj": f"attn_{b}" for a, b in (("q", "q"), ("k", "k"), ("v", "v"), ("o", "output"))}
_MLP = {f"mlp.{a}_proj": f"ffn_{a}" for a in ("gate", "up", "down")}
_NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
_HEAD_NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
_ENDS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_LLAMA = _NORMS | _ATTENTION | _MLP
_SKIPPED = re.compile(r".*\.rotary_emb\.inv_freq")


@dataclass(frozen=True)
class Family:
    """``arch``: ``general.architecture``. ``layer``, ``ends``: module in the folder -> module in GGUF, in a layer and outside.

    ``settings`` puts metadata and returns tensors that come from config.json. ``tied``: what a file that does not say wants.
    ``experts``: module of an expert, "{}" being its number -> module in GGUF.
    """

    arch: str
    settings: Callable[[Config], Made]
    layer: dict[str, str] = field(default_factory=lambda: _LLAMA)
    ends: dict[str, str] = field(default_factory=lambda: _ENDS)
    prefix: str = "model.layers."
    experts: dict[str, str] = field(default_factory=dict)
    skipped: re.Pattern[str] = _SKIPPED
    permuted: bool = False
    norms_plus_one: bool = False
    transposed: tuple[str, ...] = ()
    tied: bool = False


def _llama(c: Config) -> Made:
    common(c)
    p = rope(c)
    c.only("hidden_act", "silu")
    _window(c, default=None)
    return {"rope_freqs.weight": llama3_factors(c, p)} if p["rope_type"] == "llama3" else {}


def _window(c: Config, default: int | None) -> None:
    """A window that is shorter than the context; null: none."""
    window = c.number("sliding_window", default=default) if "sliding_window" in c.values or default else 0
    if 0 < window < c.number("max_position_embeddings"):
        c.put(".attention.sliding_window", "u32", window)


def _pattern(c: Config, every: int) -> None:
    """``layer_types``, where they are not what the family has anyway: of ``every`` layers all but the last have the window."""
    kinds = c.get("layer_types")
    if kinds is None:
        every = c.number("sliding_window_pattern", default=every)
        if every:
            c.put(".attention.sliding_window_pattern", "u32", every)
        return
    known = ("sliding_attention", "full_attention")
    if not isinstance(kinds, list) or len(kinds) != c.layers or not all(k in known for k in kinds):
        raise InputError("S11", f"layer_types must be {c.layers} of {' and '.join(known)}", CONFIG)
    local = [k == known[0] for k in kinds]
    if every == 0 or local != [i % every < every - 1 for i in range(c.layers)]:
        c.put(".attention.sliding_window_pattern", "[bool]", local)


def _qwen2(c: Config) -> Made:
    common(c)
    rope(c)
    c.only("hidden_act", "silu")
    c.only("use_sliding_window", False)
    return {}


def _gemma(c: Config) -> Made:
    common(c)
    rope(c)
    for name in ("hidden_activation", "hidden_act"):
        c.only(name, "gelu_pytorch_tanh", *(("gelu",) if name == "hidden_act" else ()))  # "gelu" stood for tanh's in the first files
    return {}


def _query_scale(c: Config, large: int) -> None:
    """Scores are divided by the root of head_dim, in the family's largest model by that of dim / heads: no key says otherwise."""
    n, _, head_dim = c.heads
    expected = c.number("hidden_size") / n if c.layers == large else head_dim
    if c.real("query_pre_attn_scalar", default=expected) != expected:
        raise InputError("S11", f"query_pre_attn_scalar {c.get('query_pre_attn_scalar')} is not supported (only {expected:g})", CONFIG)


def _gemma2(c: Config) -> Made:
    _gemma(c)
    _query_scale(c, 46)
    c.put(".attn_logit_softcapping", "f32", c.real("attn_logit_softcapping", default=50.0))
    c.put(".final_logit_softcapping", "f32", c.real("final_logit_softcapping", default=30.0))
    c.put(".attention.sliding_window", "u32", c.number("sliding_window", default=4096))
    if c.get("layer_types") is not None:
        _pattern(c, 2)
    return {}


def _gemma3(c: Config) -> Made:
    c.values.setdefault("rope_theta", 1000000.0)
    for key, value in (("num_attention_heads", 8), ("num_key_value_heads", 4), ("head_dim", 256), ("max_position_embeddings", 131072)):
        c.values.setdefault(key, value)
    _gemma(c)
    _query_scale(c, 62)
    c.only("attn_logit_softcapping", None)
    c.only("use_bidirectional_attention", False)
    if c.get("final_logit_softcapping") is not None:
        c.put(".final_logit_softcapping", "f32", c.real("final_logit_softcapping"))
    c.put(".attention.sliding_window", "u32", c.number("sliding_window", default=4096))
    local = rope_parameters(c, "sliding_attention")["rope_theta"] if c.get("rope_parameters") else c.get("rope_local_base_freq")
    c.values["rope_local_base_freq"] = local
    c.put(".rope.freq_base_swa", "f32", c.real("rope_local_base_freq", default=10000.0))
    if c.get("layer_types", "sliding_window_pattern") is not None:
        _pattern(c, 6)
    return {}


def _phi3(c: Config) -> Made:
    common(c)
    p = rope(c, partial=True)
    c.only("hidden_act", "silu")
    _window(c, default=None)
    turned = int(c.kv["phi3.rope.dimension_count"])  # type: ignore[arg-type]
    if p["rope_type"] not in ("longrope", "su"):
        return {}
    short, long = longrope_factors(c, p, turned // 2)
    return {"rope_factors_long.weight": long, "rope_factors_short.weight": short}


def _granite(c: Config) -> Made:
    made = _llama(c)
    c.put(".attention.scale", "f32", c.real("attention_multiplier", default=1.0))
    c.put(".embedding_scale", "f32", c.real("embedding_multiplier", default=1.0))
    c.put(".residual_scale", "f32", c.real("residual_multiplier", default=1.0))
    c.put(".logit_scale", "f32", c.real("logits_scaling", default=1.0))
    return made


def _olmo2(c: Config) -> Made:
    common(c)
    rope(c)
    c.only("hidden_act", "silu")
    if c.get("sliding_window") is not None:  # OLMo 3
        c.put(".attention.sliding_window", "u32", c.number("sliding_window"))
        _pattern(c, 4)
    return {}


def _smollm3(c: Config) -> Made:
    turned = c.get("no_rope_layers")
    expected = [int(i % 4 != 3) for i in range(c.layers)]
    if turned is not None and turned != expected or c.number("no_rope_layer_interval", default=4) != 4:
        raise InputError("S11", "positions must turn in all but every fourth layer: other no_rope_layers are not supported", CONFIG)
    c.only("use_sliding_window", False)
    c.values.pop("sliding_window", None)
    return _llama(c)


def _starcoder2(c: Config) -> Made:
    common(c, "layer")
    rope(c)
    c.only("hidden_act", "gelu_pytorch_tanh")
    c.only("use_bias", True)
    _window(c, default=None)
    return {}


def _gpt2(c: Config) -> Made:
    common(c, "layer")
    c.only("activation_function", "gelu_new", "gelu_pytorch_tanh")
    c.only("scale_attn_weights", True)
    c.only("scale_attn_by_inverse_layer_idx", False)
    c.only("add_cross_attention", False)
    return {}


_GEMMA2_NORMS = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
}  # fmt: skip
_GEMMA3 = Family("gemma3", _gemma3, _GEMMA2_NORMS | _ATTENTION | _MLP | _HEAD_NORMS, norms_plus_one=True, tied=True)
_OLMO2 = Family("olmo2", _olmo2, {
    "post_attention_layernorm": "post_attention_norm", "post_feedforward_layernorm": "post_ffw_norm",
} | _ATTENTION | _MLP | _HEAD_NORMS)  # fmt: skip
_LLAMA_FAMILY = Family("llama", _llama, permuted=True)

# The first of config.json's "architectures" -> family.
FAMILIES: dict[str, Family] = {
    "LlamaForCausalLM": _LLAMA_FAMILY,
    "MistralForCausalLM": _LLAMA_FAMILY,
    "Qwen2ForCausalLM": Family("qwen2", _qwen2),
    "Qwen3ForCausalLM": Family("qwen3", _qwen2, _LLAMA | _HEAD_NORMS),
    "GemmaForCausalLM": Family("gemma", _gemma, norms_plus_one=True, tied=True),
    "Gemma2ForCausalLM": Family("gemma2", _gemma2, _GEMMA2_NORMS | _ATTENTION | _MLP, norms_plus_one=True, tied=True),
    "Gemma3ForCausalLM": _GEMMA3,
    "Phi3ForCausalLM": Family("phi3", _phi3, _NORMS | {
        "self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output", "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }),
    "GraniteForCausalLM": Family("granite", _granite, permuted=True),
    "Olmo2ForCausalLM": _OLMO2,
    "Olmo3ForCausalLM": _OLMO2,
    "SmolLM3ForCausalLM": Family("smollm3", _smollm3, permuted=True, tied=True),
    "Starcoder2ForCausalLM": Family(
        "starcoder2", _starcoder2, _NORMS | _ATTENTION | {"mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}, tied=True,
    ),
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


def family_of(config: dict[str, object]) -> Family:
    """The family that config.json names; InputError G25 lists those there are."""
    named = config.get("architectures")
    name = named[0] if isinstance(named, list) and named else None
    if not isinstance(name, str):
        raise InputError("G25", "the architecture is missing", f"{CONFIG}: architectures")
    if name not in FAMILIES:
        known = ", ".join(sorted({f.arch for f in FAMILIES.values()}))
        raise InputError("G25", f"architecture {name[:60]!r} is not supported (supported: {known})", f"{CONFIG}: architectures")
    return FAMILIES[name]
