"""Every family in float64 over dequantized weights, from the file's own keys and tensors: the accuracy oracle.

Nothing of infc's frontend but its reader of the container is used, so that a key misread there shows here. Written from the papers
that ``compiler/frontend/families`` names; where GGUF adds a convention of its own (which halves turn, defaults of keys) it says so.
Shapes: T tokens of a call, hd = head_dim.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf.quants
import numpy as np
from numpy.typing import NDArray

from infc.frontend import gguf as reader

F64 = NDArray[np.float64]

_HALVES = {"qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3", "olmo2", "starcoder2", "nemotron", "jais2"}
_HALVES |= {"qwen2vl", "qwen3vl", "seed_oss", "exaone"}  # pairs (i, i + rotated / 2)
_GELU = {"gemma", "gemma2", "gemma3", "starcoder2", "gpt2"}
_RELU2 = {"arcee", "nemotron", "jais2"}
_PERIOD = {"gemma2": 2, "gemma3": 6, "olmo2": 4}  # of so many layers the last sees everything
_CAPS = {"gemma2": (50.0, 30.0)}  # defaults: scores, logits


class FamilyF64:
    """One file. ``n_ctx``: positions that the program beside it was compiled for (it chooses Phi 3's factors)."""

    def __init__(self, path: str | Path, n_ctx: int | None = None) -> None:
        with reader.read(path) as model:
            self.kv: dict[str, Any] = dict(model.kv)
            self.w = {name: _dequantized(model, name) for name in model.tensors}
        self.arch = str(self.kv["general.architecture"])
        self.dim, self.n_layers = self.key("embedding_length"), self.key("block_count")
        self.n_heads = self.key("attention.head_count")
        self.n_kv_heads = self.key("attention.head_count_kv", self.n_heads)
        self.head_dim = self.key("attention.key_length", self.dim // self.n_heads)
        self.n_ctx = n_ctx or self.key("context_length")

    def key(self, name: str, default: Any = None) -> Any:
        value = self.kv.get(f"{self.arch}.{name}", default)
        assert value is not None, name
        return value

    # ---- the model -------------------------------------------------------------------------------------------------------

    def logits(self, tokens: list[int] | NDArray[np.int64]) -> F64:
        """Logits (T, vocab_size) of a fresh sequence; row t predicts token t + 1."""
        w, arch = self.w, self.arch
        residual = self.key("residual_scale", 1.0)
        x = w["token_embd.weight"][np.asarray(tokens)] * self._embedding_scale()
        if "position_embd.weight" in w:
            x = x + w["position_embd.weight"][: len(x)]
        for i in range(self.n_layers):
            blk = f"blk.{i}."
            a = self._linear(self._attention(self._norm(x, blk + "attn_norm"), i), blk + "attn_output")
            if arch == "seed_oss":  # whose only other norm has this name
                x = x + a
                h = self._mlp(self._norm(x, blk + "post_attention_norm"), blk)
            else:
                x = x + residual * self._norm(a, blk + "post_attention_norm")
                h = self._mlp(self._norm(x, blk + "ffn_norm"), blk)
            x = x + residual * self._norm(h, blk + "post_ffw_norm")
        out = self._norm(x, "output_norm") @ w["output.weight" if "output.weight" in w else "token_embd.weight"].T
        out = out + w.get("output.bias", 0.0)
        out = out / self.key("logit_scale", 1.0)
        return _capped(out, self.key("final_logit_softcapping", _CAPS.get(arch, (0.0, 0.0))[1]))

    def _attention(self, x: F64, i: int) -> F64:
        """(T, dim) -> (T, n_heads * hd)."""
        q, k, v = self._qkv(x, f"blk.{i}.")
        window = self._window(i)
        cos, sin = self._rope(len(x), window > 0)
        if self._turns(i):
            q, k = self._rotate(q, cos, sin), self._rotate(k, cos, sin)
        age = np.arange(len(x))[:, None] - np.arange(len(x))[None, :]
        hidden = (age < 0) | ((age >= window) & (window > 0))
        cap = self.key("attn_logit_softcapping", _CAPS.get(self.arch, (0.0, 0.0))[0])
        out = np.empty_like(q)
        for h in range(self.n_heads):
            g = h // (self.n_heads // self.n_kv_heads)
            score = _capped(q[:, h] @ k[:, g].T * self._attention_scale(), cap)
            score[hidden] = -np.inf
            p = np.exp(score - score.max(axis=1, keepdims=True))
            out[:, h] = p @ v[:, g] / p.sum(axis=1, keepdims=True)
        return out.reshape(len(x), -1)

    def _qkv(self, x: F64, blk: str) -> tuple[F64, F64, F64]:
        """Each (T, heads, hd)."""
        nq, nkv = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        if blk + "attn_qkv.weight" in self.w:
            q, k, v = np.split(self._linear(x, blk + "attn_qkv"), [nq, nq + nkv], axis=1)
        else:
            q, k, v = (self._linear(x, blk + f"attn_{p}") for p in "qkv")
        by_row = self.w.get(blk + "attn_q_norm.weight", np.empty(0)).size > self.head_dim
        if by_row:
            q, k = self._norm(q, blk + "attn_q_norm"), self._norm(k, blk + "attn_k_norm")
        q, k, v = (y.reshape(len(x), -1, self.head_dim) for y in (q, k, v))
        if not by_row:
            q, k = self._norm(q, blk + "attn_q_norm"), self._norm(k, blk + "attn_k_norm")
        return q, k, v

    def _mlp(self, x: F64, blk: str) -> F64:
        up = self._linear(x, blk + "ffn_up")
        if blk + "ffn_gate.weight" in self.w:
            h = self._activation(self._linear(x, blk + "ffn_gate")) * up
        elif up.shape[1] == 2 * self.key("feed_forward_length"):
            gate, up = np.split(up, 2, axis=1)
            h = self._activation(gate) * up
        else:
            h = self._activation(up)
        return self._linear(h, blk + "ffn_down")

    # ---- its parts -------------------------------------------------------------------------------------------------------

    def _linear(self, x: F64, name: str) -> F64:
        return x @ self.w[name + ".weight"].T + self.w.get(name + ".bias", 0.0)

    def _norm(self, x: F64, name: str) -> F64:
        """RMSNorm, LayerNorm where there is a bias, nothing where there is no weight."""
        if name + ".weight" not in self.w:
            return x
        if name + ".bias" in self.w:
            x = x - x.mean(axis=-1, keepdims=True)
            eps = self.key("attention.layer_norm_epsilon")
        else:
            eps = self.key("attention.layer_norm_rms_epsilon")
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * self.w[name + ".weight"] + self.w.get(name + ".bias", 0.0)

    def _activation(self, x: F64) -> F64:
        if self.arch in _GELU:
            return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        return np.maximum(x, 0) ** 2 if self.arch in _RELU2 else x / (1 + np.exp(-x))

    def _embedding_scale(self) -> float:
        return float(np.sqrt(self.dim)) if self.arch.startswith("gemma") else float(self.key("embedding_scale", 1.0))

    def _attention_scale(self) -> float:
        if (self.arch, self.n_layers) in (("gemma2", 46), ("gemma3", 62)):  # their 27B
            return float((self.n_heads / self.dim) ** 0.5)
        return float(self.key("attention.scale", 0.0) or self.head_dim**-0.5)

    def _window(self, i: int) -> int:
        pattern = self.kv.get(f"{self.arch}.attention.sliding_window_pattern", _PERIOD.get(self.arch, 0))
        period = int(pattern) if np.ndim(pattern) == 0 else 0
        local = (period == 0 or i % period < period - 1) if np.ndim(pattern) == 0 else bool(pattern[i])
        return int(self.key("attention.sliding_window", 4096 if self.arch == "gemma2" else 0)) if local else 0

    def _turns(self, i: int) -> bool:
        if self.arch == "gpt2" or not self.key("rope.scaling.finetuned", True):
            return False
        return self.arch != "smollm3" or i % 4 != 3

    def _rope(self, t: int, local: bool) -> tuple[F64, F64]:
        """cos and sin (T, 1, rotated / 2)."""
        rotated = self.key("rope.dimension_count", self.head_dim)
        base, factor = self.key("rope.freq_base", 10000.0), self.key("rope.scaling.factor", 1.0)
        if local and self.arch in _PERIOD:
            base = self.key("rope.freq_base_swa", 10000.0 if self.arch == "gemma3" else base)
            factor = factor if self.arch == "gemma2" else 1.0
        frequency = base ** (-2.0 * np.arange(rotated // 2) / rotated) / factor
        long = self.n_ctx > self.key("rope.scaling.original_context_length", self.key("context_length"))
        for name in ("rope_freqs.weight", f"rope_factors_{'long' if long else 'short'}.weight"):
            frequency = frequency / self.w.get(name, 1.0)
        angle = (np.arange(t)[:, None] * frequency[None, :])[:, None, :]
        scale = self.key("rope.scaling.attn_factor", 1.0)
        return np.cos(angle) * scale, np.sin(angle) * scale

    def _rotate(self, x: F64, cos: F64, sin: F64) -> F64:
        """Turn pairs of the leading dimensions; the others stay."""
        n = 2 * cos.shape[-1]
        first, second = (slice(0, n // 2), slice(n // 2, n)) if self.arch in _HALVES else (slice(0, n, 2), slice(1, n, 2))
        y = x.copy()
        y[..., first] = x[..., first] * cos - x[..., second] * sin
        y[..., second] = x[..., first] * sin + x[..., second] * cos
        return y


def _capped(x: F64, cap: float) -> F64:
    return cap * np.tanh(x / cap) if cap else x


def _dequantized(model: reader.ModelFile, name: str) -> F64:
    """The tensor in C order, (n, k) for a matrix."""
    t = model.tensors[name]
    rows = model.data(name).reshape(*t.ne[:0:-1], -1)
    return gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[t.type]).reshape(t.ne[::-1]).astype(np.float64)
