"""Pre-tokenizers of a folder's tokenizer.json that no GGUF name stands for: compiled from their own expressions, as HF cuts."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from infc.errors import InputError
from infc.frontend.inputs import open_model
from infc.frontend.validate import validate
from infc.tokenizer import SPLITS, compile_tokenizer
from tests.models.hf_folder import GPT2_STEP, Json, P, sequence, split, write_folder
from tests.unit.tokenizer_support import CTokenizer, adversarial, host_isas

Tiny = Callable[..., Path]
Open = Callable[..., tuple[CTokenizer, Tokenizer, dict[str, Any]]]
NO_REGEX = GPT2_STEP | {"use_regex": False}
_CASE = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"


def of(kind: str, **settings: Any) -> Json:
    return {"type": kind} | settings


def cut(behavior: str, invert: bool = False, **pattern: str) -> Json:
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


MADE_UP = {
    "words": sequence(split(r" ?\w+|[^\s\w]+|\s+"), NO_REGEX),
    "letters by script": sequence(
        split(r"\p{Hiragana}+|\p{Katakana}+|\p{Han}{1,2}| ?[\p{Latin}\p{Greek}]+|\p{Cyrillic}+?(?=\P{Cyrillic}|\z|и)|\p{Cyrillic}"),
        NO_REGEX),
    "possessive": sequence(
        split(r"[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"),
        NO_REGEX),
    "lazy": sequence(split(r"a{1,3}?b|\p{L}+?(?=[aeiou]|\P{L}|\z)|.{2,4}?\n|\s??\d"), NO_REGEX),
    "without case": sequence(split(r"(?i)the|[a-f]+x?|'(?:ll|VE)|(?-i:AND)"), NO_REGEX),
    "contiguous": sequence(cut("Contiguous", Regex=r"\d|[A-C]{2}"), NO_REGEX),
    "all that is not removed": sequence(cut("Removed", True, Regex=r" ?\p{L}+|\p{N}{1,4}|[^\p{L}\p{N}]"), NO_REGEX),
    "the other way round": sequence(cut("Isolated", True, Regex=r"\s+"), NO_REGEX),
    "a text": sequence(cut("Isolated", String=". a"), cut("Contiguous", String="e"), NO_REGEX),
    "with what is before": sequence(cut("MergedWithPrevious", String=" "), NO_REGEX),
    "with what is behind": sequence(cut("MergedWithNext", Regex=r"[\s\u00a0]"), NO_REGEX),
    "with what is behind, of two": sequence(cut("MergedWithNext", Regex=r"\n|[.!?]"), split("[^x]{5}"), NO_REGEX),
    "digits together": sequence(of("Digits", individual_digits=False), GPT2_STEP),
    "punctuation": sequence(of("Punctuation", behavior="Isolated"), GPT2_STEP),
    "punctuation in runs": sequence(of("Punctuation", behavior="Contiguous"), of("Digits", individual_digits=True), GPT2_STEP),
    "by length": sequence(of("FixedLength", length=7), NO_REGEX),
    "not at all": NO_REGEX,
    "behind the bytes": sequence(of("Punctuation", behavior="Contiguous"), GPT2_STEP, split("[0-9][0-9][0-9]"), split(r"[a-f](?!y)|[x-z]")),
    "threes": sequence(split(r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"), split(r"[^\s\p{N}]+| ?\p{N}+"), NO_REGEX),
    "cuts between threes": sequence(split(r"\p{N}+"), split(r"(?=(\d{3})+(?!\d))"), NO_REGEX | {"use_regex": False}),
    "threes of whole words": sequence(of("Digits", individual_digits=False), split(r"\d{1,3}(?=(?:\d{3})*\b)"), NO_REGEX),
    "many": sequence(*(split(f"[{c}{c.upper()}]+") for c in "abcdefghijkl"), GPT2_STEP),
}  # fmt: skip
# As models' own files have them; GGUF knows them by names that mean another spelling, or not at all.
FAMILIES = {
    "gpt-4o, removed": sequence(
        cut("Removed", True, Regex=_CASE + r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"), NO_REGEX),
    "cl100k, removed": sequence(
        cut("Removed", True, Regex=r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
            r"|\s+(?!\S)|\s+"), NO_REGEX),
    "cl100k of today": sequence(
        split(r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"),
        NO_REGEX),
    "digits one by one, llama-bpe's": sequence(
        of("Digits", individual_digits=True),
        split(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
        NO_REGEX),
    "code, by identifiers": sequence(split(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|_+|\d| {4}| |\n+|[^\w\s]"), NO_REGEX),
    "words and marks": sequence(split(r"\p{L}\p{M}*+| ?[\p{P}\p{S}]+|\p{N}{2}|\s+(?!\S)|\s"), NO_REGEX),
}  # fmt: skip


@pytest.fixture
def open_folder(tmp_path: Path, tiny_llama: Tiny, built: Any) -> Open:
    """``open_folder(pre_tokenizer, ignore_merges)``: the program's tokenizer of a folder, HF's of the same file, and the keys."""

    def make(pre: Json, ignore_merges: bool = False) -> tuple[CTokenizer, Tokenizer, dict[str, Any]]:
        def change(d: dict[str, Json]) -> None:
            d["tokenizer.json"]["pre_tokenizer"] = pre
            d["tokenizer.json"]["model"]["ignore_merges"] = ignore_merges
            # Without this HF numbers added tokens anew.
            d["tokenizer.json"]["model"]["vocab"] |= {t["content"]: t["id"] for t in d["tokenizer.json"]["added_tokens"]}

        folder = write_folder(tiny_llama(types="F16", n_layers=1), tmp_path / "m", change=change)
        with open_model(folder) as model:
            validate(model)
            kv = dict(model.kv)
        hf = Tokenizer.from_str((folder / "tokenizer.json").read_text("utf-8"))
        return CTokenizer(built, compile_tokenizer(kv, len(kv[P + "tokens"]))), hf, kv

    return make


def compare(c: CTokenizer, hf: Tokenizer, kv: dict[str, Any], n: int) -> None:
    added = [t for t, y in zip(kv[P + "tokens"], kv[P + "token_type"], strict=True) if y in (3, 4)]
    rnd = random.Random(n)
    source = adversarial(rnd, added)
    few = "aabeix .,\n\t1234'sTHE_é世ア"
    texts = [source() if i % 3 else "".join(rnd.choice(few) for _ in range(rnd.randint(1, 30))) for i in range(n)]
    digits = ["1", "23", "456", "½", "a", " ", "\u0663", "_", "."]
    texts += ["".join(rnd.choice(digits) for _ in range(rnd.randint(1, 12))) for _ in range(n // 4)]
    texts += ["7" * k + end for k in (998, 999, 1000, 8_000) for end in ("", "a", " b")]
    for text, expected in zip(texts, hf.encode_batch_fast(texts, add_special_tokens=False), strict=True):
        for isa in host_isas():
            c.use(isa)
            assert c.encode(text.encode()) == expected.ids, (isa, text)


@pytest.mark.parametrize("name", MADE_UP)
def test_made_up(name: str, open_folder: Open) -> None:
    c, hf, kv = open_folder(MADE_UP[name])
    assert kv.get(SPLITS) or kv[P + "pre"] == "superbpe"
    compare(c, hf, kv, 2000)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("ignore_merges", [False, True])
def test_families(name: str, ignore_merges: bool, open_folder: Open) -> None:
    c, hf, kv = open_folder(FAMILIES[name], ignore_merges)
    compare(c, hf, kv, 2000)


def test_a_known_one_with_another_choice_of_merges(open_folder: Open) -> None:
    """GPT-2's words where a word that is a token needs no merging: no GGUF name has both."""
    c, hf, kv = open_folder(GPT2_STEP, True)
    assert kv[SPLITS]
    compare(c, hf, kv, 2000)


