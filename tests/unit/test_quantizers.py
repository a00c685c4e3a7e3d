"""The quantizers of our own (K-quants, IQ4): ggml's bytes, error beside its quantizers', edges; and which matrix gets which type."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cffi
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from infc.errors import InputError
from infc.formats import FORMATS
from infc.frontend import quantizers
from infc.frontend.inputs import open_model
from infc.frontend.mixes import MIXES, Types
from infc.frontend.model_file import TensorInfo
from infc.frontend.quantize import QuantizedModel, convert
from infc.options import QUANTIZE_MIXES, QUANTIZERS, CompileOptions
from tests.unit.test_quantize import OWN

Tiny = Callable[..., Path]
Floats = NDArray[np.float32]
ROWS, K = 64, 1024
# Root mean square error by that of the values, for normal ones: what was measured, and a little more. A byte in a wrong place, or a
# search that finds nothing, is far off.
BOUND = {"Q6_K": 0.0178, "Q5_K": 0.0365, "Q4_K": 0.0730, "IQ4_NL": 0.0768, "IQ4_XS": 0.0775, "Q3_K": 0.150, "Q2_K": 0.290}


def drawn(name: str) -> Floats:
    rng = np.random.default_rng(5)
    values = {
        "normal": rng.standard_normal((ROWS, K)), "laplace": rng.laplace(size=(ROWS, K)), "heavy": rng.standard_t(3, (ROWS, K)),
        "shifted": rng.standard_normal((ROWS, K)) + 1.5, "uniform": rng.uniform(-1, 1, (ROWS, K)),
        "negative": -np.abs(rng.standard_normal((ROWS, K))),
    }[name]  # fmt: skip
    scales = 10.0 ** rng.uniform(-2, 1, (ROWS, 1))  # smaller ones have scales that f16 holds less exactly
    return (values * scales).astype(np.float32)


def back(data: NDArray[np.uint8], kind: str) -> NDArray[np.float64]:
    return dequantize(data.reshape(-1, data.shape[-1]), GGMLQuantizationType[kind]).astype(np.float64)


def error(data: NDArray[np.uint8], kind: str, values: Floats) -> float:
    """Of rows of very different size, each by its own."""
    miss = ((back(data, kind) - values) ** 2).mean(1) / (values.astype(np.float64) ** 2).mean(1)
    return float(np.sqrt(miss.mean()))


@pytest.mark.parametrize("kind", OWN)
def test_error_has_a_bound(kind: str) -> None:
    values = drawn("normal")
    data = quantizers.quantize(values, kind)
    assert data.shape == (ROWS, K // FORMATS[kind].block_size * FORMATS[kind].raw_bytes)
    assert error(data, kind, values) < BOUND[kind]


@pytest.fixture(scope="module")
def peer() -> Any:
    """ggml's own quantizers, inside ``xllamacpp`` (extra ``dev``)."""
    spec = importlib.util.find_spec("xllamacpp")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("xllamacpp is not installed (extra dev)")
    (library,) = Path(spec.submodule_search_locations[0]).glob("xllamacpp*.so")
    ffi = cffi.FFI()
    ffi.cdef(
        "size_t ggml_quantize_chunk(int type, const float *x, void *out, int64_t start, int64_t rows, int64_t k, const float *matrix);"
    )
    lib = ffi.dlopen(str(library))

    def quantize(values: Floats, kind: str) -> NDArray[np.uint8]:
        out = np.zeros((len(values), values.shape[1] // FORMATS[kind].block_size * FORMATS[kind].raw_bytes), np.uint8)
        source, target = ffi.cast("float *", values.ctypes.data), ffi.cast("void *", out.ctypes.data)
        n = lib.ggml_quantize_chunk(int(GGMLQuantizationType[kind]), source, target, 0, len(values), values.shape[1], ffi.NULL)
        assert n == out.nbytes
        return out

    return quantize


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("values", ["normal", "laplace", "heavy", "shifted", "uniform", "negative"])
def test_error_is_no_worse_than_ggmls(kind: str, values: str, peer: Any) -> None:
    """Within 2 %: what the search finds depends on the steps it tries."""
    x = drawn(values)
    assert error(quantizers.quantize(x, kind), kind, x) <= 1.02 * error(peer(x, kind), kind, x)


@pytest.mark.parametrize("kind", OWN)
def test_pieces_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = drawn("laplace")
    whole = quantizers.quantize(values, kind)
    monkeypatch.setattr(quantizers, "_PIECE", 3000)
    assert np.array_equal(quantizers.quantize(values, kind), whole)
    blocks = values.reshape(-1, FORMATS[kind].block_size)[:200]
    monkeypatch.setattr(quantizers, "_PIECE", 1)
    assert np.array_equal(quantizers.quantize(blocks, kind).reshape(-1), whole.reshape(-1)[: 200 * FORMATS[kind].raw_bytes])


@pytest.mark.parametrize("kind", OWN)
def test_edges(kind: str) -> None:
    """Zeros, one value, equal values, subnormals, a range that f16 scales only just hold; nothing is NaN."""
    rows = np.zeros((8, 256), np.float32)
    rows[1, 7] = -3.0
    rows[2] = 0.25
    rows[3] = -0.25
    rows[4] = np.float32(1e-42)
    rows[5, ::2], rows[5, 1::2] = 1e-30, 5.0
    rows[6] = np.linspace(-60000, 60000, 256)
    rows[7, 128:] = np.linspace(1, 2, 128)
    data = quantizers.quantize(rows, kind)
    found = back(data, kind)
    assert np.isfinite(found).all()
    for i in (0, 4):
        assert (found[i] == 0).all()
    assert (found[7, :128] == 0).all() or kind in ("IQ4_NL", "IQ4_XS")  # these have no level of 0
    assert abs(found[1, 7] + 3) < 0.07 and np.abs(np.delete(found[1], 7)).max() < 0.1
    step = {"Q6_K": 1 / 32, "Q5_K": 1 / 31, "Q4_K": 1 / 15, "Q3_K": 1 / 3, "Q2_K": 1 / 3, "IQ4_NL": 1 / 8, "IQ4_XS": 1 / 8}[kind]
    for i in (2, 3, 6):
        assert np.abs(found[i] - rows[i]).max() <= step * np.abs(rows[i]).max()
    assert np.array_equal(quantizers.quantize(rows[::-1], kind), data[::-1])


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("value", [3e8, 1e12, 3e38, -3e38])
def test_values_past_the_range_are_refused(kind: str, value: float) -> None:
    rows = np.ones((2, 256), np.float32)
    rows[1, 3] = value
    with pytest.raises(InputError, match=f"values too large for {kind}, tensor t"):
        convert(rows.view(np.uint8).reshape(-1), TensorInfo("t", "F32", (256, 2), 0, rows.nbytes), FORMATS[kind])


# ---- which type a matrix gets -------------------------------------------------------------------------------------------------


def test_the_options_are_what_there_is() -> None:
    assert set(QUANTIZE_MIXES) == set(MIXES)
    assert {k.upper() for k in QUANTIZERS} == set(FORMATS) - {"F32"}
    assert CompileOptions.create(quantize="Q4_K_M", quantize_embedding="Q8_0").quantize == "q4_k_m"


def choice(kind: str, *, n_layers: int = 16, experts: int = 0, tied: bool = False, k: int = 512) -> Callable[[str], str | None]:
    types = Types(kind, None, n_layers=n_layers, n_experts=experts, tied=tied)
    return lambda name: types.of(f"{name}.weight", k)


@pytest.mark.parametrize(
    ("mix", "base", "more", "layers"),
    [
        # of 16 layers the first and the last eighth, and of those between every third
        ("q4_k_m", "Q4_K", {"attn_v": "Q6_K", "ffn_down": "Q6_K", "attn_qkv": "Q6_K"}, {0, 1, 4, 7, 10, 13, 14, 15}),
        ("q5_k_m", "Q5_K", {"attn_v": "Q6_K", "ffn_down": "Q6_K"}, {0, 1, 4, 7, 10, 13, 14, 15}),
        ("q4_k_s", "Q4_K", {"attn_v": "Q5_K"}, {0, 1, 2, 3}),
        ("q4_k_s", "Q4_K", {"ffn_down": "Q5_K"}, {0, 1}),
        ("q3_k_l", "Q3_K", {"attn_v": "Q5_K", "ffn_down": "Q5_K", "attn_output": "Q5_K"}, set(range(16))),
        ("q3_k_m", "Q3_K", {"attn_output": "Q4_K"}, set(range(16))),
        ("q5_k_s", "Q5_K", {}, set()),
        ("q3_k_s", "Q3_K", {}, set()),
    ],
)
def test_mixes(mix: str, base: str, more: dict[str, str], layers: set[int]) -> None:
    of = choice(mix)
    for i in range(16):
        for role in ("attn_q", "attn_k", "ffn_gate", "ffn_up"):
            assert of(f"blk.{i}.{role}") == base
        for role, kind in more.items():
            assert of(f"blk.{i}.{role}") == (kind if i in layers else base), (i, role)
    assert (of("token_embd"), of("output")) == (base, "Q6_K")


def test_q3_k_m_has_two_steps() -> None:
    of = choice("q3_k_m")
    assert [of(f"blk.{i}.attn_v") for i in range(4)] == ["Q5_K", "Q5_K", "Q4_K", "Q4_K"]
    assert [of(f"blk.{i}.ffn_down") for i in range(3)] == ["Q5_K", "Q4_K", "Q4_K"]


def test_the_head() -> None:
    for kind, head in (("q4_0", "Q6_K"), ("q2_k", "Q6_K"), ("q8_0", "Q8_0"), ("mxfp4", "Q8_0"), ("f16", "F16"), ("bf16", "BF16")):
        assert choice(kind)("output") == head and choice(kind)("token_embd") == kind.upper()
        assert choice(kind, tied=True)("token_embd") == head
        assert Types(kind, "q5_0", n_layers=1, n_experts=0, tied=True).of("token_embd.weight", 512) == "Q5_0"
    assert choice("tq2_0")("token_embd") == "Q4_K"


def test_mixtures() -> None:
    """With eight experts attention keeps more bits; MXFP4 is for experts only."""
    of = choice("q4_k_m", experts=8)
    assert [of(f"blk.3.{r}") for r in ("attn_v", "attn_k", "attn_q", "attn_output")] == ["Q8_0", "Q8_0", "Q4_K", "Q5_K"]
    assert [of(f"blk.{i}.ffn_down_exps") for i in (0, 2)] == ["Q6_K", "Q4_K"]
    of = choice("mxfp4", experts=32)
    assert [of(n) for n in ("blk.0.ffn_up_exps", "blk.0.attn_q", "token_embd", "output")] == ["MXFP4", "Q8_0", "Q8_0", "Q8_0"]
    assert choice("mxfp4")("blk.0.attn_q") == "MXFP4"


def test_rows_that_do_not_divide() -> None:
    for kind, instead in (
        ("q4_k", "Q5_0"), ("q5_k", "Q5_1"), ("q6_k", "Q8_0"), ("q3_k", "Q4_0"), ("q2_k", "Q4_0"), ("iq4_xs", "IQ4_NL"), ("tq1_0", "Q4_0"),
    ):  # fmt: skip
        assert choice(kind, k=576)("blk.0.attn_q") == instead
        assert choice(kind, k=576)("output") == "Q8_0"
        assert choice(kind, k=80)("blk.0.attn_q") is None
    assert choice("f16", k=81)("blk.0.attn_q") == "F16"


def test_what_became_another_type_is_said(tiny_llama: Tiny) -> None:
    """And the model's tensors have it, each with bytes of that type."""
    with open_model(tiny_llama(types="BF16", dim=256, hidden_dim=288, n_layers=8)) as model:
        made = QuantizedModel(model, "q4_k_m")
        kinds = {n: t.type for n, t in made.tensors.items() if len(t.ne) > 1}
        assert kinds["token_embd.weight"] == "Q6_K" and kinds["blk.0.attn_v.weight"] == "Q6_K" and kinds["blk.1.attn_v.weight"] == "Q4_K"
        assert kinds["blk.0.ffn_down.weight"] == "Q8_0" and kinds["blk.1.ffn_down.weight"] == "Q5_0"
        (note,) = made.notes
        assert note == (
            "of another type, since rows do not divide into blocks of 256: blk.0.ffn_down.weight (Q8_0), blk.1.ffn_down.weight (Q5_0), "
            "blk.2.ffn_down.weight (Q5_0) and 5 more"
        )
        for name in ("blk.0.ffn_down.weight", "blk.1.attn_v.weight"):
            t = made.tensors[name]
            values = back(made.data(name).reshape(t.ne[1], -1), t.type)
            source = model.data(name).view("<u2").astype(np.uint32) << np.uint32(16)
            assert np.corrcoef(values.reshape(-1), source.view(np.float32))[0, 1] > 0.99


def test_a_file_of_llama_quantize_has_these_types(smollm2_path: Path) -> None:
    """The demo model, which is tied and whose rows of 576 and 1536 divide by 256 only in part."""
    with open_model(smollm2_path) as model:
        types = Types("q4_1", None, n_layers=30, n_experts=0, tied=True)
        matrices = [t for t in model.tensors.values() if len(t.ne) > 1]
        assert len(matrices) == 211 and [t.name for t in matrices if types.of(t.name, t.ne[0]) != t.type] == []
