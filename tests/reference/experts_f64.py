"""Mixtures of experts in float64: what mixtral (arXiv:2401.04088), qwen2moe, qwen3moe, olmoe and gpt-oss (arXiv:2508.10925) add to their
families. Routing is from arXiv:1701.06538, the stretched rotation from arXiv:2309.00071."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.reference.families_f64 import F64, FamilyF64

_ALPHA, _LIMIT = 1.702, 7.0  # of gpt-oss's activation
_RENORMALISED = {"llama", "qwen3moe", "qwen3vlmoe", "gpt-oss"}


class ExpertsF64(FamilyF64):
    """One file. The lower expert is taken where two logits are equal."""

    def logits(self, tokens: list[int] | NDArray[np.int64]) -> F64:
        w = self.w
        x = w["token_embd.weight"][np.asarray(tokens)]
        for i in range(self.n_layers):
            blk = f"blk.{i}."
            x = x + self._linear(self._attention(self._norm(x, blk + "attn_norm"), i), blk + "attn_output")
            after = blk + ("post_attention_norm" if self.arch == "gpt-oss" else "ffn_norm")
            x = x + self._experts(self._norm(x, after), blk)
        return self._norm(x, "output_norm") @ w["output.weight"].T

    # ---- experts ---------------------------------------------------------------------------------------------------------

    def _experts(self, x: F64, blk: str) -> F64:
        """(T, dim) normalised rows -> what they add to the stream."""
        used = self.key("expert_used_count")
        out = np.zeros_like(x)
        for t, row in enumerate(self._linear(x, blk + "ffn_gate_inp")):
            taken = np.argsort(-row, kind="stable")[:used]
            p = np.exp(row - row.max())
            p /= p[taken].sum() if self.arch in _RENORMALISED else p.sum()
            for e in taken:
                h = self._gated(*(self._expert(x[t], f"{blk}ffn_{part}_exps", e) for part in ("gate", "up")))
                out[t] += p[e] * self._expert(h, blk + "ffn_down_exps", e)
        if blk + "ffn_gate_inp_shexp.weight" in self.w:
            share = 1 / (1 + np.exp(-(x @ self.w[blk + "ffn_gate_inp_shexp.weight"])))
            h = self._gated(self._linear(x, blk + "ffn_gate_shexp"), self._linear(x, blk + "ffn_up_shexp"))
            out += share[:, None] * self._linear(h, blk + "ffn_down_shexp")
        return out

    def _expert(self, x: F64, name: str, e: int) -> F64:
        y: F64 = self.w[name + ".weight"][e] @ x
        return y + self.w[name + ".bias"][e] if name + ".bias" in self.w else y

    def _gated(self, gate: F64, up: F64) -> F64:
        if self.arch == "gpt-oss":
            gate, up = np.minimum(gate, _LIMIT), np.clip(up, -_LIMIT, _LIMIT)
            return gate / (1 + np.exp(-_ALPHA * gate)) * (up + 1)
        return gate / (1 + np.exp(-gate)) * up

    # ---- attention -------------------------------------------------------------------------------------------------------

    def _attention(self, x: F64, i: int) -> F64:
        q, k, v = self._qkv(x, f"blk.{i}.")
        cos, sin = self._rope(len(x), False)
        q, k = self._rotate(q, cos, sin), self._rotate(k, cos, sin)
        age = np.arange(len(x))[:, None] - np.arange(len(x))[None, :]
        window = self.key("attention.sliding_window", 0) if i % 2 == 0 else 0
        hidden = (age < 0) | ((age >= window) & (window > 0))
        sinks = self.w.get(f"blk.{i}.attn_sinks.weight", np.full(self.n_heads, -np.inf))
        out = np.empty_like(q)
        for h in range(self.n_heads):
            g = h // (self.n_heads // self.n_kv_heads)
            score = q[:, h] @ k[:, g].T * self.head_dim**-0.5
            score[hidden] = -np.inf
            most = np.maximum(score.max(axis=1, keepdims=True), sinks[h])
            p = np.exp(score - most)
            out[:, h] = p @ v[:, g] / (p.sum(axis=1, keepdims=True) + np.exp(sinks[h] - most))
        return out.reshape(len(x), -1)

    def _rope(self, t: int, local: bool) -> tuple[F64, F64]:
        n, base, factor = self.head_dim, self.key("rope.freq_base", 10000.0), self.key("rope.scaling.factor", 1.0)
        frequency, scale = base ** (-2.0 * np.arange(n // 2) / n), 1.0
        if factor != 1:
            context = self.key("rope.scaling.original_context_length")
            turns = context * frequency / (2 * np.pi)  # of each pair; which pair has 32 and which 1 is rounded outwards
            place = np.interp(np.log([32.0, 1.0]), np.log(turns[::-1]), np.arange(n // 2)[::-1], left=np.nan, right=np.nan)
            low = 0 if np.isnan(place[0]) else np.floor(place[0])
            high = np.ceil(n * np.log(context / (2 * np.pi)) / (2 * np.log(base))) if np.isnan(place[1]) else np.ceil(place[1])
            kept = 1 - np.clip((np.arange(n // 2) - low) / (high - low), 0, 1)
            frequency = frequency * (kept + (1 - kept) / factor)
            scale = 1 + 0.1 * np.log(factor)
        angle = (np.arange(t)[:, None] * frequency[None, :])[:, None, :]
        return np.cos(angle) * scale, np.sin(angle) * scale

    def _rotate(self, x: F64, cos: F64, sin: F64) -> F64:
        if self.arch == "llama":
            a, b = x[..., 0::2], x[..., 1::2]
            return np.stack([a * cos - b * sin, a * sin + b * cos], axis=-1).reshape(x.shape)
        a, b = np.split(x, 2, axis=-1)
        return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
