"""The tokenizer's C code behind cffi, and HF tokenizers of the same vocabularies, for the tests next to this file."""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import cffi
import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split

from infc.frontend import gguf
from infc.tokenizer import compile_tokenizer
from infc.tokenizer.patterns import DIGITS, GPT2, PRETOKENIZERS
from tests.models.tiny import CHATML, vocabulary

P = "tokenizer.ggml."
SPECIAL, BOS, END = 1, 2, 4
EINPUT, ELIMIT, ENOMEM, EFILE = -1, -2, -4, -5
SOURCES = ("infc_pretok.c", "infc_scan.c", "infc_merge.c", "infc_pieces.c", "infc_wordpiece.c", "infc_unigram.c", "infc_tokenizer_open.c",
           "infc_tokenizer.c", "infc_date.c", "infc_chat.c")  # fmt: skip
# infc_program.h: the CPU features that code may use.
CPUS = {"scalar": 0, "avx2": 1, "avx512": 3}
WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Werror")

_CDEF = """
typedef struct { uint32_t n; unsigned char pending[4]; } infc_decoder;
typedef struct { const char *role; const char *content; size_t size; } infc_message;
typedef struct { int32_t *ids; size_t cap, n; } infc_ids;
int infc_tokenizer_open(const uint8_t *section, size_t size, void *out);
void infc_tok_use_cpu(void *t, uint32_t features);
int infc_tok_tokenize(const void *t, const uint8_t *text, size_t size, uint32_t flags, int32_t *ids, size_t cap);
int infc_tok_detokenize(const void *t, const int32_t *ids, size_t n, int special, uint8_t *out, size_t cap);
int infc_tok_decode(const void *t, infc_decoder *d, int32_t id, int special, uint8_t *out, size_t cap);
int infc_tok_is_eog(const void *t, int32_t id);
int infc_chat_open(const uint8_t *section, size_t size, void *out);
typedef struct { int32_t year, month, day; } infc_date;
int infc_date_parse(const char *text, infc_date *out);
infc_date infc_date_today(void);
size_t infc_date_format(infc_date date, const uint8_t *format, size_t size, uint8_t *out, int *ok);
int infc_chat_encode(const void *c, const void *t, const infc_message *messages, int32_t n, int generate, infc_date date, infc_ids *out,
                     int32_t *bad);
"""
# More than the C structs need; they hold pointers and numbers only.
_STRUCT_WORDS = 1024


def runtime_c() -> Path:
    """The folder of the C sources."""
    return Path(str(resources.files("infc.runtime_c")))


def build(folder: Path, *flags: str) -> Any:
    """(ffi, library) of the tokenizer's C code compiled into ``folder``. The fixture ``built`` is one without flags, for all tests."""
    compile_library(folder, *flags)
    return load(folder)


def compile_library(folder: Path, *flags: str) -> None:
    """The library that ``load`` finds in ``folder``."""
    sources = [str(runtime_c() / s) for s in SOURCES]
    subprocess.run(["gcc", *WARNINGS, "-O2", "-shared", "-fPIC", *flags, *sources, "-o", str(folder / "libtok.so")], check=True)


def load(folder: Path) -> Any:
    """(ffi, library) of a folder that ``compile_library`` filled."""
    ffi = cffi.FFI()
    ffi.cdef(_CDEF)
    return ffi, ffi.dlopen(str(folder / "libtok.so"))


def host_isas() -> list[str]:
    """The keys of CPUS that this machine can run."""
    flags = set(re.findall(r"\w+", Path("/proc/cpuinfo").read_text()))
    need = {"scalar": set(), "avx2": {"avx2"}, "avx512": {"avx2", "avx512f", "avx512bw"}}
    return [isa for isa in CPUS if need[isa] <= flags]


