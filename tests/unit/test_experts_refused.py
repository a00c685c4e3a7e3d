"""Mixtures of experts: every key and tensor shape that is new, spoilt. G26, G27, G33, G34, G37, G39, G59, G60, G64."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path

import gguf as gguf_tables
import pytest

from infc.frontend import gguf
from infc.frontend.config import Experts, Rope, Yarn
from infc.frontend.families import build
from infc.frontend.validate import validate
from infc.limits import Limits
from tests.models.raw_gguf import (
    F32,
    I32,
    T_F16,
    T_F32,
    T_Q8_0,
    U32,
    U64,
    Raw,
    Tensor,
    Typed,
    array,
    f32,
    f32s,
    number,
    q8_0,
    string,
    u32,
    valid,
)
from tests.models.refused import assert_refused, load

Spoil = Callable[[Raw], None]
N, USED, WIDTH = 4, 2, 64


def mixture(arch: str) -> Raw:
    """The smallest file of each family: four experts of which two are used."""
    raw = valid()
    raw.set("general.architecture", string(arch))
    raw.kv = [(k.replace(b"llama.", arch.encode() + b"."), v) for k, v in raw.kv]
    raw.set(f"{arch}.expert_count", u32(N)).set(f"{arch}.expert_used_count", u32(USED))
    raw.tensors = [t for t in raw.tensors if b"ffn_gate" not in t.name and b"ffn_up" not in t.name and b"ffn_down" not in t.name]
    if arch != "llama":
        raw.tensors.remove(raw.tensor("rope_freqs.weight"))
        raw.set(f"{arch}.expert_feed_forward_length", u32(WIDTH))

    def add(name: str, ne: list[int], kind: int = T_F32) -> None:
        size = math.prod(ne)
        raw.tensors.append(Tensor(f"blk.0.{name}".encode(), ne, kind, f32s(size) if kind == T_F32 else q8_0(1, size)))

    add("ffn_gate_inp.weight", [32, N])
    add("ffn_gate_exps.weight", [32, WIDTH, N], T_Q8_0)
    add("ffn_up_exps.weight", [32, WIDTH, N], T_Q8_0)
    add("ffn_down_exps.weight", [WIDTH, 32, N], T_Q8_0)
    if arch == "qwen2moe":
        raw.set("qwen2moe.expert_shared_feed_forward_length", u32(96))
        add("ffn_gate_inp_shexp.weight", [32])
        add("ffn_gate_shexp.weight", [32, 96], T_Q8_0)
        add("ffn_up_shexp.weight", [32, 96], T_Q8_0)
        add("ffn_down_shexp.weight", [96, 32], T_Q8_0)
    if arch == "qwen3moe":
        add("attn_q_norm.weight", [16])
        add("attn_k_norm.weight", [16])
    if arch == "gpt-oss":
        raw.tensor("blk.0.ffn_norm.weight").name = b"blk.0.post_attention_norm.weight"
        raw.set("gpt-oss.attention.sliding_window", u32(16)).set("gpt-oss.rope.scaling.type", string("yarn"))
        raw.set("gpt-oss.rope.scaling.factor", f32(4)).set("gpt-oss.rope.scaling.original_context_length", u32(16))
        for name, n in (("attn_q", 32), ("attn_k", 16), ("attn_v", 16), ("attn_output", 32), ("ffn_gate_inp", N)):
            add(f"{name}.bias", [n])
        add("attn_sinks.weight", [2])
        for name, n in (("gate", WIDTH), ("up", WIDTH), ("down", 32)):
            add(f"ffn_{name}_exps.bias", [n, N])
    return raw


def key(name: str, value: Typed) -> Spoil:
    """Set a key of the architecture."""

    def spoil(raw: Raw) -> None:
        arch = next(k for k, _ in raw.kv if k.endswith(b".expert_count")).decode().removesuffix(".expert_count")
        raw.set(f"{arch}.{name}", value)

    return spoil


def tensor(which: str, **fields: object) -> Spoil:
    def spoil(raw: Raw) -> None:
        for field, value in fields.items():
            setattr(raw.tensor(f"blk.0.{which}"), field, value)

    return spoil


def without(name: str) -> Spoil:
    return lambda raw: raw.tensors.remove(raw.tensor(f"blk.0.{name}"))


def added(name: str, ne: list[int]) -> Spoil:
    return lambda raw: raw.tensors.append(Tensor(f"blk.0.{name}".encode(), ne, T_F32, f32s(math.prod(ne))))


EXPERTS = 32 * WIDTH * N // 32 * 34  # bytes of one matrix of all experts
ANY = ("llama", "qwen2moe", "qwen3moe", "gpt-oss")
MOE = ANY[1:]


def cases() -> list[object]:
    """(architecture, class, what is spoilt)."""
    found: list[tuple[tuple[str, ...], str, str, Spoil]] = [
        (ANY, "G37", "none used", key("expert_used_count", u32(0))),
        (ANY, "G37", "more used than there are", key("expert_used_count", u32(N + 1))),
        (ANY, "G37", "2^32-1 used", key("expert_used_count", u32(2**32 - 1))),
        (ANY, "G37", "over the cap", key("expert_count", u32(1025))),
        (ANY, "G37", "2^31 experts", key("expert_count", u32(2**31))),
        (MOE, "G37", "no experts", key("expert_count", u32(0))),
        (ANY, "G59", "fewer than the tensors hold", key("expert_count", u32(N - 1))),
        (ANY, "G59", "more than the tensors hold", key("expert_count", u32(N + 1))),
        (ANY, "G26", "count of another type", key("expert_count", number(U64, N))),
        (ANY, "G26", "used in each layer", key("expert_used_count", array(U32, [USED]))),
        (MOE, "G33", "width 0", key("expert_feed_forward_length", u32(0))),
        (MOE, "G33", "widths of two layers", key("expert_feed_forward_length", array(I32, [WIDTH, WIDTH]))),
        (MOE, "G26", "width a float", key("expert_feed_forward_length", array(F32, [float(WIDTH)]))),
        (MOE, "G59", "width unlike the tensors", key("expert_feed_forward_length", u32(WIDTH + 32))),
        (("qwen2moe",), "G33", "shared width 0", key("expert_shared_feed_forward_length", u32(0))),
        (("qwen2moe",), "G59", "shared width unlike the tensors", key("expert_shared_feed_forward_length", u32(64))),
        (ANY, "G25", "groups of experts", key("expert_group_count", u32(2))),
        (ANY, "G25", "scaled weights", key("expert_weights_scale", f32(2.5))),
        (ANY, "G25", "dense layers first", key("leading_dense_block_count", u32(1))),
        (ANY, "G25", "sigmoid routing", key("expert_gating_func", u32(2))),
        (ANY, "G59", "experts apart from each other", tensor("ffn_gate_exps.weight", name=b"blk.0.ffn_gate.0.weight")),
        (ANY, "G59", "no router", without("ffn_gate_inp.weight")),
        (ANY, "G59", "no down", without("ffn_down_exps.weight")),
        (ANY, "G59", "a dense layer beside", added("ffn_up.weight", [32, WIDTH])),
        (ANY, "G59", "router transposed", tensor("ffn_gate_inp.weight", ne=[N, 32])),
        (ANY, "G59", "router of one dimension", tensor("ffn_gate_inp.weight", ne=[32 * N])),
        (ANY, "G59", "experts transposed", tensor("ffn_down_exps.weight", ne=[32, WIDTH, N])),
        (ANY, "G59", "experts in one matrix", tensor("ffn_up_exps.weight", ne=[32, WIDTH * N])),
        (ANY, "G59", "experts first", tensor("ffn_up_exps.weight", ne=[32, N, WIDTH])),
        (ANY, "G59", "four dimensions", tensor("ffn_gate_exps.weight", ne=[32, WIDTH, N, 1])),
        (ANY, "G49", "a product past 2^63", tensor("ffn_gate_exps.weight", ne=[32, 2**31 - 1, 2**31 - 1])),
        (ANY, "G60", "router in f16", tensor("ffn_gate_inp.weight", type=T_F16, data=bytes(64 * N))),
        (ANY, "G64", "router NaN", tensor("ffn_gate_inp.weight", data=f32s(32 * N - 1) + struct.pack("<I", 0x7FC00000))),
        (ANY, "G63", "a scale of the last expert", tensor("ffn_up_exps.weight", data=q8_0(1, 32 * WIDTH * N - 32) + q8_0(1, 32, 0x7C00))),
        (("qwen2moe",), "G59", "no gate of the shared one", without("ffn_gate_inp_shexp.weight")),
        (("qwen2moe",), "G59", "two gates", tensor("ffn_gate_inp_shexp.weight", ne=[32, 2], data=f32s(64))),
        (("llama", "qwen3moe", "gpt-oss"), "G59", "a shared one", added("ffn_gate_inp_shexp.weight", [32])),
        (("llama", "qwen2moe", "qwen3moe"), "G59", "biases", added("ffn_gate_exps.bias", [WIDTH, N])),
        (("gpt-oss",), "G59", "no bias of the router", without("ffn_gate_inp.bias")),
        (("gpt-oss",), "G59", "biases of one expert", tensor("ffn_up_exps.bias", ne=[WIDTH], data=f32s(WIDTH))),
        (("gpt-oss",), "G59", "biases transposed", tensor("ffn_up_exps.bias", ne=[N, WIDTH])),
        (("gpt-oss",), "G59", "no sinks", without("attn_sinks.weight")),
        (("gpt-oss",), "G59", "sinks of kv heads", tensor("attn_sinks.weight", ne=[1], data=f32s(1))),
        (("gpt-oss",), "G60", "sinks in f16", tensor("attn_sinks.weight", type=T_F16, data=bytes(4))),
        (("gpt-oss",), "G64", "a sink that is infinite", tensor("attn_sinks.weight", data=struct.pack("<ff", 1, -math.inf))),
        (("gpt-oss",), "G34", "unknown scaling", key("rope.scaling.type", string("ntk"))),
        (("gpt-oss",), "G34", "beta 0", key("rope.scaling.yarn_beta_fast", f32(0))),
        (("gpt-oss",), "G34", "betas the other way round", key("rope.scaling.yarn_beta_slow", f32(64))),
        (("gpt-oss",), "G34", "extrapolation NaN", key("rope.scaling.yarn_ext_factor", f32(math.nan))),
        (("gpt-oss",), "G34", "original context 0", key("rope.scaling.original_context_length", u32(0))),
        (("gpt-oss",), "G34", "base 1", key("rope.freq_base", f32(1))),
        (("gpt-oss",), "G34", "factor below 1", key("rope.scaling.factor", f32(0.5))),
        (("gpt-oss",), "G39", "window out of range", key("attention.sliding_window", u32(2**31))),
    ]
    return [pytest.param(a, code, f, id=f"{a}-{code}-{what}") for archs, code, what, f in found for a in archs]


@pytest.mark.parametrize(("arch", "code", "spoil"), cases())
def test_refused(tmp_path: Path, arch: str, code: str, spoil: Spoil) -> None:
    raw = mixture(arch)
    spoil(raw)
    path = tmp_path / "m.gguf"
    path.write_bytes(raw.encode())
    assert_refused(path, code)


@pytest.mark.parametrize("arch", ANY)
def test_the_unspoilt_file_is_accepted(tmp_path: Path, arch: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(mixture(arch).encode())
    assert load(path, Limits(experts=N)) == []
    assert_refused(path, "G37", Limits(experts=N - 1))
    with gguf.read(path) as model:
        c = validate(model)[0]
    assert c.experts == Experts(N, USED, WIDTH, arch != "qwen2moe", 96 if arch == "qwen2moe" else 0)


def test_a_matrix_of_one_row_is_a_vector(tmp_path: Path) -> None:
    """Some converters write the shared expert's gate so; ggml makes no difference."""
    path = tmp_path / "m.gguf"
    raw = mixture("qwen2moe")
    tensor("ffn_gate_inp_shexp.weight", ne=[32, 1])(raw)
    path.write_bytes(raw.encode())
    with gguf.read(path) as model:
        assert model.tensors["blk.0.ffn_gate_inp_shexp.weight"].ne == (32, 1)
        graph = build(model, validate(model)[0])
    (weight,) = {w for op in graph.ops for w in op.weights if w.tensor == "blk.0.ffn_gate_inp_shexp.weight"}
    assert (weight.n, weight.k, weight.experts) == (1, 32, 1)


