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
    d = p - q
    # sum p d = sum p (d + exp(-d) - 1), because p and q both sum to 1: terms that are never negative, so nothing cancels.
    return (np.exp(p) * np.maximum(d + np.expm1(-d), 0)).sum(axis=-1)


def mean_kl(reference: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Mean over positions of KL(reference || other) in nats."""
    return float(kl_per_position(reference, other).mean())