REFUSED = [
    (None, "None"),
    (of("Whitespace"), "Whitespace"),
    (sequence(of("WhitespaceSplit"), NO_REGEX), "WhitespaceSplit"),
    (of("Metaspace", replacement="\u2581"), "Metaspace"),
    (split("a"), "without ByteLevel"),
    (sequence(), "without ByteLevel"),
    (sequence(sequence(NO_REGEX)), "Sequence of something else"),
    (of("Sequence", pretokenizers="x"), "Sequence of something else"),
    (GPT2_STEP | {"add_prefix_space": True}, "puts a space before"),
    (sequence(cut("Removed", Regex=r"\s"), NO_REGEX), "behavior Removed, invert False"),
    (sequence(cut("Removed", True, Regex=r"\p{L}+|\s+"), NO_REGEX), "removes what"),
    (sequence(cut("MergedWithNext", Regex="ab"), NO_REGEX), "lookahead over more than one character"),
    (sequence(cut("MergedWithPrevious", True, Regex="a"), NO_REGEX), "invert True"),
    (sequence(cut("Isolated", String=""), NO_REGEX), "empty string"),
    (sequence(cut("Isolated"), NO_REGEX), "a Split by"),
    (sequence(cut("Isolated", Regex=r"(?<=a)b"), NO_REGEX), "a group of another kind"),
    (sequence(cut("Isolated", Regex=r"\b\w+"), NO_REGEX), r"\\b"),
    (sequence(cut("Isolated", Regex=r"a+b"), NO_REGEX), "in vain"),
    (sequence(GPT2_STEP, of("Digits", individual_digits=False)), "behind ByteLevel"),
    (sequence(GPT2_STEP, split(r"\d")), "behind ByteLevel"),
    (sequence(GPT2_STEP, split("[^a]+")), "behind ByteLevel"),
    (sequence(GPT2_STEP, split(r"\s")), "behind ByteLevel"),
    (sequence(NO_REGEX, GPT2_STEP), "behind ByteLevel"),
    (sequence(*(split(f"{chr(97 + i)}+") for i in range(17)), NO_REGEX), "nested splits"),
    (sequence(of("FixedLength", length=100_000), NO_REGEX), "repetition count"),
]  # fmt: skip


