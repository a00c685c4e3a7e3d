"""Tokenizers of other kinds in a decoder: the compiled program reads and writes text by them, from a GGUF file and from a folder."""

from __future__ import annotations

import datetime
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from infc.binding.artifact import Artifact
from infc.errors import InputError
from infc.frontend.inputs import open_model
from infc.frontend.validate import validate
from infc.tokenizer import compile_tokenizer
from tests.models.hf_folder import GPT2_STEP, sequence, split, write_folder
from tests.models.tiny import CHATML, retokenized
from tests.unit.test_hf_unigram import MARK, STRIP, charsmap, document, folder_of, metaspace, runs, steps, unigram
from tests.unit.test_tokenizer_wordpiece import hf_wordpiece
from tests.unit.tokenizer_support import wordpiece_kv
from tests.unit.unigram_support import trained

_TEXTS = ["Hello, wörld! The return of a naïve one", "", "unknown ĳ世界", "[MASK] it's 42\n\tor  so"]
Tiny = Callable[..., Path]


def _ends(text: str) -> dict[str, Any]:
    return {"SpecialToken": {"id": text, "type_id": 0}}


def _folder(file: Path, out: Path, hf: Tokenizer, settings: dict[str, Any], change: Callable[[dict[str, Any]], object] = len) -> Path:
    """The model of ``file`` as a folder, with the tokenizer that HF would save."""
    write_folder(file, out)
    found = json.loads(hf.to_str())
    found["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    change(found)
    (out / "tokenizer.json").write_text(json.dumps(found))
    (out / "tokenizer_config.json").write_text(json.dumps(settings))
    return out


_NAMES = {f"{k}_token": f"[{k.upper()}]" for k in ("unk", "cls", "sep", "pad")}


def _check(artifact: Artifact, hf: Tokenizer, around: tuple[list[int], list[int]]) -> None:
    with artifact.load(threads=1) as llm:
        for text in _TEXTS:
            ids = hf.encode(text, add_special_tokens=False).ids
            assert llm.tokenize(text, bos=False) == ids
            assert llm.tokenize(text, end=True) == [*around[0], *ids, *around[1]] and llm.tokenize(text) == [*around[0], *ids]
            told = subprocess.run([artifact.program, "tokenize", text, "--json"], capture_output=True, text=True, check=True)
            assert json.loads(told.stdout)["ids"] == [*around[0], *ids, *around[1]]
            assert llm.detokenize(ids) == hf.decode(ids)
    done = subprocess.run([artifact.program, "-p", "the world", "-n", "8", "--seed", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_wordpiece(tmp_path: Path, tiny_llama: Tiny, compiled: Callable[..., Artifact]) -> None:
    kv = wordpiece_kv(n_pieces=60)
    file = retokenized(tiny_llama(types="F16", n_layers=1, n_merges=120), tmp_path / "m.gguf", kv)
    _check(compiled(file, target="scalar", name="wordpiece"), hf_wordpiece(kv, (True, True)), ([2], [3]))


def test_unigram(tmp_path: Path, tiny_llama: Tiny, compiled: Callable[..., Artifact]) -> None:
    """A small model of ``sentencepiece``: the program's ids and text are its own."""
    sp, kv = trained("small")
    file = retokenized(tiny_llama(types="F16", n_layers=1, n_merges=120), tmp_path / "m.gguf", kv)
    artifact = compiled(file, target="scalar", name="unigram")
    with artifact.load(threads=1) as llm:
        for text in ("Hello, the  return of \u00bd", "", " a  list object\n", "\u4e16\u754c"):
            assert llm.tokenize(text) == sp.encode(text) and llm.tokenize(text, end=True) == [*sp.encode(text), sp.eos_id()]
            known = [i for i in sp.encode(text) if i != sp.unk_id()]
            assert llm.detokenize(sp.encode(text)) == sp.decode(known)
    told = subprocess.run([artifact.program, "tokenize", "the list", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(told.stdout)["ids"] == [*sp.encode("the list"), sp.eos_id()]


def test_the_date_of_a_conversation(tmp_path: Path, tiny_llama: Tiny, compiled: Callable[..., Artifact]) -> None:
    """Python and the program write the day it is, or the one they are given; ``infc compile --date`` writes one for good."""
    template = "{{ '<|im_start|>system\nToday: ' + strftime_now('%d %b %Y') + '<|im_end|>' }}" + CHATML
    file = tiny_llama(types="F16", n_layers=1, chat_template=template)
    artifact = compiled(file, target="scalar", name="dated")
    messages = [{"role": "user", "content": "hi"}]

    def written(llm: Any) -> str:
        text = llm.detokenize(llm.chat_tokens(messages), special=True)
        return str(text.partition("Today: ")[2].partition("<|im_end|>")[0])

    with artifact.load(threads=1) as llm:
        assert written(llm) in {f"{d:%d %b %Y}" for d in (datetime.date.today(), datetime.date.today() - datetime.timedelta(1))}
        llm.chat_date("2031-02-03")
        assert written(llm) == "03 Feb 2031"
        with pytest.raises(InputError, match="no date"):
            llm.chat_date("2031-02-29")
        llm.chat_date(None)
        assert written(llm) != "03 Feb 2031"
    for argument, status in (("2031-02-03", 0), ("tomorrow", 2)):
        command = [artifact.program, "chat", "--date", argument, "-n", "1", "--seed", "1"]
        done = subprocess.run(command, input="hi\n", capture_output=True, text=True, check=False)
        assert done.returncode == status and ("no date" in done.stderr) == (status == 2)
    with compiled(file, target="scalar", name="dated", date="1999-12-31").load(threads=1) as llm:
        llm.chat_date("2031-02-03")
        assert written(llm) == "31 Dec 1999"


def test_unigram_and_an_expression_in_folders(tmp_path: Path, tiny_llama: Tiny, compiled: Callable[..., Artifact]) -> None:
    """What no GGUF key says is in the program: a unigram model whose words are cut at spaces; words by an expression of the folder's."""
    file = tiny_llama(types="F16", n_layers=1)
    model, added = unigram("bytes", True)
    pre = sequence(split(r"[a-z]{1,2}?(?!q)|\w+|\s|[^\w\s]+"), GPT2_STEP | {"use_regex": False})
    byte_level = write_folder(file, tmp_path / "b", change=lambda d: d["tokenizer.json"].update(pre_tokenizer=pre))
    found = json.loads((byte_level / "tokenizer.json").read_text("utf-8"))
    found["model"]["vocab"] |= {t["content"]: t["id"] for t in found["added_tokens"]}
    (byte_level / "tokenizer.json").write_text(json.dumps(found))
    unigrams = folder_of(document(model, steps(charsmap(), STRIP, runs(MARK)), metaspace(), added), file, tmp_path / "u")
    for folder in (unigrams, byte_level):
        hf = Tokenizer.from_file(str(folder / "tokenizer.json"))
        with compiled(folder, target="scalar", name="folder").load(threads=1) as llm:
            for text in [*_TEXTS, "the  cat <b> sat\u3000½ ", "<|end|>abcq </s> x"]:
                assert llm.tokenize(text, bos=False) == hf.encode(text, add_special_tokens=False).ids, text


@pytest.mark.parametrize(("lowercase", "accents"), [(True, None), (False, None), (True, False)])
def test_wordpiece_in_a_folder(tmp_path: Path, tiny_llama: Tiny, lowercase: bool, accents: bool | None) -> None:
    """The tables are those of the GGUF file that says the same."""
    kv = wordpiece_kv(n_pieces=60)
    plain = tiny_llama(types="F16", n_layers=1, n_merges=120)
    strip = lowercase if accents is None else accents
    said = {"tokenizer.ggml.normalizer.lowercase": lowercase, "tokenizer.ggml.normalizer.strip_accents": strip}
    hf = hf_wordpiece(kv, (lowercase, strip))

    def unsaid(found: dict[str, Any]) -> None:
        found["normalizer"]["strip_accents"] = accents

    folder = _folder(plain, tmp_path / "folder", hf, _NAMES, unsaid)
    with open_model(retokenized(plain, tmp_path / "m.gguf", kv | said)) as a, open_model(folder) as b:
        sections = [compile_tokenizer(m.kv, validate(m)[0].vocab_size) for m in (a, b)]
    assert sections[0] == sections[1]


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("continue with", lambda d: d["model"].update(continuing_subword_prefix="@@")),
        ("up to 50", lambda d: d["model"].update(max_input_chars_per_word=50)),
        ("unknown token", lambda d: d["model"].update(unk_token="[what]")),
        ("pre-tokenizer", lambda d: d.update(pre_tokenizer={"type": "Whitespace"})),
        ("normalizer", lambda d: d.update(normalizer=None)),
        ("normalizer", lambda d: d["normalizer"].update(clean_text=False)),
        ("normalizer", lambda d: d["normalizer"].update(handle_chinese_chars=False)),
    ],
)
def test_wordpiece_that_is_not_berts(tmp_path: Path, tiny_llama: Tiny, words: str, change: Callable[[dict[str, Any]], object]) -> None:
    hf = hf_wordpiece(wordpiece_kv(n_pieces=60), (True, True))
    folder = _folder(tiny_llama(types="F16", n_layers=1, n_merges=120), tmp_path / "folder", hf, _NAMES, change)
    with pytest.raises(InputError, match=words) as e, open_model(folder):
        pass
    assert e.value.code == "S13" and len(str(e.value)) < 300
