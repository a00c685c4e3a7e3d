"""The peer's vocabularies and vectors: 0 differences for every tokenizer that is supported."""

from __future__ import annotations

import random
import re
from datetime import date
from pathlib import Path
from typing import Any

import gguf
import pytest

from infc.dates import fill
from infc.tokenizer import compile_tokenizer, reduce_chat
from infc.tokenizer.chat import STRIP_NEWLINES
from infc.tokenizer.chat_render import Conversation, render_all
from tests.unit.peer_llama import PeerTokenizer
from tests.unit.peer_vocabularies import peer_folder, vectors
from tests.unit.tokenizer_support import SPECIAL, CTokenizer, P, adversarial, read_kv, synthetic_kv

_BPE = "command-r deepseek-coder deepseek-llm falcon gpt-2 llama-bpe qwen2 qwen35 refact starcoder".split()
_SPM = "llama-spm phi-3 gemma-4".split()


def _open(built: Any, name: str) -> CTokenizer:
    kv = read_kv(peer_folder() / f"ggml-vocab-{name}.gguf")
    return CTokenizer(built, compile_tokenizer(kv, len(kv[P + "tokens"])))


@pytest.mark.parametrize("name", [*_BPE, *_SPM])
def test_vectors(name: str, built: Any) -> None:
    c = _open(built, name)
    assert c.status == 0
    cases = vectors(name)
    assert len(cases) > 40
    for text, expected in cases:
        ids = c.encode(text.encode(), 0)
        assert ids == expected, repr(text)


@pytest.mark.parametrize("name", [*_SPM, "baichuan"])
def test_random_strings(name: str, built: Any) -> None:
    """Against llama.cpp itself: adversarial strings, and runs of tokens that need not be those of their text."""
    peer = PeerTokenizer(peer_folder() / f"ggml-vocab-{name}.gguf")
    kv = read_kv(peer_folder() / f"ggml-vocab-{name}.gguf")
    c = _open(built, name)
    types = zip(kv[P + "tokens"], kv[P + "token_type"], strict=True)
    added = [t for t, y in types if y in (3, 4)]
    ordinary = [t.replace("\u2581", " ") for t, y in zip(kv[P + "tokens"], kv[P + "token_type"], strict=True) if y == 1]
    rnd = random.Random(name)
    source = adversarial(rnd, added)
    for i in range(3000):
        text = source() if i % 2 else "".join(rnd.choice(ordinary) for _ in range(rnd.randint(1, 8)))
        for special in (False, True):
            assert c.encode(text.encode(), SPECIAL * special) == peer.encode(text.encode(), special=special), repr(text)


def _write(path: Path, kv: dict[str, Any]) -> Path:
    """A byte-level vocabulary as a file without weights, for llama.cpp."""
    w = gguf.GGUFWriter(path, "llama")
    for add, value in ((w.add_context_length, 512), (w.add_embedding_length, 64), (w.add_block_count, 1), (w.add_head_count, 4)):
        add(value)
    w.add_feed_forward_length(64)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(kv[P + "pre"])
    w.add_token_list(kv[P + "tokens"])
    w.add_token_merges(kv[P + "merges"])
    w.add_token_types(kv[P + "token_type"])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()
    return path


@pytest.mark.parametrize("pre", ["superbpe", "tiny_aya"])
def test_groups_of_three(pre: str, built: Any, tmp_path: Path) -> None:
    """Against llama.cpp itself. It groups digits that a letter follows, where tiny_aya's own expression leaves them, and for superbpe
    counts ASCII's digits alone; HF's answers hold there (test_pretok.py)."""
    kv = synthetic_kv(pre, 200)
    c, peer = CTokenizer(built, compile_tokenizer(kv, len(kv[P + "tokens"]))), PeerTokenizer(_write(tmp_path / "v.gguf", kv))
    rnd = random.Random(pre)
    source = adversarial(rnd, ["<|im_start|>"])
    parts = ["1", "23", "456", " ", "  ", "x.", "-", " the", "\n"] + (["a", "_"] if pre == "superbpe" else [])
    for i in range(3000):
        text = source() if i % 2 and pre == "superbpe" else "".join(rnd.choice(parts) for _ in range(rnd.randint(1, 14)))
        if any(ch.isnumeric() and not ch.isascii() for ch in text):
            continue
        if pre == "superbpe" or not re.search(r"\d[^\W\d]", text):
            assert c.encode(text.encode(), SPECIAL) == peer.encode(text.encode(), special=True), repr(text)


# Templates that need tools to be rendered at all.
_WITH_TOOLS_ONLY = {
    "CohereForAI-c4ai-command-r-plus-tool_use", "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use", "fireworks-ai-llama-3-firefunction-v2",
}  # fmt: skip


def test_chat_templates() -> None:
    """Every template of the peer's samples reduces, but for those that need tools; and predicts what the template writes."""
    paths = sorted((peer_folder() / "templates").glob("*.jinja"))
    assert len(paths) > 60
    found = {p.stem: reduce_chat({"tokenizer.chat_template": p.read_text("utf-8")}, "<s>", "</s>") for p in paths}
    assert {name for name, r in found.items() if not r} == _WITH_TOOLS_ONLY
    assert found["Qwen-Qwen3-0.6B"].rules == {("assistant", "</think>"): STRIP_NEWLINES}
    thought = Conversation((("user", "Why?"), ("assistant", "<think>\nHm.\n</think>\n\nSo."), ("user", "Oh")), True)
    for path in paths:
        said = found[path.stem].render(thought) if found[path.stem] else None
        if said is not None:
            names = {"bos_token": "<s>", "eos_token": "</s>", "date_string": "29 Feb 2032"}
            written = render_all(path.read_text("utf-8"), names, [thought], "2032-02-29")
            assert written == [fill(said, date(2032, 2, 29))], path.stem
    dated = {name for name, r in found.items() if "takes that of the day" in r.note}
    assert dated == {
        "Apertus-8B-Instruct", "Mistral-Small-3.2-24B-Instruct-2506", "ibm-granite-granite-3.3-2B-Instruct",
        "meta-llama-Llama-3.1-8B-Instruct", "meta-llama-Llama-3.2-3B-Instruct", "meta-llama-Llama-3.3-70B-Instruct", "muse-glimmer",
        "openai-gpt-oss-120b", "upstage-Solar-Open-100B",
    }  # fmt: skip
    assert not any("always writes" in r.note for r in found.values())