@pytest.mark.parametrize(("pre", "named"), REFUSED, ids=[named + str(i) for i, (_, named) in enumerate(REFUSED)])
def test_refused_in_a_sentence(pre: Json | None, named: str, tmp_path: Path, tiny_llama: Tiny) -> None:
    def change(d: dict[str, Json]) -> None:
        d["tokenizer.json"]["pre_tokenizer"] = pre

    with pytest.raises(InputError, match=named) as caught:
        open_model(write_folder(tiny_llama(types="F16", n_layers=1), tmp_path / "m", change=change))
    assert caught.value.code in ("G76", "G79")
    line = "infc: " + str(caught.value)
    assert line.isprintable() and len(line.encode()) <= 300


def test_whatever_the_steps_hold(tmp_path: Path, tiny_llama: Tiny) -> None:
    """Random objects in place of the parts of a pre-tokenizer: read or refused, nothing else."""
    folder = write_folder(tiny_llama(types="F16", n_layers=1), tmp_path / "m")
    whole = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    rnd = random.Random(3)
    junk: list[Any] = [None, True, 7, -1, 1e300, "", "x", "(", [], [{}], {}, {"type": []}, {"Regex": 5}, {"Regex": "[" * 999}, "Contiguous"]
    for _ in range(300):
        pre = json.loads(json.dumps(rnd.choice([*MADE_UP.values(), *FAMILIES.values()])))
        spots = [(d, k) for d in [pre, *pre.get("pretokenizers", [])] for k in d]
        for holder, key in rnd.sample(spots, min(2, len(spots))):
            holder[key] = rnd.choice(junk)
        (folder / "tokenizer.json").write_text(json.dumps(whole | {"pre_tokenizer": pre}), "utf-8")
        try:
            with open_model(folder) as model:
                validate(model)
        except InputError as e:
            assert str(e).isprintable() and len(str(e)) < 294, pre
