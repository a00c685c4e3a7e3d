"""tokenizer.model without tokenizer.json: models that SentencePiece itself trains, its own answers, and files that are none."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece

from infc.cli.main import main
from infc.errors import InputError
from infc.frontend.hf.sentencepiece import read
from infc.frontend.inputs import files_of, open_model
from infc.frontend.validate import validate
from infc.limits import DEFAULT, Limits
from infc.tokenizer import compile_tokenizer
from tests.models.hf_folder import P, write_folder
from tests.models.tiny import text_of_the_vocabulary
from tests.unit.tokenizer_support import BOS, CTokenizer, adversarial, host_isas

Tiny = Callable[..., Path]
ROWS = 320  # of the tiny model's embedding
LLAMA = {
    "model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False,
    "split_digits": True, "character_coverage": 1.0, "vocab_size": ROWS + 30,
}  # fmt: skip


def trained(**options: Any) -> bytes:
    """A model as Llama's: byte-pair encoding with byte fallback, which leaves the text alone."""
    out = io.BytesIO()
    lines = text_of_the_vocabulary().splitlines() * 4
    if options.get("model_type") == "unigram":  # takes more text for as many tokens
        from pydoc_data.topics import topics  # type: ignore[attr-defined]  # the language reference: half a megabyte of English

        lines = "\n".join(topics[k] for k in sorted(topics)).splitlines()[:4000] + ["naïve 世界 ½ ﬁ"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, minloglevel=2, num_threads=1, **(LLAMA | options)
    )
    return out.getvalue()


@pytest.fixture
def folder(tmp_path: Path, tiny_llama: Tiny) -> Callable[..., Path]:
    """A folder with tokenizer.model and no tokenizer.json; the model's embedding has as many rows as ``rows`` says."""

    def make(model: bytes, settings: dict[str, Any] | None = None, rows: int = 350, **files: Any) -> Path:
        file = tiny_llama(types="F16", n_layers=1, n_merges=rows - 260)
        out = write_folder(file, tmp_path / "m", change=lambda d: (d.pop("tokenizer.json"), d["tokenizer_config.json"].clear()))
        (out / "tokenizer.model").write_bytes(model)
        (out / "tokenizer_config.json").write_text(json.dumps(settings or {}))
        for name, value in files.items():
            (out / f"{name}.json").write_text(json.dumps(value))
        return out

    return make


# Options of the trainer: what T5's, XLNet's and Japanese GPT's models do, and what else can be said.
UNIGRAM: dict[str, dict[str, Any]] = {
    "T5's": {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True, "byte_fallback": False},
    "bytes": {"normalization_rule_name": "nfkc", "remove_extra_whitespaces": True},
    "folded": {"normalization_rule_name": "nmt_nfkc_cf", "remove_extra_whitespaces": True, "add_dummy_prefix": False},
    "spaces kept": {"normalization_rule_name": "nmt_nfkc", "byte_fallback": False},
    "as it is": {},
    "symbols": {"normalization_rule_name": "nmt_nfkc", "user_defined_symbols": ["<sep>", "<b>"], "add_dummy_prefix": False},
}  # fmt: skip


@pytest.mark.parametrize("name", UNIGRAM)
def test_unigram_ids_are_sentencepieces(name: str, folder: Callable[..., Path], built: Any) -> None:
    """Every id of 12,000 strings, those of equally good cuts too: its sums are floats, and so are ours here."""
    raw = trained(model_type="unigram", vocab_size=500, **UNIGRAM[name])
    theirs = sentencepiece.SentencePieceProcessor(model_proto=raw)
    with open_model(folder(raw, {"tokenizer_class": "T5Tokenizer"} if name == "T5's" else {}, rows=505)) as model:
        validate(model)
        kv = model.kv
    assert kv[P + "model"] == "t5"
    assert (kv[P + "add_bos_token"], kv[P + "add_eos_token"]) == ((False, True) if name == "T5's" else (True, False))
    c = CTokenizer(built, compile_tokenizer(kv, len(kv[P + "tokens"])))
    rnd = random.Random(name)
    words = [*text_of_the_vocabulary().split(), " ", "  ", "\n", "\t", "\u3000", "\u2581", "é", "e\u0301", "世界", "\u2460", "\ufb01", "½",
             "ß", "\U0001f642", "42", "zq", "a", "an", "ana", "\x7f", "\u200b", "ｶﾞ"]  # fmt: skip
    hostile = adversarial(rnd, ["</s>"])
    for i in range(12_000):
        text = hostile() if i % 3 == 0 else "".join(rnd.choice(words) + rnd.choice(["", " "]) for _ in range(rnd.randint(1, 12)))
        if name == "symbols" and i % 2:
            text = text.strip() + rnd.choice(["<sep>", "<b>"]) + "the"
        text = text.replace("\0", "")  # ends a text to the trainer's map
        assert c.encode(text.encode(), 0) == theirs.encode(text), repr(text)
    for part in ("a", "an", "the ", " ", "世", "\u3000a", "é"):
        long = part * 30_000
        assert c.encode(long.encode(), 0) == theirs.encode(long), repr(part)


