"""G12 to G29: keys and values."""

from __future__ import annotations

import struct
from pathlib import Path

from infc.frontend import gguf
from infc.frontend.inputs import open_model
from infc.limits import Limits
from tests.models.raw_gguf import (
    ARRAY,
    BOOL,
    F32,
    I32,
    STRING,
    U8,
    U16,
    U32,
    U64,
    Raw,
    Typed,
    array,
    boolean,
    number,
    raw_array,
    raw_string,
    string,
    u32,
    valid,
)  # fmt: skip
from tests.models.refused import Spoil, assert_refused, spoilt, table


def extra(value: Typed, key: bytes = b"x.y") -> Spoil:
    """One more key, at the end."""
    return lambda raw: raw.kv.append((key, value))


def alone(value: Typed) -> Spoil:
    """A file of one key and nothing after it: a length that is too long ends past the file."""
    return lambda raw: Raw(kv=[(b"x.y", value)]).metadata()


def key_length(n: int) -> Spoil:
    """A file whose first key claims n bytes."""
    return lambda raw: raw.header() + struct.pack("<Q", n & (2**64 - 1)) + raw.metadata()[32:]


def keys(**values: Typed) -> Spoil:
    """Set keys, spelled with __ for the dot."""

    def spoil(raw: Raw) -> None:
        for name, value in values.items():
            raw.set(name.replace("__", "."), value)

    return spoil


def alignment(value: int) -> Spoil:
    return keys(general__alignment=u32(value))


def split(count: int, no: int, tensors: int) -> Spoil:
    return keys(split__count=number(U16, count), split__no=number(U16, no), split__tensors__count=number(I32, tensors))


@table(
    ("G12", "length -1", key_length(-1)),
    ("G12", "length 2^63", key_length(2**63)),
    ("G12", "past the end", lambda r: r.header() + raw_string(b"general", 900)),
    ("G13", "first key empty", key_length(0)),
    ("G13", "last key empty", extra(u32(1), b"")),
    ("G14", "NUL", extra(u32(1), b"a\0b")),
    ("G14", "newline", extra(u32(1), b"a\nb")),
    ("G14", "escape", extra(u32(1), b"\x1b[2J")),
    ("G14", "bad UTF-8", extra(u32(1), b"a\xff\xfe")),
    ("G15", "same value", extra(string("llama"), b"general.architecture")),
    ("G15", "other value", extra(u32(7), b"llama.block_count")),
    ("G16", "type 13", extra((13, bytes(8)))),
    ("G16", "type 2^32-1", extra((2**32 - 1, bytes(8)))),
    ("G17", "element type 13", extra(raw_array(13, 1, bytes(8)))),
    ("G17", "element type 2^31", extra(raw_array(2**31, 0, b""))),
    ("G18", "array of array", extra(raw_array(ARRAY, 1, array(U8, [1])[1]))),
    ("G18", "empty array of array", extra(raw_array(ARRAY, 0, b""))),
    ("G19", "count 2^63", extra(raw_array(U8, 2**63, b""))),
    ("G19", "count -1", extra(raw_array(STRING, -1, b""))),
    ("G20", "count x 8 wraps to 0", extra(raw_array(U64, 2**61, b""))),
    ("G20", "count x 4 wraps to 4", extra(raw_array(F32, 2**62 + 1, bytes(4)))),
    ("G20", "past the end", alone(raw_array(U8, 9, bytes(8)))),
    ("G20", "strings past the end", alone(raw_array(STRING, 10, bytes(79)))),
    ("G21", "one length 2^63", extra(raw_array(STRING, 2, raw_string("a") + raw_string("b", 2**63)))),
    ("G21", "one length past the end", alone(raw_array(STRING, 2, raw_string("a") + raw_string("b", 2)))),
    ("G22", "length 2^64-1", extra(string("abc", 2**64 - 1))),
    ("G22", "past the end by one", alone(string("abc", 4))),
    ("G23", "scalar 2", extra((BOOL, b"\2"))),
    ("G23", "array element 255", extra(raw_array(BOOL, 3, b"\0\xff\1"))),
    ("G24", "0", alignment(0)),
    ("G24", "13", alignment(13)),
    ("G24", "4", alignment(4)),
    ("G24", "2^31", alignment(2**31)),
    ("G24", "u64", keys(general__alignment=number(U64, 32))),
    ("G24", "bool", keys(general__alignment=boolean(True))),
    ("G24", "array", keys(general__alignment=array(U32, [32]))),
    ("G25", "missing", lambda r: r.drop("general.architecture")),
    ("G25", "unknown", keys(general__architecture=string("gpt-17"))),
    ("G25", "control bytes", keys(general__architecture=string("\x1b[31mllama\n"))),
    ("G25", "not a string", keys(general__architecture=u32(1))),
    ("G25", "not a model", keys(general__type=string("adapter"))),
    ("G26", "array where scalar", keys(llama__context_length=array(U32, [64]))),
    ("G26", "scalar where array", keys(tokenizer__ggml__tokens=string("a b c"))),
    ("G26", "wrong integer", keys(llama__embedding_length=number(U64, 32))),
    ("G27", "embedding_length", lambda r: r.drop("llama.embedding_length")),
    ("G27", "rms epsilon", lambda r: r.drop("llama.attention.layer_norm_rms_epsilon")),
    ("G28", "several files", split(3, 0, 12)),
    ("G28", "file 1 of 1", split(1, 1, 12)),
    ("G28", "tensor counts differ", split(1, 0, 400)),
    ("G28", "negative", keys(split__count=number(I32, -1))),
    ("G28", "count is a string", keys(split__count=string("../../etc/passwd"))),
    ("G71", "value is not UTF-8", extra(string(b"caf\xe9"))),
)  # fmt: skip
def test_refused(tmp_path: Path, code: str, spoil: Spoil) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(spoilt(spoil))
    assert_refused(path, code)


