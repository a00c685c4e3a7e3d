"""A GGUF writer that can write files no sane program would: every count, length, type and offset can be spoilt.

``valid()`` is the smallest llama model the compiler accepts; a test changes one thing and encodes it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from tests.models.tiny import byte_alphabet

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_CODES = "BbHhIif?..Qqd"

# ggml tensor types
T_F32, T_F16, T_Q4_0, T_Q4_1, T_Q5_0, T_Q5_1, T_Q8_0, T_Q4_K, T_F64, T_I64, T_BF16 = (
    0,
    1,
    2,
    3,
    6,
    7,
    8,
    12,
    28,
    27,
    30,
)
BLOCK_BYTES = {T_Q4_0: 18, T_Q4_1: 20, T_Q5_0: 22, T_Q5_1: 24, T_Q8_0: 34}

Typed = tuple[int, bytes]  # value type, encoded value


def number(kind: int, value: float) -> Typed:
    return kind, struct.pack("<" + _CODES[kind], value)


def u32(value: int) -> Typed:
    return number(U32, value)


def f32(value: float) -> Typed:
    return number(F32, value)


def boolean(value: bool) -> Typed:
    return number(BOOL, value)


def raw_string(text: bytes | str, length: int | None = None) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", (len(raw) if length is None else length) & (2**64 - 1)) + raw


def string(text: bytes | str, length: int | None = None) -> Typed:
    return STRING, raw_string(text, length)


def array(kind: int, values: list[float] | list[str] | list[bytes], count: int | None = None) -> Typed:
    body = b"".join(raw_string(v) if isinstance(v, str | bytes) else struct.pack("<" + _CODES[kind], v) for v in values)
    return raw_array(kind, len(values) if count is None else count, body)


def raw_array(kind: int, count: int, body: bytes) -> Typed:
    return ARRAY, struct.pack("<IQ", kind, count & (2**64 - 1)) + body


@dataclass
class Tensor:
    """One entry; ``offset`` None: where it belongs. ``n_dims`` None: as many as ``ne`` has."""

    name: bytes
    ne: list[int]
    type: int
    data: bytes
    offset: int | None = None
    n_dims: int | None = None
    name_length: int | None = None


@dataclass
class Raw:
    """A file in pieces. ``encode`` lays it out; ``layout_alignment`` is used for offsets whatever the key says."""

    kv: list[tuple[bytes, Typed]] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    magic: bytes = b"GGUF"
    version: int = 3
    n_kv: int | None = None
    n_tensors: int | None = None
    layout_alignment: int = 32
    data_padding: int | None = None
    tail: bytes = b""
    head: bytes = b""

    def set(self, key: str, value: Typed) -> Raw:
        name = key.encode()
        kept = [(k, v) for k, v in self.kv if k != name]
        self.kv = [*kept, (name, value)]
        return self

    def drop(self, key: str) -> Raw:
        self.kv = [(k, v) for k, v in self.kv if k != key.encode()]
        return self

    def tensor(self, name: str) -> Tensor:
        return next(t for t in self.tensors if t.name == name.encode())

    def header(self) -> bytes:
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        n_kv = len(self.kv) if self.n_kv is None else self.n_kv
        mask = 2**64 - 1
        return self.magic + struct.pack("<IQQ", self.version, n_tensors & mask, n_kv & mask)

    def metadata(self) -> bytes:
        """Header, keys and tensor entries, without the padding that follows."""
        out = [self.header()]
        out += [raw_string(k) + struct.pack("<I", kind) + body for k, (kind, body) in self.kv]
        at = 0
        for t in self.tensors:
            out.append(raw_string(t.name, t.name_length))
            out.append(struct.pack("<I", len(t.ne) if t.n_dims is None else t.n_dims))
            out += [struct.pack("<Q", d & (2**64 - 1)) for d in t.ne]
            out.append(struct.pack("<iQ", t.type, at if t.offset is None else t.offset))
            at += self._padded(len(t.data))
        return b"".join(out)

    def encode(self) -> bytes:
        meta = self.metadata()
        body = b"".join(t.data + bytes(self._padded(len(t.data)) - len(t.data)) for t in self.tensors)
        return self.head + meta + bytes(self._padded(len(meta)) - len(meta)) + body + self.tail

    def _padded(self, n: int) -> int:
        a = self.layout_alignment
        return -(-n // a) * a


def q8_0(n: int, k: int, scale: int = 0x2000) -> bytes:
    """n rows of k weights in blocks of 32; ``scale`` is the bits of an f16."""
    block = struct.pack("<H", scale) + bytes(range(32))
    return block * (n * k // 32)


def f32s(n: int, value: float = 1.0) -> bytes:
    return struct.pack("<f", value) * n


def valid() -> Raw:
    """One layer, width 32, two heads of 16 (one for keys), tied head; 256 bytes, two merges, two special tokens."""
    tokens = [*byte_alphabet(), "he", "hel", "<s>", "</s>"]
    v = len(tokens)
    raw = Raw()
    raw.set("general.architecture", string("llama")).set("general.name", string("raw"))
    raw.set("llama.block_count", u32(1)).set("llama.context_length", u32(64))
    raw.set("llama.embedding_length", u32(32)).set("llama.feed_forward_length", u32(64))
    raw.set("llama.attention.head_count", u32(2)).set("llama.attention.head_count_kv", u32(1))
    raw.set("llama.attention.layer_norm_rms_epsilon", f32(1e-5)).set("llama.rope.freq_base", f32(1e4))
    raw.set("tokenizer.ggml.model", string("gpt2")).set("tokenizer.ggml.pre", string("smollm"))
    raw.set("tokenizer.ggml.tokens", array(STRING, tokens))
    raw.set("tokenizer.ggml.token_type", array(I32, [1] * (v - 2) + [3, 3]))
    raw.set("tokenizer.ggml.merges", array(STRING, ["h e", "he l"]))
    raw.set("tokenizer.ggml.bos_token_id", u32(v - 2)).set("tokenizer.ggml.eos_token_id", u32(v - 1))

    def add(name: str, ne: list[int], kind: int, data: bytes) -> None:
        raw.tensors.append(Tensor(name.encode(), ne, kind, data))

    add("rope_freqs.weight", [8], T_F32, f32s(8))
    add("token_embd.weight", [32, v], T_Q8_0, q8_0(v, 32))
    add("blk.0.attn_norm.weight", [32], T_F32, f32s(32))
    add("blk.0.attn_q.weight", [32, 32], T_Q8_0, q8_0(32, 32))
    add("blk.0.attn_k.weight", [32, 16], T_F16, struct.pack("<H", 0x3C00) * 512)
    add("blk.0.attn_v.weight", [32, 16], T_BF16, struct.pack("<H", 0x3F80) * 512)
    add("blk.0.attn_output.weight", [32, 32], T_Q4_1, (struct.pack("<HH", 0x2000, 0x9800) + bytes(16)) * 32)
    add("blk.0.ffn_norm.weight", [32], T_F32, f32s(32))
    add("blk.0.ffn_gate.weight", [32, 64], T_Q5_1, (struct.pack("<HH", 0x2000, 0x9800) + bytes(20)) * 64)
    add("blk.0.ffn_up.weight", [32, 64], T_Q4_0, (struct.pack("<H", 0x2000) + bytes(16)) * 64)
    add("blk.0.ffn_down.weight", [64, 32], T_Q5_0, (struct.pack("<H", 0x2000) + bytes(20)) * 64)
    add("output_norm.weight", [32], T_F32, f32s(32))
    return raw