def test_the_width_is_shared_out_where_it_is_not_stated(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    raw = mixture("qwen3moe").drop("qwen3moe.expert_feed_forward_length").set("qwen3moe.feed_forward_length", u32(USED * WIDTH + 1))
    path.write_bytes(raw.encode())
    with gguf.read(path) as model:
        experts = validate(model)[0].experts
    assert experts is not None and experts.hidden_dim == WIDTH


def test_yarn(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(mixture("gpt-oss").set("gpt-oss.rope.scaling.yarn_beta_fast", f32(16)).encode())
    with gguf.read(path) as model:
        (rope,) = validate(model)[0].ropes
    assert rope == Rope(16, 10000.0, 4.0, 1 + 0.1 * math.log(4), 16, halves=True, yarn=Yarn(16.0, 1.0, 1.0))


def test_names_are_those_of_the_peers_tables() -> None:
    """A typo in a name here and in the frontend would otherwise go unseen."""
    for arch, kind in (("qwen2moe", "QWEN2MOE"), ("qwen3moe", "QWEN3MOE"), ("gpt-oss", "GPT_OSS")):
        names = {gguf_tables.TENSOR_NAMES[t].format(bid=0) for t in gguf_tables.MODEL_TENSORS[gguf_tables.MODEL_ARCH[kind]]}
        ours = {t.name.decode().rpartition(".")[0] for t in mixture(arch).tensors}
        assert ours <= names, ours - names