@pytest.mark.parametrize("prefix", [True, False])
def test_ids_are_sentencepieces(folder: Callable[..., Path], built: Any, prefix: bool) -> None:
    """Every string of two thousand: as Llama's, with a space before the text, and as Gemma's, with symbols that nothing cuts. (A vocabulary
    with both gets a space after each symbol as well, as in llama.cpp; SentencePiece has it at the start alone.)"""
    raw = trained(add_dummy_prefix=prefix, user_defined_symbols=[] if prefix else ["<sep>", "\n\n"])
    theirs = sentencepiece.SentencePieceProcessor(model_proto=raw)
    path = folder(raw)
    assert "tokenizer.model" in [f.name for f in files_of(path)]
    with open_model(path) as model:
        validate(model)
        kv = model.kv
    assert kv[P + "model"] == "llama" and kv[P + "add_space_prefix"] is prefix and kv[P + "add_bos_token"] is True
    assert [kv[f"{P}{n}_token_id"] for n in ("unknown", "bos", "eos")] == [theirs.unk_id(), theirs.bos_id(), theirs.eos_id()]
    assert kv[P + "tokens"] == [theirs.id_to_piece(i) for i in range(theirs.vocab_size())]
    scores = np.array([theirs.get_score(i) for i in range(theirs.vocab_size())], np.float32)
    assert np.asarray(kv[P + "scores"], np.float32).tobytes() == scores.tobytes()
    c = CTokenizer(built, compile_tokenizer(kv, len(kv[P + "tokens"])))
    rnd = random.Random(7)
    words = [*text_of_the_vocabulary().split(), " ", "  ", "\n", "\n\n", "é", "世界", "\U0001f642", "\t", "42", "<sep>", "zq"]
    for _ in range(2000):
        text = "".join(rnd.choice(words) + rnd.choice(["", " "]) for _ in range(rnd.randint(1, 12)))
        expected = theirs.encode(text)
        for isa in host_isas():
            c.use(isa)
            assert c.encode(text.encode(), 0) == expected, repr(text)
            assert c.encode(text.encode(), BOS) == [theirs.bos_id(), *expected]


def test_added_tokens(folder: Callable[..., Path], built: Any) -> None:
    """added_tokens.json, the decoder in tokenizer_config.json, ids past the embedding; rows that no file names."""
    raw = trained(vocab_size=340)
    decoder = {"342": {"content": "<|im_end|>", "special": True}, "343": {"content": "\u2581<b>", "special": False}}
    path = folder(
        raw, {"added_tokens_decoder": decoder, "eos_token": "<|im_end|>", "add_bos_token": False}, added_tokens={"<a>": 341, "[PAD]": 350}
    )
    with open_model(path) as model:
        validate(model)
        kv = model.kv
        assert [n for n in model.notes if "[PAD]" in n and "350 rows" in n]
    assert kv[P + "tokens"][340:345] == ["[PAD340]", "<a>", "<|im_end|>", " <b>", "[PAD344]"]
    assert np.asarray(kv[P + "token_type"])[340:345].tolist() == [5, 4, 3, 4, 5]
    assert (kv[P + "eos_token_id"], kv[P + "add_bos_token"]) == (342, False)
    c = CTokenizer(built, compile_tokenizer(kv, 350))
    assert 341 in c.encode(b"the <a> cat", 0) and 342 not in c.encode(b"the <|im_end|>", 0)


def field(number: int, value: bytes) -> bytes:
    assert len(value) < 128
    return bytes([number << 3 | 2, len(value)]) + value


