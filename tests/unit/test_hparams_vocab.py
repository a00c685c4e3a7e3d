"""G67 to G77 and G87: the tokenizer's keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infc.frontend.check_vocab import byte_alphabet
from tests.models import tiny
from tests.models.raw_gguf import F32, F64, I8, I32, STRING, U8, Raw, Typed, array, boolean, f32, string, u32
from tests.models.refused import Spoil, assert_refused, load, spoilt, table

BYTES = byte_alphabet()
SPECIAL = ["he", "hel", "<s>", "</s>"]
N = len(BYTES) + len(SPECIAL)


def keys(**values: Typed) -> Spoil:
    """Set keys of the tokenizer."""

    def spoil(raw: Raw) -> None:
        for name, value in values.items():
            raw.set("tokenizer.ggml." + name, value)

    return spoil


def without(name: str) -> Spoil:
    return lambda raw: raw.drop("tokenizer.ggml." + name)


def token(index: int, text: str | bytes) -> Spoil:
    """Replace one token."""
    tokens: list[str | bytes] = [*BYTES, *SPECIAL]
    tokens[index] = text
    return keys(tokens=array(STRING, tokens))  # type: ignore[arg-type]


def byte_token(text: str) -> Spoil:
    """The last token becomes one of type "byte"."""

    def spoil(raw: Raw) -> None:
        token(N - 1, text)(raw)
        keys(token_type=array(I32, [1] * (N - 1) + [6]))(raw)

    return spoil


def merges(*lines: str) -> Spoil:
    return keys(merges=array(STRING, list(lines)))


@table(
    ("G67", "missing", without("tokens")),
    ("G67", "none", keys(tokens=array(STRING, []))),
    ("G26", "not strings", keys(tokens=array(I32, [1, 2]))),
    ("G26", "not an array", keys(tokens=string("a"))),
    ("G68", "scores of f64", keys(scores=array(F64, [0.0] * N))),
    ("G68", "scores of u8", keys(scores=array(U8, [0] * N))),
    ("G68", "scores not an array", keys(scores=f32(1))),
    ("G68", "score NaN", keys(scores=array(F32, [0.0] * (N - 1) + [float("nan")]))),
    ("G68", "types of i8", keys(token_type=array(I8, [1] * N))),
    ("G68", "types of f32", keys(token_type=array(F32, [1.0] * N))),
    ("G68", "type 7", keys(token_type=array(I32, [1] * (N - 1) + [7]))),
    ("G68", "type -1", keys(token_type=array(I32, [-1] + [1] * (N - 1)))),
    ("G69", "types one short", keys(token_type=array(I32, [1] * (N - 1)))),
    ("G69", "types empty", keys(token_type=array(I32, []))),
    ("G69", "scores one short", keys(scores=array(F32, [0.0] * (N - 1)))),
    ("G70", "first and last", token(N - 1, BYTES[0])),
    ("G70", "neighbours", token(257, "he")),
    ("G71", "NUL", token(258, "a\0b")),
    ("G71", "bad UTF-8", token(258, b"\xc3\x28")),
    ("G71", "surrogate", token(258, b"\xed\xa0\x80")),
    ("G71", "over 64 KiB", token(258, "a" * 65537)),
    ("G71", "over 64 KiB in UTF-8", token(258, "é" * 33000)),
    ("G71", "empty", token(258, "")),
    ("G72", "bos = size", keys(bos_token_id=u32(N))),
    ("G72", "eos 2^32-1", keys(eos_token_id=u32(2**32 - 1))),
    ("G72", "padding", keys(padding_token_id=u32(100_000))),
    ("G72", "fill in the middle", keys(fim_pre_token_id=u32(N))),
    ("G73", "<0x-1>", byte_token("<0x-1>")),
    ("G73", "<0xZZ>", byte_token("<0xZZ>")),
    ("G73", "no space", token(0x20, "<a>")),
    ("G73", "no letter e", lambda r: (token(ord("e"), "<a>")(r), merges()(r), r)[2]),
    ("G73", "no continuation byte", token(0x80, "<a>")),
    ("G74", "missing", without("merges")),
    ("G74", "numbers", keys(merges=array(I32, [1]))),
    ("G74", "no space", merges("h e", "hel")),
    ("G74", "two spaces", merges("h e l")),
    ("G74", "space first", merges(" he")),
    ("G74", "space last", merges("he ")),
    ("G74", "unknown part", merges("h e", "qq x")),
    ("G74", "unknown result", merges("h e", "x y")),
    ("G76", "model missing from the list", keys(model=string("gpt3"))),
    ("G76", "rwkv", keys(model=string("rwkv"))),
    ("G68", "llama without scores", keys(model=string("llama"))),
    ("G76", "pre unknown", keys(pre=string("smollm3-turbo"))),
    ("G76", "pre empty", keys(pre=string(""))),
    ("G76", "pre missing", without("pre")),
    ("G76", "control bytes", keys(pre=string("\x1b]0;x\x07" * 100))),
    ("G27", "model missing", without("model")),
    ("G77", "bos", lambda r: keys(add_bos_token=boolean(True))(r.drop("tokenizer.ggml.bos_token_id"))),
    ("G77", "eos", lambda r: keys(add_eos_token=boolean(True))(r.drop("tokenizer.ggml.eos_token_id"))),
    ("G77", "llama-bpe adds one unasked", lambda r: keys(pre=string("llama-bpe"))(r.drop("tokenizer.ggml.bos_token_id"))),
    ("G26", "add_bos is a number", keys(add_bos_token=u32(1))),
    ("G87", "over 1 MiB", lambda r: r.set("tokenizer.chat_template", string("a" * (2**20 + 1)))),
    ("G87", "over 1 MiB in UTF-8", lambda r: r.set("tokenizer.chat_template", string("é" * 2**19 + "a"))),
)  # fmt: skip
def test_refused(tmp_path: Path, code: str, spoil: Spoil) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(spoilt(spoil))
    assert_refused(path, code)


@table(
    ("ok", "no types", without("token_type")),
    ("ok", "scores of i32", keys(scores=array(I32, [0] * N))),
    ("ok", "scores of f32", keys(scores=array(F32, [0.5] * N))),
    ("ok", "no merges but the key", merges()),
    ("ok", "byte token", byte_token("<0x0A>")),
    ("ok", "no special tokens", lambda r: r.drop("tokenizer.ggml.bos_token_id").drop("tokenizer.ggml.eos_token_id")),
    ("ok", "adds bos", keys(add_bos_token=boolean(True))),
    ("ok", "llama-bpe told not to add bos", lambda r: keys(pre=string("llama-bpe"), add_bos_token=boolean(False))(
        r.drop("tokenizer.ggml.bos_token_id"))),
    ("ok", "template", lambda r: r.set("tokenizer.chat_template", string("{{ messages }}"))),
)  # fmt: skip
def test_accepted(tmp_path: Path, code: str, spoil: Spoil) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(spoilt(spoil))
    assert load(path) == []


def test_bytes_that_no_text_has_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(spoilt(token(0xFE, "<a>")))
    assert load(path) == ["1 bytes have no token, as 0xfe: text with them cannot be represented"]


def test_byte_alphabet_agrees_with_the_independent_one() -> None:
    assert byte_alphabet() == tiny.byte_alphabet()
    assert len(set(byte_alphabet())) == 256
    assert byte_alphabet()[0x20] == "Ġ" and byte_alphabet()[0x0A] == "Ċ" and byte_alphabet()[0x41] == "A"


@pytest.mark.parametrize("arguments", [{}, {"tied": False, "rope_freqs": True, "seed": 1}, {"types": "Q5_1"}])
def test_models_of_the_gguf_package_are_accepted(tiny_llama: object, arguments: dict[str, object]) -> None:
    assert callable(tiny_llama)
    path = tiny_llama(**arguments)
    assert load(path) == []
    again = path.with_suffix(".again")
    tiny.write_tiny_llama(again, **arguments)
    assert np.array_equal(np.fromfile(again, np.uint8), np.fromfile(path, np.uint8))