def test_one_file_of_one_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(spoilt(split(1, 0, 12)))
    with open_model(path) as model:
        assert "split.count" not in model.kv


def test_values_keep_their_types(tmp_path: Path) -> None:
    raw = valid()
    values = {
        "a.bool": boolean(True),
        "a.u64": number(U64, 2**63),
        "a.f": array(F32, [0.5, 2.0]),
        "a.none": array(U8, []),
    }
    values |= {
        "a.flags": array(BOOL, [True, False]),
        "a.no_flags": array(BOOL, []),
        "a.s": array(STRING, ["ä", ""]),
    }
    for key, value in values.items():
        raw.set(key, value)
    path = tmp_path / "m.gguf"
    path.write_bytes(raw.encode())
    with gguf.read(path) as model:
        kv, types = model.kv, model.kv_types
    assert kv["a.bool"] is True and types["a.bool"] == "bool"
    assert kv["a.u64"] == 2**63 and types["a.u64"] == "u64"
    assert kv["a.s"] == ["ä", ""] and types["a.s"] == "[str]"
    assert [list(kv[k]) for k in ("a.f", "a.none", "a.flags", "a.no_flags")] == [
        [0.5, 2.0],
        [],
        [True, False],
        [],
    ]
    assert types["a.flags"] == "[bool]" and kv["a.flags"].dtype == bool


def test_many_keys_take_linear_time(tmp_path: Path) -> None:
    """100,000 keys are over the limit; with the limit raised they are read, and are no trouble."""
    raw = valid()
    raw.kv += [(b"x.%d" % i, u32(i)) for i in range(100_000)]
    path = tmp_path / "m.gguf"
    path.write_bytes(raw.encode())
    assert_refused(path, "G08")
    with gguf.read(path, Limits(kv=200_000)) as model:
        assert model.kv["x.99999"] == 99_999


def test_metadata_over_its_cap(tmp_path: Path) -> None:
    raw = valid().set("x.y", array(U8, [0] * 5000))
    path = tmp_path / "m.gguf"
    path.write_bytes(raw.encode())
    assert_refused(path, "G29", Limits(metadata_bytes=6000))
    path.write_bytes(valid().set("x.y", string("a" * 5000)).encode())
    assert_refused(path, "G29", Limits(string_bytes=4999))
