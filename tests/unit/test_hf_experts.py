"""Folders of mixtures of experts: read as the GGUF file they stand for, one expert in memory, and refused where no family has them."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from infc.errors import InputError
from infc.frontend.inputs import open_model
from infc.frontend.quantize import QuantizedModel
from infc.frontend.validate import validate
from tests.models.hf_folder import write_folder
from tests.models.tiny_moe import write_tiny_moe
from tests.unit.test_hf_folder import assert_same

LAYOUTS = [
    pytest.param("mixtral", "F16", False, id="mixtral-apart"),
    pytest.param("mixtral", "BF16", True, id="mixtral-stacked"),
    pytest.param("qwen2moe", "BF16", False, id="qwen2moe-apart"),
    pytest.param("qwen2moe", "F32", True, id="qwen2moe-stacked"),
    pytest.param("qwen3moe", "F32", False, id="qwen3moe-apart"),
    pytest.param("qwen3moe", "F16", True, id="qwen3moe-stacked"),
    pytest.param("olmoe", "BF16", False, id="olmoe-apart"),
    pytest.param("olmoe", "F16", True, id="olmoe-stacked"),
    pytest.param("gpt-oss", "BF16", True, id="gpt-oss-floats"),
    pytest.param("gpt-oss", "MXFP4", True, id="gpt-oss-mxfp4"),
]


def written(folder: Path, family: str, types: str, **arguments: Any) -> Path:
    """The GGUF file. A gpt-oss has one width, which its two keys agree on."""
    width = {"hidden_dim": 96} | ({"shared_dim": 96} if family == "gpt-oss" else {})
    return write_tiny_moe(folder / "m.gguf", family=family, types="F16", expert_types=types, **(width | arguments))


@pytest.mark.parametrize(("family", "types", "stacked"), LAYOUTS)
@pytest.mark.parametrize("shards", [1, 3])
def test_the_folder_is_its_twin(tmp_path: Path, family: str, types: str, stacked: bool, shards: int) -> None:
    file = written(tmp_path, family, types)
    assert_same(write_folder(file, tmp_path / "m", stacked=stacked, shards=shards), file)


@pytest.mark.parametrize(("family", "types", "stacked"), LAYOUTS[::2])
def test_quantized_as_the_twin_is(tmp_path: Path, family: str, types: str, stacked: bool) -> None:
    file = written(tmp_path, family, types)
    folder = write_folder(file, tmp_path / "m", stacked=stacked)
    with QuantizedModel(open_model(file), "Q8_0") as a, QuantizedModel(open_model(folder), "Q8_0") as b:
        for name, t in a.tensors.items():
            assert b.tensors[name].type == t.type and len(b.data(name)) == t.nbytes
            assert a.data(name).tobytes() == b.data(name).tobytes() == b"".join(p.tobytes() for p in b.pieces(name))
            if name.endswith("_exps.weight"):
                assert t.type == "Q8_0" and len(list(b.pieces(name))) == t.ne[2]


def test_mxfp4_blocks_mean_what_transformers_says(tmp_path: Path) -> None:
    """Element 2j in a byte's low half, 2j + 1 in its high half; times two to the scale less 127."""
    folder = write_folder(written(tmp_path, "gpt-oss", "MXFP4"), tmp_path / "m", stacked=True)
    values = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    values = np.concatenate([values, -values])
    with open_model(folder) as model:
        found = model.folder  # type: ignore[attr-defined]
        there = "model.layers.1.mlp.experts.gate_up_proj_"
        blocks, scales = (found.data(there + n).reshape(found.entries[there + n][1].shape) for n in ("blocks", "scales"))
        elements = np.stack([values[blocks & 15], values[blocks >> 4]], -1).reshape(*scales.shape, 32)
        woven = (elements * np.exp2(scales.astype(np.float32) - 127)[..., None]).reshape(*scales.shape[:2], -1)
        for i, name in enumerate(("gate", "up")):
            t = model.tensors[f"blk.1.ffn_{name}_exps.weight"]
            raw = model.data(t.name).reshape(t.ne[2] * t.ne[1], -1)
            assert np.array_equal(dequantize(raw, GGMLQuantizationType.MXFP4).reshape(t.ne[::-1]), woven[:, i::2])


@pytest.mark.parametrize(
    ("family", "types", "stacked"), [("mixtral", "F16", False), ("qwen3moe", "BF16", True), ("gpt-oss", "MXFP4", True)]
)
def test_one_expert_in_memory(tmp_path: Path, family: str, types: str, stacked: bool) -> None:
    """Checking and quantizing hold what one expert's matrix takes, not what all of a layer take."""
    file = written(tmp_path, family, types, dim=256, hidden_dim=512, shared_dim=512, count=16, n_layers=2)
    folder = write_folder(file, tmp_path / "m", stacked=stacked)
    with open_model(folder) as model:
        tracemalloc.start()
        try:
            validate(model)
            quantized = QuantizedModel(model, "Q8_0")
            for name, t in quantized.tensors.items():
                if t.name.endswith("_exps.weight"):
                    for piece in quantized.pieces(name):
                        assert len(piece) * 16 == t.nbytes
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 24 * 256 * 512 + (2 << 20)  # some twenty bytes a weight of one expert; the vocabulary's strings


