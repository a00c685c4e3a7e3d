"""G43 to G58: tensor names, shapes, types, sizes and offsets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.models.raw_gguf import T_F16, T_F32, T_F64, T_I64, T_Q4_0, T_Q8_0, Raw, Tensor, u32
from tests.models.refused import Spoil, assert_refused, spoilt, table

M = 2**31 - 1  # the largest dimension


def tensor(change: Callable[[Tensor], None], index: int = 1) -> Spoil:
    """Change one entry in place."""
    return lambda raw: change(raw.tensors[index])


def entry(index: int = 1, **fields: object) -> Spoil:
    """Set fields of one entry: name, ne, type, data, offset, n_dims, name_length."""

    def spoil(raw: Raw) -> None:
        for name, value in fields.items():
            setattr(raw.tensors[index], name, value)

    return spoil


def only(*entries: tuple[list[int], int, int], alignment: int | None = None) -> Spoil:
    """Replace all tensors by entries (shape, type, offset) without data."""

    def spoil(raw: Raw) -> None:
        raw.tensors = [Tensor(b"t%d" % i, ne, kind, b"", offset) for i, (ne, kind, offset) in enumerate(entries)]
        if alignment:
            raw.set("general.alignment", u32(alignment))

    return spoil


def swap_first_two(raw: Raw) -> None:
    """Offsets in descending order: each entry keeps its data's place, the entries change theirs."""
    sizes = [len(t.data) for t in raw.tensors]
    raw.tensors[0].offset, raw.tensors[1].offset = 0, -(-sizes[0] // 32) * 32
    raw.tensors[0], raw.tensors[1] = raw.tensors[1], raw.tensors[0]


def laid_out_for(alignment: int, stated: int | None) -> Spoil:
    def spoil(raw: Raw) -> None:
        raw.layout_alignment = alignment
        if stated:
            raw.set("general.alignment", u32(stated))

    return spoil


@table(
    ("G43", "empty", entry(name=b"")),
    ("G43", "64 bytes", entry(name=b"a" * 64)),
    ("G43", "length -1", entry(name_length=-1)),
    ("G44", "copy of the first", entry(name=b"rope_freqs.weight")),
    ("G44", "copy of the last", entry(0, name=b"output_norm.weight")),
    ("G44", "copy of the last in the middle", entry(4, name=b"output_norm.weight")),
    ("G45", "path", entry(name=b"../../../etc/passwd")),
    ("G45", "quote", entry(name=b'a"; system("id"); "')),
    ("G45", "NUL", entry(name=b"token_embd.weight\0x")),
    ("G45", "format", entry(name=b"%n%n%s")),
    ("G45", "right to left", entry(name="a\u202eb".encode())),
    ("G45", "bad UTF-8", entry(name=b"a\xff")),
    ("G46", "0 dimensions", entry(n_dims=0)),
    ("G46", "5 dimensions", entry(ne=[32, 1, 1, 1, 1])),
    ("G46", "2^32-1 dimensions", entry(n_dims=2**32 - 1)),
    ("G47", "first is 0", entry(ne=[0, 260])),
    ("G47", "last is 0", entry(ne=[32, 260, 0])),
    ("G48", "-1", entry(ne=[32, -1])),
    ("G48", "-2^63", entry(ne=[-(2**63), 2])),
    ("G49", "three dimensions", entry(ne=[M, M, M], type=T_F32)),
    ("G49", "four dimensions", entry(ne=[2**16, 2**16, 2**16, 2**16], type=T_F16)),
    ("G50", "f64", entry(ne=[M, M], type=T_F64)),
    ("G50", "i64", entry(ne=[M - 1, M], type=T_I64)),
    ("G51", "f32", only(([M, M], T_F32, 0))),
    ("G51", "f16 cube", only(([M, M, 2], T_F16, 0))),
    ("G52", "16 bytes below 2^64", only(([2**30 - 1, 2**30 + 1, 2], T_F64, 0))),
    ("G52", "alignment 65536", only(([2**28 - 1, 2**28 + 1, 32], T_I64, 0), alignment=65536)),
    ("G53", "two", only(([M, 2**30], T_F32, 0), ([M, 2**30], T_F32, M * 2**32))),
    (
        "G53",
        "three",
        only(([M, 2**29], T_F32, 0), ([M, 2**29], T_F32, M * 2**31), ([M, 2**30], T_F32, M * 2**32)),
    ),
    ("G54", "-1", entry(type=-1)),
    ("G54", "unknown", entry(type=99)),
    ("G54", "removed Q4_2", entry(type=4)),
    ("G54", "removed Q4_0_4_4", entry(type=31)),
    ("G55", "q8_0", entry(ne=[33, 260])),
    ("G55", "q4_k", entry(ne=[32, 260], type=12)),
    ("G56", "unaligned", entry(offset=33)),
    ("G56", "out of order", swap_first_two),
    ("G56", "overlap", entry(offset=0)),
    ("G56", "hole", entry(offset=64)),
    ("G56", "wraps", entry(offset=2**64 - 32)),
    ("G57", "by one byte", lambda r: r.encode()[:-1]),
    ("G57", "all of it", lambda r: r.metadata()),
    ("G57", "dimension too large", lambda r: entry(11, ne=[40])(r)),
    ("G58", "64 for 32", laid_out_for(64, None)),
    ("G58", "32 for 64", laid_out_for(32, 64)),
    ("G62", "2^31", entry(ne=[32, 2**31])),
    ("G62", "2^32+32", entry(ne=[2**32 + 32, 260])),
)
def test_refused(tmp_path: Path, code: str, spoil: Spoil) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(spoilt(spoil))
    assert_refused(path, code)


def test_types_in_use_are_all_known() -> None:
    """The formats this compiler supports have the sizes the writer of these tests assumes."""
    from infc.frontend import gguf

    sizes = {name: (block, size) for name, block, size in gguf._TENSOR_TYPES.values()}
    assert sizes["Q8_0"] == (32, 34) and sizes["Q4_0"] == (32, 18) and sizes["BF16"] == (1, 2)
    assert gguf._TENSOR_TYPES[T_Q8_0][0] == "Q8_0" and gguf._TENSOR_TYPES[T_Q4_0][0] == "Q4_0"
