"""The experts of a mixture as Hugging Face's folders have them: apart, stacked, or gpt-oss's woven floats and MXFP4 blocks.

Undoes what a converter does, independently of ``infc.frontend.hf``; ``tests.models.hf_folder`` puts it beside the other tensors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from infc.frontend.model_file import ModelFile

Tensor = tuple[str, tuple[int, ...], bytes]  # dtype, shape, bytes
Words = NDArray[Any]

# GGUF architecture ("llama": Mixtral) -> (class in config.json, modules in a layer)
MIXTURES: dict[str, tuple[str, dict[str, str]]] = {
    "llama": ("MixtralForCausalLM", {"ffn_gate_inp": "block_sparse_moe.gate"}),
    "qwen2moe": ("Qwen2MoeForCausalLM", {
        "ffn_gate_inp": "mlp.gate", "ffn_gate_inp_shexp": "mlp.shared_expert_gate", "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
        "ffn_up_shexp": "mlp.shared_expert.up_proj", "ffn_down_shexp": "mlp.shared_expert.down_proj",
    }),
    "qwen3moe": ("Qwen3MoeForCausalLM", {"ffn_gate_inp": "mlp.gate"}),
    "olmoe": ("OlmoeForCausalLM", {"ffn_gate_inp": "mlp.gate"}),
    "gpt-oss": ("GptOssForCausalLM", {"ffn_gate_inp": "mlp.router", "post_attention_norm": "post_attention_layernorm"}),
}  # fmt: skip
_APART = {
    "llama": ("block_sparse_moe.experts", {"gate": "w1", "up": "w3", "down": "w2"}),
    "qwen2moe": ("mlp.experts", {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}),
}
_APART["qwen3moe"] = _APART["olmoe"] = _APART["qwen2moe"]


def settings(kv: dict[str, Any], arch: str) -> dict[str, Any]:
    """config.json's keys of the mixture; ``kv`` without the architecture's name."""
    count, used = kv[".expert_count"], kv[".expert_used_count"]
    found = {"architectures": [MIXTURES[arch][0]], "num_experts_per_tok": used}
    if arch == "llama":
        return found | {"model_type": "mixtral", "num_local_experts": count}
    if arch == "olmoe":
        return found | {"num_experts": count, "norm_topk_prob": False, "clip_qkv": None}
    width = kv[".expert_feed_forward_length"]
    if arch == "gpt-oss":
        scaling = {"rope_type": "yarn", "factor": kv[".rope.scaling.factor"], "truncate": False}
        scaling["original_max_position_embeddings"] = kv[".rope.scaling.original_context_length"]
        return found | {
            "model_type": "gpt_oss", "num_local_experts": count, "intermediate_size": width, "rope_scaling": scaling,
            "sliding_window": kv[".attention.sliding_window"], "attention_bias": True, "swiglu_limit": 7.0,
        }  # fmt: skip
    found |= {"num_experts": count, "moe_intermediate_size": width, "norm_topk_prob": arch == "qwen3moe", "decoder_sparse_step": 1}
    found |= {"mlp_only_layers": [], "use_sliding_window": False, "sliding_window": 32768, "max_window_layers": 28}
    return found | ({"shared_expert_intermediate_size": kv[".expert_shared_feed_forward_length"]} if arch == "qwen2moe" else {})


def _words(model: ModelFile, name: str) -> Words:
    """(experts, n, k), or (experts, n) of a bias."""
    t = model.tensors[name]
    return model.data(name).view({"F32": "<u4", "F16": "<u2", "BF16": "<u2"}[t.type]).reshape(tuple(reversed(t.ne)))


def _tensor(dtype: str, words: Words) -> Tensor:
    return dtype, words.shape, np.ascontiguousarray(words).tobytes()


def _woven(gate: Words, up: Words, axis: int) -> Words:
    """gate 0, up 0, gate 1, ... along ``axis``."""
    return np.stack([gate, up], axis + 1).reshape(*gate.shape[:axis], -1, *gate.shape[axis + 1 :])


def _mxfp4(model: ModelFile, name: str) -> tuple[Words, Words]:
    """(blocks, scales) with elements 2j and 2j + 1 in a byte, from ggml's blocks, which have j and j + 16."""
    k, n, experts = model.tensors[name].ne
    raw = model.data(name).reshape(experts, n, k // 32, 17)
    codes = np.concatenate([raw[..., 1:] & 15, raw[..., 1:] >> 4], axis=-1)
    return codes[..., 0::2] | codes[..., 1::2] << 4, raw[..., 0]


def experts(model: ModelFile, arch: str, i: int, stacked: bool) -> dict[str, Tensor]:
    """Every tensor of the experts of layer ``i``."""
    blk, layer = f"blk.{i}.ffn_", f"model.layers.{i}."
    names = {p: f"{blk}{p}_exps.weight" for p in ("gate", "up", "down")}
    dtype = model.tensors[names["down"]].type
    if arch == "gpt-oss":
        there = layer + "mlp.experts."
        bias = {p: _words(model, f"{blk}{p}_exps.bias") for p in names}
        made = {
            there + "gate_up_proj_bias": _tensor("F32", _woven(bias["gate"], bias["up"], 1)),
            there + "down_proj_bias": _tensor("F32", bias["down"]),
        }
        if dtype == "MXFP4":
            (gate, gate_scales), (up, up_scales), (down, down_scales) = (_mxfp4(model, n) for n in names.values())
            return made | {
                there + "gate_up_proj_blocks": _tensor("U8", _woven(gate, up, 1)),
                there + "gate_up_proj_scales": _tensor("U8", _woven(gate_scales, up_scales, 1)),
                there + "down_proj_blocks": _tensor("U8", down),
                there + "down_proj_scales": _tensor("U8", down_scales),
            }
        gate, up, down = (_words(model, n).swapaxes(1, 2) for n in names.values())
        return made | {there + "gate_up_proj": _tensor(dtype, _woven(gate, up, 2)), there + "down_proj": _tensor(dtype, down)}
    gate, up, down = (_words(model, n) for n in names.values())
    if stacked:
        there = layer + "mlp.experts."
        return {there + "gate_up_proj": _tensor(dtype, np.concatenate([gate, up], 1)), there + "down_proj": _tensor(dtype, down)}
    module, parts = _APART[arch]
    matrices = {"gate": gate, "up": up, "down": down}
    return {
        f"{layer}{module}.{e}.{parts[p]}.weight": _tensor(dtype, m[e]) for p, m in matrices.items() for e in range(len(m))
    }  # fmt: skip
