"""A folder of every dense family, all its features on: read as the GGUF file it stands for, in each spelling of its settings."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infc.errors import InputError
from infc.frontend.config import ModelConfig, Yarn
from infc.frontend.floats import to_f32
from infc.frontend.inputs import open_model
from infc.frontend.validate import validate
from tests.models.families import FAMILIES, N_CTX, WINDOW, write_family
from tests.models.hf_folder import write_folder

Tiny = Callable[..., Path]
Json = dict[str, Any]
P = "tokenizer.ggml."
_GEMMA: Json = {"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "rope_theta": 10000.0, "rms_norm_eps": 1e-5}
_LONG: Json = {
    "type": "longrope", "short_factor": np.linspace(1, 1.5, 12).tolist(), "long_factor": np.linspace(1, 30, 12).tolist(),
    "attention_factor": 1.19,
}  # fmt: skip
_LAYERS = ["sliding_attention", "full_attention"]
# What a published config.json of the family says beside the settings that all have, so that it means the GGUF file of the tests.
SETTINGS: dict[str, Json] = {
    "llama": {"architectures": ["MistralForCausalLM"], "sliding_window": WINDOW},
    "qwen2": {"use_sliding_window": False, "sliding_window": 32768, "max_window_layers": 28, "attention_dropout": 0.0},
    "qwen3": {"use_sliding_window": False, "sliding_window": None, "max_window_layers": 36, "attention_bias": False, "head_dim": 32},
    "gemma": _GEMMA | {"hidden_act": "gelu"},
    "gemma2": _GEMMA | {
        "sliding_window": WINDOW, "attn_logit_softcapping": 4.0, "final_logit_softcapping": 9.0, "query_pre_attn_scalar": 64,
    },
    "gemma3": _GEMMA | {
        "sliding_window": WINDOW, "rope_theta": 1e6, "rope_local_base_freq": 10000.0, "query_pre_attn_scalar": 64,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "attn_logit_softcapping": None, "final_logit_softcapping": None,
    },
    "phi3": {
        "sliding_window": WINDOW, "partial_rotary_factor": 0.75, "rope_scaling": _LONG, "original_max_position_embeddings": 600,
        "attention_bias": False,
    },
    "granite": {
        "embedding_multiplier": 12.0, "residual_multiplier": 0.22, "attention_multiplier": 0.05, "logits_scaling": 4.0,
        "attention_bias": False, "mlp_bias": False,
    },
    "olmo2": {},
    "smollm3": {"no_rope_layers": [1, 1, 1, 0], "no_rope_layer_interval": 4, "use_sliding_window": False, "sliding_window": None,
                "layer_types": ["full_attention"] * 4, "pretraining_tp": 2},
    "starcoder2": {"norm_epsilon": 1e-5, "use_bias": True, "hidden_act": "gelu_pytorch_tanh", "sliding_window": WINDOW},
    "glm4": {"partial_rotary_factor": 0.5, "attention_bias": False},
    "seed_oss": {"rope_theta": 1e7, "attention_bias": True, "attention_out_bias": False, "mlp_bias": False, "residual_dropout": 0.1},
    "arcee": {"hidden_act": "relu2", "rope_theta": 5e5, "mlp_bias": False, "attention_bias": False},
    "nemotron": {"hidden_act": "relu2", "norm_eps": 1e-5, "partial_rotary_factor": 0.5, "rms_norm_eps": None},
    "jais2": {"hidden_act": "relu2", "layer_norm_eps": 1e-5, "rms_norm_eps": None, "mlp_bias": True, "attention_bias": True},
    "gpt2": {"n_embd": 128, "n_head": 4, "n_layer": 3, "n_positions": N_CTX, "n_ctx": N_CTX, "n_inner": 160, "layer_norm_epsilon": 1e-5,
             "activation_function": "gelu_new", "hidden_act": None},
}  # fmt: skip


def read(path: Path) -> tuple[ModelConfig, dict[str, bytes], dict[str, Any], list[str]]:
    """(configuration, bytes of the tensors, tokenizer's keys, notes)."""
    with open_model(path) as model:
        config = replace(validate(model)[0], name="")
        tensors = {name: model.data(name).tobytes() for name in model.tensors}
        keys = {k: np.asarray(v).tolist() for k, v in model.kv.items() if k.startswith("tokenizer.")}
        return config, tensors, keys, model.notes


def test_families_without_folders() -> None:
    """Known by their GGUF files alone."""
    assert FAMILIES.keys() - SETTINGS.keys() == {"qwen2vl", "qwen3vl", "exaone", "internlm2", "ernie4_5"}


@pytest.mark.parametrize("family", SETTINGS)
@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_the_folder_is_its_twin(tmp_path: Path, family: str, kind: str) -> None:
    """Llama's factors of the frequencies apart: those of the file are none that config.json can say."""
    file = write_family(tmp_path / "m.gguf", family, types=kind)
    ours, theirs = read(write_folder(file, tmp_path / "m", settings=SETTINGS[family])), read(file)
    ropes = tuple(replace(r, factors=None) for r in theirs[0].ropes) if family == "llama" else theirs[0].ropes
    assert ours[0] == replace(theirs[0], ropes=ropes)
    expected = {name: data for name, data in theirs[1].items() if name != "rope_freqs.weight"}
    if family.startswith(("gemma", "nemotron")):  # one was taken away, then added: both round
        norms = {n: np.frombuffer(d, "<f4") for n, d in expected.items() if n.endswith("norm.weight")}
        expected |= {n: (x - np.float32(1) + np.float32(1)).tobytes() for n, x in norms.items()}
    if family == "gpt2":  # positions are added: a converter writes them in full
        expected["position_embd.weight"] = to_f32(np.frombuffer(expected["position_embd.weight"], np.uint8), kind).tobytes()
    assert ours[1].keys() == expected.keys()
    assert [name for name, data in expected.items() if ours[1][name] != data] == []
    assert {k: v for k, v in ours[2].items() if k != P + "add_eos_token"}.items() <= theirs[2].items()


def alike(tmp_path: Path, family: str, spelled: Json, dropped: tuple[str, ...] = ()) -> list[str]:
    """The folder with its settings spelled otherwise is the same model; its notes. ``dropped``: keys that are gone."""
    file = write_family(tmp_path / "m.gguf", family)
    a = write_folder(file, tmp_path / "a", settings=SETTINGS[family])
    b = write_folder(file, tmp_path / "b", settings=SETTINGS[family] | spelled, change=lambda d: [d["config.json"].pop(k) for k in dropped])
    before, after = read(a), read(b)
    assert before[:3] == after[:3]
    return after[3]


@pytest.mark.parametrize(
    ("family", "spelled", "dropped"),
    [
        # transformers 5: everything of the rotation under one key, dtype for torch_dtype
        ("llama", {"dtype": "bfloat16", "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}}, ("rope_theta", "torch_dtype")),
        ("gemma3", {"rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        }, "layer_types": [*["sliding_attention"] * 5, "full_attention", "sliding_attention"]},
         ("rope_theta", "rope_scaling", "rope_local_base_freq")),
        ("gemma3", {"sliding_window_pattern": 6, "layer_types": None}, ()),
        ("gemma2", {"layer_types": [*_LAYERS, "sliding_attention"]}, ()),
        ("phi3", {"rope_parameters": _LONG | {
            "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75, "original_max_position_embeddings": 600,
        }}, ("rope_theta", "rope_scaling", "partial_rotary_factor", "original_max_position_embeddings")),
        ("phi3", {"rope_scaling": _LONG | {"type": "su"}}, ()),  # as the first files called it
        ("qwen2", {"layer_types": ["full_attention"] * 3, "sliding_window": None}, ("max_window_layers",)),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 3}, ()),  # no layer is past that
        ("qwen3", {"head_dim": None}, ()),
        ("smollm3", {}, ("no_rope_layers", "layer_types")),
        ("starcoder2", {"tie_word_embeddings": None}, ()),
        ("gpt2", {"n_inner": 160}, ("intermediate_size", "n_ctx", "tie_word_embeddings")),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_other_spellings(tmp_path: Path, family: str, spelled: Json, dropped: tuple[str, ...]) -> None:
    assert alike(tmp_path, family, spelled, dropped) == []


def test_dynamic_scaling_starts_past_the_context(tmp_path: Path) -> None:
    (note,) = alike(tmp_path, "qwen2", {"rope_scaling": {"type": "dynamic", "factor": 2.0}})
    assert f"past {N_CTX} positions" in note


@pytest.mark.parametrize("family", ["qwen3", "phi3", "olmo2"])
def test_llama3_scaling_in_any_family(tmp_path: Path, family: str) -> None:
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling["original_max_position_embeddings"] = 64
    file = write_family(tmp_path / "m.gguf", family)
    config, tensors, *_ = read(write_folder(file, tmp_path / "m", settings=SETTINGS[family] | {"rope_scaling": scaling}))
    factors = np.frombuffer(tensors["rope_freqs.weight"], "<f4")
    assert config.ropes[0].factors == "rope_freqs.weight" and len(factors) == config.ropes[0].dim // 2
    assert factors[0] == 1 and factors[-1] == 8 and (np.diff(factors) >= 0).all()


def test_yarn(tmp_path: Path) -> None:
    """As Qwen's model cards say to write it; the betas that one leaves out, and those that one gives."""
    file = write_family(tmp_path / "m.gguf", "qwen2")
    for given, yarn in (({}, Yarn()), ({"beta_fast": 16, "beta_slow": 2, "attention_factor": 1 + 0.1 * math.log(4)}, Yarn(16, 2))):
        scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256, **given}
        folder = write_folder(file, tmp_path / f"m{len(given)}", settings=SETTINGS["qwen2"] | {"rope_scaling": scaling})
        (rope,) = read(folder)[0].ropes
        assert (rope.factor, rope.orig_ctx, rope.yarn) == (4.0, 256, yarn) and rope.attn_factor == 1 + 0.1 * math.log(4)


def test_olmo3_stretches_layers_without_a_window_only(tmp_path: Path) -> None:
    """As its folder says it: YaRN, a window, and the kinds of the layers."""
    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    scaling = {
        "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 128, "attention_factor": 1.2079441541679836,
        "beta_fast": 32.0, "beta_slow": 1.0,
    }  # fmt: skip
    settings = {"architectures": ["Olmo3ForCausalLM"], "sliding_window": WINDOW, "layer_types": kinds, "rope_scaling": scaling}
    config = read(write_folder(write_family(tmp_path / "m.gguf", "olmo2"), tmp_path / "m", settings=settings))[0]
    assert [layer.window for layer in config.layers] == [WINDOW, WINDOW, 0]
    local, main = (config.ropes[config.layers[i].rope] for i in (0, 2))
    assert (main.yarn, main.factor, main.attn_factor) == (Yarn(), 8.0, 1 + 0.1 * math.log(8))
    assert (local.yarn, local.factor, local.attn_factor, local.base) == (None, 1.0, 1.0, main.base)


def test_a_window_counts_where_the_class_has_one(tmp_path: Path, tiny_llama: Tiny) -> None:
    """Mistral has one, if it is shorter than the context; Llama has none, whatever its config.json was copied from."""
    file = tiny_llama(types="F16")
    for name, size, expected in (("Mistral", 40, 40), ("Mistral", None, 0), ("Mistral", 4096, 0), ("Llama", 40, 0)):
        settings = {"architectures": [f"{name}ForCausalLM"], "sliding_window": size}
        config = read(write_folder(file, tmp_path / f"{name}{size}", settings=settings))[0]
        assert {layer.window for layer in config.layers} == {expected}


def test_biases_of_llama(tmp_path: Path) -> None:
    """``attention_bias`` and ``mlp_bias``: the tensors are there, so they are added; q's and k's are reordered as their rows are."""
    from tests.models.hf_folder import FAMILIES as NAMES
    from tests.models.hf_folder import save

    file = write_family(tmp_path / "m.gguf", "granite")
    folder = write_folder(file, tmp_path / "m", settings=SETTINGS["granite"] | {"attention_bias": True, "mlp_bias": True})
    rng = np.random.default_rng(4)
    sizes = {"attn_q": 128, "attn_k": 64, "attn_v": 64, "attn_output": 128, "ffn_gate": 160, "ffn_up": 160, "ffn_down": 128}
    names = NAMES["granite"][1]
    biases = {f"model.layers.{i}.{names[m]}.bias": rng.standard_normal(n).astype("<f4") for i in range(3) for m, n in sizes.items()}
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    save(folder / "b.safetensors", {n: ("F32", v.shape, v.tobytes()) for n, v in biases.items()})
    others = [n for n in json.loads(_header(folder / "a.safetensors")) if n != "__metadata__"]
    where = dict.fromkeys(others, "a.safetensors") | dict.fromkeys(biases, "b.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    tensors = read(folder)[1]
    k = biases["model.layers.1.self_attn.k_proj.bias"]
    assert tensors["blk.1.attn_k.bias"] == k.reshape(2, 2, 16).swapaxes(1, 2).tobytes()
    assert tensors["blk.2.ffn_down.bias"] == biases["model.layers.2.mlp.down_proj.bias"].tobytes()


def _header(path: Path) -> bytes:
    data = path.read_bytes()
    return data[8 : 8 + int.from_bytes(data[:8], "little")]


@pytest.mark.parametrize("wrapped", ["language_model.", "model.language_model."])
def test_the_text_half_of_a_model_that_sees(tmp_path: Path, wrapped: str) -> None:
    """Gemma 3 from 4B on, as transformers wrote it before and after 4.52: what belongs to the eye is left out."""
    from tests.models.hf_folder import save

    file = write_family(tmp_path / "m.gguf", "gemma3")
    plain = write_folder(file, tmp_path / "a", settings=SETTINGS["gemma3"])
    folder = write_folder(file, tmp_path / "b", settings=SETTINGS["gemma3"])
    raw = (folder / "model.safetensors").read_bytes()
    header = json.loads(_header(folder / "model.safetensors"))
    start = 8 + int.from_bytes(raw[:8], "little")
    tensors = {"vision_tower.vision_model.post_layernorm.weight": ("F32", (2,), bytes(8)), "multi_modal_projector.x": ("U8", (1,), b"a")}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            name = wrapped + name if wrapped == "language_model." else wrapped + name.removeprefix("model.")
            tensors[name] = (entry["dtype"], tuple(entry["shape"]), raw[start + begin : start + end])
    save(folder / "model.safetensors", tensors)
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["Gemma3TextModel"]}
    outer = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": config, "vision_config": {}, "eos_token_id": [2, 0]}
    (folder / "config.json").write_text(json.dumps(outer))
    assert read(folder)[:3] == read(plain)[:3]
    (folder / "config.json").write_text(json.dumps(outer | {"quantization_config": {"quant_method": "compressed-tensors"}}))
    with pytest.raises(InputError, match="compressed-tensors"):
        open_model(folder)


def _scaling(**values: object) -> Json:
    return {"rope_scaling": {"factor": 4.0, **values}}


REFUSED: list[tuple[str, str, Json]] = [
    ("qwen2", "use_sliding_window false is", {"use_sliding_window": True, "max_window_layers": 1}),
    ("qwen3", "use_sliding_window false is", {"layer_types": ["sliding_attention", *["full_attention"] * 2], "sliding_window": 64}),
    ("qwen3", "layer_types must be 3 of", {"layer_types": ["chunked_attention"] * 3}),
    ("gemma3", "layer_types must be 7 of", {"layer_types": ["full_attention"]}),
    ("gemma3", "layers with a window", {"rope_scaling": None, "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 1e6}, "sliding_attention": {"rope_type": "yarn", "factor": 2.0},
    }}),
    ("gemma3", "use_bidirectional_attention", {"use_bidirectional_attention": True}),
    ("gemma2", "query_pre_attn_scalar 144", {"query_pre_attn_scalar": 144}),
    ("smollm3", "no_rope_layers", {"no_rope_layers": [1, 0, 1, 0]}),
    ("olmo2", "rope scaling 'mrope' is not supported (linear, llama3, yarn, longrope, dynamic are)", _scaling(type="mrope")),
    ("olmo2", "rope scaling 'dynamic'", _scaling(type="dynamic", alpha=1000.0)),
    ("olmo2", "attention_factor 1.0 is not supported with yarn (only 1.13863", _scaling(rope_type="yarn", attention_factor=1.0)),
    ("olmo2", "yarn with mscale_all_dim", _scaling(rope_type="yarn", mscale_all_dim=1.0)),
    ("olmo2", "a factor of 0.5 for yarn", _scaling(rope_type="yarn", factor=0.5)),
    ("olmo2", "factor of rope_scaling must be a finite number", _scaling(rope_type="linear", factor=None)),
    ("olmo2", "rope_type is not a string", _scaling(rope_type=4)),
    ("olmo2", "are objects", {"rope_scaling": [1]}),
    ("olmo2", "are objects", {"rope_parameters": "yarn"}),
    ("olmo2", "out of range", _scaling(rope_type="llama3", low_freq_factor=4.0, high_freq_factor=1.0)),
    ("olmo2", "partial_rotary_factor 0.5 is not supported in olmo2", {"partial_rotary_factor": 0.5}),
    ("phi3", "long_factor must be a list of 12 numbers", {"rope_scaling": _LONG | {"long_factor": [1.0]}}),
    ("phi3", "short_mscale", {"rope_scaling": _LONG | {"short_mscale": 1.2}}),
    ("phi3", "original_max_position_embeddings 0 is out of range", {"rope_scaling": _LONG | {"original_max_position_embeddings": 0.5}}),
    ("granite", "quantized weights (fp8)", {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}),
    ("granite", "quantized weights (bitsandbytes)", {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}),
    ("starcoder2", "use_bias", {"use_bias": False}),
    ("gpt2", "scale_attn_by_inverse_layer_idx", {"scale_attn_by_inverse_layer_idx": True}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "says", "settings"), REFUSED, ids=[f"{f}-{i}" for i, (f, *_) in enumerate(REFUSED)])
def test_refused(tmp_path: Path, family: str, says: str, settings: Json) -> None:
    folder = write_folder(write_family(tmp_path / "m.gguf", family), tmp_path / "m", settings=SETTINGS[family] | settings)
    with pytest.raises(InputError) as caught, open_model(folder) as model:
        validate(model)
    assert caught.value.code in ("S11", "S05") and says in str(caught.value), str(caught.value)
    assert len(str(caught.value).encode()) < 294
