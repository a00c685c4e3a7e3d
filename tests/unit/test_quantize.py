"""``--quantize``: which tensors change, that their bytes are ggml's reference's, and what is said of those that stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.quants import quantize as reference

from infc.errors import InputError
from infc.formats import FORMATS
from infc.frontend import quantize
from infc.frontend.floats import to_f32
from infc.frontend.inputs import open_model
from infc.frontend.model_file import TensorInfo
from infc.frontend.quantize import QuantizedModel, convert
from infc.options import QUANTIZERS, CompileOptions
from tests.models.raw_gguf import Raw, f32s, valid

Tiny = Callable[..., Path]
OWN = ("Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "IQ4_NL", "IQ4_XS")  # those that the gguf package only reads
REFERENCE = [k.upper() for k in QUANTIZERS if k.upper() not in OWN]


def sizes(kind: str) -> dict[str, int]:
    """Of a model all of whose rows divide into blocks of ``kind``."""
    size = max(32, FORMATS[kind].block_size)
    return {"dim": 2 * size if size < 256 else size, "hidden_dim": 3 * size if size < 256 else size}


@pytest.mark.parametrize("source", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("kind", REFERENCE)
def test_bytes_are_the_references(kind: str, source: str, tiny_llama: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces of a few rows, whatever the file's floats are."""
    monkeypatch.setattr(quantize, "_CHUNK", 1000)
    with open_model(tiny_llama(types=source, tied=False, **sizes(kind))) as model:
        try:
            made = QuantizedModel(model, kind, kind)
        except InputError as e:
            assert kind == source and "nothing to quantize" in str(e)
            return
        for name, t in made.tensors.items():
            before = model.tensors[name]
            data = made.data(name)
            assert data.nbytes == t.nbytes
            if len(t.ne) == 1:
                assert t == before
                continue
            assert t.type == kind
            values = to_f32(model.data(name), source).reshape(t.ne[1], t.ne[0])
            assert data.tobytes() == reference(values, gguf.GGMLQuantizationType[kind]).tobytes()


def test_floats_are_read_exactly() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    for kind, finite in (("F16", (bits & 0x7C00) != 0x7C00), ("BF16", (bits & 0x7F80) != 0x7F80)):
        halves = bits[finite]
        expected = gguf.quants.dequantize(halves.view(np.uint8), gguf.GGMLQuantizationType[kind])
        assert to_f32(halves.view(np.uint8), kind).tobytes() == expected.astype(np.float32).tobytes()


def test_edges_of_the_range() -> None:
    """Zero blocks, one value, subnormals and the largest scales; what does not fit f16 is refused by name."""
    k = 32
    rows = np.zeros((6, k), np.float32)
    rows[1, 3], rows[2] = -5, 1e-30
    rows[3], rows[4] = np.linspace(-60000, 60000, k), np.linspace(1, 2, k)
    info = TensorInfo("t", "F32", (k, 6), 0, rows.nbytes)
    for kind in ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"):
        with np.errstate(all="ignore"):
            expected = reference(rows, gguf.GGMLQuantizationType[kind]).tobytes()
        assert convert(rows.view(np.uint8).reshape(-1), info, FORMATS[kind]).tobytes() == expected
    rows[5, 0] = 1e30
    for kind in ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "F16"):
        with pytest.raises(InputError, match=f"values too large for {kind}, tensor t"):
            convert(rows.view(np.uint8).reshape(-1), info, FORMATS[kind])


def test_the_embedding_may_have_a_type_of_its_own(tiny_llama: Tiny) -> None:
    with QuantizedModel(open_model(tiny_llama(types="F16", tied=False)), "Q4_0", "Q4_1") as model:
        kinds = {n: t.type for n, t in model.tensors.items() if len(t.ne) > 1}
    assert {kinds.pop("token_embd.weight"), kinds.pop("output.weight")} == {"Q4_1"}
    assert set(kinds.values()) == {"Q4_0"}


def test_what_stays_is_said(tmp_path: Path, tiny_llama: Tiny) -> None:
    """Rows that do not divide keep their type; quantized matrices are never quantized again; routers and positions stay."""
    (tmp_path / "mixed.gguf").write_bytes(valid().encode())
    with QuantizedModel(open_model(tmp_path / "mixed.gguf"), "Q4_0") as model:
        assert {n for n, t in model.tensors.items() if t.type == "Q4_0"} == {
            "blk.0.attn_k.weight", "blk.0.attn_v.weight", "blk.0.ffn_up.weight"
        }  # fmt: skip
        assert model.notes == [
            "left as they are, being quantized already: token_embd.weight, blk.0.attn_q.weight, blk.0.attn_output.weight and 3 more"
        ]
    raw = Raw(kv=valid().kv, tensors=[])
    for name, ne in (
        ("a.weight", [48, 2]),
        ("b.weight", [64, 2]),
        ("blk.0.ffn_gate_inp.weight", [64, 2]),
        ("position_embd.weight", [64, 2]),
    ):
        raw.tensors.append(valid().tensors[0].__class__(name.encode(), ne, 0, f32s(ne[0] * 2)))
    (tmp_path / "odd.gguf").write_bytes(raw.encode())
    with QuantizedModel(open_model(tmp_path / "odd.gguf"), "Q8_0") as model:
        assert [t.type for t in model.tensors.values()] == ["F32", "Q8_0", "F32", "F32"]
        assert model.notes == ["left as they are, since rows do not divide into blocks of 32: a.weight"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"quantize": "q3_0"}, "cannot quantize to 'q3_0'"),
        ({"quantize": "q8_0", "quantize_embedding": "x"}, "cannot quantize to 'x'"),
        ({"quantize_embedding": "q8_0"}, "goes with --quantize"),
    ],
)
def test_bad_options(options: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        CompileOptions.create(**options)


def test_nothing_to_do_is_refused(tiny_llama: Tiny) -> None:
    with open_model(tiny_llama(types="Q4_1")) as model, pytest.raises(InputError, match="every matrix is quantized already"):
        QuantizedModel(model, "Q8_0")