def config(**values: object) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        found = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(found | values))

    return spoil


SPOILT: list[tuple[str, str, str, Callable[[Path], object]]] = [
    ("qwen3moe", "S11", "norm_topk_prob", config(norm_topk_prob=False)),
    ("qwen2moe", "S11", "norm_topk_prob", config(norm_topk_prob=True)),
    ("qwen3moe", "S11", "mlp_only_layers", config(mlp_only_layers=[0])),
    ("qwen3moe", "S11", "decoder_sparse_step", config(decoder_sparse_step=2)),
    ("qwen3moe", "S11", "use_sliding_window", config(use_sliding_window=True)),
    ("qwen3moe", "S12", "6 experts of 5", config(num_experts=5)),
    ("mixtral", "S12", "6 experts of 8", config(num_local_experts=8)),
    ("mixtral", "S11", "num_local_experts is missing", config(num_local_experts=None)),
    ("mixtral", "G37", "0 is out of range", config(num_experts_per_tok=0)),
    ("gpt-oss", "S11", "swiglu_limit", config(swiglu_limit=5.0)),
    ("gpt-oss", "S11", "attention_bias", config(attention_bias=False)),
    ("gpt-oss", "G59", "ffn_gate_inp.weight", config(num_local_experts=5)),
    ("gpt-oss", "S05", "quantized weights (gptq)", config(quantization_config={"quant_method": "gptq"})),
    ("mixtral", "S05", "quantized weights (mxfp4) are not supported in llama", config(quantization_config={"quant_method": "mxfp4"})),
]  # fmt: skip


@pytest.mark.parametrize(("family", "code", "says", "spoil"), SPOILT, ids=[f"{s[0]}-{s[2]}" for s in SPOILT])
def test_refused(tmp_path: Path, family: str, code: str, says: str, spoil: Callable[[Path], object]) -> None:
    folder = write_folder(written(tmp_path, family, "MXFP4" if family == "gpt-oss" else "F16"), tmp_path / "m")
    spoil(folder)
    with pytest.raises(InputError) as caught, open_model(folder) as model:
        validate(model)
    assert caught.value.code == code and says in str(caught.value), str(caught.value)


def test_the_published_quantization_is_accepted(tmp_path: Path) -> None:
    """gpt-oss's own config.json names its quantization, and betas that are the usual ones."""
    file = written(tmp_path, "gpt-oss", "MXFP4")
    scaling = {
        "beta_fast": 32.0, "beta_slow": 1.0, "factor": 4.0, "original_max_position_embeddings": 128, "rope_type": "yarn", "truncate": False
    }  # fmt: skip
    quantization = {"modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"], "quant_method": "mxfp4"}
    kinds = ["sliding_attention", "full_attention"]
    settings = {"quantization_config": quantization, "rope_scaling": scaling, "layer_types": kinds, "experts_per_token": 2}
    folder = write_folder(file, tmp_path / "m", settings=settings)
    with open_model(file) as a, open_model(folder) as b:
        ours, theirs = validate(b)[0], validate(a)[0]
        assert (ours.ropes, ours.layers, ours.experts) == (theirs.ropes, theirs.layers, theirs.experts)
        assert any("truncate" in note for note in b.notes)


def blocks(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Spoil the header of the only shard."""

    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        data = path.read_bytes()
        n = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + n])
        change(header)
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + n :])

    return spoil


B, S = "model.layers.0.mlp.experts.down_proj_blocks", "model.layers.0.mlp.experts.down_proj_scales"


@pytest.mark.parametrize(
    ("code", "spoil"),
    [
        ("S12", blocks(lambda h: h.update({"model.layers.0.mlp.experts.other_scales": h.pop(S)}))),
        ("S06", blocks(lambda h: h[B].update(shape=[6, 64, 6, 8]))),
        ("S06", blocks(lambda h: h[B].update(shape=[6, 64, 48]))),
        ("S06", blocks(lambda h: h[S].update(shape=[6, 3, 64]))),
        ("S06", blocks(lambda h: h[B].update(dtype="I8"))),
        ("S06", blocks(lambda h: h["model.layers.0.mlp.experts.gate_up_proj_bias"].update(shape=[6 * 192, 1]))),
        ("S05", blocks(lambda h: h.update({B.replace("_blocks", ""): h.pop(B)}))),
    ],
    ids=["no scales", "blocks of 8", "flat", "scales turned", "signed", "bias", "floats named"],
)  # fmt: skip
def test_blocks_that_are_none(tmp_path: Path, code: str, spoil: Callable[[Path], object]) -> None:
    folder = write_folder(written(tmp_path, "gpt-oss", "MXFP4"), tmp_path / "m")
    spoil(folder)
    with pytest.raises(InputError) as caught, open_model(folder) as model:
        validate(model)
    assert caught.value.code == code, str(caught.value)
