"""Unigram tokenizer.json of a folder, and SentencePiece-like BPE with Metaspace: the ids of HF ``tokenizers`` for the same file."""

from __future__ import annotations

import base64
import json
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer, UnigramTrainer

from infc.errors import InputError
from infc.frontend.inputs import open_model
from infc.frontend.validate import validate
from infc.tokenizer import SPLITS, compile_tokenizer
from infc.tokenizer.vocabulary import OWN
from tests.models.hf_folder import Json, P, sequence, write_folder
from tests.unit.tokenizer_support import CTokenizer, adversarial, host_isas, spm_kv, synthetic_kv
from tests.unit.unigram_support import MARK, random_kv, trained

Tiny = Callable[..., Path]
STRIP: Json = {"type": "Strip", "strip_left": False, "strip_right": True}
SPACES_TO_MARKS: Json = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
PREPEND: Json = {"type": "Prepend", "prepend": MARK}


def runs(content: str) -> Json:
    return {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": content}


def metaspace(scheme: str = "always", split: bool = True) -> Json:
    return {"type": "Metaspace", "replacement": MARK, "prepend_scheme": scheme, "split": split}


def charsmap(name: str = "t5") -> Json:
    return {
        "type": "Precompiled",
        "precompiled_charsmap": base64.b64encode(trained(name)[1][P + "precompiled_charsmap"].tobytes()).decode(),
    }


def steps(*normalizers: Json) -> Json:
    return {"type": "Sequence", "normalizers": list(normalizers)}


# What files have, and what else can be said: normalizer and pre-tokenizer.
SPACES: dict[str, tuple[Any, Json | None]] = {
    "as transformers writes it": (lambda: steps(charsmap(), STRIP, runs(MARK)), metaspace()),
    "in one piece": (lambda: steps(charsmap(), STRIP, runs(MARK)), metaspace(split=False)),
    "at the start only": (lambda: steps(charsmap(), STRIP, runs(" ")), metaspace("first")),
    "as it wrote it once": (lambda: steps(charsmap(), runs(" ")), metaspace()),
    "a map alone": (charsmap, metaspace()),
    "a map alone, in one piece": (charsmap, metaspace(split=False)),
    "T5's": (charsmap, sequence({"type": "WhitespaceSplit"}, metaspace())),
    "case folded": (lambda: charsmap("folded"), metaspace("never")),
    "no map": (lambda: None, metaspace()),
    "no map, one piece": (lambda: None, metaspace("first", False)),
    "no space first": (lambda: None, metaspace("never", False)),
    "Llama's": (lambda: steps(PREPEND, SPACES_TO_MARKS), None),
    "Gemma's": (lambda: SPACES_TO_MARKS, None),
    "a map and Gemma's": (lambda: steps(charsmap(), SPACES_TO_MARKS), None),
}  # fmt: skip


def document(model: Json, normalizer: Json | None, pre: Json | None, added: list[tuple[int, str, bool]]) -> Json:
    """A tokenizer.json. ``added``: (id, text, special)."""
    about = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": None,
        "added_tokens": [{"id": i, "content": t, "special": s} | about for i, t, s in added], "decoder": None, "model": model,
    }  # fmt: skip


def folder_of(found: Json, file: Path, folder: Path) -> Path:
    """A folder with that tokenizer.json, whose embedding has a row for each of its tokens."""
    rows = max([len(found["model"]["vocab"]), *(a["id"] + 1 for a in found["added_tokens"])])

    def change(d: dict[str, Json]) -> None:
        d["tokenizer.json"] = found
        d["tokenizer_config.json"] = {"eos_token": "</s>", "unk_token": "<unk>"}
        d["config.json"]["vocab_size"] = rows

    write_folder(file, folder, change=change)
    tensors = load_file(folder / "model.safetensors")
    large = {n: np.resize(t, (rows, t.shape[1])) if n in ("model.embed_tokens.weight", "lm_head.weight") else t for n, t in tensors.items()}
    save_file(large, folder / "model.safetensors")
    return folder


@pytest.fixture
def open_folder(tmp_path: Path, tiny_llama: Tiny, built: Any) -> Callable[..., tuple[CTokenizer, Tokenizer, dict[str, Any]]]:
    """``open_folder(tokenizer.json)``: the program's tokenizer of the folder, HF's of the same file, and the keys."""

    def make(found: Json) -> tuple[CTokenizer, Tokenizer, dict[str, Any]]:
        folder = folder_of(found, tiny_llama(types="F16", n_layers=1), tmp_path / "m")
        with open_model(folder) as model:
            validate(model)
            kv = dict(model.kv)
        hf = Tokenizer.from_str(json.dumps(found))
        return CTokenizer(built, compile_tokenizer(kv, len(kv[P + "tokens"]))), hf, kv

    return make


