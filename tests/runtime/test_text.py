"""The text functions of infc.h: arguments, buffers, errors. The tokenizer has its own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from infc.tokenizer.chat import reduce_chat
from infc.tokenizer.compile import compile_tokenizer
from tests.runtime import harness
from tests.runtime.harness import EFILE, EINPUT, VOCAB
from tests.runtime.model import Model, RuntimeFailure

# 101 tokens: printable ASCII but for ` and ~, space, newline, the bytes of é, two merges, three specials.
PLAIN = [chr(c) for c in range(33, 127) if chr(c) not in "`~"] + ["Ġ", "Ċ", "Ã", "©"]
TOKENS = [*PLAIN, "he", "ll", "<s>", "</s>", "<|im|>"]
BOS, EOS, IM = TOKENS.index("<s>"), TOKENS.index("</s>"), TOKENS.index("<|im|>")
TEMPLATE = "{% for m in messages %}<|im|>{{ m.role }}\n{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<|im|>A{% endif %}"
KV = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [1] * (len(TOKENS) - 3) + [3] * 3,
    "tokenizer.ggml.merges": ["h e", "l l"],
    "tokenizer.ggml.bos_token_id": BOS,
    "tokenizer.ggml.eos_token_id": EOS,
    "tokenizer.ggml.add_bos_token": True,
    "tokenizer.chat_template": TEMPLATE,
}


def ids(text: str) -> list[int]:
    return [PLAIN.index({" ": "Ġ", "\n": "Ċ"}.get(c, c)) for c in text]


@pytest.fixture(scope="module")
def sections() -> dict[int, bytes]:
    assert len(TOKENS) == VOCAB
    return {1: harness.weights().tobytes(), 2: compile_tokenizer(KV, VOCAB), 3: reduce_chat(KV).encode()}


@pytest.fixture
def text(sections, open_model, tmp_path: Path) -> Text:
    return Text(open_model(weights_path=harness.append_blob(tmp_path / "t", harness.blob(sections))))


class Text:
    def __init__(self, model: Model) -> None:
        self.model, self.ffi = model, model.rt.ffi

    def tokenize(self, data: bytes, flags: int = 0, cap: int = 100) -> tuple[int, list[int]]:
        out = self.ffi.new("int32_t[]", [-9] * (cap + 1))
        n = self.model.tokenize(data, len(data), flags, out, cap)
        assert out[cap] == -9
        return n, list(out)[: min(n, cap)]

    def detokenize(self, tokens: list[int], special: int = 0, cap: int = 100) -> tuple[int, bytes]:
        out = self.ffi.new("char[]", b"#" * (cap + 1))
        n = self.model.detokenize(tokens, len(tokens), special, out, cap)
        assert self.ffi.buffer(out)[cap] == b"#"
        return n, self.ffi.buffer(out)[: min(n, cap)]

    def chat(self, messages: list[tuple[str, bytes]], prompt: int = 1, cap: int = 100) -> tuple[int, list[int]]:
        keep = [(self.ffi.new("char[]", r.encode()), self.ffi.from_buffer(c), len(c)) for r, c in messages]
        out = self.ffi.new("int32_t[]", cap + 1)
        n = self.model.chat_tokenize(self.ffi.new("infc_message[]", keep), len(keep), prompt, out, cap)
        return n, list(out)[: min(n, cap)]


def test_info(text: Text) -> None:
    info = text.model.info()
    assert (info.bos_id, info.eos_id, info.has_chat) == (BOS, EOS, 1)


def test_tokenize(text: Text) -> None:
    he, ll = TOKENS.index("he"), TOKENS.index("ll")
    want = [he, ll, *ids("o</s>")]
    assert text.tokenize(b"hello</s>") == (len(want), want)
    assert text.tokenize(b"hello</s>", 1) == (4, [he, ll, *ids("o"), EOS])
    assert text.tokenize(b"hello</s>", 3) == (5, [BOS, he, ll, *ids("o"), EOS])
    assert text.tokenize(b"hello</s>", 3, cap=2) == (5, [BOS, he])
    assert text.tokenize(b"hello", cap=0) == (3, [])
    assert text.tokenize(b"") == (0, [])


def test_detokenize(text: Text) -> None:
    tokens = [BOS, *ids("a b"), EOS]
    assert text.detokenize(tokens) == (3, b"a b")
    assert text.detokenize(tokens, special=1) == (10, b"<s>a b</s>")
    assert text.detokenize(tokens, special=1, cap=4) == (10, b"<s>a")


def test_decode_holds_back_half_a_character(text: Text) -> None:
    ffi, decoder, out = text.ffi, text.ffi.new("infc_decoder *"), text.ffi.new("char[16]")

    def piece(token: int) -> bytes:
        return bytes(ffi.buffer(out)[: text.model.decode(decoder, token, 0, out, 16)])

    first, second = ids("Ã©")
    assert [piece(t) for t in (*ids("a"), first, second, first, EOS)] == [b"a", b"", "é".encode(), b"", b""]
    assert piece(-1) == b"\xc3" and piece(-1) == b""


def test_is_eog(text: Text) -> None:
    assert [text.model.is_eog(t) for t in (EOS, BOS, 0)] == [1, 0, 0]


def test_chat(text: Text) -> None:
    want = [IM, *ids("user\n</s>"), EOS, IM, *ids("A")]  # the content's </s> is text
    assert text.chat([("user", b"</s>")]) == (len(want), want)
    assert text.chat([("user", b"</s>")], cap=3) == (len(want), want[:3])
    assert text.chat([("user", b"x")], prompt=0)[1][-1] == EOS


def test_refusals(text: Text) -> None:
    null, ffi = text.ffi.NULL, text.ffi
    out, chars = ffi.new("int32_t[4]"), ffi.new("char[16]")
    decoder = ffi.new("infc_decoder *")
    message = ffi.new("infc_message[]", [(null, null, 0)])
    calls = {
        "unknown flags": ("tokenize", b"a", 1, 8, out, 4),
        "a buffer is NULL": ("tokenize", null, 1, 0, out, 4),
        "a buffer is NULL ": ("tokenize", b"a", 1, 0, null, 4),
        "-1 is no token": ("detokenize", [1, -1], 2, 0, chars, 16),
        "101 is no token": ("detokenize", [VOCAB], 1, 0, chars, 16),
        "101 is no token ": ("decode", decoder, VOCAB, 0, chars, 16),
        "101 is no token  ": ("is_eog", VOCAB),
        "message 0 has no role": ("chat_tokenize", message, 1, 1, out, 4),
        "-1 messages": ("chat_tokenize", message, -1, 1, out, 4),
    }
    for words, (name, *arguments) in calls.items():
        with pytest.raises(RuntimeFailure, match=words.strip()) as failure:
            getattr(text.model, name)(*arguments)
        assert failure.value.code == EINPUT
    with pytest.raises(RuntimeFailure, match='no place for message 1 of role "judge"'):
        text.chat([("user", b"a"), ("judge", b"b")])
    with pytest.raises(RuntimeFailure, match="fit the buffer"):
        text.model.decode(decoder, IM, 1, chars, 3)


def test_a_program_without_tables_works_on_ids(open_model) -> None:
    text = Text(open_model())
    for call in (lambda: text.tokenize(b"a"), lambda: text.detokenize([1]), lambda: text.model.is_eog(1)):
        with pytest.raises(RuntimeFailure, match="no tokenizer"):
            call()
    assert text.model.info().has_chat == 0 and text.model.info().bos_id == -1


def test_no_chat_table(sections, open_model, tmp_path: Path) -> None:
    path = harness.append_blob(tmp_path / "t", harness.blob({k: v for k, v in sections.items() if k != 3}))
    text = Text(open_model(weights_path=path))
    assert text.model.info().has_chat == 0
    with pytest.raises(RuntimeFailure, match="no chat template"):
        text.chat([("user", b"a")])


@pytest.mark.parametrize("section", [2, 3])
def test_damaged_tables_are_refused(sections, open_model, tmp_path: Path, section: int) -> None:
    data = {**sections, section: sections[section][: len(sections[section]) // 2]}
    with pytest.raises(RuntimeFailure, match="damaged") as failure:
        open_model(weights_path=harness.append_blob(tmp_path / "t", harness.blob(data)))
    assert failure.value.code == EFILE


def test_more_tokens_than_logits_are_refused(sections, open_model, tmp_path: Path) -> None:
    tokens, types = KV["tokenizer.ggml.tokens"], KV["tokenizer.ggml.token_type"]
    larger = {**KV, "tokenizer.ggml.tokens": [*tokens, "zz"], "tokenizer.ggml.token_type": [*types, 1]}
    data = {**sections, 2: compile_tokenizer(larger, VOCAB + 1)}
    with pytest.raises(RuntimeFailure, match="102 tokens") as failure:
        open_model(weights_path=harness.append_blob(tmp_path / "t", harness.blob(data)))
    assert failure.value.code == EFILE
