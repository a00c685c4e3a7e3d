"""What a tensor of a family must look like, and the groups of them that families share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from infc.formats import FORMATS
from infc.frontend.config import ModelConfig

MATRIX = frozenset(FORMATS)
VECTOR = frozenset({"F32"})


@dataclass(frozen=True, slots=True)
class Rule:
    """What one tensor must look like: ggml-order shape (ne[0] contiguous), allowed types, whether it may be missing."""

    name: str
    ne: tuple[int, ...]
    types: frozenset[str]
    required: bool = True


def matrix(name: str, k: int, n: int, required: bool = True) -> Rule:
    """``name``.weight: n rows of k."""
    return Rule(name + ".weight", (k, n), MATRIX, required)


def vector(name: str, n: int, required: bool = True) -> Rule:
    """``name``: n floats."""
    return Rule(name, (n,), VECTOR, required)


def ends(c: ModelConfig, norm_bias: bool = False) -> Iterator[Rule]:
    """Embedding, last norm, head (missing: the embedding is the head), factors of the frequencies."""
    yield matrix("token_embd", c.dim, c.vocab_size)
    yield vector("output_norm.weight", c.dim)
    if norm_bias:
        yield vector("output_norm.bias", c.dim)
    yield matrix("output", c.dim, c.vocab_size, required=False)
    for rope in c.ropes:
        for factors in (rope.factors, rope.long_factors):
            if factors is not None:
                yield vector(factors, rope.dim // 2)


def norm(blk: str, name: str, n: int, bias: bool = False) -> Iterator[Rule]:
    """The weight of a norm of ``n`` values, and its bias."""
    yield vector(f"{blk}{name}.weight", n)
    if bias:
        yield vector(f"{blk}{name}.bias", n)


def attention(c: ModelConfig, blk: str, bias: bool | None = False, output_bias: bool | None = False) -> Iterator[Rule]:
    """q, k, v and the output projection. A bias is there (True), is not (False) or may be (None)."""
    q, kv = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    for name, n in (("attn_q", q), ("attn_k", kv), ("attn_v", kv)):
        yield matrix(blk + name, c.dim, n)
        if bias is not False:
            yield vector(f"{blk}{name}.bias", n, required=bias is True)
    yield from projection(blk, "attn_output", q, c.dim, output_bias)


def fused_attention(c: ModelConfig, blk: str, bias: bool) -> Iterator[Rule]:
    """q, k and v as one matrix, in this order, and the output projection."""
    n = (c.n_heads + 2 * c.n_kv_heads) * c.head_dim
    yield from projection(blk, "attn_qkv", c.dim, n, bias)
    yield from projection(blk, "attn_output", c.n_heads * c.head_dim, c.dim, bias)


def gated_mlp(c: ModelConfig, blk: str, bias: bool | None = False) -> Iterator[Rule]:
    """gate, up and down."""
    yield from projection(blk, "ffn_gate", c.dim, c.hidden_dim, bias)
    yield from mlp(c, blk, bias)


def mlp(c: ModelConfig, blk: str, bias: bool | None) -> Iterator[Rule]:
    """up and down."""
    yield from projection(blk, "ffn_up", c.dim, c.hidden_dim, bias)
    yield from projection(blk, "ffn_down", c.hidden_dim, c.dim, bias)


def projection(blk: str, name: str, k: int, n: int, bias: bool | None) -> Iterator[Rule]:
    """One matrix and its bias, which is there (True), is not (False) or may be (None)."""
    yield matrix(blk + name, k, n)
    if bias is not False:
        yield vector(f"{blk}{name}.bias", n, required=bias is True)