def unigram(name: str, fallback: bool = False) -> tuple[Json, list[tuple[int, str, bool]]]:
    """The model that ``sentencepiece`` trained, and its added tokens."""
    _, kv = trained(name)
    vocab = [[t, float(s)] for t, s in zip(kv[P + "tokens"], kv[P + "scores"], strict=True)]
    n = len(vocab)
    model = {"type": "Unigram", "unk_id": kv[P + "unknown_token_id"], "vocab": vocab, "byte_fallback": fallback}
    return model, [(i, t, True) for i, (t, y) in enumerate(zip(kv[P + "tokens"], kv[P + "token_type"], strict=True)) if y in (2, 3)] + [
        (n, "<|end|>", True), (n + 1, "<b>", False),
    ]  # fmt: skip


def texts(rnd: random.Random, n: int, plain: bool) -> list[str]:
    """``plain``: of characters that stand alone."""
    source = adversarial(rnd, ["<s>", "</s>", "<|end|>", "<b>"])
    few = ["a", "the", " ", "  ", "\n", "\t", "é", "世界", "½", "ﬁ", MARK, "x", ".", "\u3000", "</s>", "<b>", "ing", "\U0001f642", "\u00a0"]
    out = []
    for i in range(n):
        text = source() if i % 2 else "".join(rnd.choice(few) for _ in range(rnd.randint(0, 14)))
        if plain:
            text = "".join(c for c in text if c not in "\x85\0\r" and not joins(c))
        out.append(text)
    return out


def joins(c: str) -> bool:
    """Whether ``c`` may be one grapheme with its neighbours. HF's Precompiled looks at a grapheme as a whole, and takes what it finds for
    its beginning for all of it: of "\ufb01\u0301" it keeps "fi". There sentencepiece's own answers hold (test_tokenizer_unigram.py)."""
    return unicodedata.category(c) in ("Mn", "Mc", "Me", "Cf", "Cn", "Co") or 0x1100 <= ord(c) < 0x1200 or 0x1F1E6 <= ord(c) < 0x1F200 \
        or 0xA960 <= ord(c) < 0xA980 or 0xD7B0 <= ord(c) < 0xD800 or 0x1F3FB <= ord(c) < 0x1F400 or c in "\u0e33\u0eb3"  # fmt: skip


def compare(c: CTokenizer, hf: Tokenizer, rnd: random.Random, n: int, plain: bool) -> None:
    given = texts(rnd, n, plain)
    for text, expected in zip(given, hf.encode_batch_fast(given, add_special_tokens=False), strict=True):
        for isa in host_isas():
            c.use(isa)
            assert c.encode(text.encode()) == expected.ids, repr(text)


@pytest.mark.parametrize("model", ["t5", "bytes", "as it is"])
@pytest.mark.parametrize("spaces", SPACES)
def test_ids_are_hfs(spaces: str, model: str, open_folder: Any) -> None:
    normalizer, pre = SPACES[spaces]
    found, added = unigram(model, model != "t5")
    c, hf, kv = open_folder(document(found, normalizer(), pre, added))
    assert kv[P + "model"] == "t5"
    compare(c, hf, random.Random(spaces + model), 1500, normalizer() is not None)


@pytest.mark.parametrize("split", [True, False])
def test_with_every_character(split: bool, open_folder: Any) -> None:
    """Where nothing changes text, there are no exceptions: any code point, and those that join their neighbours."""
    found, added = unigram("bytes", True)
    c, hf, _ = open_folder(document(found, None, metaspace("always", split), added))
    compare(c, hf, random.Random(9), 4000, False)


@pytest.mark.parametrize("seed", range(4))
def test_many_equally_good_ways(seed: int, open_folder: Any) -> None:
    """Few different scores, and scores that no float of 32 bits holds: sums of doubles that begin anew in each word."""
    kv, rnd = random_kv(seed, True), random.Random(seed)
    vocab = [[t, s + rnd.choice((0, 1e-9, 1e-12))] for t, s in zip(kv[P + "tokens"], kv[P + "scores"], strict=True)]
    model = {"type": "Unigram", "unk_id": 2, "vocab": vocab, "byte_fallback": seed < 2}
    special = [(0, "<pad>", True), (1, "</s>", True), (2, "<unk>", True)]
    c, hf, _ = open_folder(document(model, None, metaspace("always", bool(seed % 2)), special))
    for _ in range(6000):
        text = "".join(rnd.choice("aab cé世\U0001f642x  ") for _ in range(rnd.randint(0, 14)))
        assert c.encode(text.encode()) == hf.encode(text).ids, repr(text)