class CTokenizer:
    """A tokenizer section, opened by the C code."""

    def __init__(self, built: Any, section: bytes, chat: bytes = b"") -> None:
        self.ffi, self.lib = built
        self._section = self.aligned(section)
        self._t = self.ffi.new(f"uint64_t[{_STRUCT_WORDS}]")
        self.status = self.lib.infc_tokenizer_open(self._section, len(section), self._t)
        self._ids = np.zeros(1 << 20, np.int32)
        self._ids_at = self.ffi.cast("int32_t *", self._ids.ctypes.data)
        self._chat = self.ffi.new(f"uint64_t[{_STRUCT_WORDS}]")
        self._chat_section = self.ffi.new("uint8_t[]", chat or b"\0")
        self.chat_status = self.lib.infc_chat_open(self._chat_section, len(chat), self._chat) if chat else None

    def aligned(self, data: bytes) -> Any:
        """``data`` at a multiple of 64, as a mapped blob has it."""
        self._keep = self.ffi.new("uint8_t[]", len(data) + 64)
        at = self._keep + -int(self.ffi.cast("uintptr_t", self._keep)) % 64
        self.ffi.memmove(at, data, len(data))
        return at

    def encode(self, text: bytes, flags: int = SPECIAL) -> list[int]:
        n = self.lib.infc_tok_tokenize(self._t, text, len(text), flags, self._ids_at, len(self._ids))
        assert 0 <= n <= len(self._ids), n
        return self._ids[:n].tolist()  # type: ignore[no-any-return]

    def use(self, isa: str) -> None:
        """Run the twin of this name, which the machine must have."""
        self.lib.infc_tok_use_cpu(self._t, CPUS[isa])

    def count(self, text: bytes, flags: int = SPECIAL) -> int:
        """Tokens of ``text``; as many as there is room for are written."""
        return int(self.lib.infc_tok_tokenize(self._t, text, len(text), flags, self._ids_at, len(self._ids)))

    def decode(self, ids: list[int], special: bool = True) -> bytes:
        given = self.ffi.new("int32_t[]", ids or [0])
        size = self.lib.infc_tok_detokenize(self._t, given, len(ids), special, self.ffi.NULL, 0)
        assert size >= 0, size
        out = self.ffi.new("uint8_t[]", size + 1)
        assert self.lib.infc_tok_detokenize(self._t, given, len(ids), special, out, size) == size
        return bytes(self.ffi.buffer(out, size))

    def stream(self, ids: list[int], special: bool = True) -> list[bytes]:
        """What each id adds, and at the end what a flush adds."""
        d = self.ffi.new("infc_decoder *")
        out = self.ffi.new("uint8_t[]", 1024)
        pieces = []
        for token in [*ids, -1]:
            n = self.lib.infc_tok_decode(self._t, d, token, special, out, 1024)
            assert n >= 0, n
            pieces.append(bytes(self.ffi.buffer(out, n)))
        return pieces

    def is_eog(self, token: int) -> int:
        return int(self.lib.infc_tok_is_eog(self._t, token))

    def chat(self, messages: list[tuple[str, bytes]], generate: bool, day: tuple[int, int, int] = (2024, 7, 26)) -> list[int] | int:
        """Ids of a conversation, or the error. ``day``: year, month, day."""
        keep = [(self.ffi.new("char[]", r.encode()), self.ffi.new("char[]", c or b"\0")) for r, c in messages]
        m = self.ffi.new("infc_message[]", max(1, len(messages)))
        for i, ((role, content), (_, raw)) in enumerate(zip(keep, messages, strict=True)):
            m[i].role, m[i].content, m[i].size = role, content, len(raw)
        out = self.ffi.new("infc_ids *", {"ids": self._ids_at, "cap": len(self._ids), "n": 0})
        bad = self.ffi.new("int32_t *")
        error = self.lib.infc_chat_encode(self._chat, self._t, m, len(messages), generate, day, out, bad)
        return int(error) if error else self._ids[: out.n].tolist()


def opened(built: Any, kv: dict[str, Any]) -> CTokenizer:
    """The C code with the tokenizer that ``kv`` describes."""
    c = CTokenizer(built, compile_tokenizer(kv, len(kv[P + "tokens"])))
    assert c.status == 0
    return c


@cache
def read_kv(path: Path) -> dict[str, Any]:
    """The keys of a GGUF file."""
    with gguf.read(path) as model:
        return dict(model.kv)


