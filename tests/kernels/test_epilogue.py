"""What happens to a tile after the product: residual, logits, SwiGLU, RoPE, and the write into a page."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.kernels import reference as ref
from tests.kernels.build import c, ffi
from tests.kernels.guard import guarded, poisoned
from tests.kernels.test_quantize import check, q8_buffer


def normal(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_residual(lib: Any) -> None:
    tile, x = guarded(normal(5, 16)), normal(5, 48, seed=1)
    out = guarded(x)
    lib.t_residual(c(tile), 5, c(out), 48, 32)
    x[:, 32:] += tile
    np.testing.assert_array_equal(out, x)


def test_store_skips_rows_nobody_wants_and_ends_where_the_matrix_ends(lib: Any) -> None:
    tile = guarded(normal(3, 16))
    rows = [poisoned((37,)), poisoned((37,))]
    pointers = ffi.new("float *[]", [c(rows[0]), ffi.NULL, c(rows[1])])
    lib.t_store(c(tile), 3, pointers, 16, 16)
    lib.t_store(c(tile), 3, pointers, 32, 5)
    for row, m in zip(rows, (0, 2), strict=True):
        assert np.isnan(row[:16]).all()
        np.testing.assert_array_equal(row[16:32], tile[m])
        np.testing.assert_array_equal(row[32:], tile[m, :5])


def test_store_adds_the_two_terms_of_a_row(lib: Any) -> None:
    tile = guarded(normal(4, 16))
    row = poisoned((21,))
    pointers = ffi.new("float *[]", [ffi.NULL, c(row)])
    lib.t_store_sum(c(tile), 2, pointers, 0, 16)
    lib.t_store_sum(c(tile), 2, pointers, 16, 5)
    expected = tile[2] + tile[3]
    np.testing.assert_array_equal(row, np.concatenate([expected, expected[:5]]))


def silu_times(gate: np.ndarray[Any, Any], up: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    g = gate.astype(np.float64)
    return g / (1 + np.exp(-g)) * up


def test_swiglu(lib: Any, oracle: Any) -> None:
    gate, up = normal(2, 3, 16) * 4, normal(2, 3, 16, seed=1)
    h = [poisoned((3, 64)) for _ in range(2)]
    for library, out in zip((lib, oracle), h, strict=True):
        for i in range(2):
            library.t_swiglu_f32(c(guarded(gate[i])), c(guarded(up[i])), 3, c(out), 64, 32 + 16 * i)
    np.testing.assert_array_equal(h[0], h[1])
    values = h[0][:, 32:]
    assert np.allclose(values, np.concatenate(list(silu_times(gate, up)), axis=1), rtol=1e-6, atol=1e-7)
    # the quantized form is the plain form, quantized
    q8, parts = q8_buffer(3, 64)
    for b in range(2):
        lib.t_swiglu_q8(c(guarded(gate)), c(guarded(up)), 3, q8, 64, b)
    check(parts, np.concatenate([values, values], axis=1))


def panels(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """One row of a linear layer's tile: panels of 16 values, 48 floats apart, as three rows would leave them."""
    tile = poisoned((len(x) // 16, 3, 16))
    tile[:, 0] = x.reshape(-1, 16)
    return tile


def rope_row(head_dim: int, rope_dim: int, seed: int) -> np.ndarray[Any, Any]:
    """(2, head_dim) as infc_forward.h lays it out."""
    angle = np.random.default_rng(seed).uniform(-3, 3, rope_dim // 2)
    out = np.stack([np.ones(head_dim), np.zeros(head_dim)]).astype(np.float32)
    out[0, :rope_dim] = np.repeat(np.cos(angle), 2)
    out[1, 0:rope_dim:2], out[1, 1:rope_dim:2] = -np.sin(angle), np.sin(angle)
    return out


def rotated(x: np.ndarray[Any, Any], rope: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Contract: fma(neighbour, signed sine, x * cosine)."""
    neighbour = x.reshape(-1, 2)[:, ::-1].reshape(x.shape)
    return ref.fma(neighbour, rope[1], x * rope[0])


def test_rotated_queries(lib: Any) -> None:
    head_dim, m = 64, 3
    x = normal(m, head_dim)
    rope = np.stack([rope_row(head_dim, 48, seed) for seed in range(m)])
    scale = np.float32(head_dim**-0.5)
    q = guarded(np.zeros((m, 192), np.float32))
    for d0 in range(0, head_dim, 16):
        tile = guarded(x[:, d0 : d0 + 16])
        lib.t_rope_q(c(tile), m, c(guarded(rope)), head_dim, d0, scale, c(q), 192, 128 + d0)
    expected = np.stack([rotated(x[i], rope[i]) for i in range(m)]) * scale
    np.testing.assert_array_equal(q[:, 128:], expected)
    assert not q[:, :128].any()
    # a rotation keeps lengths, and dimensions past rope_dim as they are
    assert np.allclose(np.linalg.norm(q[:, 128:], axis=1) / scale, np.linalg.norm(x, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(q[:, 176:], x[:, 48:] * scale)


def test_f16_keys_and_values_land_in_their_slot(lib: Any) -> None:
    head_dim, page = 64, 32
    part = guarded(np.zeros(4 * page * head_dim, np.uint8))
    halves = part.view(np.float16)
    keys = halves[: page * head_dim].reshape(page // 16, head_dim, 16)
    values = halves[page * head_dim :].reshape(page, head_dim)
    for slot in (0, 15, 16, 31):
        x, v, rope = normal(head_dim, seed=slot), normal(head_dim, seed=slot + 50), rope_row(head_dim, head_dim, slot)
        for d0 in range(0, head_dim, 32):
            lib.t_f16_write_k(c(panels(x[d0 : d0 + 32])), 48, c(guarded(rope)), head_dim, d0, 32, c(part), page, slot)
            lib.t_f16_write_v(c(panels(v[d0 : d0 + 32])), 48, head_dim, d0, 32, c(part), page, slot)
        np.testing.assert_array_equal(keys[slot // 16, :, slot % 16], rotated(x, rope).astype(np.float16))
        np.testing.assert_array_equal(values[slot], v.astype(np.float16))
    untouched = np.ones(page, bool)
    untouched[[0, 15, 16, 31]] = False
    assert not values[untouched].any()
    assert not keys.transpose(0, 2, 1).reshape(page, head_dim)[untouched].any()