def test_trained_by_tokenizers(open_folder: Any) -> None:
    """A model that HF's own trainer made, whose scores are doubles; a file that its library writes."""
    hf = Tokenizer.from_str(json.dumps(document({"type": "Unigram", "unk_id": None, "vocab": []}, None, metaspace(split=False), [])))
    lines = [t for t in trained("t5")[1][P + "tokens"]] + ["the cat sat on the mat, " * 3, "naïve 世界 and the hat"] * 40
    special = ["<unk>", "</s>"]
    hf.train_from_iterator(lines, UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>", show_progress=False))  # type: ignore[no-untyped-call]
    c, hf, _ = open_folder(json.loads(hf.to_str()))
    compare(c, hf, random.Random(2), 3000, False)


BPE_SPACES = {k: SPACES[k] for k in ("no map", "no map, one piece", "no space first", "Llama's", "Gemma's")} | {
    "once": (lambda: None, metaspace("always", False)),
    "cut, first": (lambda: None, metaspace("first", True)),
}  # fmt: skip


@pytest.fixture(scope="module")
def merges() -> Json:
    """A byte-pair model with byte fallback, trained by ``tokenizers`` from text with marks."""
    byte_tokens = [f"<0x{b:02X}>" for b in range(256)]
    hf = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    hf.normalizer = None
    lines = [(" " + " ".join(t for t in trained("t5")[1][P + "tokens"])).replace(" ", MARK)] * 2
    lines += ["▁the▁cat▁sat▁on▁the▁mat,▁▁▁and▁the▁hat\n▁naïve▁世界▁aaaa▁▁▁▁▁▁the"] * 60
    trainer = BpeTrainer(vocab_size=900, special_tokens=["<unk>", "<s>", "</s>", *byte_tokens], show_progress=False, max_token_length=9)  # type: ignore[no-untyped-call]
    hf.train_from_iterator(lines, trainer)
    model: Json = json.loads(hf.to_str())["model"]
    return model


@pytest.mark.parametrize("spaces", BPE_SPACES)
def test_merging_with_byte_fallback(spaces: str, merges: Json, open_folder: Any) -> None:
    """Merges that ``tokenizers`` learned: a list that is not every way to cut a token, in an order of its own."""
    normalizer, pre = BPE_SPACES[spaces]
    added = [(i, t, True) for i, t in enumerate(["<unk>", "<s>", "</s>"])] + [(900, "<|end|>", True), (901, "<b>", False)]
    c, hf, kv = open_folder(document(merges, normalizer(), pre, added))
    assert kv[P + "model"] == "llama"
    compare(c, hf, random.Random(spaces), 3000, False)


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_any_list_of_merges(seed: int, split: bool, open_folder: Any) -> None:
    """Random merges over few characters: the pair's place in the list decides, not the token's, and no pair merges that is not in it."""
    rnd = random.Random(seed)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "a", "b", "c", MARK, "é", "世"]
    pairs: dict[tuple[str, str], None] = {}
    while len(pairs) < 60:
        left, right = rnd.choice(tokens[259:]), rnd.choice(tokens[259:])
        if len(left + right) <= 8:
            pairs[left, right] = None
            tokens += [left + right] if left + right not in tokens else []
    model = {
        "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
        "fuse_unk": True, "byte_fallback": True, "ignore_merges": False, "vocab": {t: i for i, t in enumerate(tokens)},
        "merges": [list(p) for p in pairs],
    }  # fmt: skip
    special = [(i, t, True) for i, t in enumerate(tokens[:3])]
    c, hf, _ = open_folder(document(model, None, metaspace("always", split), special))
    for n in [*(rnd.randint(0, 14) for _ in range(4000)), *range(60, 70), 520, 3000]:
        text = "".join(rnd.choice("aabbc é世  x") for _ in range(n))
        for isa in host_isas():
            c.use(isa)
            assert c.encode(text.encode()) == hf.encode(text).ids, repr(text)


def _model(**changed: Any) -> Json:
    return unigram("bytes", True)[0] | changed