GOOD = field(1, field(1, b"a"))
UNKNOWN = field(1, field(1, b"?") + b"\x18\x02")
BAD: list[tuple[str, str, bytes]] = [
    ("S13", "empty piece list", b"\x12"),
    ("G67", "no pieces", field(2, b"\x18\x02")),
    ("S13", "a number without end", b"\xff" * 12),
    ("S13", "a length past the end", GOOD + b"\x0a\x7f"),
    ("S13", "a group", b"\x0b"),
    ("S13", "a piece that is a number", b"\x08\x01"),
    ("S13", "a piece of another type", field(1, field(1, b"a") + b"\x18\x09")),
    ("S13", "a piece that is no text", field(1, field(1, b"\xff"))),
    ("S13", "a score that is a number", field(1, field(1, b"a") + b"\x10\x01")),
    ("S13", "no trainer: a unigram model without an unknown piece", GOOD),
    ("S13", "two unknown pieces", GOOD + UNKNOWN + UNKNOWN),
    ("S13", "nothing but an unknown piece", UNKNOWN),
    ("S13", "byte fallback without bytes", GOOD + UNKNOWN + field(2, b"\x98\x02\x01")),
    ("S13", "a byte without byte fallback", GOOD + UNKNOWN + field(1, field(1, b"<0x00>") + b"\x18\x06")),
    ("S13", "a map of characters that is a number", GOOD + UNKNOWN + field(3, b"\x10\x01")),
    ("G76", "words", GOOD + field(2, b"\x18\x03")),
    ("G76", "spaces as they are", GOOD + UNKNOWN + field(3, b"\x28\x00")),
    ("G76", "no byte fallback", GOOD + field(2, b"\x18\x02")),
    ("G76", "a normalizer", GOOD + field(2, b"\x18\x02\x98\x02\x01") + field(3, field(2, b"x"))),
]


@pytest.mark.parametrize(("code", "data"), [pytest.param(c, d, id=f"{c}-{what}") for c, what, d in BAD])
def test_refused(code: str, data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        read(data, DEFAULT)
    assert caught.value.code == code, str(caught.value)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model_type": "char"}, "characters"),
        ({"byte_fallback": False}, "byte fallback"),
        ({"normalization_rule_name": "nmt_nfkc"}, "normalizer"),
        ({"remove_extra_whitespaces": True}, "normalizer"),
        ({"treat_whitespace_as_suffix": True}, "behind"),
    ],
)
def test_models_that_cut_otherwise_are_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named) as caught:
        read(trained(**options), DEFAULT)
    assert caught.value.code == "G76"


def test_more_pieces_than_rows(folder: Callable[..., Path]) -> None:
    path = folder(trained(vocab_size=340), rows=330)
    with pytest.raises(InputError, match="340 pieces for a vocabulary of 330"):
        open_model(path)
    with pytest.raises(InputError, match="--max-vocab"):
        open_model(path, Limits(vocab=100))


@pytest.mark.parametrize("options", [{}, {"model_type": "unigram", "vocab_size": 500} | UNIGRAM["T5's"]], ids=["BPE", "unigram"])
def test_whatever_the_bytes_hold(options: dict[str, Any]) -> None:
    """Random edits of a real file: read or refused, nothing else; what is read has as many pieces as it may."""
    raw = trained(**options)
    rnd = random.Random(11)
    for _ in range(1500):
        data = bytearray(raw)
        for _ in range(rnd.randint(1, 4)):
            at = rnd.randrange(len(data))
            data[at : at + rnd.randint(0, 6)] = rnd.randbytes(rnd.randint(0, 6))
        try:
            read(bytes(data), DEFAULT)
        except InputError as e:
            assert str(e).isprintable()


@pytest.mark.parametrize("what", ["cut off", "bytes missing", "a map that is none"])
def test_a_damaged_unigram_model_is_one_line_and_status_2(
    what: str, folder: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    raw = trained(model_type="unigram", vocab_size=500)
    no_map = raw + field(3, field(2, b"x" * 9))
    bad = {"cut off": raw[:-1], "bytes missing": raw.replace(b"<0x41>", b"<0x4A>"), "a map that is none": no_map}[what]
    assert main(["compile", str(folder(bad, rows=505)), "--no-pgo", "--target", "scalar", "-o", str(tmp_path / "o")]) == 2
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if "error" in line]
    assert out == "" and len(errors) == 1 and errors[0].startswith("infc: error") and len(errors[0]) <= 300, err


def test_neither_file(folder: Callable[..., Path]) -> None:
    path = folder(b"")
    (path / "tokenizer.model").unlink()
    (path / "vocab.json").write_text("{}")
    with pytest.raises(InputError, match=r"neither tokenizer.json nor tokenizer.model \(vocab.json is not read\)"):
        open_model(path)
