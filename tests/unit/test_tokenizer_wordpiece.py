"""WordPiece: against HF ``tokenizers`` and llama.cpp, the peer's vectors, at its edges, and what it refuses."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from infc.errors import InputError
from infc.tokenizer import compile_tokenizer
from infc.tokenizer.characters import characters
from infc.tokenizer.trie import trie
from tests.unit.peer_llama import PeerTokenizer
from tests.unit.peer_vocabularies import peer_folder, vectors
from tests.unit.tokenizer_support import BOS, END, SPECIAL, CTokenizer, P, adversarial, opened, read_kv, wordpiece_kv

MARK = "\u2581"
_OPTIONS = [(True, True), (True, False), (False, False), (False, True)]  # lowercase, strip_accents


def _with(kv: dict[str, Any], options: tuple[bool, bool]) -> dict[str, Any]:
    return kv | {P + "normalizer.lowercase": options[0], P + "normalizer.strip_accents": options[1]}


def _plain(text: str, special: bool) -> str:
    """A token as HF has it."""
    if special:
        return text
    return text[1:] if text.startswith(MARK) and text != MARK else "##" + text


def hf_wordpiece(kv: dict[str, Any], options: tuple[bool, bool]) -> Tokenizer:
    """HF's BERT tokenizer of the same vocabulary."""
    tokens, types = kv[P + "tokens"], kv[P + "token_type"]
    names = [_plain(t, y == 3) for t, y in zip(tokens, types, strict=True)]
    out = Tokenizer(WordPiece({t: i for i, t in enumerate(names)}, unk_token="[UNK]", max_input_chars_per_word=100))
    out.normalizer = BertNormalizer(lowercase=options[0], strip_accents=options[1])
    out.pre_tokenizer = BertPreTokenizer()
    out.decoder = WordPieceDecoder(cleanup=False)
    out.add_special_tokens([AddedToken(t, normalized=False) for t, y in zip(tokens, types, strict=True) if y == 3])
    out.add_tokens([AddedToken(_plain(t, False), normalized=False) for t, y in zip(tokens, types, strict=True) if y == 4])
    return out


def _bert() -> dict[str, Any]:
    """The vocabulary of BERT base, uncased, from the peer's samples."""
    kv = dict(read_kv(peer_folder() / "ggml-vocab-bert-bge.gguf"))
    return kv | {P + "token_type": [int(y) for y in kv[P + "token_type"]]}


def _marks(rnd: random.Random) -> Callable[[], str]:
    """Letters with combining characters of every class, in any order, syllables, and what disappears between them."""
    c = characters()
    pool = [*map(chr, c.order), *"\u0301\u0323\u0334\u0345\u034f\u200d\0\ufffd\x85", *"aZé世가각힣\u1e9b\u0130\u0344\u212b!"]
    pool += [chr(x) for x in rnd.sample(sorted(c.decomposed), 60)]
    return lambda: "".join(rnd.choice(pool) for _ in range(rnd.randint(1, 14)))


@pytest.mark.parametrize("options", _OPTIONS)
def test_random_strings_against_hf(options: tuple[bool, bool], built: Any) -> None:
    kv = _with(wordpiece_kv(), options)
    _compare(opened(built, kv), hf_wordpiece(kv, options), 10_000, f"small {options}")


@pytest.mark.slow
@pytest.mark.parametrize("options", _OPTIONS)
def test_a_hundred_thousand_strings_of_berts_vocabulary(options: tuple[bool, bool], built: Any) -> None:
    kv = _with(_bert(), options)
    _compare(opened(built, kv), hf_wordpiece(kv, options), 25_000, f"bert {options}")


def _compare(c: CTokenizer, hf: Tokenizer, n: int, seed: str) -> None:
    rnd = random.Random(seed)
    sources = [adversarial(rnd, ["[CLS]", "[MASK]", "[UNK]"]), _marks(rnd)]
    words = [w.removeprefix("##") for w in hf.get_vocab() if w.isalpha()]
    sources.append(lambda: " ".join(rnd.choice(words).title() + rnd.choice(["", "ing", "'s", "ly.", rnd.choice(words)]) for _ in range(4)))
    texts = [rnd.choice(sources)() for _ in range(n)]
    different = []
    for text, expected in zip(texts, hf.encode_batch_fast(texts), strict=True):
        if c.encode(text.encode()) != expected.ids:
            different.append(text)
    assert not different, f"{len(different)} differ, for instance {min(different, key=len)!r}"


