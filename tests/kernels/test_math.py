"""exp and its kin: accurate against float64, and the same bits on every build."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.kernels import reference as ref
from tests.kernels.build import c

SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 88.72, 88.7228, 88.73, 1e30, np.inf, -87.0, -87.29, -87.31, -90.0, -1e30, -np.inf, np.nan, 1e-30, -1e-40],
    np.float32,
)


def unary(lib: Any, name: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    padded = np.zeros(-(-len(x) // 16) * 16, np.float32)
    padded[: len(x)] = x
    y = np.empty_like(padded)
    getattr(lib, "t_" + name)(c(padded), c(y), len(padded))
    return y[: len(x)]


def sample() -> np.ndarray[Any, Any]:
    """Every exponent with 1,024 mantissas, both signs, and a dense grid where exp is neither 0 nor inf."""
    rng = np.random.default_rng(0)
    bits = (np.arange(256, dtype=np.uint32)[:, None] << 23 | rng.integers(0, 1 << 23, (256, 1024), dtype=np.uint32)).ravel()
    x = bits.view(np.float32)
    return np.concatenate([SPECIAL, x[~np.isnan(x)], -x[~np.isnan(x)], np.linspace(-88, 89, 300_000).astype(np.float32)])


X = sample()


@pytest.mark.parametrize("name", ["exp", "sigmoid", "silu", "tanh", "gelu", "relu2"])
def test_same_bits_everywhere(name: str, lib: Any, oracle: Any) -> None:
    np.testing.assert_array_equal(unary(lib, name, X), unary(oracle, name, X))


def ulps(got: np.ndarray[Any, Any], true: np.ndarray[Any, Any]) -> float:
    """Largest error in units of the last place of the true value."""
    return float(np.max(np.abs(got - true) / np.spacing(np.abs(true.astype(np.float32))).astype(np.float64)))


def test_exp_within_one_ulp(oracle: Any) -> None:
    x = X[(X > -87.3) & (X < 88.72)]
    assert ulps(unary(oracle, "exp", x).astype(np.float64), np.exp(x.astype(np.float64))) < 1.0


def test_exp_at_the_ends(oracle: Any) -> None:
    y = unary(oracle, "exp", SPECIAL)
    assert y[0] == y[1] == 1.0
    assert np.isfinite(y[4:6]).all() and np.isinf(y[6:9]).all()
    assert (y[9:11] > 0).all() and (y[11:15] == 0).all()
    assert np.isnan(y[15]) and (y[16:] == 1).all()


def test_derived_functions_are_accurate(oracle: Any) -> None:
    x = X[(np.abs(X) < 80) & (np.abs(X) > 1e-30)]
    d = x.astype(np.float64)
    assert ulps(unary(oracle, "sigmoid", x).astype(np.float64), 1 / (1 + np.exp(-d))) < 3
    assert ulps(unary(oracle, "silu", x).astype(np.float64), d / (1 + np.exp(-d))) < 3
    assert np.abs(unary(oracle, "tanh", x) - np.tanh(d)).max() < 2e-7
    u = np.sqrt(2 / np.pi) * (d + 0.044715 * d**3)
    gelu = d / 2 * (1 + np.tanh(u))
    assert ulps(unary(oracle, "relu2", np.abs(x)[np.abs(x) > 1e-18]).astype(np.float64), d[np.abs(x) > 1e-18] ** 2) <= 0.5
    assert (unary(oracle, "relu2", -np.abs(x)) == 0).all()
    assert (np.abs(unary(oracle, "gelu", x) - gelu) <= 2e-7 * np.maximum(np.abs(d), 1e-3)).all()


def ternary(lib: Any, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], d: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    y = np.empty_like(a)
    lib.t_fma(c(a), c(b), c(d), c(y), len(a))
    return y


def test_fma_rounds_once(lib: Any) -> None:
    """Random operands of every magnitude, and cancellations and ties made on purpose, against the numpy fma."""
    rng = np.random.default_rng(1)
    n = 1 << 18
    bits = rng.integers(0, 1 << 32, (3, n), dtype=np.uint32)
    bits[:, : n // 2] = bits[:, : n // 2] & 0x807FFFFF | rng.integers(110, 145, (3, n // 2), dtype=np.uint32) << 23
    a, b, d = np.where(np.isfinite(bits.view(np.float32)), bits.view(np.float32), 1).astype(np.float32)
    few = rng.integers(1, 1 << 12, (2, n // 4)).astype(np.float32)  # short products: exact ties are common
    a[: n // 4], b[: n // 4] = few
    d[: n // 4] = np.ldexp(rng.integers(1, 1 << 24, n // 4).astype(np.float32), rng.integers(0, 4, n // 4) + 1)
    d[n // 4 : n // 3] = -(a[n // 4 : n // 3] * b[n // 4 : n // 3])  # cancellation
    np.testing.assert_array_equal(ternary(lib, a, b, d), ref.fma(a, b, d))
    # a sum that lies just beside the middle between two floats, by less than a double shows
    one = np.full(16, 1 + 2.0**-23, np.float32)
    half = np.full(16, np.float32(2.0**-60))
    y = ternary(lib, one, np.full(16, 1 + 2.0**-22, np.float32), half)
    np.testing.assert_array_equal(y, ref.fma(one, np.full(16, 1 + 2.0**-22, np.float32), half))


def test_every_f16(lib: Any) -> None:
    h = np.arange(1 << 16, dtype=np.uint16)
    y, one = np.empty(1 << 16, np.float32), np.empty(1 << 16, np.float32)
    lib.t_from_f16(c(h), c(y), len(h))
    lib.t_from_f16_one(c(h), c(one), len(h))
    np.testing.assert_array_equal(y, h.view(np.float16).astype(np.float32))
    np.testing.assert_array_equal(one.view(np.uint32), y.view(np.uint32))
    back = np.empty_like(h)
    lib.t_to_f16(c(y), c(back), len(h))
    numbers = ~np.isnan(y)
    np.testing.assert_array_equal(back[numbers], h[numbers])


def test_f32_to_f16_rounds_to_even(lib: Any, oracle: Any) -> None:
    mids = np.arange(0, 0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    mids = ((mids[:-1] + mids[1:]) / 2).astype(np.float32)
    x = np.concatenate([mids, np.nextafter(mids, np.float32(0)), np.nextafter(mids, np.float32(np.inf)), X[:300_000]])
    x = np.concatenate([x, -x, np.zeros(-2 * len(x) % 16, np.float32)]).astype(np.float32)
    got, expected = np.empty(len(x), np.uint16), np.empty(len(x), np.uint16)
    lib.t_to_f16(c(x), c(got), len(x))
    with np.errstate(over="ignore"):
        numpys = x.astype(np.float16).view(np.uint16)
    oracle.t_to_f16(c(x), c(expected), len(x))
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(got[~np.isnan(x)], numpys[~np.isnan(x)])


def test_folds_keep_their_order(lib: Any) -> None:
    x = (np.random.default_rng(2).standard_normal(16) * 10.0 ** np.arange(16) % 1e6).astype(np.float32)
    assert np.float32(lib.t_fold_add(c(x))) == ref.fold(x)
    assert np.float32(lib.t_fold_max(c(x))) == x.max()


def test_max_takes_the_second_where_either_is_nan(lib: Any) -> None:
    a, b = np.zeros(16, np.float32), np.zeros(16, np.float32)
    a[:4], b[:4] = [np.nan, 1, np.nan, 2], [1, np.nan, np.nan, 1]
    y = np.empty(16, np.float32)
    lib.t_max(c(a), c(b), c(y))
    np.testing.assert_array_equal(y[:4], np.array([1, np.nan, np.nan, 2], np.float32))
