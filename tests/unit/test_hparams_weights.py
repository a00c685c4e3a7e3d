"""G59, G60, G63, G64, G66: which tensors there are, their roles, and their bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models.raw_gguf import BLOCK_BYTES, T_BF16, T_F16, T_F32, T_Q8_0, Raw, Tensor, f32s, q8_0, valid
from tests.models.refused import Spoil, assert_refused, load, spoilt, table

Q = "blk.0.attn_q.weight"
NAN16, INF16, NEGATIVE_INF16 = 0x7E00, 0x7C00, 0xFC00


def entry(name: str, **fields: object) -> Spoil:
    def spoil(raw: Raw) -> None:
        for key, value in fields.items():
            setattr(raw.tensor(name), key, value)

    return spoil


def without(name: str) -> Spoil:
    def spoil(raw: Raw) -> None:
        raw.tensors.remove(raw.tensor(name))

    return spoil


def added(name: bytes, ne: list[int]) -> Spoil:
    return lambda raw: raw.tensors.append(Tensor(name, ne, T_F32, f32s(ne[0])))


def poke(name: str, at: int, code: str, value: float) -> Spoil:
    """Overwrite a few bytes of a tensor's data."""

    def spoil(raw: Raw) -> None:
        t = raw.tensor(name)
        new = struct.pack("<" + code, value)
        at_ = at % len(t.data)
        t.data = t.data[:at_] + new + t.data[at_ + len(new) :]

    return spoil


@table(
    ("G59", "no embedding", without("token_embd.weight")),
    ("G59", "no norm", without("blk.0.ffn_norm.weight")),
    ("G59", "no value matrix", without("blk.0.attn_v.weight")),
    ("G59", "a bias of a norm", added(b"blk.0.attn_norm.bias", [32])),
    ("G59", "a bias of another length", added(b"blk.0.attn_k.bias", [32])),
    ("G59", "a vision tower", added(b"v.patch_embd.weight", [32])),
    ("G59", "transposed", entry("blk.0.ffn_down.weight", ne=[32, 64])),
    ("G59", "another shape", entry("blk.0.attn_k.weight", ne=[16, 32])),
    ("G59", "a vector as a matrix of one column", entry("output_norm.weight", ne=[1, 32])),
    (
        "G59",
        "vocabulary of the head",
        lambda r: r.tensors.append(Tensor(b"output.weight", [32, 4], T_Q8_0, q8_0(4, 32))),
    ),
    ("G60", "a norm in f16", entry("output_norm.weight", type=T_F16, data=f32s(16))),
    ("G60", "factors in bf16", entry("rope_freqs.weight", type=T_BF16, data=f32s(4))),
    ("G60", "integers", entry(Q, type=24, data=bytes(1024))),
    ("G60", "doubles", entry(Q, type=28, data=bytes(8192))),
    ("G60", "q8_1", entry(Q, type=9, data=bytes(40 * 32))),
    ("G64", "f32 NaN", poke("output_norm.weight", 64, "I", 0x7FC00001)),
    ("G64", "f32 -Inf", poke("rope_freqs.weight", 28, "I", 0xFF800000)),
    ("G64", "f16 NaN", poke("blk.0.attn_k.weight", -2, "H", NAN16)),
    ("G64", "f16 Inf", poke("blk.0.attn_k.weight", 0, "H", INF16)),
    ("G64", "bf16 NaN", poke("blk.0.attn_v.weight", 500, "H", 0x7FC0)),
    ("G64", "bf16 -Inf", poke("blk.0.attn_v.weight", 2, "H", 0xFF80)),
)
def test_refused(tmp_path: Path, code: str, spoil: Spoil) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(spoilt(spoil))
    assert_refused(path, code)


@pytest.mark.parametrize("bits", [NAN16, INF16, NEGATIVE_INF16, 0x7C01, 0xFFFF])
@pytest.mark.parametrize("kind", BLOCK_BYTES)
def test_every_scale_of_every_format_is_looked_at(tmp_path: Path, kind: int, bits: int) -> None:
    """G63, in the first, a middle and the last block, in d and where there is one in m; the offset is named."""
    size = BLOCK_BYTES[kind]
    blocks = 32
    fields = (0, 2) if size in (20, 24) else (0,)
    for block in (0, 17, blocks - 1):
        for field in fields:
            raw = valid()
            block_bytes = struct.pack("<HH", 0x2000, 0x2000) + bytes(range(1, size - 3))
            t = raw.tensor(Q)
            t.type, t.data = kind, block_bytes * blocks
            poke(Q, block * size + field, "H", bits)(raw)
            path = tmp_path / "m.gguf"
            path.write_bytes(raw.encode())
            error = assert_refused(path, "G63")
            assert error.where == f"tensor {Q}: offset {raw.encode().index(t.data) + block * size + field}"


@pytest.mark.parametrize("kind", BLOCK_BYTES)
def test_quants_are_not_taken_for_scales(tmp_path: Path, kind: int) -> None:
    """All-ones quants look like NaN to a check that reads the wrong bytes."""
    raw = valid()
    size = BLOCK_BYTES[kind]
    head = struct.pack("<HH", 0x2000, 0x2000)[: 4 if size in (20, 24) else 2]
    t = raw.tensor(Q)
    t.type, t.data = kind, (head + b"\xff" * (size - len(head))) * 32
    path = tmp_path / "m.gguf"
    path.write_bytes(raw.encode())
    assert load(path) == []


@pytest.mark.parametrize("bits", [0x0000, 0x0001, 0x83FF])
def test_subnormal_scales_are_a_warning(tmp_path: Path, bits: int) -> None:
    """G66: all of them, not one of them."""
    raw = valid()
    raw.tensor(Q).data = q8_0(32, 32, bits)
    path = tmp_path / "m.gguf"
    path.write_bytes(raw.encode())
    assert load(path) == [f"warning[G66]: every scale of tensor {Q} is zero or subnormal"]
    poke(Q, 34, "H", 0x2000)(raw)
    path.write_bytes(raw.encode())
    assert load(path) == []


def test_data_beyond_one_chunk_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from infc.frontend import check_data

    monkeypatch.setattr(check_data, "_CHUNK", 100)
    checks: list[tuple[str, int, str, Callable[..., Spoil]]] = [
        (Q, 34 * 31, "G63", poke),
        ("output_norm.weight", 124, "G64", poke),
        ("blk.0.attn_v.weight", 1022, "G64", poke),
    ]
    path = tmp_path / "m.gguf"
    path.write_bytes(valid().encode())
    assert load(path) == []
    for name, at, code, spoil in checks:
        raw = valid()
        spoil(
            name,
            at,
            "H" if name != "output_norm.weight" else "I",
            0x7FFF if name != "output_norm.weight" else 0x7FFFFFFF,
        )(raw)
        path.write_bytes(raw.encode())
        error = assert_refused(path, code)
        assert error.where.endswith(f"offset {raw.encode().index(raw.tensor(name).data) + at}")