@pytest.mark.parametrize("options", _OPTIONS)
def test_every_character(options: tuple[bool, bool], built: Any) -> None:
    """Each alone between letters: whatever it becomes is in one of the tokens that HF and we give, or unknown to both."""
    kv = _with(wordpiece_kv(every=True), options)
    c, hf = opened(built, kv), hf_wordpiece(kv, options)
    for start in range(0, 0x30000, 0x800):
        codes = [x for x in range(start, start + 0x800) if not 0xD800 <= x < 0xE000]
        text = " ".join(f"a{chr(x)}b" for x in codes)
        assert c.encode(text.encode()) == hf.encode(text).ids, hex(start)


def test_vectors(built: Any) -> None:
    kv = _bert()
    c = opened(built, kv)
    cases = vectors("bert-bge")
    assert len(cases) > 40
    for text, expected in cases:
        assert c.encode(text.encode(), 0) == expected, repr(text)


def test_llama_cpp(built: Any) -> None:
    """llama.cpp itself, on what it normalizes as BERT does: not control characters, of which it takes some for white space; not letters
    that become two, nor characters whose decomposition it cuts to the first; not words of over 100 characters."""
    kv = _bert()
    c = opened(built, kv)
    peer = PeerTokenizer(peer_folder() / "ggml-vocab-bert-bge.gguf")
    rnd = random.Random(7)
    words = [t.removeprefix(MARK) for t, y in zip(kv[P + "tokens"], kv[P + "token_type"], strict=True) if y == 1]
    ascii_text = adversarial(rnd, ["[CLS]", "[MASK]"])
    alike = 0
    for i in range(6000):
        text = ascii_text() if i % 2 else " ".join(rnd.choice(words) for _ in range(rnd.randint(1, 9)))
        other = any(ord(x) > 0x24F or (x not in "\t\n\r" and unicodedata.category(x) == "Cc") for x in text)
        if other or max(map(len, [*text.split(), ""])) > 100:
            continue
        alike += 1
        for special in (False, True):
            assert c.encode(text.encode(), SPECIAL * special) == peer.encode(text.encode(), special=special), repr(text)
    assert alike > 2000
    assert c.encode(b"Hello world", BOS | END) == peer.encode(b"Hello world", bos=True)


def test_decoding_is_that_of_hf(built: Any) -> None:
    kv = wordpiece_kv()
    c, hf = opened(built, kv), hf_wordpiece(kv, (True, True))
    rnd = random.Random(2)
    source = adversarial(rnd, ["[MASK]"])
    for _ in range(3000):
        ids = hf.encode(source()).ids
        assert c.decode(ids, special=False).decode() == hf.decode(ids, skip_special_tokens=True)
        again = c.decode(ids)
        if 1 not in ids:  # what is unknown is gone
            assert c.encode(again) == ids, "what was decoded is what is encoded"


def test_the_ends_of_a_text(built: Any) -> None:
    kv = wordpiece_kv()
    c = opened(built, kv)
    cls, sep = kv[P + "tokens"].index("[CLS]"), kv[P + "tokens"].index("[SEP]")
    plain = c.encode(b"a b", 0)
    assert c.encode(b"a b", BOS) == [cls, *plain] and c.encode(b"a b", END) == [*plain, sep] and c.encode(b"", BOS | END) == [cls, sep]
    assert c.encode(b"[CLS]a b[SEP]", SPECIAL) == [cls, *plain, sep]
    assert cls not in c.encode(b"[CLS] [cls]", 0)
    without = opened(built, kv | {P + "add_bos_token": False, P + "add_sep_token": False})
    assert without.encode(b"a b", BOS | END) == plain
    unnamed = opened(built, {k: v for k, v in kv.items() if not k.endswith("_token_id")})
    assert unnamed.encode(b"a b", BOS | END) == [cls, *plain, sep], "found by their names"


