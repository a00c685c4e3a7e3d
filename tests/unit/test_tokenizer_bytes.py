"""Bytes in, the same bytes out: round trip, streaming, flags, ends of generation, and buffers that are too small."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from infc.tokenizer import compile_tokenizer, reduce_chat
from infc.tokenizer.bpe import BYTE_OF_CHAR
from tests.unit.tokenizer_support import (
    BOS,
    EINPUT,
    ELIMIT,
    ENOMEM,
    SPECIAL,
    CTokenizer,
    P,
    adversarial,
    build,
    hf_tokenizer,
    read_kv,
    synthetic_kv,
)


@pytest.fixture(scope="module", params=["gpt-2", "smollm", "llama-bpe", "qwen2"])
def tok(request: pytest.FixtureRequest, built: Any) -> CTokenizer:
    """A vocabulary that has all 256 bytes."""
    kv = synthetic_kv(request.param)
    return CTokenizer(built, compile_tokenizer(kv, len(kv[P + "tokens"])))


@pytest.fixture(scope="module")
def smollm(built: Any, smollm2_path: Path) -> tuple[dict[str, Any], CTokenizer]:
    kv = read_kv(smollm2_path)
    return kv, CTokenizer(built, compile_tokenizer(kv, len(kv[P + "tokens"])))


def _random_bytes(rnd: random.Random) -> bytes:
    kind = rnd.random()
    if kind < 0.4:
        return rnd.randbytes(rnd.randrange(200))
    if kind < 0.7:  # UTF-8 cut and damaged
        raw = bytearray("".join(rnd.choice("aé世🙂 \n") for _ in range(rnd.randrange(1, 60))).encode())
        for _ in range(rnd.randrange(4)):
            raw[rnd.randrange(len(raw))] = rnd.randrange(256)
        return bytes(raw[rnd.randrange(3) :])
    return bytes(rnd.choice(b"\x00 \x80\xc0\xe0\xed\xa0\xf0\xf4\xff\x9fa\n") for _ in range(rnd.randrange(90)))


def test_round_trip_of_any_bytes(tok: CTokenizer) -> None:
    rnd = random.Random(11)
    for _ in range(4000):
        raw = _random_bytes(rnd)
        ids = tok.encode(raw)
        assert tok.decode(ids) == raw, raw
        assert b"".join(tok.stream(ids)) == raw, raw


def test_bytes_without_a_token_are_dropped_as_hf_does(smollm: tuple[dict[str, Any], CTokenizer]) -> None:
    kv, tok = smollm
    missing = {b for c, b in BYTE_OF_CHAR.items() if c not in set(kv[P + "tokens"])}
    assert len(missing) == 21
    rnd = random.Random(12)
    for _ in range(2000):
        raw = _random_bytes(rnd)
        assert tok.decode(tok.encode(raw)) == bytes(b for b in raw if b not in missing)
    hf = hf_tokenizer(kv)
    for text in ("\x04", "!\x04! .\x14. =\x04\x04==", "a\x04b", "th\x06e the\x14", "\U00050000 \U000d1234x"):
        assert tok.encode(text.encode()) == hf.encode(text).ids


def test_a_stream_never_splits_a_character(tok: CTokenizer) -> None:
    rnd = random.Random(13)
    source = adversarial(rnd, ["<|im_start|>"])
    for _ in range(1500):
        text = source()
        # One token a byte: the hardest case.
        ids = [i for b in text.encode() for i in tok.encode(bytes([b]))]
        pieces = tok.stream(ids)
        assert "".join(p.decode("utf-8") for p in pieces) == text
        assert pieces[-1] == b""
        ids = tok.encode(text.encode())
        assert "".join(p.decode("utf-8") for p in tok.stream(ids)) == text


def test_a_stream_lets_invalid_bytes_pass(tok: CTokenizer) -> None:
    def pieces(raw: bytes) -> list[bytes]:
        return tok.stream([i for b in raw for i in tok.encode(bytes([b]))])

    assert pieces(b"\xffa") == [b"\xff", b"a", b""]
    assert pieces(b"\xe4\xb8a") == [b"", b"", b"\xe4\xb8a", b""]  # a character that never ends
    assert pieces(b"\xe4\xb8") == [b"", b"", b"\xe4\xb8"]  # the flush gives what is held
    assert pieces(b"\xed\xa0\x80") == [b"", b"\xed\xa0", b"\x80", b""]  # half a surrogate pair: known by its second byte
    assert pieces(b"\xc0\xaf") == [b"\xc0", b"\xaf", b""]
    assert pieces(b"\xf0\x9f\x99\x82") == [b"", b"", b"", b"\xf0\x9f\x99\x82", b""]
    assert pieces(b"\xf0\xf0\x9f\x99\x82") == [b"", b"\xf0", b"", b"", b"\xf0\x9f\x99\x82", b""]


def test_special_tokens_in_output(tok: CTokenizer) -> None:
    start, call = tok.encode(b"<|im_start|>"), tok.encode(b"<tool_call>")
    assert len(start) == len(call) == 1
    ids = [*tok.encode("é".encode()), *start, *call, *tok.encode(b"x")]
    assert tok.decode(ids) == "é<|im_start|><tool_call>x".encode()
    assert tok.decode(ids, special=False) == "é<tool_call>x".encode()  # a user-defined token is text
    assert b"".join(tok.stream(ids, special=False)) == "é<tool_call>x".encode()


def test_bos_where_the_model_wants_it(built: Any) -> None:
    kv = synthetic_kv("llama-bpe")
    for wanted, expected in ((True, [1]), (False, []), (None, [1])):
        given = {k: v for k, v in kv.items() if k != P + "add_bos_token"}
        given |= {} if wanted is None else {P + "add_bos_token": wanted}
        tok = CTokenizer(built, compile_tokenizer(given, len(kv[P + "tokens"])))
        assert tok.encode(b"", BOS) == expected
        assert tok.encode(b"", 0) == []
        assert tok.encode(b"a", BOS | SPECIAL) == expected + tok.encode(b"a")


def test_ends_of_generation(smollm: tuple[dict[str, Any], CTokenizer]) -> None:
    kv, tok = smollm
    ends = {kv[P + "tokens"][i] for i in range(len(kv[P + "tokens"])) if tok.is_eog(i) == 1}
    assert ends == {"<|endoftext|>", "<|im_end|>"}
    assert tok.is_eog(-1) == tok.is_eog(len(kv[P + "tokens"])) == EINPUT


def test_a_small_buffer_is_not_overrun(tok: CTokenizer) -> None:
    text = b"once upon a time <|im_start|> there"
    ids = tok.encode(text)
    for cap in range(len(ids) + 1):
        out = tok.ffi.new("int32_t[]", [-7] * (len(ids) + 1))
        assert tok.lib.infc_tok_tokenize(tok._t, text, len(text), SPECIAL, out, cap) == len(ids)
        assert list(out) == ids[:cap] + [-7] * (len(ids) + 1 - cap)
    given = tok.ffi.new("int32_t[]", ids)
    for cap in range(len(text) + 1):
        raw = tok.ffi.new("uint8_t[]", b"\xaa" * (len(text) + 1))
        assert tok.lib.infc_tok_detokenize(tok._t, given, len(ids), 1, raw, cap) == len(text)
        assert bytes(raw)[: len(text) + 1] == text[:cap] + b"\xaa" * (len(text) + 1 - cap)


def test_ids_that_are_no_tokens(tok: CTokenizer) -> None:
    for bad in (-1, 1 << 20, 2**31 - 1):
        given = tok.ffi.new("int32_t[]", [5, bad])
        assert tok.lib.infc_tok_detokenize(tok._t, given, 2, 1, tok.ffi.NULL, 0) == EINPUT
    d = tok.ffi.new("infc_decoder *")
    out = tok.ffi.new("uint8_t[]", 64)
    assert tok.lib.infc_tok_decode(tok._t, d, 1 << 20, 1, out, 64) == EINPUT
    assert tok.lib.infc_tok_decode(tok._t, d, 0, 1, out, 2) == ELIMIT
    d.n = 5  # not a state that the decoder leaves
    assert tok.lib.infc_tok_decode(tok._t, d, 5, 1, out, 64) == EINPUT


_FAILING = """
#include <stddef.h>
void *__libc_malloc(size_t);
void *__libc_realloc(void *, size_t);
int allocations_left;
void *failing_malloc(size_t n) { return allocations_left-- > 0 ? __libc_malloc(n) : NULL; }
void *failing_realloc(void *p, size_t n) { return allocations_left-- > 0 ? __libc_realloc(p, n) : NULL; }
"""


def test_memory_that_runs_out(tmp_path: Path) -> None:
    """Every allocation fails in turn: an error code, and the next call works."""
    (tmp_path / "failing.c").write_text(_FAILING)
    hooks = ("-Dmalloc=failing_malloc", "-Drealloc=failing_realloc", str(tmp_path / "failing.c"))
    ffi, lib = build(tmp_path, *hooks)
    ffi.cdef("extern int allocations_left;")
    kv = synthetic_kv("gpt-2")
    tok = CTokenizer((ffi, lib), compile_tokenizer(kv, len(kv[P + "tokens"])), reduce_chat(kv).encode())
    long = b"ed" * 500  # merges may join any two of these bytes: it is one part
    for enough, call in (
        (2, lambda: lib.infc_tok_tokenize(tok._t, long, len(long), 0, ffi.NULL, 0)),
        (4, lambda: tok.chat([("user", long)], True)),
    ):
        for n in range(enough):
            lib.allocations_left = n
            assert call() == ENOMEM, n
        lib.allocations_left = enough
        assert call() != ENOMEM
    lib.allocations_left = 0
    assert tok.encode(b"only long words need memory") != []
