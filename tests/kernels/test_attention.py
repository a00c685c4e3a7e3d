"""Attention over pages of f16: against float64, the same bits on every build, and nothing past the last position matters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.kernels.build import c
from tests.kernels.guard import guarded, poisoned

SHAPES = [(64, 3, 32), (64, 1, 32), (32, 2, 16), (48, 5, 64), (128, 8, 32)]  # head_dim, group, page: those of harness.c
POSITIONS = (1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100)


class Cache:
    """A pool of pages in random order, of which each holds one part at an odd place between poisoned neighbours."""

    def __init__(self, head_dim: int, page: int, n_pos: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        n = -(-n_pos // page)
        self.k = rng.standard_normal((n_pos, head_dim)).astype(np.float16)
        self.v = rng.standard_normal((n_pos, head_dim)).astype(np.float16)
        self.part = 4 * page * head_dim
        self.offset, self.stride = 64, self.part + 64
        self.pages = guarded(rng.permutation(n + 2)[:n].astype(np.int32))
        pool = np.full((n + 2, self.stride // 2), np.float16(np.nan))  # unwritten positions are NaN
        for i in range(n_pos):
            part = pool[self.pages[i // page]][self.offset // 2 :]
            slot = i % page
            part[: page * head_dim].reshape(page // 16, head_dim, 16)[slot // 16, :, slot % 16] = self.k[i]
            part[page * head_dim :].reshape(page, head_dim)[slot] = self.v[i]
        self.pool = guarded(pool.view(np.uint8).reshape(-1))

    def attend(self, lib: Any, q: np.ndarray[Any, Any], n_pos: int, page: int) -> np.ndarray[Any, Any]:
        group, head_dim = q.shape
        out = poisoned(q.shape)
        q = guarded(q)
        where = (c(self.pool), c(self.pages), self.stride, self.offset)
        assert lib.t_f16_attention(c(q), 0, *where, n_pos, 1, head_dim, group, page, c(out), 0) == 1
        return out


def exact(q: np.ndarray[Any, Any], k: np.ndarray[Any, Any], v: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    s = q.astype(np.float64) @ k.astype(np.float64).T
    p = np.exp(s - s.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True) @ v.astype(np.float64)


def queries(seed: int, group: int = 3, head_dim: int = 64) -> np.ndarray[Any, Any]:
    """As the model makes them: scaled by 1 / sqrt(head_dim)."""
    return (np.random.default_rng(seed).standard_normal((group, head_dim)) / head_dim**0.5).astype(np.float32)


@pytest.mark.parametrize(("head_dim", "group", "page"), SHAPES)
def test_attention(head_dim: int, group: int, page: int, lib: Any, oracle: Any) -> None:
    q = queries(1, group, head_dim)
    for n_pos in POSITIONS:
        cache = Cache(head_dim, page, n_pos, seed=n_pos)
        out = cache.attend(lib, q, n_pos, page)
        np.testing.assert_array_equal(out, cache.attend(oracle, q, n_pos, page), err_msg=f"n_pos={n_pos}")
        assert np.allclose(out, exact(q, cache.k, cache.v), rtol=0, atol=3e-6), n_pos


def test_every_length_up_to_100(lib: Any, oracle: Any) -> None:
    """One cache, growing prefixes: later positions are there and must not count."""
    q = queries(2)
    cache = Cache(64, 32, 100)
    for n_pos in range(1, 101):
        out = cache.attend(lib, q, n_pos, 32)
        np.testing.assert_array_equal(out, cache.attend(oracle, q, n_pos, 32))
        assert np.allclose(out, exact(q, cache.k[:n_pos], cache.v[:n_pos]), rtol=0, atol=3e-6), n_pos


def test_a_head_alone_equals_its_group(lib: Any) -> None:
    q = queries(3)
    cache = Cache(64, 32, 77)
    together = cache.attend(lib, q, 77, 32)
    for i in range(3):
        np.testing.assert_array_equal(cache.attend(lib, q[i : i + 1], 77, 32)[0], together[i])


@pytest.mark.parametrize("scale", [1e-3, 30.0, 1e4])
def test_sharp_and_flat_scores(scale: float, lib: Any, oracle: Any) -> None:
    """Differences beyond exp's range, so that whole pages have weight 0; and nearly equal scores."""
    q = queries(4) * np.float32(scale)
    cache = Cache(64, 32, 100, seed=9)
    out = cache.attend(lib, q, 100, 32)
    np.testing.assert_array_equal(out, cache.attend(oracle, q, 100, 32))
    assert np.allclose(out, exact(q, cache.k, cache.v), rtol=0, atol=1e-2 if scale > 100 else 2e-5)


def test_nan_query_is_nan_and_only_there(lib: Any, oracle: Any) -> None:
    q = queries(5)
    q[1, 5] = np.nan
    cache = Cache(64, 32, 70)
    out = cache.attend(lib, q, 70, 32)
    np.testing.assert_array_equal(out, cache.attend(oracle, q, 70, 32))
    assert np.isnan(out[1]).all() and np.isfinite(out[[0, 2]]).all()


@pytest.mark.parametrize(("head_dim", "group", "page"), SHAPES)
def test_rows_together_equal_rows_alone(head_dim: int, group: int, page: int, lib: Any) -> None:
    """6 consecutive positions, of which 4 go together, with strides, across page boundaries."""
    rows, width = 6, group * head_dim + 16
    for n_pos in (1, 13, page - 2, page, page + 1, 2 * page - 3, 97):
        cache = Cache(head_dim, page, n_pos + rows - 1, seed=n_pos)
        q = poisoned((rows, width))
        q[:, : group * head_dim] = queries(n_pos, rows, group * head_dim)
        out = poisoned((rows, width))
        where = (c(cache.pool), c(cache.pages), cache.stride, cache.offset)
        assert lib.t_f16_attention(c(q), width, *where, n_pos, rows, head_dim, group, page, c(out), width) == rows
        for r in range(rows):
            alone = cache.attend(lib, q[r, : group * head_dim].reshape(group, head_dim), n_pos + r, page)
            np.testing.assert_array_equal(out[r, : group * head_dim], alone.ravel(), err_msg=f"n_pos={n_pos} row={r}")
        assert np.isnan(out[:, group * head_dim :]).all()
