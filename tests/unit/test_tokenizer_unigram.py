"""Unigram: against ``sentencepiece``, llama.cpp and HF ``tokenizers``, at its edges, and what it refuses."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import Unigram

from infc.errors import InputError
from infc.tokenizer import compile_tokenizer
from tests.unit.peer_llama import PeerTokenizer
from tests.unit.tokenizer_support import BOS, END, SPECIAL, P, adversarial, opened
from tests.unit.unigram_support import MARK, MODELS, random_kv, trained, write_vocabulary

_ALPHABET = "aab cé世\U0001f642x  "


@pytest.mark.parametrize("name", MODELS)
def test_random_strings_against_sentencepiece(name: str, built: Any) -> None:
    """The same tokens; where they differ, both cuts are equally good, which ``sentencepiece`` decides by the rounding of its floats."""
    sp, kv = trained(name)
    c = opened(built, kv)
    scores = np.asarray(kv[P + "scores"], np.float32).astype(np.float64)
    rnd = random.Random(name)
    source = adversarial(rnd, ["<s>", "</s>"])
    equally_good = 0
    for _ in range(8000):
        text = source().replace("\0", "")  # ends a text to the trainer's map
        ids, expected = c.encode(text.encode(), 0), sp.encode(text)
        if ids != expected:
            assert sorted(ids) == sorted(expected) or abs(scores[ids].sum() - scores[expected].sum()) < 1e-4, repr(text)
            equally_good += 1
        assert c.decode(ids, special=False).decode() == sp.decode([i for i in ids if i != sp.unk_id()]), repr(text)
    assert equally_good < 40


@pytest.mark.parametrize("name", ["t5", "folded", "spaces kept"])
def test_random_strings_against_llama_cpp(name: str, built: Any, tmp_path: Path) -> None:
    """0 differences, in what both do: it has no byte tokens here, and where spaces are merged it puts one first whatever the file says."""
    _, kv = trained(name)
    kv = kv | {P + "tokens": [*kv[P + "tokens"], "<x>", "qq"], P + "scores": [*kv[P + "scores"], -3.0, -9.0]}
    kv |= {P + "token_type": [*kv[P + "token_type"], 4, 4], P + "add_space_prefix": kv[P + "remove_extra_whitespaces"]}
    c, peer = opened(built, kv), PeerTokenizer(write_vocabulary(tmp_path / "v.gguf", kv))
    rnd = random.Random(name)
    source = adversarial(rnd, ["<s>", "</s>", "<x>", "QQ"])
    for _ in range(5000):
        text = source()
        for special in (False, True):
            assert c.encode(text.encode(), SPECIAL * special) == peer.encode(text.encode(), special=special), repr(text)
    assert c.encode(b"a b", BOS | END) == peer.encode(b"a b", bos=True)


def hf_unigram(kv: dict[str, Any]) -> Tokenizer:
    """HF's model of the same vocabulary; text comes to it with marks for spaces."""
    pieces = list(zip(kv[P + "tokens"], map(float, kv[P + "scores"]), strict=True))
    return Tokenizer(Unigram(pieces, unk_id=2, byte_fallback=6 in kv[P + "token_type"]))


def _hf_ids(hf: Tokenizer, kv: dict[str, Any], text: str) -> list[int]:
    return list(hf.encode((" " * bool(text and kv[P + "add_space_prefix"]) + text).replace(" ", MARK)).ids)


