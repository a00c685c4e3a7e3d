"""Attention over q16 pages: the bits of the numpy contract on every build, alone or in company, whatever nobody wrote."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.kernels import reference_q16 as ref
from tests.kernels.build import c
from tests.kernels.guard import guarded, poisoned
from tests.kernels.test_epilogue import normal, panels, rope_row, rotated

SHAPES = [(64, 3), (64, 1), (16, 2), (48, 5), (128, 8), (256, 1)]  # head_dim, group: those of harness.c
PAGE = ref.PAGE
Array = np.ndarray[Any, Any]


class Cache:
    """A pool of pages in random order, each with one part at an odd place between poison."""

    def __init__(self, k: Array, v: Array, seed: int = 0) -> None:
        self.k, self.v = k, v
        n, head_dim = -(-len(k) // PAGE), k.shape[1]
        self.offset = 64
        self.stride = 4 * PAGE * head_dim + 12 * PAGE + 128
        self.pages = guarded(np.random.default_rng(seed).permutation(n + 2)[:n].astype(np.int32))
        self.pool = guarded(ref.pool(k, v, self.pages, self.stride, self.offset))

    @classmethod
    def random(cls, head_dim: int, n_pos: int, seed: int = 0) -> Cache:
        """Values of very different sizes, so that their exponents differ within a page."""
        size = np.exp(np.random.default_rng(seed).uniform(-3, 3, (n_pos, 1))).astype(np.float32)
        return cls(normal(n_pos, head_dim, seed=seed), normal(n_pos, head_dim, seed=seed + 1) * size, seed)

    def attend(self, lib: Any, q: Array, n_pos: int) -> Array:
        """(rows, group, head_dim): row r attends n_pos + r positions; strides are wider than the rows."""
        rows, group, head_dim = q.shape
        width = group * head_dim + 16
        wide, out = poisoned((rows, width)), poisoned((rows, width))
        wide[:, : group * head_dim] = q.reshape(rows, -1)
        where = (c(self.pool), c(self.pages), self.stride, self.offset)
        assert lib.t_q16_attention(c(wide), width, *where, n_pos, rows, head_dim, group, PAGE, c(out), width) == rows
        assert np.isnan(out[:, group * head_dim :]).all()
        return out[:, : group * head_dim].reshape(q.shape)

    def expected(self, q: Array, n_pos: int) -> Array:
        return np.stack([ref.attend(row, self.k[: n_pos + r], self.v[: n_pos + r]) for r, row in enumerate(q)])


def queries(rows: int, group: int, head_dim: int, seed: int = 1, scale: float = 1.0) -> Array:
    """As the model makes them: multiplied by log2(e) / sqrt(head_dim)."""
    return (normal(rows, group, head_dim, seed=seed) * (scale * 1.4427 / head_dim**0.5)).astype(np.float32)


def same_bits(a: Array, b: Array) -> None:
    np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


def exact(q: Array, k: Array, v: Array) -> Array:
    s = q.astype(np.float64) @ k.astype(np.float64).T
    p = np.exp2(s - s.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True) @ v.astype(np.float64)


def test_powers_of_two(lib: Any) -> None:
    x = np.concatenate([-np.geomspace(1e-9, 140, 4000), -np.arange(0, 140, 0.5), [0.0, -1e30, -np.inf, np.nan]]).astype(np.float32)
    x = guarded(np.resize(x, -(-len(x) // 16) * 16))
    y = poisoned(x.shape)
    lib.t_q16_exp2(c(x), c(y), len(x))
    same_bits(np.nan_to_num(y), np.nan_to_num(ref.exp2(x)))
    assert np.isnan(y[np.isnan(x)]).all() and np.isfinite(y[~np.isnan(x)]).all()
    near = x > -126
    assert np.allclose(y[near], 2.0 ** (14 + x[near].astype(np.float64)), rtol=2.9e-6, atol=0)


@pytest.mark.parametrize("head_dim", [16, 48, 64, 128, 256])
def test_a_row_written_is_the_reference_page(head_dim: int, lib: Any) -> None:
    """Scales, layout, zero rows, Inf and NaN; slots nobody wrote stay as they were."""
    k, v = normal(37, head_dim), normal(37, head_dim, seed=1) * np.float32(7)
    k[3], v[4], v[5] = 0, 0, v[5] / np.float32(1e20)
    k[6, 5], k[7, 1], v[8, 0], v[9, 15] = np.nan, -np.inf, np.inf, np.nan
    v[10] = 2047 * 2.0**-3  # exactly at a power of two
    rope = rope_row(head_dim, head_dim, 3)
    part = guarded(np.full(4 * PAGE * head_dim + 12 * PAGE, 255, np.uint8))
    with np.errstate(invalid="ignore"):
        for i in range(37):
            lib.t_q16_write_k(c(panels(k[i])), 48, c(guarded(rope)), head_dim, 0, head_dim, c(part), PAGE, i)
            lib.t_q16_write_v(c(panels(v[i])), 48, head_dim, 0, head_dim, c(part), PAGE, i)
        expected = ref.page_part(np.stack([rotated(row, rope) for row in k]), v)
    np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize(("head_dim", "group"), SHAPES)
def test_one_row(head_dim: int, group: int, lib: Any) -> None:
    q = queries(1, group, head_dim)
    cache = Cache.random(head_dim, 200)
    for n_pos in (1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200):
        out = cache.attend(lib, q, n_pos)
        same_bits(out, cache.expected(q, n_pos))
        near = exact(q[0], cache.k[:n_pos], cache.v[:n_pos])
        assert np.allclose(out[0], near, rtol=0, atol=2e-3 * np.abs(cache.v[:n_pos]).max()), n_pos


@pytest.mark.parametrize(("head_dim", "group"), SHAPES)
@pytest.mark.parametrize(("rows", "n_pos"), [(4, 62), (6, 130), (16, 1), (19, 100), (37, 40), (32, 129), (64, 50)])
def test_rows_together(rows: int, n_pos: int, head_dim: int, group: int, lib: Any, oracle: Any) -> None:
    """Whole tiles, what is left of them, and pages that end before, within and after the rows."""
    q = queries(rows, group, head_dim, seed=rows)
    cache = Cache.random(head_dim, n_pos + rows - 1, seed=n_pos)
    out = cache.attend(lib, q, n_pos)
    same_bits(out, cache.attend(oracle, q, n_pos))
    for r in {0, 1, rows // 2, rows - 1}:
        same_bits(out[r : r + 1], cache.attend(lib, q[r : r + 1], n_pos + r))


def test_rows_against_the_contract(lib: Any) -> None:
    q = queries(20, 3, 64, seed=8)
    cache = Cache.random(64, 90, seed=8)
    same_bits(cache.attend(lib, q, 60), cache.expected(q, 60))


@pytest.mark.parametrize("scale", [1e-3, 30.0, 1e4])
def test_sharp_and_flat_scores(scale: float, lib: Any) -> None:
    """Whole pages of weight 0, and nearly equal scores."""
    q = queries(17, 3, 64, seed=4, scale=scale)
    cache = Cache.random(64, 190, seed=9)
    out = cache.attend(lib, q, 170)
    same_bits(out, cache.expected(q, 170))
    if scale < 100:
        near = np.stack([exact(row, cache.k[: 170 + r], cache.v[: 170 + r]) for r, row in enumerate(q)])
        assert np.allclose(out, near, rtol=0, atol=(2e-3 if scale < 1 else 0.1) * np.abs(cache.v).max())


def test_the_largest_integers(lib: Any) -> None:
    """Every product at its bound: sums reach 2^31 - 1 within 0.1 % and must not pass it."""
    for head_dim, group in ((64, 3), (256, 1)):
        ones = np.ones((130, head_dim), np.float32)
        cache = Cache(ones, ones * np.float32(2047))
        q = np.ones((20, group, head_dim), np.float32)
        q[1::2] = -1
        out = cache.attend(lib, q, 111)
        same_bits(out, cache.expected(q, 111))
        np.testing.assert_allclose(out, 2047, rtol=1e-5)


def test_not_a_number_stays_with_its_query(lib: Any, oracle: Any) -> None:
    q = queries(18, 3, 64, seed=5)
    q[2, 1, 5], q[17, 0, 0] = np.nan, np.inf
    cache = Cache.random(64, 100, seed=3)
    out = cache.attend(lib, q, 83)
    same_bits(out, cache.attend(oracle, q, 83))
    bad = np.isnan(out).any(axis=2)
    assert set(zip(*np.nonzero(bad), strict=True)) == {(2, 1), (17, 0)} and np.isnan(out[bad]).all()


@pytest.mark.parametrize("where", ["key", "value"])
def test_not_a_number_in_the_cache_reaches_who_sees_it(where: str, lib: Any, oracle: Any) -> None:
    k, v = normal(100, 64, seed=6), normal(100, 64, seed=7)
    (k if where == "key" else v)[90, 3] = np.inf
    cache = Cache(k, v)
    q = queries(20, 3, 64, seed=6)
    out = cache.attend(lib, q, 81)  # row 10 is the first that attends position 90
    same_bits(out, cache.attend(oracle, q, 81))
    assert np.isfinite(out[:10]).all() and np.isnan(out[10:]).all()


def test_what_nobody_wrote_has_no_influence(lib: Any) -> None:
    """The same prefix in a pool whose other bytes are 255, 0 or large numbers."""
    q = queries(20, 3, 64, seed=2)
    cache = Cache.random(64, 75, seed=2)
    out = cache.attend(lib, q, 56)
    for fill in (0, 127):
        part = len(ref.page_part(cache.k[:1], cache.v[:1]))
        for i, page in enumerate(cache.pages):
            at = int(page) * cache.stride + cache.offset
            cache.pool[at : at + part] = ref.page_part(cache.k[i * PAGE : (i + 1) * PAGE], cache.v[i * PAGE : (i + 1) * PAGE], fill)
        same_bits(cache.attend(lib, q, 56), out)
