"""Tiny models as Hugging Face lays them out: a GGUF file of the tests undone into config.json, tokenizer.json and safetensors.

``write_folder`` reverses what a converter does (names, order of q's and k's rows, Gemma's one, Conv1D), independently of
``infc.frontend.hf``; the tests ask that reading the folder gives back the file.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infc.frontend import gguf
from infc.frontend.model_file import ModelFile
from tests.models import hf_experts
from tests.models.hf_experts import MIXTURES

P = "tokenizer.ggml."
Json = dict[str, Any]
GPT2_STEP: Json = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_NO_REGEX = GPT2_STEP | {"use_regex": False}
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)  # fmt: skip


def split(regex: str) -> Json:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def sequence(*steps: Json) -> Json:
    return {"type": "Sequence", "pretokenizers": list(steps)}


# As the models' own tokenizer.json files have them.
PRE: dict[str, Json] = {
    "gpt-2": GPT2_STEP,
    "smollm": sequence({"type": "Digits", "individual_digits": True}, GPT2_STEP),
    "llama-bpe": sequence(split(_CL100K % r"\p{N}{1,3}"), _NO_REGEX),
    "qwen2": sequence(split(_CL100K % r"\p{N}"), _NO_REGEX),
}
IGNORE_MERGES = ("llama-bpe",)

_ENDS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LLAMA = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
}  # fmt: skip
_SANDWICH = _LLAMA | {
    "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip
_GPT2 = {
    "attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_norm": "ln_2", "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}  # fmt: skip
_GPT2_ENDS = {
    "token_embd": "transformer.wte", "position_embd": "transformer.wpe", "output_norm": "transformer.ln_f", "output": "lm_head"
}  # fmt: skip
_PHI3 = _LLAMA | {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}
_STARCODER2 = _LLAMA | {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}
_GLM4 = _LLAMA | {
    "post_attention_norm": "post_self_attn_layernorm", "ffn_norm": "post_attention_layernorm", "post_ffw_norm": "post_mlp_layernorm",
    "ffn_up": "mlp.gate_up_proj",
}  # fmt: skip
# GGUF architecture -> (class in config.json, names in a layer)
FAMILIES: dict[str, tuple[str, dict[str, str]]] = {
    "llama": ("LlamaForCausalLM", _LLAMA),
    "qwen2": ("Qwen2ForCausalLM", _LLAMA),
    "qwen3": ("Qwen3ForCausalLM", _LLAMA),
    "gemma": ("GemmaForCausalLM", _LLAMA),
    "gemma2": ("Gemma2ForCausalLM", _SANDWICH),
    "gemma3": ("Gemma3ForCausalLM", _SANDWICH),
    "phi3": ("Phi3ForCausalLM", _PHI3),
    "granite": ("GraniteForCausalLM", _LLAMA),
    "olmo2": ("Olmo2ForCausalLM", _SANDWICH),
    "smollm3": ("SmolLM3ForCausalLM", _LLAMA),
    "starcoder2": ("Starcoder2ForCausalLM", _STARCODER2),
    "glm4": ("Glm4ForCausalLM", _GLM4),
    "seed_oss": ("SeedOssForCausalLM", _LLAMA | {"post_attention_norm": "post_attention_layernorm"}),
    "arcee": ("ArceeForCausalLM", _LLAMA),
    "nemotron": ("NemotronForCausalLM", _LLAMA),
    "jais2": ("Jais2ForCausalLM", _LLAMA),
    "gpt2": ("GPT2LMHeadModel", _GPT2),
}
PERMUTED = ("llama", "granite", "smollm3", "arcee")


def save(path: Path, tensors: dict[str, tuple[str, tuple[int, ...], bytes]]) -> Path:
    """One safetensors file: name -> (dtype, shape, bytes)."""
    header: Json = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"".join(data for _, _, data in tensors.values()))
    return path


def _undone(model: ModelFile, name: str, arch: str) -> tuple[str, tuple[int, ...], bytes]:
    """A tensor as the folder has it: (dtype, shape, bytes). Vectors stay float32, which every reader takes."""
    t = model.tensors[name]
    size = {"F32": 4, "F16": 2, "BF16": 2}[t.type]
    words: NDArray[Any] = model.data(name).view(f"<u{size}").reshape(tuple(reversed(t.ne)))
    module, kind = name.split(".")[-2:]
    if arch in PERMUTED and module in ("attn_q", "attn_k"):
        heads = int(model.kv[f"{arch}.attention.head_count" + ("" if module == "attn_q" else "_kv")])  # type: ignore[arg-type]
        n = words.shape[0]
        words = words.reshape(heads, n // heads // 2, 2, *words.shape[1:]).swapaxes(1, 2).reshape(words.shape)
    if arch.startswith(("gemma", "nemotron")) and name.endswith("norm.weight"):
        words = (words.view("<f4") - np.float32(1)).view("<u4")
    if arch == "gpt2" and kind == "weight" and module in ("attn_qkv", "attn_output", "ffn_up", "ffn_down"):
        words = words.T
    if module == "ffn_gate_inp_shexp":
        words = words.reshape(1, -1)
    return t.type, words.shape, np.ascontiguousarray(words).tobytes()


def hf_name(arch: str, name: str, mixture: bool = False) -> str:
    """The folder's name of a GGUF tensor."""
    *_, module, kind = name.split(".")
    if mixture and name.startswith("blk."):
        if module == "attn_sinks":
            return f"model.layers.{name.split('.')[1]}.self_attn.sinks"
        return f"model.layers.{name.split('.')[1]}.{(_LLAMA | MIXTURES[arch][1])[module]}.{kind}"
    if not name.startswith("blk."):
        return f"{(_GPT2_ENDS if arch == 'gpt2' else _ENDS)[module]}.{kind}"
    layer = "transformer.h" if arch == "gpt2" else "model.layers"
    return f"{layer}.{name.split('.')[1]}.{FAMILIES[arch][1][module]}.{kind}"


