"""The peer's vocabularies and vectors: 0 differences for every tokenizer that is supported."""

from __future__ import annotations

from typing import Any

import pytest

from infc.tokenizer import compile_tokenizer
from tests.unit.peer_vocabularies import peer_folder, vectors
from tests.unit.tokenizer_support import CTokenizer, P, build, read_kv

_BPE = "command-r deepseek-coder deepseek-llm falcon gpt-2 llama-bpe qwen2 qwen35 refact starcoder".split()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return build(tmp_path_factory.mktemp("tok"))


def _open(built: Any, name: str) -> CTokenizer:
    kv = read_kv(peer_folder() / f"ggml-vocab-{name}.gguf")
    return CTokenizer(built, compile_tokenizer(kv, len(kv[P + "tokens"])))


@pytest.mark.parametrize("name", _BPE)
def test_vectors(name: str, built: Any) -> None:
    c = _open(built, name)
    assert c.status == 0
    cases = vectors(name)
    assert len(cases) > 40
    for text, expected in cases:
        ids = c.encode(text.encode(), 0)
        assert ids == expected, repr(text)
