"""Every registered linear kernel, on every build, equals the contract bit for bit, inside guarded memory."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from infc.formats import FORMATS
from infc.kernels.spec import KernelSpec, registry
from infc.weights.repack import repack
from tests.kernels import reference as ref
from tests.kernels.build import Build, c, ffi
from tests.kernels.conftest import BUILDS, usable
from tests.kernels.guard import guarded, poisoned
from tests.kernels.reference_formats import HALVES

ROWS = (1, 2, 3, 4, 5, 7, 15, 16, 17, 33, 70)  # the last: more than any target's small_max
# (K, panels) by the size of a block: one block, chunked gemm, odd and even panel counts
SHAPES = {1: ((1, 1), (37, 3), (96, 2), (500, 7)), 32: ((32, 1), (96, 3), (576, 2), (2080, 5)), 256: ((256, 1), (2048, 3))}


def random_rows(type: str, n: int, k: int, seed: int) -> np.ndarray[Any, Any]:
    """(n, row bytes) as in a file: every code, scales of both signs, some zero, subnormal or large."""
    rng = np.random.default_rng(seed)
    f = FORMATS[type]
    if f.block_size == 1:
        x = rng.standard_normal((n, k)).astype(np.float32)
        if type == "F32":
            return x.view(np.uint8)
        if type == "F16":
            return x.astype(np.float16).view(np.uint8)
        return np.ascontiguousarray((x.view(np.uint32) >> 16).astype(np.uint16)).view(np.uint8)
    if type == "TQ1_0":  # not every byte is one that a quantizer writes
        raw = quants.quantize(rng.integers(-1, 2, (n, k)).astype(np.float32), GGMLQuantizationType.TQ1_0)
    else:
        raw = rng.integers(0, 256, (n, k // f.block_size * f.raw_bytes), dtype=np.uint8)
    raw = raw.reshape(n, -1, f.raw_bytes)
    for at in HALVES[type]:
        d = rng.standard_normal(raw.shape[:2]) * 10.0 ** rng.uniform(-4, 0, raw.shape[:2])
        special = rng.integers(0, 40, d.shape)
        d = np.select([special == 0, special == 1, special == 2], [0.0, 3e-7, 60000.0], d).astype(np.float16)
        raw[..., at : at + 2] = d[..., None].view(np.uint8)
    if type == "Q8_0":
        raw[:, 0, 2] = 128  # -128, the weight whose absolute value is not an int8
    if type == "MXFP4":
        raw[..., 0] = rng.integers(112, 128, raw.shape[:2])
    return raw.reshape(n, -1)


def random_activations(m: int, k: int, seed: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((m, k)) * 10.0 ** rng.uniform(-3, 3, (m, 1))
    x[rng.random((m, k)) < 0.05] = 0.0
    return x.astype(np.float32)


class Case:
    """Weights, activations and the contract's result for one format and shape; M rows are the first M."""

    def __init__(self, type: str, k: int, panels: int) -> None:
        f = FORMATS[type]
        n = 16 * panels - 3  # the last panel is padded
        self.raw = random_rows(type, n, k, seed=k)
        self.panels = guarded(repack(type, self.raw))
        self.x = random_activations(max(ROWS), k, seed=k + 1)
        self.a = ref.Activations(self.x) if f.activation == "q8" else None
        expected = ref.linear_q8(type, self.raw, self.a) if self.a else ref.linear_f32(type, self.raw, self.x)
        padded = np.zeros((max(ROWS), 16 * panels), np.float32)
        padded[:, :n] = expected
        self.expected = padded.reshape(max(ROWS), panels, 16).transpose(1, 0, 2)  # (panels, M, 16)

    def arguments(self, m: int, tiled: bool) -> tuple[Any, list[Any]]:
        """The kernel's x for the first m rows, and what must stay alive with it."""
        if self.a is None:
            x = guarded(self.x[:m])
            return c(x), [x]
        blocks = (self.a.q, self.a.d, self.a.s, self.a.ds)
        parts = [guarded(ref.tiled(p[:m]) if tiled else p[:m]) for p in blocks]
        q8 = ffi.new("infc_q8 *", [*(c(p) for p in parts), tiled])
        return ffi.cast("void *", q8), [q8, *parts]


