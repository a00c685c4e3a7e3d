"""Other inputs than one GGUF file: a folder, a model in parts, floats quantized on the way. The same blob and the same logits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.quants import quantize

from infc.binding.artifact import Artifact
from infc.frontend.inputs import open_model
from infc.frontend.quantize import QuantizedModel
from infc.options import CompileOptions
from infc.pipeline import Driver
from infc.progress import Silent
from tests.models.hf_folder import write_folder
from tests.models.tiny_moe import write_tiny_moe

Tiny = Callable[..., Path]
Compiled = Callable[..., Artifact]


def sections(artifact: Artifact) -> dict[str, bytes]:
    """Weights, tokenizer and chat template as the artifact holds them; the description names the file, so it is left out."""
    from infc.toolchain.append import read_trailer

    trailer = read_trailer(artifact.program)
    assert trailer is not None
    blob = artifact.program.read_bytes()[trailer[0] : trailer[0] + trailer[1]]
    n = int.from_bytes(blob[12:16], "little")
    found = {}
    for i in range(n):
        kind, _, offset, size = np.frombuffer(blob, "<u4,<u4,<u8,<u8", 1, 16 + 24 * i)[0].tolist()
        if kind != 4:
            found[str(kind)] = blob[offset : offset + size]
    return found


def logits(artifact: Artifact) -> bytes:
    with artifact.load(threads=1) as llm:
        return llm.logits(llm.tokenize("once upon a time there was a cat <|im_end|> and 12 things")).tobytes()


def requantized(file: Path, out: Path, kind: str) -> Path:
    """The GGUF file that a converter would write: matrices of ``file`` in another format, the rest as it is."""
    reader = gguf.GGUFReader(file)
    w = gguf.GGUFWriter(out, "llama")
    for field in reader.fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture", "general.file_type")):
            value: Any = field.contents()
            w.add_key_value(field.name, value, field.types[0], field.types[-1] if len(field.types) > 1 else None)
    qtype = gguf.GGMLQuantizationType[kind]
    for t in reader.tensors:
        if t.data.ndim > 1:
            w.add_tensor(t.name, quantize(t.data.astype(np.float32), qtype), raw_dtype=qtype)
        else:
            w.add_tensor(t.name, t.data)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return out


def test_a_folder_and_its_file_are_one_program(tmp_path: Path, tiny_llama: Tiny, compiled: Compiled) -> None:
    file = tiny_llama(types="F16", tied=False)
    options = {"name": "twin", "target": "scalar", "lto": False}
    a, b = compiled(file, **options), compiled(write_folder(file, tmp_path / "m", shards=2), **options)
    assert sections(a) == sections(b)
    assert logits(a) == logits(b)


def blob(source: Path, folder: Path, **options: Any) -> bytes:
    """The blob without its description, written by the driver's own stages but without the C compiler."""
    driver = Driver(source, CompileOptions.create(target="scalar", name="m", **options), Silent())
    model, config = driver.read()
    with model:
        plan = driver.plan(driver.graphs(model, config)[-1][1])
        extra = driver.sections(model, config)
        extra.meta.clear()
        driver._write_blob(plan, model, extra, folder / "blob")
    return (folder / "blob").read_bytes()


def test_quantized_on_the_way(tmp_path: Path, tiny_llama: Tiny) -> None:
    """From a folder as from a file: the blob of the file that was quantized before."""
    file = tiny_llama(types="F16")
    before = blob(requantized(file, tmp_path / "q.gguf", "Q4_1"), tmp_path)
    assert before != blob(file, tmp_path)
    for source in (file, write_folder(file, tmp_path / "m")):
        assert blob(source, tmp_path, quantize="q4_1", quantize_embedding="q4_1") == before


def test_a_mix_made_on_the_way_is_the_file_that_has_it(tmp_path: Path, tiny_llama: Tiny) -> None:
    """Every matrix in the type and the bytes that the quantizer gives, as if a file had them."""
    file = tiny_llama(types="BF16", dim=256, hidden_dim=512, n_layers=4, tied=False)
    with QuantizedModel(open_model(file), "q3_k_m") as model:
        kinds = {name: t.type for name, t in model.tensors.items()}
        made = {name: model.data(name).reshape(*reversed(t.ne[1:]), -1) for name, t in model.tensors.items()}
    assert {"Q3_K", "Q4_K", "Q5_K", "Q6_K", "F32"} == set(kinds.values())
    w = gguf.GGUFWriter(tmp_path / "q.gguf", "llama")
    for field in gguf.GGUFReader(file).fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture", "general.file_type")):
            w.add_key_value(field.name, field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None)
    for name, data in made.items():
        if kinds[name] == "F32":
            w.add_tensor(name, data.reshape(-1).view(np.float32))
        else:
            w.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType[kinds[name]])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    expected = blob(tmp_path / "q.gguf", tmp_path)
    for source in (file, write_folder(file, tmp_path / "m", shards=2)):
        assert blob(source, tmp_path, quantize="Q3_K_M") == expected


@pytest.mark.parametrize(
    ("family", "types", "stacked"), [("mixtral", "F16", False), ("qwen2moe", "BF16", True), ("gpt-oss", "MXFP4", True)]
)
def test_a_folder_of_experts_and_its_file_are_one_blob(tmp_path: Path, family: str, types: str, stacked: bool) -> None:
    """As they are, and quantized on the way."""
    file = write_tiny_moe(tmp_path / "m.gguf", family=family, expert_types=types, hidden_dim=96, shared_dim=96)
    folder = write_folder(file, tmp_path / "m", shards=2, stacked=stacked)
    assert blob(folder, tmp_path) == blob(file, tmp_path)
    assert blob(folder, tmp_path, quantize="q8_0") == blob(file, tmp_path, quantize="q8_0")


_PEAK = """
import sys
import tracemalloc
from infc.frontend.inputs import open_model
from infc.frontend.quantize import QuantizedModel
from infc.frontend.validate import validate
model = open_model(sys.argv[1])
validate(model)
model = QuantizedModel(model, "Q4_0")
tracemalloc.start()
for name in model.tensors:
    model.data(name)
print(tracemalloc.get_traced_memory()[1])
"""


def test_one_tensor_at_a_time(tmp_path: Path, tiny_llama: Tiny) -> None:
    """Quantizing 12 layers holds what one tensor and a piece of it in float32 take, not what the model takes."""
    file = tiny_llama(types="F16", dim=512, hidden_dim=2048, n_layers=12, n_heads=8, n_kv_heads=8)
    folder = write_folder(file, tmp_path / "m", shards=3)
    done = subprocess.run([sys.executable, "-c", _PEAK, str(folder)], capture_output=True, text=True, check=True)
    peak = int(done.stdout)
    size = json.loads((folder / "config.json").read_text())
    largest = size["hidden_size"] * size["intermediate_size"]
    assert peak < 40 * largest  # bytes: some twenty a weight while it is quantized, and as much for what Python holds
    assert peak < 0.6 * sum(p.stat().st_size for p in folder.glob("*.safetensors"))
