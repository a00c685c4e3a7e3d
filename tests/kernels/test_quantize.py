"""Activation quantization and RMSNorm equal the contract bit for bit, in guarded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.kernels import reference as ref
from tests.kernels.build import c, ffi
from tests.kernels.guard import guarded, poisoned
from tests.kernels.test_linear import random_activations


def q8_buffer(m: int, k: int, tiled: bool = False) -> tuple[Any, list[np.ndarray[Any, Any]]]:
    """An infc_q8 of m rows and its arrays, (m, blocks, ...); tiled, (m / 16, blocks, 16, ...)."""
    blocks = (-(-m // 16), k // 32, 16) if tiled else (m, k // 32)
    parts = [poisoned((*blocks, 32), np.int8)] + [poisoned(blocks), poisoned((*blocks, 2), np.int16), poisoned(blocks)]
    return ffi.new("infc_q8 *", [*(c(p) for p in parts), tiled]), parts


def check(parts: list[np.ndarray[Any, Any]], x: np.ndarray[Any, Any]) -> None:
    a = ref.Activations(x)
    np.testing.assert_array_equal(parts[0], a.q)
    for got, expected in zip(parts[1:], (a.d, a.s, a.ds), strict=True):
        np.testing.assert_array_equal(got, expected)


def special_rows(k: int) -> np.ndarray[Any, Any]:
    """Zeros, tiny, huge, ties, one spike, NaN, Inf."""
    x = random_activations(12, k, seed=3)
    x[0] = 0
    x[1] = 1e-38
    x[2] = np.float32(1e-30) * np.where(np.arange(k) % 2, 1, -1)
    x[3] = x[3] / np.abs(x[3]).max() * np.float32(3e38)
    x[4] = np.arange(k) - k / 2
    x[4, ::32] = 127 * 2  # id = 0.5: every odd value is a tie
    x[5] = 0
    x[5, 7] = -3
    x[6, 5] = np.nan
    x[7, 9] = -np.inf
    x[8] = -0.0
    return x


@pytest.mark.parametrize("k", [32, 64, 576])
def test_quantize(k: int, lib: Any) -> None:
    x = special_rows(k)
    q8, parts = q8_buffer(len(x), k)
    for m in range(len(x)):
        lib.t_quantize_row(c(guarded(x[m])), k, q8, m)
    check(parts, x)


def test_quantize_into_tiles(lib: Any) -> None:
    """Rows that do not fill the last tile: the rest of it stays as it was."""
    x = np.concatenate([special_rows(64)] * 3)[:33]
    q8, parts = q8_buffer(len(x), 64, tiled=True)
    before = [p.copy() for p in parts]
    for m in range(len(x)):
        lib.t_quantize_row(c(guarded(x[m])), 64, q8, m)
    check([p[: len(x)] for p in rows_of_tiles(parts)], x)
    for got, was in zip(parts, before, strict=True):
        np.testing.assert_array_equal(got[2, :, 1:], was[2, :, 1:])


def rows_of_tiles(parts: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """The arrays of a tiled q8 buffer as (rows, blocks, ...)."""
    return [p.swapaxes(1, 2).reshape(-1, *p.shape[1:2], *p.shape[3:]) for p in parts]


@pytest.mark.parametrize("rows", [1, 15, 16])
def test_quantize_many_rows(rows: int, lib: Any) -> None:
    """Rows of a tile together: ordinary ones, and among them zeros, ties, NaN and infinity."""
    for x in (np.concatenate([special_rows(64)] * 2)[:rows], random_activations(rows, 64, seed=11)):
        q8, parts = q8_buffer(32, 64, tiled=True)
        padded = np.full((rows, 80), np.nan, np.float32)
        padded[:, :64] = x
        source = guarded(padded)
        for b in range(2):
            lib.t_quantize_rows(c(source[0, 32 * b :]), 80, rows, q8, 64, 16, b)
        check([p[16 : 16 + rows] for p in rows_of_tiles(parts)], x)


@pytest.mark.parametrize("rows", [3, 16])
def test_rmsnorm_of_many_rows(rows: int, lib: Any) -> None:
    x, w = random_activations(rows, 96, seed=12), random_activations(1, 96, seed=13)[0]
    q8, parts = q8_buffer(16, 96, tiled=True)
    lib.t_rmsnorm_q8_rows(c(guarded(x)), 96, rows, c(guarded(w)), 1e-5, 96, q8, 0)
    scale = np.array([ref.rms_scale(row, 1e-5) for row in x], np.float32)
    check([p[:rows] for p in rows_of_tiles(parts)], x * scale[:, None] * w)


@pytest.mark.parametrize("k", [1, 15, 16, 17, 64, 576])
def test_rmsnorm(k: int, lib: Any) -> None:
    x, w = random_activations(6, k, seed=4), random_activations(1, k, seed=5)[0]
    for row in x:
        out = poisoned((k,))
        lib.t_rmsnorm(c(guarded(row)), c(guarded(w)), 1e-5, k, c(out))
        np.testing.assert_array_equal(out, row * ref.rms_scale(row, 1e-5) * w)
        exact = row / np.sqrt(np.mean(row.astype(np.float64) ** 2) + 1e-5) * w
        assert np.allclose(out, exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("k", [32, 576])
def test_rmsnorm_quantized(k: int, lib: Any) -> None:
    x, w = random_activations(6, k, seed=6), random_activations(1, k, seed=7)[0]
    q8, parts = q8_buffer(len(x), k)
    for m, row in enumerate(x):
        lib.t_rmsnorm_q8(c(guarded(row)), c(guarded(w)), 1e-5, k, q8, m)
    scale = np.array([ref.rms_scale(row, 1e-5) for row in x], np.float32)
    check(parts, x * scale[:, None] * w)


def test_rmsnorm_in_two_terms(lib: Any) -> None:
    """Row 2m: the plain quantization; row 2m + 1: x - q d, one fma, quantized again. Together nearly sixteen bits."""
    k = 64
    x, w = random_activations(6, k, seed=8), random_activations(1, k, seed=9)[0]
    x[5, 3] = np.nan
    q8, parts = q8_buffer(2 * len(x), k)
    for m, row in enumerate(x):
        lib.t_rmsnorm_q8x2(c(guarded(row)), c(guarded(w)), 1e-5, k, q8, m)
    scale = np.array([ref.rms_scale(row, 1e-5) for row in x], np.float32)
    y = x * scale[:, None] * w
    first = ref.Activations(y)
    blocks = y.reshape(len(x), -1, 32)
    lost = ref.fma(first.q, -first.d[..., None], blocks).reshape(y.shape)
    check(parts, np.stack([y, lost], axis=1).reshape(-1, k))
    finite = np.isfinite(blocks).all(axis=2)
    got = (parts[0].reshape(-1, 2, k // 32, 32) * parts[1].reshape(-1, 2, k // 32)[..., None].astype(np.float64)).sum(axis=1)
    assert (np.abs(got - blocks)[finite].max(axis=1) <= np.abs(blocks)[finite].max(axis=1) * 2.0**-14).all()