def test_long_words_and_long_texts(built: Any) -> None:
    """100 characters are a word, 101 are unknown; a text of any length is read once, whatever it is made of."""
    kv = wordpiece_kv()
    c, hf = opened(built, kv), hf_wordpiece(kv, (True, True))
    unknown = kv[P + "tokens"].index("[UNK]")
    assert c.encode(b"a" * 100) == hf.encode("a" * 100).ids != [unknown]
    assert c.encode(b"a" * 101) == [unknown]
    for part in ("a", "a ", "\u302e\u1b44", "!", "각", "é", "\u0301", "[MASK]", "世"):
        long = part * (60_000 // len(part.encode()))
        assert c.encode(long.encode()) == hf.encode(long).ids, repr(part)


def test_a_user_defined_token(built: Any) -> None:
    """Converters mark these too: the token is what stands behind the mark, found in raw text."""
    kv = wordpiece_kv()
    tokens = [*kv[P + "tokens"], MARK + "<X>"]
    c = opened(built, kv | {P + "tokens": tokens, P + "token_type": [*kv[P + "token_type"], 4]})
    assert c.encode(b"a<X>b", 0) == [*c.encode(b"a", 0), len(tokens) - 1, *c.encode(b"b", 0)]
    assert c.decode([len(tokens) - 1]) == b"<X>"


def test_bytes_that_are_no_utf8(built: Any) -> None:
    c = opened(built, wordpiece_kv())
    assert c.encode(b"a\xff\xc3 \xed\xa0\x80b", 0) == c.encode(b"a b", 0), "as U+FFFD: dropped"


def test_characters_are_those_of_unicode() -> None:
    """Python's own data, where its version has the character: decompositions and small letters."""
    c = characters()
    for code, parts in c.decomposed.items():
        if unicodedata.category(chr(code)) != "Cn":
            assert unicodedata.normalize("NFD", chr(code)) == "".join(map(chr, parts)), hex(code)
    for code, parts in c.lowered.items():
        if unicodedata.category(chr(code)) != "Cn":
            assert chr(code).lower() == "".join(map(chr, parts)), hex(code)
    assert len(c.decomposed) > 2000 and len(c.lowered) > 1300


@pytest.mark.parametrize("seed", range(6))
def test_a_trie_has_exactly_its_strings(seed: int) -> None:
    rnd = random.Random(seed)
    letters = bytes(rnd.sample(range(256), 40)) if seed % 2 else b"ab\xff\0"
    keys = {bytes(rnd.choice(letters) for _ in range(rnd.randint(1, 6))): i for i in range(300)} | {b"\0": (1 << 20) - 1}
    slots = trie(keys)["trie"].tolist()
    assert slots[0] == 0
    found: dict[bytes, int] = {}
    stack = [(slots[1], b"")]
    while stack:
        node, text = stack.pop()
        if node >> 43:
            found[text] = (node >> 43) - 1
        for byte in range(256):  # as infc_trie_step
            at = (node & 0xFFFFFF) + ((byte * ((node >> 23 & 0xFE) | 1) & 255) >> (node >> 31 & 15))
            child = slots[at] if at < len(slots) else 0
            if child and child >> 35 & 255 == byte:
                stack.append((child, text + bytes([byte])))
    assert found == keys


@pytest.mark.parametrize(
    ("code", "change", "words"),
    [
        ("G72", {"unknown_token_id": 10**6}, "unknown token"),
        ("G72", {"tokens": [t.replace("[UNK]", "[unk?]") for t in wordpiece_kv()[P + "tokens"]], "unknown_token_id": None}, "unknown"),
        ("G69", {"token_type": [1]}, "1 token types"),
        ("G41", {"tokens": ["a"]}, "1 tokens"),
    ],
)
def test_refusals(code: str, change: dict[str, Any], words: str) -> None:
    n = len(wordpiece_kv()[P + "tokens"])
    kv = {k: v for k, v in (wordpiece_kv() | {P + k: v for k, v in change.items()}).items() if v is not None}
    with pytest.raises(InputError, match=words) as e:
        compile_tokenizer(kv, n)
    assert e.value.code == code
