"""Kullback-Leibler divergence between the predictions of two models."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log-probabilities (T, vocab) in float64. Log-probabilities as input come back unchanged."""
    x = logits.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def kl_per_position(reference: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    """KL(reference || other) in nats for each position; both are logits (T, vocab). Result (T,), never negative."""
    p, q = log_softmax(reference), log_softmax(other)
    # p log(p/q) - p + q: every term is >= 0, so rounding cannot make the sum negative as it can with p log(p/q) alone.
    return (np.exp(p) * (p - q) - np.exp(p) + np.exp(q)).sum(axis=-1)


def mean_kl(reference: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Mean over positions of KL(reference || other) in nats."""
    return float(kl_per_position(reference, other).mean())
