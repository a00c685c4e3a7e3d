"""The llama architecture in float64 over dequantized weights: what exact arithmetic would answer. The accuracy oracle.

Written from the papers: RMSNorm (arXiv:1910.07467), rotary embedding (arXiv:2104.09864), grouped-query attention
(arXiv:2305.13245), SwiGLU (arXiv:2002.05202). Shapes: T tokens of a call, S positions so far, hd = head_dim.
"""

from __future__ import annotations

from pathlib import Path

import gguf.quants
import numpy as np
from numpy.typing import NDArray

from infc.frontend import gguf as reader
from infc.frontend.validate import validate

F64 = NDArray[np.float64]


class LlamaF64:
    """A model with one sequence's key/value cache; ``reset()`` starts another sequence."""

    def __init__(self, path: str | Path) -> None:
        with reader.read(path) as model:
            self.config, _ = validate(model)
            self.w = {name: _dequantized(model, name) for name in model.tensors}
        self.reset()

    def reset(self) -> None:
        c = self.config
        self.n_past = 0
        self._k = [np.zeros((0, c.n_kv_heads, c.head_dim)) for _ in range(c.n_layers)]
        self._v = [np.zeros((0, c.n_kv_heads, c.head_dim)) for _ in range(c.n_layers)]

    def logits(self, tokens: list[int] | NDArray[np.int64]) -> F64:
        """Logits (T, vocab_size) of a fresh sequence of T tokens; row t predicts token t + 1."""
        self.reset()
        return self.step(tokens)

    def step(self, tokens: list[int] | NDArray[np.int64]) -> F64:
        """Append T tokens to the sequence and return their logits (T, vocab_size)."""
        c, w = self.config, self.w
        x = w["token_embd.weight"][np.asarray(tokens)]  # (T, dim)
        cos, sin = self._rope(np.arange(self.n_past, self.n_past + len(x)))
        for i in range(c.n_layers):
            blk = f"blk.{i}."
            n = self._norm(x, blk + "attn_norm.weight")
            q = self._times(n, blk + "attn_q.weight").reshape(-1, c.n_heads, c.head_dim)
            k = self._times(n, blk + "attn_k.weight").reshape(-1, c.n_kv_heads, c.head_dim)
            v = self._times(n, blk + "attn_v.weight").reshape(-1, c.n_kv_heads, c.head_dim)
            self._k[i] = np.concatenate([self._k[i], _rotate(k, cos, sin)])
            self._v[i] = np.concatenate([self._v[i], v])
            a = self._attention(_rotate(q, cos, sin), self._k[i], self._v[i])
            x = x + self._times(a, blk + "attn_output.weight")
            n = self._norm(x, blk + "ffn_norm.weight")
            gate, up = self._times(n, blk + "ffn_gate.weight"), self._times(n, blk + "ffn_up.weight")
            x = x + (gate / (1 + np.exp(-gate)) * up) @ w[blk + "ffn_down.weight"].T
        self.n_past += len(x)
        head = "token_embd.weight" if c.tied_embeddings else "output.weight"
        return self._times(self._norm(x, "output_norm.weight"), head)

    def greedy(self, prompt: list[int], n: int) -> tuple[list[int], list[float]]:
        """n tokens by argmax (the lowest id wins a tie), and for each the gap between the two largest logits."""
        row = self.logits(prompt)[-1]
        tokens: list[int] = []
        gaps: list[float] = []
        for i in range(n):
            second, first = np.partition(row, -2)[-2:]
            tokens.append(int(row.argmax()))
            gaps.append(float(first - second))
            if i + 1 < n:
                row = self.step(tokens[-1:])[-1]
        return tokens, gaps

    def _times(self, x: F64, weight: str) -> F64:
        """x (T, k) by a matrix (n, k). A subclass may round x here, to measure what that costs."""
        return x @ self.w[weight].T

    def _norm(self, x: F64, weight: str) -> F64:
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.config.norm_eps) * self.w[weight]

    def _rope(self, positions: NDArray[np.int64]) -> tuple[F64, F64]:
        """cos and sin (T, 1, rope_dim / 2); pair i turns by position * base^(-2i/rope_dim) / factor_i."""
        c = self.config
        frequency = c.ropes[0].base ** (-2.0 * np.arange(c.ropes[0].dim // 2) / c.ropes[0].dim)
        if "rope_freqs.weight" in self.w:
            frequency = frequency / self.w["rope_freqs.weight"]
        frequency = frequency / c.ropes[0].factor
        angle = positions[:, None] * frequency[None, :]
        return np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]

    def _attention(self, q: F64, k: F64, v: F64) -> F64:
        """q (T, n_heads, hd); k, v (S, n_kv_heads, hd); the last T of S positions are q's. Returns (T, n_heads * hd)."""
        t, s = len(q), len(k)
        group = self.config.n_heads // self.config.n_kv_heads
        hidden = np.arange(s)[None, :] > np.arange(s - t, s)[:, None]
        out = np.empty_like(q)
        for h in range(q.shape[1]):
            score = q[:, h] @ k[:, h // group].T / np.sqrt(q.shape[2])
            score[hidden] = -np.inf
            p = np.exp(score - score.max(axis=1, keepdims=True))
            out[:, h] = p @ v[:, h // group] / p.sum(axis=1, keepdims=True)
        return out.reshape(t, -1)


def _rotate(x: F64, cos: F64, sin: F64) -> F64:
    """Turn neighbouring pairs (2i, 2i + 1) of the last axis: the order in which GGUF stores llama's q and k rows."""
    a, b = x[..., 0::2], x[..., 1::2]
    return np.stack([a * cos - b * sin, a * sin + b * cos], axis=-1).reshape(x.shape)


def _dequantized(model: reader.ModelFile, name: str) -> F64:
    """The tensor in C order, (n, k) for a matrix."""
    t = model.tensors[name]
    rows = model.data(name).reshape(*t.ne[:0:-1], -1)
    return gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[t.type]).reshape(t.ne[::-1]).astype(np.float64)
