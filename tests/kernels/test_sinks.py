"""Attention sinks: a logit of each head in the softmax's denominator, over both formats of the cache, with a window and without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.kernels import test_attention as f16
from tests.kernels import test_attention_q16 as q16
from tests.kernels.build import c
from tests.kernels.guard import guarded, poisoned

GROUP, HEAD_DIM = 3, 64
SINKS = np.array([-3.0, 1.5, 6.0], np.float32)
Array = np.ndarray[Any, Any]


def attend(lib: Any, kind: str, cache: Any, q: Array, n_pos: int, window: int, sinks: Array) -> Array:
    """(rows, group, head_dim); row r attends n_pos + r positions."""
    rows, width = len(q), GROUP * HEAD_DIM + 16
    wide, out, own = poisoned((rows, width)), poisoned((rows, width)), guarded(sinks)
    wide[:, :-16] = q.reshape(rows, -1)
    where = (c(cache.pool), c(cache.pages), cache.stride, cache.offset)
    getattr(lib, f"t_{kind}_sinks")(c(wide), width, *where, n_pos, rows, window, c(own), c(out), width)
    return out[:, :-16].reshape(q.shape)


def exact(q: Array, k: Array, v: Array, window: int, base: float) -> Array:
    """One row in float64. The scores are exponents of ``base``."""
    k, v = (x[-window:].astype(np.float64) if window else x.astype(np.float64) for x in (k, v))
    s = q.astype(np.float64) @ k.T * np.log(base)
    most = np.maximum(s.max(axis=1), SINKS)[:, None]
    p = np.exp(s - most)
    return p @ v / (p.sum(axis=1, keepdims=True) + np.exp(SINKS[:, None] - most))


@pytest.mark.parametrize("window", [0, 1, 40, 64, 100])
@pytest.mark.parametrize("kind", ["f16", "q16"])
def test_sinks(kind: str, window: int, lib: Any, oracle: Any) -> None:
    for rows, n_pos in ((1, 1), (1, 100), (4, 62), (16, 1), (19, 100), (37, 40), (32, 129)):
        last = n_pos + rows - 1
        if kind == "f16":
            cache: Any = f16.Cache(HEAD_DIM, 32, last, seed=n_pos)
            q = f16.queries(rows, rows * GROUP, HEAD_DIM).reshape(rows, GROUP, HEAD_DIM) * np.float32(3)
            base, near = np.e, 1e-5
        else:
            cache = q16.Cache.random(HEAD_DIM, last, seed=n_pos)
            q = q16.queries(rows, GROUP, HEAD_DIM, seed=rows, scale=3)
            base, near = 2.0, 2e-3
        out = attend(lib, kind, cache, q, n_pos, window, SINKS)
        q16.same_bits(out, attend(oracle, kind, cache, q, n_pos, window, SINKS))
        for r in {0, rows // 2, rows - 1}:
            q16.same_bits(out[r : r + 1], attend(lib, kind, cache, q[r : r + 1], n_pos + r, window, SINKS))
            expected = exact(q[r], cache.k[: n_pos + r], cache.v[: n_pos + r], window, base)
            assert np.allclose(out[r], expected, rtol=0, atol=near * max(1, np.abs(cache.v).max())), (rows, n_pos, r)


@pytest.mark.parametrize("kind", ["f16", "q16"])
def test_a_sink_far_above_or_below_all_scores(kind: str, lib: Any) -> None:
    """Far above it takes everything; far below it is as if it were not there."""
    cache: Any = f16.Cache(HEAD_DIM, 32, 90) if kind == "f16" else q16.Cache.random(HEAD_DIM, 90)
    q = q16.queries(20, GROUP, HEAD_DIM)
    assert np.abs(attend(lib, kind, cache, q, 71, 0, np.full(3, 80, np.float32))).max() < 1e-20
    low = attend(lib, kind, cache, q, 71, 0, np.full(3, -1e4, np.float32))
    for r in (0, 19):
        one = cache.attend(lib, q[r], 71 + r, 32) if kind == "f16" else cache.attend(lib, q[r : r + 1], 71 + r)[0]
        np.testing.assert_allclose(low[r], one, rtol=1e-6, atol=1e-6)