@pytest.mark.parametrize("with_bytes", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_many_equally_good_ways(seed: int, with_bytes: bool, built: Any) -> None:
    """Random vocabularies with few different scores: of equally good ways the one that HF finds first. Texts of every length about that at
    which the window leaves the stack."""
    kv = random_kv(seed, with_bytes)
    c, hf = opened(built, kv), hf_unigram(kv)
    rnd = random.Random(seed)
    for n in [*range(40), *(rnd.randint(1, 12) for _ in range(2000)), *range(505, 520), 700, 3000]:
        text = "".join(rnd.choice(_ALPHABET) for _ in range(n))
        assert c.encode(text.encode(), 0) == _hf_ids(hf, kv, text), repr(text)
    for part in ("a", "ab", " ", "世", "\U0001f642", "x"):
        for n in (1, 2, 3, 255, 256, 511, 512, 513, 514, 5000):
            assert c.encode((part * n).encode(), 0) == _hf_ids(hf, kv, part * n), (part, n)


def test_tokens_that_overlap_without_end(built: Any) -> None:
    """A text in which no place is settled before its end: the window grows to all of it."""
    kv = random_kv(0)
    kv |= {
        P + "tokens": [*kv[P + "tokens"][:3], "a", "aa", "aaa"],
        P + "scores": [0, 0, 0, -3.0, -2.5, -4.0],
        P + "token_type": [3, 3, 2, 1, 1, 1],
    }
    c, hf = opened(built, kv), hf_unigram(kv)
    for n in (511, 512, 513, 2047, 2048, 2049, 100_001):
        assert c.encode(b"a" * n, 0) == _hf_ids(hf, kv, "a" * n)


@pytest.mark.parametrize("text", ["a", " ", "the ", "\u00a0", "\u1e9b\u0323", "\ufb01", "!", "世", "\u2581", "\u2581 ", "\u3000a"])
@pytest.mark.parametrize("name", ["t5", "as it is"])
def test_a_hundred_kilobytes_of_one_thing(name: str, text: str, built: Any) -> None:
    sp, kv = trained(name)
    c = opened(built, kv)
    long = text * (100_000 // len(text.encode()))
    ids, expected = c.encode(long.encode(), 0), sp.encode(long)
    scores = np.asarray(kv[P + "scores"], np.float64)
    # Floats of sums this large tell less apart: ours must be as good a cut of as much text.
    assert ids == expected or scores[ids].sum() >= scores[expected].sum() - 1e-2 and c.decode(ids) == c.decode(expected)


def test_spaces_and_marks(built: Any) -> None:
    """One is put first, runs become one, those at the end go: ``sentencepiece`` to the letter."""
    for name in MODELS:
        sp, kv = trained(name)
        c = opened(built, kv)
        rnd = random.Random(5)
        for _ in range(3000):
            text = "".join(
                rnd.choice([" ", "  ", MARK, "a", "the", "\t", "\u00a0", "\u00a8", "\x7f", "\u200b"]) for _ in range(rnd.randint(0, 6))
            )
            assert c.encode(text.encode(), 0) == sp.encode(text), (name, text)


def test_added_tokens_and_ends(built: Any) -> None:
    kv = random_kv(1)
    tokens = kv[P + "tokens"]
    c = opened(built, kv)
    plain = c.encode(b"ab", 0)
    assert c.encode(b"ab", END) == [*plain, 1] and c.encode(b"ab", BOS) == plain
    assert c.encode(b"ab</s>ab", SPECIAL) == [*plain, 1, *plain], "text begins anew after it"
    assert 1 not in c.encode(b"</s>", 0)
    assert c.decode([*plain, 1, *plain]) == b"ab</s>ab" and c.decode([*plain, 1, *plain], special=False) == b"abab"
    quiet = opened(built, kv | {P + "add_eos_token": False, P + "add_bos_token": True, P + "bos_token_id": 0})
    assert quiet.encode(b"ab", BOS | END) == [0, *plain]
    with_user = opened(
        built, kv | {P + "tokens": [*tokens, "<u>"], P + "scores": [*kv[P + "scores"], 0.0], P + "token_type": [*kv[P + "token_type"], 4]}
    )
    assert with_user.encode(b"ab<u>ab", 0) == [*plain, len(tokens), *plain]


def test_bytes_that_are_no_utf8(built: Any) -> None:
    sp, kv = trained("t5")
    c = opened(built, kv)
    for raw in (b"a\xffb", b"\xc3", b"a\xed\xa0\x80b", b"\xf0\x9f\x99", b"\xe2\x96", b"\xff a"):
        assert c.encode(raw, 0) == sp.encode(raw), raw


def _with(**changes: Any) -> dict[str, Any]:
    kv = random_kv(1) | {P + k: v for k, v in changes.items()}
    return {k: v for k, v in kv.items() if v is not None}


def _charsmap(units: list[int], strings: bytes) -> np.ndarray:
    array = np.array(units, "<u4").tobytes()
    return np.frombuffer(len(array).to_bytes(4, "little") + array + strings, np.uint8)


def test_a_map_that_leads_in_circles(built: Any) -> None:
    """Every unit has the label "a" and leads back: the search ends, and finds what lies in the array and in the strings."""
    for offset in (0, 1, 0x61, 1 << 20):
        units = [(offset << 10) | 0x100 | 0x61] * 256
        c = opened(built, _with(precompiled_charsmap=_charsmap(units, b"b\0")))
        assert c.count(b"a" * 50_000, 0) > 0


@pytest.mark.parametrize(
    ("code", "kv", "words"),
    [
        ("G68", _with(scores=None), "needs scores"),
        ("G68", _with(scores=[float("nan")] * len(random_kv(1)[P + "tokens"])), "NaN"),
        ("G72", _with(unknown_token_id=10**6), "unknown token"),
        ("G73", random_kv(1, True) | {P + "tokens": [t.replace("<0x41>", "<0x42>") for t in random_kv(1, True)[P + "tokens"]]}, "<0x41>"),
        ("G77", _with(add_bos_token=True), "BOS"),
        ("G78", _with(precompiled_charsmap=np.zeros(3, np.uint8)), "array of 0 bytes"),
        ("G78", _with(precompiled_charsmap=np.frombuffer(b"\xff\xff\xff\xff" * 4, np.uint8)), "array of 4294967295 bytes"),
        ("G78", _with(precompiled_charsmap=_charsmap([0], b"a")), "without end"),
        ("G78", _with(precompiled_charsmap=_charsmap([0], b"a" * 256 + b"\0")), "of over 255"),
        ("G78", _with(precompiled_charsmap=["a"]), "no array of bytes"),
    ],
)
def test_refusals(code: str, kv: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as e:
        compile_tokenizer(kv, len(kv[P + "tokens"]))
    assert e.value.code == code and len(str(e.value)) < 300
