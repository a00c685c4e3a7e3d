"""A tiny random model of every family with all its features on, under GGUF's names: same arguments, same bytes.

A family is a row of FAMILIES; what the tensors are follows from its features. Weights are scaled so that every activation stays near
unit size and logits are well spread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import quantize
from numpy.typing import NDArray

from tests.models.tiny import SPECIALS, vocabulary

N_CTX = 1024
WINDOW = 48  # the tests' sequences are longer, and so is a page of the cache


@dataclass(frozen=True)
class Shape:
    """Sizes and features of one family's tiny model; ``keys`` come without the architecture's name. ``qk_norm``: head, row or none.
    ``unread``: keys that llama.cpp does not read in this family, though its paper and infc do."""

    arch: str
    n_layers: int = 3
    dim: int = 128
    n_heads: int = 4
    n_kv_heads: int = 2
    head_dim: int = 32
    hidden_dim: int = 160
    pre_norm: bool = True
    mlp_norm: str = "ffn_norm"
    post_norm: bool = False
    layer_norm: bool = False
    qk_norm: str = ""
    fused: bool = False  # one matrix for q, k and v; where the MLP has a gate one for gate and up, too
    fused_gate: bool = False  # one matrix for gate and up alone
    gated: bool = True
    qkv_bias: bool = False
    bias: bool = False  # of all other projections
    tied: bool = True
    positions: bool = False
    factors: str = ""  # "freqs", or "long" for a pair of tensors
    rotated: int | None = None
    keys: Mapping[str, object] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    scales: Mapping[str, float] = field(default_factory=dict)  # of tensors by role, on top of the usual ones


_SWA = "attention.sliding_window"
FAMILIES = {
    s.arch: s
    for s in (
        Shape("llama", factors="freqs", tied=False, keys={_SWA: WINDOW}, unread=(_SWA,)),
        Shape("qwen2", qkv_bias=True),
        Shape("qwen3", qk_norm="head", tied=False),
        Shape("gemma", head_dim=64, n_kv_heads=1, scales={"token_embd": 0.09}),
        Shape("gemma2", head_dim=64, post_norm=True, keys={_SWA: WINDOW, "attn_logit_softcapping": 4.0, "final_logit_softcapping": 9.0},
              scales={"token_embd": 0.09}),
        Shape("gemma3", n_layers=7, head_dim=64, post_norm=True, qk_norm="head", scales={"token_embd": 0.09},
              keys={_SWA: WINDOW, "rope.freq_base": 1e6, "rope.scaling.type": "linear", "rope.scaling.factor": 8.0}),
        Shape("phi3", fused=True, factors="long", rotated=24, tied=False, unread=(_SWA,),
              keys={_SWA: WINDOW, "rope.scaling.original_context_length": 600, "rope.scaling.attn_factor": 1.19}),
        Shape("granite", keys={"embedding_scale": 12.0, "residual_scale": 0.22, "attention.scale": 0.05, "logit_scale": 4.0},
              scales={"token_embd": 0.3, "ffn_down": 4.0, "attn_output": 4.0}),
        Shape("olmo2", pre_norm=False, post_norm=True, qk_norm="row", tied=False),
        Shape("smollm3", n_layers=4),
        Shape("starcoder2", layer_norm=True, gated=False, qkv_bias=True, bias=True, keys={_SWA: WINDOW}, unread=(_SWA,)),
        Shape("qwen2vl", qkv_bias=True, keys={"rope.dimension_sections": (6, 5, 5, 0)}),
        Shape("qwen3vl", qk_norm="head", tied=False, keys={"rope.dimension_sections": (6, 5, 5, 0), "n_deepstack_layers": 2}),
        Shape("glm4", post_norm=True, fused_gate=True, rotated=16, tied=False),
        Shape("seed_oss", qkv_bias=True, mlp_norm="post_attention_norm", keys={"rope.freq_base": 1e7}),
        Shape("exaone", factors="freqs", keys={"rope.freq_base": 1e6}),
        Shape("internlm2", tied=False, keys={"rope.freq_base": 1e6}),
        Shape("ernie4_5", head_dim=48, keys={"rope.freq_base": 5e5}),
        Shape("arcee", gated=False, keys={"rope.freq_base": 5e5}, scales={"ffn_down": 0.7}),
        Shape("nemotron", layer_norm=True, gated=False, tied=False, rotated=16, scales={"ffn_down": 0.7}),
        Shape("jais2", layer_norm=True, gated=False, qkv_bias=True, bias=True, scales={"ffn_down": 0.7}),
        Shape("gpt2", layer_norm=True, gated=False, qkv_bias=True, bias=True, fused=True, n_kv_heads=4, positions=True),
    )
}  # fmt: skip


class _Writer:
    """One file being written."""

    def __init__(self, path: Path, shape: Shape, types: Mapping[str, str] | str, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape, self.types = shape, types
        self.out = gguf.GGUFWriter(path, shape.arch)

    def key(self, name: str, value: object) -> None:
        name = f"{self.shape.arch}.{name}"
        match value:
            case bool():
                self.out.add_bool(name, value)
            case int():
                self.out.add_uint32(name, value)
            case float():
                self.out.add_float32(name, value)
            case str():
                self.out.add_string(name, value)
            case _:
                self.out.add_array(name, list(value))  # type: ignore[call-overload]

    def values(self, *ne: int, std: float = 1.0, mean: float = 0.0) -> NDArray[np.float32]:
        return np.float32(mean) + np.float32(std) * self.rng.standard_normal(ne, dtype=np.float32)

    def matrix(self, name: str, n: int, k: int, gain: float = 1.0, bias: bool = False) -> None:
        role = name.split(".")[-1]
        kind = self.types if isinstance(self.types, str) else self.types.get(role, "F16")
        values = self.values(n, k, std=gain * self.shape.scales.get(role, 1.0) / k**0.5)
        qtype = gguf.GGMLQuantizationType[kind]
        self.out.add_tensor(name + ".weight", quantize(values, qtype), raw_dtype=qtype)
        if bias:
            self.out.add_tensor(name + ".bias", self.values(n, std=0.3))

    def norm(self, name: str, n: int) -> None:
        self.out.add_tensor(name + ".weight", self.values(n, std=0.2, mean=1.0))
        if self.shape.layer_norm:
            self.out.add_tensor(name + ".bias", self.values(n, std=0.1))


def write_family(path: str | Path, arch: str, *, types: Mapping[str, str] | str = "F16", peer: bool = False, seed: int = 0) -> Path:
    """Write a valid GGUF and return its path. ``types``: of all matrices, or by role (token_embd, ffn_down, ...; F16 where it says
    nothing). ``peer``: without the keys that llama.cpp ignores, so that it computes the same."""
    s = FAMILIES[arch]
    w = _Writer(Path(path), s, types, seed)
    tokens, merges, token_types = vocabulary(60)
    w.out.add_name("tiny")  # llama.cpp looks for tokens of Phi 3's own vocabulary where a model's name has "phi3" in it
    _write_keys(w, s, peer)
    w.out.add_vocab_size(len(tokens))
    w.out.add_tokenizer_model("gpt2")
    w.out.add_tokenizer_pre("smollm")
    w.out.add_token_list(tokens)
    w.out.add_token_types(token_types)
    w.out.add_token_merges(merges)
    w.out.add_bos_token_id(1)
    w.out.add_eos_token_id(2)
    w.out.add_unk_token_id(0)
    w.out.add_add_bos_token(False)
    w.matrix("token_embd", len(tokens), s.dim, 3.0 if s.tied else s.dim**0.5)
    if s.positions:
        w.matrix("position_embd", N_CTX, s.dim, 3.0)
    rotated = s.rotated or s.head_dim
    if s.factors == "freqs":
        w.out.add_tensor("rope_freqs.weight", np.linspace(1, 8, rotated // 2, dtype=np.float32))
    if s.factors == "long":
        w.out.add_tensor("rope_factors_short.weight", np.linspace(1, 1.5, rotated // 2, dtype=np.float32))
        w.out.add_tensor("rope_factors_long.weight", np.linspace(1, 30, rotated // 2, dtype=np.float32))
    for i in range(s.n_layers):
        _write_layer(w, s, f"blk.{i}.")
    w.norm("output_norm", s.dim)
    if not s.tied:
        w.matrix("output", len(tokens), s.dim, 3.0)
    w.out.write_header_to_file()
    w.out.write_kv_data_to_file()
    w.out.write_tensors_to_file()
    w.out.close()
    return Path(path)


def _write_keys(w: _Writer, s: Shape, peer: bool) -> None:
    w.key("block_count", s.n_layers)
    w.key("context_length", N_CTX)
    w.key("embedding_length", s.dim)
    w.key("feed_forward_length", s.hidden_dim)
    w.key("attention.head_count", s.n_heads)
    w.key("attention.head_count_kv", s.n_kv_heads)
    w.key("attention.layer_norm_epsilon" if s.layer_norm else "attention.layer_norm_rms_epsilon", 1e-5)
    if s.head_dim * s.n_heads != s.dim:
        w.key("attention.key_length", s.head_dim)
        w.key("attention.value_length", s.head_dim)
    if not s.positions:
        w.key("rope.dimension_count", s.rotated or s.head_dim)
    for name, value in s.keys.items():
        if not (peer and name in s.unread):
            w.key(name, value)


def _write_layer(w: _Writer, s: Shape, blk: str) -> None:
    q, kv = s.n_heads * s.head_dim, s.n_kv_heads * s.head_dim
    if s.pre_norm:
        w.norm(blk + "attn_norm", s.dim)
    if s.fused:
        w.matrix(blk + "attn_qkv", q + 2 * kv, s.dim, 1.4, s.qkv_bias)
    else:
        w.matrix(blk + "attn_q", q, s.dim, 1.5, s.qkv_bias)
        w.matrix(blk + "attn_k", kv, s.dim, 1.5, s.qkv_bias)
        w.matrix(blk + "attn_v", kv, s.dim, 1.0, s.qkv_bias)
    if s.qk_norm:
        w.norm(blk + "attn_q_norm", s.head_dim if s.qk_norm == "head" else q)
        w.norm(blk + "attn_k_norm", s.head_dim if s.qk_norm == "head" else kv)
    w.matrix(blk + "attn_output", s.dim, q, 1.0, s.bias)
    if s.post_norm:
        w.norm(blk + "post_attention_norm", s.dim)
    if s.pre_norm:
        w.norm(blk + s.mlp_norm, s.dim)
    both = s.gated and (s.fused or s.fused_gate)
    if s.gated and not both:
        w.matrix(blk + "ffn_gate", s.hidden_dim, s.dim, 1.0, s.bias)
    w.matrix(blk + "ffn_up", s.hidden_dim * (2 if both else 1), s.dim, 1.0, s.bias)
    w.matrix(blk + "ffn_down", s.dim, s.hidden_dim, 1.5, s.bias)
    if s.post_norm:
        w.norm(blk + "post_ffw_norm", s.dim)


__all__ = ["FAMILIES", "N_CTX", "SPECIALS", "Shape", "write_family"]