@cache
def case(type: str, k: int, panels: int) -> Case:
    return Case(type, k, panels)


def run(lib: Any, spec: KernelSpec, k: Case, kk: int, panels: int, m: int) -> np.ndarray[Any, Any]:
    x, keep = k.arguments(m, tiled=spec.batch in ("gemm", "tiles"))
    y, scratch = poisoned((panels, m, 16)), poisoned((lib.t_scratch_bytes(),), np.uint8)
    getattr(lib, "t_" + spec.c_function)(c(k.panels), panels, kk, x, m, c(y), c(scratch))
    del keep
    return y


PAIRS = [(b, s) for b in BUILDS for s in registry() if s.target.isa == b.isa]


@pytest.mark.parametrize(("build", "spec"), PAIRS, ids=[f"{b.name}-{s.c_function}" for b, s in PAIRS])
def test_equals_the_contract(build: Build, spec: KernelSpec, libraries: dict[Build, Any]) -> None:
    rows = [m for m in ROWS if spec.rejects(m) is None]
    assert rows
    library = usable(build, libraries)
    for kk, panels in SHAPES[spec.weight.block_size]:
        k = case(spec.weight.name, kk, panels)
        for m in rows:
            for drops in (0, 1) if m <= 4 else (0,):  # how few rows read weights depends on the CPU; no byte of y does
                library.t_drops_prefetches(drops)
                try:
                    y = run(library, spec, k, kk, panels, m)
                finally:
                    library.t_drops_prefetches(0)
                # padded rows may be -0: their zero scale keeps the sign of what it multiplies
                np.testing.assert_array_equal(y, k.expected[:, :m], err_msg=f"k={kk} panels={panels} M={m} drops={drops}")


@pytest.mark.parametrize("type", [f.name for f in FORMATS.values()])
def test_contract_is_the_product(type: str) -> None:
    """The contract against float64 and the gguf package's own dequantization."""
    k = 576 if FORMATS[type].block_size <= 32 else 768
    raw = random_rows(type, 16, k, seed=5)
    x = random_activations(4, k, seed=6)
    w = quants.dequantize(raw, GGMLQuantizationType[type]).astype(np.float64)
    if FORMATS[type].activation == "q8":
        a = ref.Activations(x)
        got = ref.linear_q8(type, raw, a)
        x64 = (a.q * a.d[..., None].astype(np.float64)).reshape(4, k)
    else:
        got, x64 = ref.linear_f32(type, raw, x), x.astype(np.float64)
    bound = np.abs(x64) @ np.abs(w).T * k * 2.0**-24 * 40
    assert (np.abs(got - x64 @ w.T) <= bound + 1e-30).all()


def test_nan_activations_reach_only_their_row(lib: Any, oracle: Any) -> None:
    """A NaN in one row poisons that row and no other, identically everywhere."""
    k, m, panels = 96, 5, 2
    x = random_activations(m, k, seed=8)
    x[2, 40] = np.nan
    x[4, 0] = np.inf
    a = ref.Activations(x)
    raw = random_rows("Q4_1", 32, k, seed=9)
    w = repack("Q4_1", raw)
    results = []
    for library in (oracle, lib):
        y = poisoned((panels, m, 16))
        q8 = ffi.new("infc_q8 *", [*(c(p) for p in (a.q, a.d, a.s, a.ds)), 0])
        library.t_linear_q4_1_q8_small(c(w), panels, k, q8, m, c(y), ffi.NULL)
        results.append(y)
    np.testing.assert_array_equal(results[0], results[1])
    assert np.isnan(results[0][:, [2, 4]]).all()
    assert np.isfinite(results[0][:, [0, 1, 3]]).all()
