"""The oracle's own tests: it must agree with definitions written a second way, and with itself in pieces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.reference.kl import kl_per_position, log_softmax, mean_kl
from tests.reference.llama_f64 import LlamaF64

MODELS: dict[str, dict[str, object]] = {
    "mixed": {},
    "untied, factors": {"tied": False, "rope_freqs": True, "seed": 1},
    "wide heads, scaled": {"head_dim": 32, "n_kv_heads": 1, "rope_scaling": 4.0, "seed": 2},
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, tiny_llama: Callable[..., Path]) -> LlamaF64:
    return LlamaF64(tiny_llama(**MODELS[request.param]))


def by_definition(m: LlamaF64, tokens: list[int]) -> np.ndarray:
    """Logits of the last token, one position and one head at a time, rotations as complex numbers."""
    c, w = m.config, m.w
    frequency = np.array([c.ropes[0].base ** (-2 * i / c.ropes[0].dim) for i in range(c.ropes[0].dim // 2)])
    frequency /= w.get("rope_freqs.weight", 1.0)
    frequency /= c.ropes[0].factor

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return w[name] * x / np.sqrt(np.dot(x, x) / len(x) + c.norm_eps)

    def turned(x: np.ndarray, pos: int) -> np.ndarray:
        z = (x[0::2] + 1j * x[1::2]) * np.exp(1j * pos * frequency)
        return np.stack([z.real, z.imag], axis=1).ravel()

    xs = [w["token_embd.weight"][t] for t in tokens]
    for i in range(c.n_layers):
        b = f"blk.{i}."
        normed = [norm(x, b + "attn_norm.weight") for x in xs]
        q, k, v = ([w[f"{b}attn_{r}.weight"] @ n for n in normed] for r in "qkv")
        for t in reversed(range(len(xs))):
            heads = []
            for h in range(c.n_heads):
                mine = slice(h * c.head_dim, (h + 1) * c.head_dim)
                g = h * c.n_kv_heads // c.n_heads
                theirs = slice(g * c.head_dim, (g + 1) * c.head_dim)
                query = turned(q[t][mine], t)
                score = [np.exp(np.dot(query, turned(k[s][theirs], s)) / c.head_dim**0.5) for s in range(t + 1)]
                heads.append(sum(p * v[s][theirs] for s, p in enumerate(score)) / sum(score))
            x = xs[t] + w[b + "attn_output.weight"] @ np.concatenate(heads)
            n = norm(x, b + "ffn_norm.weight")
            gate = w[b + "ffn_gate.weight"] @ n
            xs[t] = x + w[b + "ffn_down.weight"] @ (gate / (1 + np.exp(-gate)) * (w[b + "ffn_up.weight"] @ n))
    head = w["token_embd.weight" if c.tied_embeddings else "output.weight"]
    return head @ norm(xs[-1], "output_norm.weight")


def test_logits_agree_with_the_definition(model: LlamaF64) -> None:
    tokens = [5, 260, 17, 17, 300, 42, 9]
    np.testing.assert_allclose(model.logits(tokens)[-1], by_definition(model, tokens), rtol=1e-9, atol=1e-9)


def test_pieces_agree_with_the_whole(model: LlamaF64) -> None:
    tokens = list(range(40, 60))
    whole = model.logits(tokens)
    model.reset()
    pieces = [model.step(tokens[:1]), model.step(tokens[1:8]), model.step(tokens[8:])]
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-9, atol=1e-9)


def test_greedy_follows_the_largest_logit(model: LlamaF64) -> None:
    prompt = [70, 71, 72]
    tokens, gaps = model.greedy(prompt, 8)
    for i, (token, gap) in enumerate(zip(tokens, gaps, strict=True)):
        row = model.logits(prompt + tokens[:i])[-1]
        assert token == int(row.argmax())
        assert gap == pytest.approx(row.max() - np.delete(row, token).max(), abs=1e-9)


def test_activations_of_tiny_models_stay_sane(model: LlamaF64) -> None:
    logits = model.logits(list(range(4, 132)))
    assert np.isfinite(logits).all()
    assert 0.5 < logits.std() < 10


def test_kl_of_a_known_pair() -> None:
    p, q = np.array([[0.5, 0.25, 0.25]]), np.array([[0.25, 0.5, 0.25]])
    assert mean_kl(np.log(p), np.log(q)) == pytest.approx(0.25 * np.log(2))
    assert mean_kl(np.log(p) + 100, np.log(q) - 3) == pytest.approx(0.25 * np.log(2))
    assert mean_kl(np.log(p), np.log(p) + 7) == pytest.approx(0, abs=1e-15)


def test_kl_is_never_negative() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((50, 1000)) * 5
    for scale in (0.0, 1e-12, 1e-9, 1e-6):
        assert (kl_per_position(a, a + scale * rng.standard_normal(a.shape)) >= 0).all()
    np.testing.assert_allclose(np.exp(log_softmax(a)).sum(axis=1), 1)


def test_kl_of_certainties() -> None:
    """Two models that are certain of different tokens: no overflow, the gap of the logits is the divergence."""
    assert mean_kl(np.array([[2000.0, 0.0]]), np.array([[0.0, 2000.0]])) == pytest.approx(2000)
