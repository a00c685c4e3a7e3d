"""The mixtures of experts: their settings, and where a folder has the experts: a matrix each, or one tensor of all.

Both layouts are read, as transformers has written both: 5.0 stacks on loading what earlier ones kept apart.
"""

from __future__ import annotations

from infc.errors import InputError
from infc.frontend.hf.config import Config, common
from infc.frontend.hf.dense import mistral, qwen
from infc.frontend.hf.family import ATTENTION, HEAD_NORMS, NORMS, Family, Stacked, pattern
from infc.frontend.hf.folder import CONFIG
from infc.frontend.hf.rope import Made, rope


def _experts(c: Config) -> None:
    """How many experts there are, and how many a row takes."""
    c.put(".expert_count", "u32", c.number("num_local_experts", "num_experts"))
    c.put(".expert_used_count", "u32", c.number("num_experts_per_tok", "experts_per_token"))


def _mixtral(c: Config) -> Made:
    c.values.setdefault("rope_theta", 1000000.0)
    made = mistral(c, window_missing=0)
    _experts(c)
    return made


def _qwen_moe(c: Config, renormalised: bool) -> Made:
    """GGUF has no key for ``norm_topk_prob``: a family has one value."""
    made = qwen(c)
    c.only("use_sliding_window", False)
    _experts(c)
    c.put(".expert_feed_forward_length", "u32", c.number("moe_intermediate_size"))
    if c.flag("norm_topk_prob", False) is not renormalised:
        raise InputError("S11", f"{c.arch} with norm_topk_prob {not renormalised} is not supported".lower(), CONFIG)
    if c.number("decoder_sparse_step", default=1) != 1 or c.get("mlp_only_layers") not in (None, []):
        raise InputError("S11", "layers without experts (decoder_sparse_step, mlp_only_layers) are not supported", CONFIG)
    return made


def _qwen2_moe(c: Config) -> Made:
    made = _qwen_moe(c, renormalised=False)
    c.put(".expert_shared_feed_forward_length", "u32", c.number("shared_expert_intermediate_size"))
    return made


def _qwen3_moe(c: Config) -> Made:
    return _qwen_moe(c, renormalised=True)


def _olmoe(c: Config) -> Made:
    common(c)
    made = rope(c)
    c.only("hidden_act", "silu")
    c.only("clip_qkv", None)
    c.only("norm_topk_prob", False)
    _experts(c)
    return made


def _gpt_oss(c: Config) -> Made:
    if c.get("rope_scaling", "rope_parameters") is None:
        c.values["rope_scaling"] = {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096}
    common(c)
    made = rope(c, theta=150000.0)
    c.only("hidden_act", "silu")
    c.only("attention_bias", True)
    c.only("swiglu_alpha", 1.702)
    c.only("swiglu_limit", 7.0)
    _experts(c)
    c.put(".expert_feed_forward_length", "u32", c.number("intermediate_size"))
    c.put(".attention.sliding_window", "u32", c.number("sliding_window", default=128))
    if c.get("layer_types") is not None:
        pattern(c, 2)
    return made


def _numbered(module: str, **names: str) -> dict[str, str]:
    """Modules of one expert: ``gate``, ``up`` and ``down`` under the names that are given."""
    return {f"{module}.{{}}.{there}": f"ffn_{here}_exps" for here, there in names.items()}


_GATE_UP = ("ffn_gate_exps.weight", "ffn_up_exps.weight")
_STACKED = {
    "mlp.experts.gate_up_proj": Stacked(_GATE_UP),
    "mlp.experts.down_proj": Stacked(("ffn_down_exps.weight",)),
}  # fmt: skip
_PROJECTIONS = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
_QWEN = NORMS | ATTENTION | {"mlp.gate": "ffn_gate_inp"}
_SHARED = {f"mlp.shared_expert.{p}": f"ffn_{n}_shexp" for n, p in _PROJECTIONS.items()} | {"mlp.shared_expert_gate": "ffn_gate_inp_shexp"}
_W = {"gate": "w1", "up": "w3", "down": "w2"}

MIXTURES: dict[str, Family] = {
    "MixtralForCausalLM": Family(
        "llama", _mixtral, NORMS | ATTENTION | {"block_sparse_moe.gate": "ffn_gate_inp", "mlp.gate": "ffn_gate_inp"},
        experts=_numbered("block_sparse_moe.experts", **_W), stacked=_STACKED, permuted=True,
    ),
    "Qwen2MoeForCausalLM": Family(
        "qwen2moe", _qwen2_moe, _QWEN | _SHARED, experts=_numbered("mlp.experts", **_PROJECTIONS), stacked=_STACKED,
    ),
    "Qwen3MoeForCausalLM": Family(
        "qwen3moe", _qwen3_moe, _QWEN | HEAD_NORMS, experts=_numbered("mlp.experts", **_PROJECTIONS), stacked=_STACKED,
    ),
    "OlmoeForCausalLM": Family(
        "olmoe", _olmoe, _QWEN | HEAD_NORMS, experts=_numbered("mlp.experts", **_PROJECTIONS), stacked=_STACKED,
    ),
    "GptOssForCausalLM": Family(
        "gpt-oss", _gpt_oss, ATTENTION | {
            "input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm", "mlp.router": "ffn_gate_inp",
        },
        stacked={
            # floats are multiplied from the other side: (experts, in, out)
            "mlp.experts.gate_up_proj": Stacked(_GATE_UP, woven=True, transposed=True),
            "mlp.experts.down_proj": Stacked(("ffn_down_exps.weight",), transposed=True),
            "mlp.experts.gate_up_proj_blocks": Stacked(_GATE_UP, woven=True, scales="mlp.experts.gate_up_proj_scales"),
            "mlp.experts.down_proj_blocks": Stacked(("ffn_down_exps.weight",), scales="mlp.experts.down_proj_scales"),
            "mlp.experts.gate_up_proj_bias": Stacked(("ffn_gate_exps.bias", "ffn_up_exps.bias"), woven=True),
            "mlp.experts.down_proj_bias": Stacked(("ffn_down_exps.bias",)),
        },
        renamed={"self_attn.sinks": "attn_sinks.weight"},
    ),
}  # fmt: skip