def synthetic_kv(pre: str, n_merges: int = 280) -> dict[str, Any]:
    """Keys of a small tokenizer: 256 bytes, merges of a little text, three special tokens and a user-defined one.

    With some whole words that no merge makes, which only ``ignore_merges`` finds.
    """
    tokens, merges, types = vocabulary(n_merges)
    words = ["\u0120unmerged", "\u0120Xyz", "\u00c3\u00a9\u00c3\u00a9", "!!!!!", "\u010a\u010a\u010a", "777"]
    words = [w for w in words if w not in tokens]
    return {
        P + "model": "gpt2", P + "pre": pre, P + "tokens": [*tokens, *words], P + "merges": merges,
        P + "token_type": [*types, *[1] * len(words)], P + "bos_token_id": 1, P + "eos_token_id": 2,
        P + "add_bos_token": True, "tokenizer.chat_template": CHATML,
    }  # fmt: skip


def distinct_pretokenizers() -> list[str]:
    """One name of each entry of PRETOKENIZERS that differs from the others in how it cuts or merges."""
    return list({(p.splits, p.ignore_merges): name for name, p in reversed(PRETOKENIZERS.items())}.values())[::-1]


def hf_pre_tokenizer(pre: str) -> Any:
    """The splits that HF's own tokenizer files have for ``pre``, then the byte alphabet."""
    *outer, last = PRETOKENIZERS[pre].splits
    stages: list[Any] = [_hf_split(pattern) for pattern in outer]
    if last == GPT2:
        return Sequence([*stages, ByteLevel(add_prefix_space=False, use_regex=True)])
    return Sequence([*stages, _hf_split(last), ByteLevel(add_prefix_space=False, use_regex=False)])


def _hf_split(pattern: str) -> Any:
    return Digits(individual_digits=True) if pattern == DIGITS else Split(Regex(pattern), "isolated")


def hf_tokenizer(kv: dict[str, Any]) -> Tokenizer:
    """HF's tokenizer of the same vocabulary. Added tokens are in its vocabulary under the same ids."""
    pre = kv[P + "pre"]
    tokens, types = kv[P + "tokens"], kv[P + "token_type"]
    model = BPE(
        {t: i for i, t in enumerate(tokens)},
        [tuple(m.split(" ")) for m in kv[P + "merges"]],
        ignore_merges=PRETOKENIZERS[pre].ignore_merges,
    )
    out = Tokenizer(model)
    out.pre_tokenizer = hf_pre_tokenizer(pre)
    out.add_special_tokens([AddedToken(t, normalized=False) for t, y in zip(tokens, types, strict=True) if y == 3])
    out.add_tokens([AddedToken(t, normalized=False) for t, y in zip(tokens, types, strict=True) if y == 4])
    return out


_WORDS = """the and of to Once upon a time there was hello World don't I'LL we'Ve it's can'T 'tis o'clock James' naïve
straße Ωmega привет МИР 世界 こんにちは ภาษาไทย हिन्दी 한국어 العربية def return print(x) foo_bar x=1; {{}} [0] </s> http://a.b/c?d=e#f
""".split()
_PIECES = [
    *_WORDS, *" .,;:!?-_'\"()[]{}<>|@#$%^&*+=/\\~`", "'s", "'S", "'re", "'LL", "'\u017f", "\u2019s", "  ", "   ", "\n", "\n\n",
    "\r\n", "\r", "\t", "\v", "\f", "\x85", "\xa0", "\u1680", "\u2003", "\u2028", "\u202f", "\u3000", "\u200b", "\ufeff", "\0",
    "\x1b[31m", "\x7f", "0", "1", "42", "777", "1234567890", "3.14", "\u0663", "\u0e53", "\xbd", "\u2167", "\u3007", "\uff11",
    "e\u0301", "\u0301", "\u20dd", "\u200d", "\U0001f642", "\U0001f468\u200d\U0001f469", "\U0001d7d8", "\U000e0041", "\U0010ffff",
    "\ufffd", "\uffff", "\u212a", "\u0130", "\ufb06", "<|", "|>", "<|im_", "im_start", "<tool_", "<<|im_end|>>",
]  # fmt: skip


