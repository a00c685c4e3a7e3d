"""G30 to G42: hyper-parameters against each other, the limits and the tensors."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from infc.frontend import gguf
from infc.frontend.config import Rope
from infc.frontend.validate import validate
from infc.limits import Limits
from tests.models.raw_gguf import (
    F32,
    I32,
    U32,
    U64,
    Raw,
    Typed,
    array,
    boolean,
    f32,
    f32s,
    number,
    q8_0,
    string,
    u32,
    valid,
)  # fmt: skip
from tests.models.refused import Spoil, assert_refused, load, spoilt, table


def keys(**values: Typed) -> Spoil:
    """Set keys of the architecture, spelled with __ for the dot."""

    def spoil(raw: Raw) -> None:
        for name, value in values.items():
            raw.set("llama." + name.replace("__", "."), value)

    return spoil


def file_type(n: int) -> Spoil:
    return lambda raw: raw.set("general.file_type", u32(n))


def all_f32_but_one(raw: Raw) -> None:
    raw.set("general.file_type", u32(0))
    for t in raw.tensors[2:]:
        t.type, t.data = 0, f32s(math.prod(t.ne))


@table(
    ("G30", "0 layers", keys(block_count=u32(0))),
    ("G30", "513 layers", keys(block_count=u32(513))),
    ("G30", "2^32-1 layers", keys(block_count=u32(2**32 - 1))),
    ("G30", "2 layers, tensors of 1", keys(block_count=u32(2))),
    ("G31", "0 heads", keys(attention__head_count=u32(0))),
    ("G31", "0 key heads", keys(attention__head_count_kv=u32(0))),
    ("G31", "key heads do not divide", keys(attention__head_count=u32(4), attention__head_count_kv=u32(3))),
    ("G31", "heads do not divide the width", keys(attention__head_count=u32(3), attention__head_count_kv=u32(3))),
    ("G31", "keys and values differ", keys(attention__key_length=u32(32))),
    ("G31", "heads differ by layer", lambda r: (keys(block_count=u32(2), attention__head_count=array(U32, [2, 1]))(r), r)[1]),
    ("G31", "head size 2^31-1", keys(attention__key_length=u32(2**31 - 1), attention__value_length=u32(2**31 - 1))),
    ("G32", "width 0", keys(embedding_length=u32(0))),
    ("G32", "width 2^32-1", keys(embedding_length=u32(2**32 - 1))),
    ("G32", "width unlike the tensor", keys(embedding_length=u32(64))),
    ("G33", "0", keys(feed_forward_length=u32(0))),
    ("G33", "array too long", keys(feed_forward_length=array(I32, [64, 64]))),
    ("G33", "array empty", keys(feed_forward_length=array(I32, []))),
    ("G33", "array of 0", keys(feed_forward_length=array(I32, [0]))),
    ("G34", "more than a head", keys(rope__dimension_count=u32(32))),
    ("G34", "odd", keys(rope__dimension_count=u32(15))),
    ("G34", "0", keys(rope__dimension_count=u32(0))),
    ("G34", "less than a head", keys(rope__dimension_count=u32(8))),
    ("G34", "odd head", keys(attention__key_length=u32(15), attention__value_length=u32(15))),
    ("G34", "base 0", keys(rope__freq_base=f32(0))),
    ("G34", "base NaN", keys(rope__freq_base=f32(math.nan))),
    ("G34", "base Inf", keys(rope__freq_base=f32(math.inf))),
    ("G34", "base negative", keys(rope__freq_base=f32(-10000))),
    ("G34", "unknown scaling", keys(rope__scaling__type=string("ntk"))),
    ("G34", "scaling factor negative", keys(rope__scaling__factor=f32(-2))),
    ("G34", "scaling factor NaN", keys(rope__scale_linear=f32(math.nan))),
    ("G34", "original context 0", keys(rope__scaling__factor=f32(2), rope__scaling__original_context_length=u32(0))),
    ("G34", "factors 0", lambda r: setattr(r.tensor("rope_freqs.weight"), "data", f32s(7) + f32s(1, 0.0))),
    ("G35", "NaN", keys(attention__layer_norm_rms_epsilon=f32(math.nan))),
    ("G35", "0", keys(attention__layer_norm_rms_epsilon=f32(0))),
    ("G35", "negative", keys(attention__layer_norm_rms_epsilon=f32(-1e-5))),
    ("G36", "0", keys(context_length=u32(0))),
    ("G36", "2^32-1", keys(context_length=u32(2**32 - 1))),
    ("G37", "none used", keys(expert_count=u32(8))),
    ("G37", "more used than there are", keys(expert_count=u32(8), expert_used_count=u32(9))),
    ("G37", "used without any", keys(expert_used_count=u32(2))),
    ("G37", "over the cap", keys(expert_count=u32(1025), expert_used_count=u32(2))),
    ("G39", "window out of range", keys(attention__sliding_window=u32(2**31))),
    ("G39", "pattern of four layers", keys(attention__sliding_window_pattern=array(U32, [1, 0, 1, 0]))),
    ("G39", "pattern of twos", keys(attention__sliding_window_pattern=array(U32, [2]))),
    ("G39", "pattern of floats", keys(attention__sliding_window_pattern=array(F32, [1.0]))),
    ("G39", "period out of range", keys(attention__sliding_window_pattern=u32(2**31))),
    ("G40", "head_count too long", keys(attention__head_count=array(U32, [2, 2]))),
    ("G40", "head_count_kv empty", keys(attention__head_count_kv=array(U32, []))),
    ("G41", "less", keys(vocab_size=u32(259))),
    ("G41", "more", keys(vocab_size=u32(32000))),
    ("G42", "no Q8_0", lambda r: (file_type(7)(r), all_but_q8_0(r))[1]),
    ("G42", "all F32, one not", all_f32_but_one),
    ("G25", "not causal", keys(attention__causal=boolean(False))),
    ("G25", "several positions a token", keys(rope__dimension_sections=array(I32, [3, 3, 2, 0]))),
    ("G25", "softcap", keys(attn_logit_softcapping=f32(50))),
    ("G25", "scale of another type", keys(logit_scale=string("1"))),
    ("G26", "number of the wrong type", keys(attention__head_count=number(U64, 2))),
    ("G26", "array of floats", keys(feed_forward_length=array(F32, [64.0]))),
    ("G27", "heads", lambda r: r.drop("llama.attention.head_count")),
    ("G27", "layers", lambda r: r.drop("llama.block_count")),
)  # fmt: skip
def test_refused(tmp_path: Path, code: str, spoil: Spoil) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(spoilt(spoil))
    assert_refused(path, code)


def all_but_q8_0(raw: Raw) -> None:
    for t in raw.tensors:
        if t.type == 8:
            t.type, t.data = 0, f32s(math.prod(t.ne))


@table(
    ("ok", "head counts as arrays", keys(attention__head_count=array(U32, [2]), attention__head_count_kv=array(I32, [1]))),
    ("ok", "key heads default to heads", lambda r: full_heads(r.drop("llama.attention.head_count_kv"))),
    ("ok", "base defaults", lambda r: r.drop("llama.rope.freq_base")),
    ("ok", "window", keys(attention__sliding_window=u32(32), attention__sliding_window_pattern=array(U32, [1]))),
    ("ok", "window of the context", keys(attention__sliding_window=u32(64))),
    ("ok", "neutral values", keys(attention__causal=boolean(True), residual_scale=f32(1), expert_count=u32(0))),
    ("ok", "scaling of none", keys(rope__scaling__type=string("none"), rope__scaling__factor=f32(4))),
    ("ok", "scaling by one", keys(rope__scaling__type=string("linear"), rope__scaling__factor=f32(1))),
    ("ok", "file type that fits", file_type(2)),
    ("ok", "file type that is guessed", file_type(1024 + 7)),
    ("ok", "file type of a K quant", file_type(15)),
    ("ok", "vocabulary size agrees", keys(vocab_size=u32(260))),
)  # fmt: skip
def test_accepted(tmp_path: Path, code: str, spoil: Spoil) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(spoilt(spoil))
    assert load(path) == []


def full_heads(raw: Raw) -> Raw:
    for name in ("blk.0.attn_k.weight", "blk.0.attn_v.weight"):
        t = raw.tensor(name)
        t.ne, t.type, t.data = [32, 32], 8, q8_0(32, 32)
    return raw


def test_linear_scaling_under_both_names(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    for name in ("rope__scaling__factor", "rope__scale_linear"):
        path.write_bytes(spoilt(keys(**{name: f32(4)})))
        with gguf.read(path) as model:
            assert validate(model)[0].ropes == (Rope(16, factor=4.0, orig_ctx=64, factors="rope_freqs.weight"),)


def test_head_size_of_its_own(tmp_path: Path, tiny_llama: object) -> None:
    assert callable(tiny_llama)
    with gguf.read(tiny_llama(dim=64, n_heads=4, head_dim=32)) as model:
        c = validate(model)[0]
    assert (c.dim, c.n_heads, c.head_dim, c.ropes[0].dim) == (64, 4, 32, 32)


def test_unknown_keys_are_mentioned(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(spoilt(keys(attention__novelty=u32(1))))
    assert load(path) == ["key llama.attention.novelty is not known and ignored"]


def test_limits_name_their_flag(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(valid().encode())
    assert load(path, Limits(layers=1)) == []
    with pytest.raises(StopIteration):
        Limits().flag("no such limit")


def test_smollm2(smollm2_path: Path) -> None:
    with gguf.read(smollm2_path) as model:
        c, warnings = validate(model)
    assert (c.dim, c.n_layers, c.n_heads, c.n_kv_heads, c.head_dim) == (576, 30, 9, 3, 64)
    assert (c.hidden_dim, c.vocab_size, c.n_ctx_train, c.ropes[0].base) == (1536, 49152, 8192, 100000.0)
    assert c.tied_embeddings and c.ropes[0].factor == 1
    assert len(warnings) == 1 and warnings[0].startswith("21 bytes have no token")