REFUSED: list[tuple[str, Json, Json | None, Json | None]] = [
    ("unk_id is None", _model(unk_id=None), None, metaspace()),
    ("unk_id is 5000000", _model(unk_id=5_000_000), None, metaspace()),
    ("no token with a score", _model(vocab=[["a", "b"]]), None, metaspace()),
    ("no token with a score", _model(vocab=[["a", 1e40]]), None, metaspace()),
    ("vocab is missing or no list", _model(vocab={"a": 1}), None, metaspace()),
    ("are both 'a'", _model(vocab=[["a", 0.0], ["a", 1.0]]), None, metaspace()),
    ("byte fallback with 0", unigram("t5")[0] | {"byte_fallback": True}, None, metaspace()),
    ("'Lowercase'", _model(), {"type": "Lowercase"}, metaspace()),
    ("'NFKC'", _model(), steps({"type": "NFKC"}, runs(" ")), metaspace()),
    ("Strip", _model(), STRIP, metaspace()),
    ("no map makes spaces", _model(), steps(STRIP, runs(" ")), metaspace()),
    ("no map makes spaces", _model(), steps(runs(" ")), metaspace()),
    ("no map makes spaces", _model(), None, sequence({"type": "WhitespaceSplit"}, metaspace())),
    ("a map of characters, then a space", _model(), steps(charsmap(), PREPEND, SPACES_TO_MARKS), None),
    ("'never'", _model(), steps(charsmap(), STRIP, runs(" ")), metaspace("never")),
    ("WhitespaceSplit", _model(), charsmap(), sequence({"type": "WhitespaceSplit"}, metaspace("first"))),
    ("'_'", _model(), None, metaspace() | {"replacement": "_"}),
    ("None", _model(), None, None),
    ("not base64", _model(), {"type": "Precompiled", "precompiled_charsmap": "!"}, metaspace()),
    ("ByteLevel", _model(), None, {"type": "ByteLevel", "add_prefix_space": False}),
]  # fmt: skip


@pytest.mark.parametrize(("named", "model", "normalizer", "pre"), REFUSED, ids=[f"{r[0]} {i}" for i, r in enumerate(REFUSED)])
def test_refused_in_a_sentence(
    named: str, model: Json, normalizer: Json | None, pre: Json | None, tmp_path: Path, tiny_llama: Tiny
) -> None:
    file = tiny_llama(types="F16", n_layers=1)
    with pytest.raises(InputError, match=named) as caught:
        open_model(folder_of(document(model, normalizer, pre, []), file, tmp_path / "m"))
    assert caught.value.code in ("S13", "G72")
    line = "infc: " + str(caught.value)
    assert line.isprintable() and len(line.encode()) <= 300


def test_a_map_that_is_none_is_refused_when_compiled(open_folder: Any) -> None:
    with pytest.raises(InputError) as caught:
        open_folder(
            document(_model(), {"type": "Precompiled", "precompiled_charsmap": "AAAAAAAA"}, metaspace(split=False), unigram("bytes")[1])
        )
    assert caught.value.code == "G78"


def test_own_keys_of_a_file_are_looked_at(built: Any) -> None:
    """A GGUF file may have the keys that a folder's tokenizer gets: what they hold is checked."""
    kv = random_kv(0)
    n = len(kv[P + "tokens"])
    bad: Any
    for bad in ("x", np.zeros(n - 1), np.full(n, np.inf), np.zeros(n, np.int32)):
        with pytest.raises(InputError) as caught:
            compile_tokenizer(kv | {OWN + "scores": bad, OWN + "unknown_score": -9.0}, n)
        assert caught.value.code == "G68"
    with pytest.raises(InputError) as caught:
        compile_tokenizer(kv | {OWN + "scores": np.zeros(n), OWN + "unknown_score": "x"}, n)
    assert caught.value.code == "G68"
    spm = spm_kv()
    for bad in ([1, 2], [1.5], ["a"], ["a b c"], ["zz a"]):
        with pytest.raises(InputError) as caught:
            compile_tokenizer(spm | {OWN + "merges": bad}, len(spm[P + "tokens"]))
        assert caught.value.code == "G74"
    bpe = {k: v for k, v in synthetic_kv("gpt-2").items() if k != P + "pre"}
    for bad in ([], [1], [r"a+b"]):
        with pytest.raises(InputError) as caught:
            compile_tokenizer(bpe | {SPLITS: bad}, len(bpe[P + "tokens"]))
        assert caught.value.code == "G76"