def adversarial(rnd: random.Random, added: list[str]) -> Callable[[], str]:
    """A source of strings: words, spaces, digits, all planes, added tokens whole and cut, long runs."""

    def code_point() -> str:
        low, high = rnd.choice(((0, 0x80), (0x80, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x20000), (0x20000, 0x110000)))
        return chr(rnd.randrange(low, high))

    def piece() -> str:
        kind = rnd.random()
        if kind < 0.6:
            return rnd.choice(_PIECES)
        if kind < 0.75:
            return " " + rnd.choice(_WORDS)
        if kind < 0.85:
            return code_point()
        if kind < 0.92:
            token = rnd.choice(added)
            return token if rnd.random() < 0.6 else token[: rnd.randrange(len(token))]
        return rnd.choice(_PIECES) * rnd.randint(2, 9)

    def text() -> str:
        if rnd.random() < 0.003:
            return rnd.choice(_PIECES) * rnd.randint(50, 400)
        return "".join(piece() for _ in range(rnd.randint(0, 9)))

    return text


def spm_kv(seed: int = 0, prefix: bool = True, n_merges: int = 120) -> dict[str, Any]:
    """Keys of a small SentencePiece tokenizer: control tokens, a user-defined one, 256 byte tokens, characters, and random joins of
    tokens with few different scores, so that the order of merging decides."""
    rnd = random.Random(seed)
    mark = "\u2581"
    parts = ["a", "b", "c", mark, "\u00e9", "\u4e16", "\U0001f642", "\n", "<", ">", "/", "s", "0", "x", "4", "1", "u", "n", "k"]
    joined = [mark + "a", "s>", "/s>", "<s", mark + mark, "<0x"]
    while len(joined) < n_merges:
        text = rnd.choice(parts[:8] + joined) + rnd.choice(parts[:8] + joined)
        if len(text) <= 12 and text not in joined and text not in parts:
            joined.append(text)
    tokens = ["<unk>", "<s>", "</s>", "<user>", *(f"<0x{b:02X}>" for b in range(256)), *parts, *joined]
    scores = [0.0] * 260 + [-1000.0] * len(parts) + [float(-rnd.randint(0, 30)) for _ in joined]
    return {
        P + "model": "llama", P + "tokens": tokens, P + "scores": scores,
        P + "token_type": [2, 3, 3, 4, *[6] * 256, *[1] * (len(parts) + len(joined))], P + "bos_token_id": 1, P + "eos_token_id": 2,
        P + "add_space_prefix": prefix, "tokenizer.chat_template": CHATML,
    }  # fmt: skip


def wordpiece_kv(seed: int = 0, every: bool = False, n_pieces: int = 400) -> dict[str, Any]:
    """Keys of a small WordPiece vocabulary as GGUF has it: special tokens, letters that begin and that continue a word, and random pieces
    of both kinds. ``every``: all characters of the first planes continue a word and stand alone, so that none is unknown."""
    rnd = random.Random(seed)
    mark = "\u2581"
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789ABCDEHIKXZ", *"éüßñøæœıſиампрвет世界日가각\u0301\u0308\u302e\u1b44"]
    if every:
        letters += [c for c in map(chr, range(0x21, 0x30000)) if c not in letters and c != mark and not 0xD800 <= ord(c) < 0xE000]
    alone = [*"!?.,;:'\"()[]<>-_/#@$%&*+=~^`{}|\\", "\u3002", "\u00bf"]
    pieces: dict[str, None] = {}
    while len(pieces) < n_pieces:
        pieces["".join(rnd.choice("etaoinshrdlué") for _ in range(rnd.randint(2, 5)))] = None
    words = [*letters, *(p for i, p in enumerate(pieces) if i % 2), "the", "hello", "world", "return", "naive"]
    ends = [*letters, *(p for i, p in enumerate(pieces) if i % 3), "ing", "##"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    starts = dict.fromkeys(mark + w for w in [*alone, *words])
    tokens = [*special, *starts, *dict.fromkeys(e for e in ends if e not in special)]
    return {
        P + "model": "bert", P + "pre": "default", P + "tokens": tokens, P + "token_type": [3] * 5 + [1] * (len(tokens) - 5),
        P + "unknown_token_id": 1, P + "cls_token_id": 2, P + "seperator_token_id": 3, P + "padding_token_id": 0,
        "tokenizer.chat_template": CHATML,
    }  # fmt: skip
