"""A random model of Llama-3.2-1B's shape with a byte-level vocabulary of 128,256 tokens, for speed and size at a real model's scale.

    python -m tests.models.llama_1b FILE.gguf [--embedding Q4_0] [--layers 16] [--seed 0]

Nothing of a real model is in it: weights are drawn in their quantized form, a few rows at a time, and merges are systematic strings
of letters. Matrices are Q4_0; the embedding, which is the head too, is Q8_0: real files of this size keep it in Q6_K, which infc does
not read, and Q8_0 is the nearest of its formats that loses nothing against it. infc and llama.cpp load the file. Same arguments, same
bytes; 826 MB as a whole. Peak memory: its largest tensor, 0.4 GB in all.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from tests.models.tiny import byte_alphabet

_LETTERS = "etaoinshrdlucmfwypvbgkjqxz"  # frequent first: their combinations then become tokens first
_ROWS = 4096  # rows drawn at a time
_BLOCK = 32  # values that share a scale, in every format below
_RMS = {"Q4_0": math.sqrt(21.5), "Q8_0": 74.0}  # of the integers that are drawn: 0..15 less 8, and -128..127
_FILE_TYPES = {"Q4_0": 2, "Q8_0": 7}


@dataclass(frozen=True)
class Shape:
    """Llama-3.2-1B: 1,235,814,400 parameters, the head tied to the embedding."""

    dim: int = 2048
    hidden_dim: int = 8192
    n_layers: int = 16
    n_heads: int = 32
    n_kv_heads: int = 8
    head_dim: int = 64
    n_merges: int = 127_744  # with 256 bytes and 256 specials: 128,256 tokens
    n_special: int = 256
    n_ctx: int = 131_072
    rope_freq_base: float = 500_000.0

    @property
    def vocab_size(self) -> int:
        """Tokens: bytes, merges, specials."""
        return 256 + self.n_merges + self.n_special


@dataclass(frozen=True)
class Matrix:
    """``n`` rows of ``k`` weights of standard deviation ``std``; ``type`` "F32" is a norm's vector of n = 1."""

    name: str
    type: str
    n: int
    k: int
    std: float

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.n * self.k * 4 if self.type == "F32" else self.n * self.k // _BLOCK * _block_dtype(self.type).itemsize


def matrices(s: Shape, kind: str = "Q4_0", embedding: str = "Q8_0") -> list[Matrix]:
    """Every tensor in the order of the file, but for the factors of the rotary embedding. Deviations keep activations near unit size."""
    q, kv = s.n_heads * s.head_dim, s.n_kv_heads * s.head_dim
    found = [Matrix("token_embd.weight", embedding, s.vocab_size, s.dim, 3 / s.dim**0.5)]
    for i in range(s.n_layers):
        blk = f"blk.{i}."
        found += [
            Matrix(blk + "attn_norm.weight", "F32", 1, s.dim, 0.1),
            Matrix(blk + "attn_q.weight", kind, q, s.dim, 1.5 / s.dim**0.5),
            Matrix(blk + "attn_k.weight", kind, kv, s.dim, 1.5 / s.dim**0.5),
            Matrix(blk + "attn_v.weight", kind, kv, s.dim, 1 / s.dim**0.5),
            Matrix(blk + "attn_output.weight", kind, s.dim, q, 1 / q**0.5),
            Matrix(blk + "ffn_norm.weight", "F32", 1, s.dim, 0.1),
            Matrix(blk + "ffn_gate.weight", kind, s.hidden_dim, s.dim, 1 / s.dim**0.5),
            Matrix(blk + "ffn_up.weight", kind, s.hidden_dim, s.dim, 1 / s.dim**0.5),
            Matrix(blk + "ffn_down.weight", kind, s.dim, s.hidden_dim, 1.5 / s.hidden_dim**0.5),
        ]
    return [*found, Matrix("output_norm.weight", "F32", 1, s.dim, 0.1)]


def merges(n: int) -> Iterator[tuple[str, str]]:
    """The first n merges: every known word, shortest first, with a blank or without, takes one more letter."""
    words, known, made = ["\u0120", *_LETTERS], set(byte_alphabet()), 0
    for word in words:  # grows while it is read
        for letter in _LETTERS:
            if made == n:
                return
            if word + letter not in known:
                known.add(word + letter)
                words.append(word + letter)
                made += 1
                yield word, letter


