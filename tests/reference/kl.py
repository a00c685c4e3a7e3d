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
    # sum p d = sum (p d - p + q), as p and q both sum to 1: no term is negative, so nothing cancels. Where p and q are
    # close, p (d + exp(-d) - 1) is the same without the rounding of p - q; elsewhere exp(-d) might overflow.
    near = np.abs(d) < 1
    close = np.exp(p) * (d + np.expm1(-np.where(near, d, 0)))
    return np.maximum(np.where(near, close, np.exp(p) * (d - 1) + np.exp(q)), 0).sum(axis=-1)


def mean_kl(reference: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Mean over positions of KL(reference || other) in nats."""
    return float(kl_per_position(reference, other).mean())
