"""The compiled tokenizer against HF ``tokenizers`` with the same vocabulary: the same ids for every string."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from infc.tokenizer import PRETOKENIZERS, compile_tokenizer
from tests.unit.tokenizer_support import (
    CTokenizer,
    P,
    adversarial,
    distinct_pretokenizers,
    hf_tokenizer,
    host_isas,
    read_kv,
    synthetic_kv,
)

# Over 100,000 strings in all: most for the one that comes with a real vocabulary.
_COUNTS = dict.fromkeys(distinct_pretokenizers(), 3_000) | {"smollm": 30_000, "llama-bpe": 12_000, "qwen2": 12_000}


@pytest.fixture(scope="module")
def pair(built: Any, smollm2_path: Path) -> Callable[[str], tuple[dict[str, Any], CTokenizer, Tokenizer]]:
    """``pair(pre)``: the keys, our tokenizer and HF's; each is made once."""

    @cache
    def make(pre: str) -> tuple[dict[str, Any], CTokenizer, Tokenizer]:
        kv = read_kv(smollm2_path) if pre == "smollm" else synthetic_kv(pre)
        return kv, CTokenizer(built, compile_tokenizer(kv, len(kv[P + "tokens"]))), hf_tokenizer(kv)

    return make


def test_every_pretokenizer_is_compared() -> None:
    entries = {(PRETOKENIZERS[name].splits, PRETOKENIZERS[name].ignore_merges) for name in _COUNTS}
    assert entries == {(p.splits, p.ignore_merges) for p in PRETOKENIZERS.values()}
    assert sum(_COUNTS.values()) > 100_000


@pytest.mark.parametrize("pre", _COUNTS)
def test_random_and_adversarial_strings(pre: str, pair: Any) -> None:
    kv, c, hf = pair(pre)
    added = [t for t, y in zip(kv[P + "tokens"], kv[P + "token_type"], strict=True) if y in (3, 4)]
    source = adversarial(random.Random(f"{pre} 1"), added)
    texts = [source() for _ in range(_COUNTS[pre])]
    different = []
    for text, expected in zip(texts, hf.encode_batch_fast(texts), strict=True):
        for isa in host_isas():
            c.use(isa)
            if c.encode(text.encode()) != expected.ids:
                different.append(text)
    assert not different, f"{len(different)} differ, for instance {min(different, key=len)!r}"


@pytest.mark.parametrize("pre", _COUNTS)
def test_words_of_the_vocabulary(pre: str, pair: Any) -> None:
    """Every token's text alone and after a space: tokens that no merge makes, and rare merges, are met too."""
    kv, c, hf = pair(pre)
    texts = [c.decode([i]).decode("utf-8", "ignore") for i in range(0, len(kv[P + "tokens"]), 5)]
    texts += [" " + t for t in texts[:2000]]
    for text, expected in zip(texts, hf.encode_batch_fast(texts), strict=True):
        assert c.encode(text.encode()) == expected.ids, repr(text)


@pytest.mark.parametrize("pre", _COUNTS)
def test_a_long_text_of_many_words(pre: str, pair: Any) -> None:
    """Thousands of words that are no token take each other's places in the cache, in one call."""
    _, c, hf = pair(pre)
    rnd = random.Random(31)
    words = ["".join(rnd.choice("etaoinшлд世ü-") for _ in range(rnd.randint(2, 16))) for _ in range(3000)]
    text = " ".join(rnd.choices(words, [1 / (i + 20) for i in range(len(words))], k=12_000))
    expected = hf.encode(text).ids
    for isa in host_isas():
        c.use(isa)
        assert c.encode(text.encode()) == expected


@pytest.mark.parametrize("size", [10, 16, 40])
def test_a_token_that_no_merge_makes_is_for_whole_words_only(size: int, built: Any) -> None:
    """The same bytes as a word and as a part of a longer one, in both orders: what is kept of one must not serve the other."""
    kv = synthetic_kv("llama-bpe")
    token = "ed" * (size // 2)
    kv |= {P + "tokens": [*kv[P + "tokens"], token], P + "token_type": [*kv[P + "token_type"], 1]}
    c, hf = CTokenizer(built, compile_tokenizer(kv, len(kv[P + "tokens"]))), hf_tokenizer(kv)
    part = token + "ш" * 20  # nothing joins these
    for text in (token, part, f"{token}\n{part}\n{token}", f"{part}\n{token}\n{part}"):
        assert c.encode(text.encode()) == hf.encode(text).ids


@pytest.mark.parametrize("text", ["a", " ", "ab", "\n ", "あ", "<|im_", "!", "1", " a", "é", "'s", "the ", "\u0301"])
def test_a_hundred_kilobytes_of_one_thing(text: str, pair: Any) -> None:
    """A quadratic loop anywhere would make this test the slowest of the suite by far."""
    _, c, hf = pair("smollm")
    c.use(host_isas()[-1])
    long = text * (100_000 // len(text.encode()))
    assert c.encode(long.encode()) == hf.encode(long).ids


def test_special_tokens_are_text_when_not_asked_for(built: Any) -> None:
    kv = synthetic_kv("gpt-2")
    c = CTokenizer(built, compile_tokenizer(kv, len(kv[P + "tokens"])))
    plain = hf_tokenizer({**kv, P + "token_type": [1 if y == 3 else y for y in kv[P + "token_type"]]})
    text = "<|im_start|>user <tool_call>x<|im_end|>"
    assert c.encode(text.encode(), 0) == plain.encode(text).ids
    assert kv[P + "tokens"].index("<tool_call>") in c.encode(text.encode(), 0)


def test_the_longest_of_overlapping_added_tokens(built: Any) -> None:
    kv = synthetic_kv("gpt-2")
    tokens = [*kv[P + "tokens"], "<a", "<a>", "<a><b>c", "b>", "><", "c<d", "é!", "<a><b>cc"]
    kv |= {P + "tokens": tokens, P + "token_type": [*kv[P + "token_type"], *[4] * 8]}
    c = CTokenizer(built, compile_tokenizer(kv, len(tokens)))
    hf = hf_tokenizer(kv)
    rnd = random.Random(3)
    for _ in range(4000):
        text = "".join(rnd.choice("<<<aab>>>ccd é!") for _ in range(rnd.randint(1, 16)))
        assert c.encode(text.encode()) == hf.encode(text).ids, repr(text)