def rope_factors(s: Shape, factor: float = 32.0, low: float = 1.0, high: float = 4.0, trained: int = 8192) -> NDArray[np.float32]:
    """Divisors of the rotary frequencies, (head_dim / 2): slow pairs are stretched by ``factor``, fast ones are left, those whose
    wavelength is between trained / high and trained / low go over smoothly (the rule Llama 3.1 introduced)."""
    wavelength = 2 * np.pi * s.rope_freq_base ** (2 * np.arange(s.head_dim // 2) / s.head_dim)
    blend = np.clip((trained / wavelength - low) / (high - low), 0, 1)
    return (1 / ((1 - blend) / factor + blend)).astype(np.float32)


def _block_dtype(kind: str) -> np.dtype[np.void]:
    """One block of 32 values as it lies in the file."""
    return np.dtype([("d", "<f2"), ("q", "u1", _BLOCK // 2 if kind == "Q4_0" else _BLOCK)])


def _draw(rng: np.random.Generator, m: Matrix) -> NDArray[np.uint8] | NDArray[np.float32]:
    """The bytes of a matrix, or a norm's values. Scales vary by a third and have either sign, which makes the mean zero."""
    if m.type == "F32":
        return (1 + m.std * rng.standard_normal(m.k)).astype(np.float32)
    out = np.empty((m.n, m.k // _BLOCK), _block_dtype(m.type))
    for first in range(0, m.n, _ROWS):
        part = out[first : first + _ROWS]
        sign = 1 - 2 * rng.integers(0, 2, part.shape)
        part["d"] = (m.std / _RMS[m.type]) * rng.uniform(0.7, 1.3, part.shape) * sign
        part["q"] = rng.integers(0, 256, part["q"].shape, np.uint8)
    return out.view(np.uint8)


def write_llama_1b(path: str | Path, shape: Shape | None = None, *, embedding: str = "Q8_0", seed: int = 0) -> Path:
    """Write the file, a tensor at a time, and return its path. ``shape``: a smaller one for tests."""
    s = shape or Shape()
    specials = ["<|begin_of_text|>", "<|end_of_text|>", *(f"<|special_{i}|>" for i in range(s.n_special - 2))]
    pairs = list(merges(s.n_merges))
    tokens = [*byte_alphabet(), *(a + b for a, b in pairs), *specials]
    w = gguf.GGUFWriter(path, "llama")
    w.add_name("random weights in the shape of Llama-3.2-1B")
    w.add_block_count(s.n_layers)
    w.add_context_length(s.n_ctx)
    w.add_embedding_length(s.dim)
    w.add_feed_forward_length(s.hidden_dim)
    w.add_head_count(s.n_heads)
    w.add_head_count_kv(s.n_kv_heads)
    w.add_key_length(s.head_dim)
    w.add_value_length(s.head_dim)
    w.add_rope_dimension_count(s.head_dim)
    w.add_rope_freq_base(s.rope_freq_base)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_file_type(_FILE_TYPES["Q4_0"])
    w.add_vocab_size(s.vocab_size)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("llama-bpe")
    w.add_token_list(tokens)
    w.add_token_types([1] * (256 + s.n_merges) + [3] * s.n_special)
    w.add_token_merges([f"{a} {b}" for a, b in pairs])
    w.add_bos_token_id(256 + s.n_merges)
    w.add_eos_token_id(256 + s.n_merges + 1)
    w.add_add_bos_token(True)
    factors = rope_factors(s)
    w.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
    found = matrices(s, embedding=embedding)
    for m in found:
        if m.type == "F32":
            w.add_tensor_info(m.name, (m.k,), np.dtype(np.float32), m.nbytes)
        else:
            row = (m.n, m.nbytes // m.n)
            w.add_tensor_info(m.name, row, np.dtype(np.uint8), m.nbytes, raw_dtype=gguf.GGMLQuantizationType[m.type])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    w.write_tensor_data(factors)
    rng = np.random.default_rng(seed)
    for m in found:
        w.write_tensor_data(_draw(rng, m))
    w.close()
    return Path(path)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--embedding", choices=sorted(_RMS), default="Q8_0")
    parser.add_argument("--layers", type=int, default=Shape.n_layers)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    write_llama_1b(asked.file, replace(Shape(), n_layers=asked.layers), embedding=asked.embedding, seed=asked.seed)


if __name__ == "__main__":
    main()