def tokenizer(model: ModelFile) -> tuple[Json, Json]:
    """(tokenizer.json, tokenizer_config.json) of a byte-level vocabulary."""
    kv = model.kv
    tokens, types = list(kv[P + "tokens"]), list(kv[P + "token_type"])  # type: ignore[arg-type]
    pre = str(kv[P + "pre"])
    added = [
        {"id": i, "content": t, "special": int(types[i]) == 3, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
        for i, t in enumerate(tokens) if int(types[i]) in (3, 4)
    ]  # fmt: skip
    bos = tokens[int(kv[P + "bos_token_id"])] if P + "bos_token_id" in kv else None  # type: ignore[arg-type]
    adds_bos = bool(kv.get(P + "add_bos_token", False))
    post: Json = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    if adds_bos:
        first = {"SpecialToken": {"id": bos, "type_id": 0}}
        single = [first, {"Sequence": {"id": "A", "type_id": 0}}]
        post = {"type": "Sequence", "processors": [post, {"type": "TemplateProcessing", "single": single, "pair": single}]}
    found: Json = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": PRE[pre], "post_processor": post, "decoder": GPT2_STEP,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": pre in IGNORE_MERGES,
            "vocab": {t: i for i, t in enumerate(tokens) if int(types[i]) == 1},
            "merges": [m.split(" ") for m in kv[P + "merges"]],  # type: ignore[union-attr]
        },
    }  # fmt: skip
    settings: Json = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for hf, name in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown")):
        if f"{P}{name}_token_id" in kv:
            settings[f"{hf}_token"] = tokens[int(kv[f"{P}{name}_token_id"])]  # type: ignore[arg-type]
    if "tokenizer.chat_template" in kv:
        settings["chat_template"] = kv["tokenizer.chat_template"]
    return found, settings


def config(model: ModelFile, arch: str) -> Json:
    """config.json of a model whose settings are those all families have; a family's own ones are the caller's."""
    kv: Json = {k.removeprefix(arch): v for k, v in model.kv.items()}
    heads = kv[".attention.head_count"]
    found: Json = {
        "architectures": [FAMILIES[arch][0] if arch in FAMILIES else ""], "model_type": arch, "torch_dtype": "float16",
        "hidden_size": kv[".embedding_length"],
        "num_hidden_layers": kv[".block_count"], "max_position_embeddings": kv[".context_length"],
        "intermediate_size": kv[".feed_forward_length"], "num_attention_heads": heads,
        "num_key_value_heads": kv.get(".attention.head_count_kv", heads), "vocab_size": len(kv[P + "tokens"]),
        "tie_word_embeddings": "output.weight" not in model.tensors, "rope_theta": kv.get(".rope.freq_base", 10000.0),
        "rms_norm_eps": kv.get(".attention.layer_norm_rms_epsilon"), "hidden_act": "silu",
    }  # fmt: skip
    if ".attention.key_length" in kv:
        found["head_dim"] = kv[".attention.key_length"]
    if ".rope.scaling.factor" in kv:
        found["rope_scaling"] = {"rope_type": "linear", "factor": kv[".rope.scaling.factor"]}
    return found | (hf_experts.settings(kv, arch) if ".expert_count" in kv else {})


def write_folder(
    file: Path,
    folder: Path,
    *,
    shards: int = 1,
    stacked: bool = False,
    settings: Json | None = None,
    change: Callable[[dict[str, Json]], object] | None = None,
) -> Path:
    """Undo ``file`` (floats, and gpt-oss's MXFP4) into ``folder``. ``settings`` go into config.json; ``change`` may spoil the documents,
    by name. ``stacked``: experts as one tensor, where the family's folders may have them apart."""
    folder.mkdir()
    with gguf.read(file) as model:
        arch = str(model.kv["general.architecture"])
        mixture = f"{arch}.expert_count" in model.kv
        made = {
            hf_name(arch, n, mixture): _undone(model, n, arch) for n in model.tensors if not n.startswith("rope_") and "_exps." not in n
        }
        for i in range(int(model.kv[f"{arch}.block_count"]) if mixture else 0):  # type: ignore[arg-type]
            made |= hf_experts.experts(model, arch, i, stacked)
        found, token_settings = tokenizer(model)
        documents: dict[str, Json] = {
            "config.json": config(model, arch) | (settings or {}), "tokenizer.json": found, "tokenizer_config.json": token_settings,
        }  # fmt: skip
    names = list(made)
    if shards == 1:
        save(folder / "model.safetensors", made)
    else:
        files = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
        weight_map = {n: files[i % shards] for i, n in enumerate(names)}
        for f in files:
            save(folder / f, {n: made[n] for n in names if weight_map[n] == f})
        documents["model.safetensors.index.json"] = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    if change is not None:
        change(documents)
    for name, value in documents.items():
        (folder / name).write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    return folder
