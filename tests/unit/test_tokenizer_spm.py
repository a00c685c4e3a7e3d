"""SentencePiece's merging: against a plain reading of its rule, at its edges, and what it refuses."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from infc.errors import InputError
from infc.tokenizer import compile_tokenizer
from tests.unit.tokenizer_support import BOS, SPECIAL, CTokenizer, P, host_isas, spm_kv

MARK = "\u2581"
_ALPHABET = "ab cé世\U0001f642\n"


def _with(**changes: Any) -> dict[str, Any]:
    kv = spm_kv() | {P + k: v for k, v in changes.items()}
    return {k: v for k, v in kv.items() if v is not None}


def _compile(kv: dict[str, Any]) -> bytes:
    return compile_tokenizer(kv, len(kv[P + "tokens"]))


def spelled(kv: dict[str, Any], text: str, first: bool = True) -> list[int]:
    """The tokens of text without added tokens, by the rule itself: join the neighbours whose text is the token of the best score,
    of equal ones the leftmost, until none is."""
    ids = {t: i for i, t in enumerate(kv[P + "tokens"]) if kv[P + "token_type"][i] in (1, 4, 5) and " " not in t}
    score = np.asarray(kv[P + "scores"], np.float32)
    prefix = " " if text and first and kv.get(P + "add_space_prefix", True) else ""
    parts = list((prefix + text).replace(" ", MARK))
    while True:
        pairs = [(-score[ids[a + b]], i) for i, (a, b) in enumerate(zip(parts, parts[1:], strict=False)) if a + b in ids]
        if not pairs:
            break
        _, at = min(pairs)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    every = {t: i for i, t in enumerate(kv[P + "tokens"])}
    return [i for p in parts for i in ([ids[p]] if p in ids else [every[f"<0x{b:02X}>"] for b in p.encode()])]


@pytest.mark.parametrize("seed", range(8))
def test_random_vocabularies_and_texts(seed: int, built: Any) -> None:
    """Vocabularies with many equal scores and many ways to merge; texts of every length class of the C code."""
    kv = spm_kv(seed, prefix=bool(seed % 2))
    c = CTokenizer(built, _compile(kv))
    assert c.status == 0
    rnd = random.Random(seed)
    for n in [*range(1, 40), *(rnd.randint(1, 9) for _ in range(600)), 62, 63, 64, 65, 66, 511, 512, 513, 700]:
        text = "".join(rnd.choice(_ALPHABET if rnd.random() < 0.9 else "xé\u00ff" + MARK) for _ in range(n))
        expected = spelled(kv, text)
        for isa in host_isas():
            c.use(isa)
            assert c.encode(text.encode(), 0) == expected, repr(text)
    for part in ("a", "ab", "a ", "世"):  # runs, where every merge is one of many equal ones
        for n in (1, 2, 3, 31, 32, 33, 200):
            assert c.encode((part * n).encode(), 0) == spelled(kv, part * n)


@pytest.mark.parametrize("prefix", [False, True])
def test_text_comes_back(prefix: bool, built: Any) -> None:
    kv = spm_kv(3, prefix=prefix)
    c = CTokenizer(built, _compile(kv))
    rnd = random.Random(3)
    pieces = ["a", "b", " ", "  ", "é", "世", "</s>", "<s>", "<user>", "<user> ", "\n", b"\xff".decode("latin1")]
    for _ in range(2000):
        text = "".join(rnd.choice(pieces) for _ in range(rnd.randint(0, 8))).encode()
        assert c.decode(c.encode(text, 0)) == text
        assert c.decode(c.encode(text, SPECIAL | BOS)[1:]) == text
    for _ in range(500):  # no UTF-8
        raw = rnd.randbytes(rnd.randint(1, 20)).replace(MARK.encode(), b"")
        assert c.decode(c.encode(raw, 0)) == raw


def test_leading_spaces(built: Any) -> None:
    kv = spm_kv(1, prefix=True)
    c = CTokenizer(built, _compile(kv))
    a, bos = kv[P + "tokens"].index(MARK + "a"), 1
    assert c.encode(b"a", 0) == [a] and c.encode(b"", 0) == []
    assert c.encode(b"a", BOS) == [bos, a]
    assert c.encode(b"<s>a", SPECIAL) == [bos, a], "text after a special token begins anew"
    assert c.decode([a]) == b"a" and c.decode([a, a]) == b"a a" and c.decode([bos, a]) == b"<s>a"
    assert c.stream([a]) == [b" a", b""], "a stream may begin in the middle of a text"
    without = CTokenizer(built, _compile(spm_kv(1, prefix=False)))
    assert without.encode(b" a", 0) == [a] and without.decode([a]) == b" a"


def test_text_never_becomes_a_control_token(built: Any) -> None:
    kv = _with()
    c = CTokenizer(built, _compile(kv))
    tokens = kv[P + "tokens"]
    for text in ("</s>", "<s>", "<unk>", "<0x41>"):  # the vocabulary has "<", "/s>", "s>" that would merge into them
        ids = c.encode(text.encode(), 0)
        assert all(kv[P + "token_type"][i] not in (2, 3, 6) for i in ids[1:]), [tokens[i] for i in ids]
    assert c.encode(b"<user>", 0) == [tokens.index("<user>")]


def test_a_token_that_swallows_white_space(built: Any) -> None:
    kv = spm_kv(1) | {"general.name": "Phi-3 mini"}
    c = CTokenizer(built, _compile(kv))
    user = kv[P + "tokens"].index("<user>")
    a = kv[P + "tokens"].index(MARK + "a")
    assert c.encode(b"<user> \n a", SPECIAL) == [user, a]
    assert c.encode(b"<s> a", SPECIAL)[0] == 1 and len(c.encode(b"<s>  a", SPECIAL)) > 2


@pytest.mark.parametrize(
    ("code", "kv", "words"),
    [
        ("G68", _with(scores=None), "needs scores"),
        ("G68", _with(scores=[float("nan")] * len(spm_kv()[P + "tokens"])), "NaN"),
        ("G68", _with(scores=[float("inf")] * len(spm_kv()[P + "tokens"])), "infinite"),
        ("G68", _with(scores=["x"] * len(spm_kv()[P + "tokens"])), "not numbers"),
        ("G69", _with(scores=[1.0, 2.0]), "2 scores"),
        ("G69", _with(token_type=[1]), "1 token types"),
        ("G73", _with(tokens=[t.replace("<0x41>", "<0x4>") for t in spm_kv()[P + "tokens"]]), "<0x4>"),
        ("G73", _with(tokens=[t.replace("<0x41>", "<0xQQ>") for t in spm_kv()[P + "tokens"]]), "<0xQQ>"),
        ("G73", _with(tokens=[t.replace("<0x41>", "<0x42>") for t in spm_kv()[P + "tokens"]]), "no token, as <0x41>"),
        ("G76", _with(model="rwkv"), "rwkv is not known"),
        ("G72", _with(bos_token_id=10**6), "bos token"),
    ],
)
def test_refusals(code: str, kv: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as e:
        _compile(kv)
    assert e.value.code == code and len(str(e.value)) < 300


def test_many_pairs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infc.tokenizer.spm._MAX_PAIRS", 5)
    with pytest.raises(InputError, match="pairs") as e:
        _compile(_with())
    assert e.value.code == "G79"
