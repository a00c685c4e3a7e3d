"""compile_tokenizer: what it refuses, how large it is, and that the same input gives the same bytes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infc.errors import InputError
from infc.tokenizer import compile_tokenizer
from infc.tokenizer.added import automaton
from infc.tokenizer.patterns import AS_GEMMA4
from infc.tokenizer.section import HEADER, TABLES
from tests.unit.tokenizer_support import BOS, EFILE, END, CTokenizer, P, read_kv, spm_kv, synthetic_kv

_SIZE = len(synthetic_kv("gpt-2")[P + "tokens"])


def _with(**changes: Any) -> dict[str, Any]:
    """The keys of a small tokenizer with some replaced; None removes one."""
    kv = synthetic_kv("gpt-2") | {P + k: v for k, v in changes.items()}
    return {k: v for k, v in kv.items() if v is not None}


def _merges(*more: str) -> list[str]:
    return [*synthetic_kv("gpt-2")[P + "merges"], *more]


@pytest.mark.parametrize(
    ("code", "kv"),
    [
        ("G76", _with(model="rwkv")),
        ("G76", _with(model=None)),
        ("G76", _with(pre="default")),
        ("G76", _with(pre=None)),
        ("G76", _with(pre=7)),
        ("G67", _with(tokens=None)),
        ("G67", _with(tokens=[])),
        ("G67", _with(tokens=[1, 2])),
        ("G41", _with(tokens=["a", "b"])),
        ("G69", _with(token_type=[1, 1])),
        ("G74", _with(merges=None)),
        ("G74", _with(merges=_merges("ab"))),
        ("G74", _with(merges=_merges("a b c"))),
        ("G74", _with(merges=_merges("a unknown"))),
        ("G74", _with(merges=_merges("q Q"))),
        ("G72", _with(bos_token_id=_SIZE)),
        ("G72", _with(eos_token_id=-1)),
        ("G77", _with(bos_token_id=None)),
        ("G79", _with(tokens=["x" * 1025, *synthetic_kv("gpt-2")[P + "tokens"][1:]])),
    ],
)
def test_refusals(code: str, kv: dict[str, Any]) -> None:
    with pytest.raises(InputError) as e:
        compile_tokenizer(kv, _SIZE)
    assert e.value.code == code
    assert len(str(e.value)) < 300


def test_the_message_names_what_is_known() -> None:
    with pytest.raises(InputError, match="pre-tokenizer wierd is not known") as e:
        compile_tokenizer(_with(pre="wierd"), _SIZE)
    assert "llama-bpe" in str(e.value) and str(e.value).endswith("key: tokenizer.ggml.pre")


def test_arrays_may_be_numpy(built: Any) -> None:
    kv = synthetic_kv("gpt-2")
    same = kv | {P + "token_type": np.array(kv[P + "token_type"], np.int32)}
    assert compile_tokenizer(kv, _SIZE) == compile_tokenizer(same, _SIZE)


@pytest.mark.parametrize(
    "tokens",
    [
        [bytes([i % 251 + 1, i // 251 + 1]) * 400 for i in range(200)],  # overlap
        [b"a" * 1024, *(b"a" * 1000 + bytes([b]) * 60 for b in range(250))],  # overlap, and too many bytes
        [bytes([i % 256, i // 256 % 256, j]) for j in range(8) for i in range(1 << 13)],  # varied
        [b"<" + str(i).encode() * 9 for i in range(9000)],
    ],
)
def test_added_tokens_that_need_too_large_a_table(tokens: list[bytes]) -> None:
    with pytest.raises(InputError, match="added tokens need too large a table") as e:
        automaton({t: i for i, t in enumerate(tokens)})
    assert e.value.code == "G79"


def test_size_of_a_real_vocabulary(smollm2_path: Path) -> None:
    kv = read_kv(smollm2_path)
    section = compile_tokenizer(kv, len(kv[P + "tokens"]))
    assert len(section) < 3 << 20
    assert section == compile_tokenizer(dict(reversed(kv.items())), len(kv[P + "tokens"]))


def test_a_damaged_section_is_refused(built: Any) -> None:
    section = compile_tokenizer(synthetic_kv("llama-bpe"), _SIZE)
    assert CTokenizer(built, section).status == 0
    for cut in (0, 7, 8, 60, 200, 4000, len(section) // 2, len(section) - 64):
        assert CTokenizer(built, section[:cut]).status == EFILE, cut
    for offset, value in (
        (0, 0), (8, 1), (12, 3), (16, 0), (16, _SIZE + 1), (16, 0xFFFFFFFF),
        (28, _SIZE), (44, 99), (56, 0xFFFFFFF0),
    ):  # fmt: skip
        damaged = bytearray(section)
        damaged[offset : offset + 4] = struct.pack("<I", value)
        assert CTokenizer(built, bytes(damaged)).status == EFILE, (offset, value)
    directory = 16 + 4 * len(HEADER)
    for entry in range(len(TABLES)):  # the directory: past the end, wrapping, unaligned
        for offset in (len(section) + 64, 2**64 - 64, 1):
            damaged = bytearray(section)
            damaged[directory + 16 * entry : directory + 16 * entry + 8] = struct.pack("<Q", offset)
            assert CTokenizer(built, bytes(damaged)).status == EFILE, (entry, offset)


def test_the_end_of_a_text(built: Any) -> None:
    """Byte-level vocabularies whose files say so end a text: RoBERTa's."""
    kv = synthetic_kv("roberta-bpe")
    plain = CTokenizer(built, compile_tokenizer(kv, _SIZE))
    ids = plain.encode(b"the cat", 0)
    assert plain.encode(b"the cat", END) == ids and plain.encode(b"the cat", BOS) == [1, *ids]
    for change, end in (({P + "add_eos_token": True}, 2), ({P + "add_sep_token": True, P + "seperator_token_id": 0}, 0)):
        ended = CTokenizer(built, compile_tokenizer(kv | change, _SIZE))
        assert ended.encode(b"the cat", END) == [*ids, end] and ended.encode(b"the cat", 0) == ids


@pytest.mark.parametrize("pre", sorted(AS_GEMMA4))
def test_gemma4_under_another_name(pre: str) -> None:
    """The tables of model ``gemma4`` and of model ``gpt2`` with such a pre-tokenizer are the same bytes."""
    kv = {k: v for k, v in spm_kv().items() if k != P + "scores"}
    known = set(kv[P + "tokens"])
    joined = [t for t, y in zip(kv[P + "tokens"], kv[P + "token_type"], strict=True) if y == 1 and len(t) > 1]
    kv[P + "merges"] = [f"{t[:i]} {t[i:]}" for t in joined for i in range(1, len(t)) if t[:i] in known and t[i:] in known]
    assert len(kv[P + "merges"]) > 50
    sections = [
        compile_tokenizer(kv | change, len(kv[P + "tokens"])) for change in ({P + "model": "gemma4"}, {P + "model": "gpt2", P + "pre": pre})
    ]
    assert sections[0] == sections[1]
