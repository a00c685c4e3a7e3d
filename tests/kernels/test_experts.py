"""Mixture of experts: which experts a row takes, rows grouped and dealt out, gathered activations, and the weighted sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infc.plan.experts import GATHER_ROWS, GROUP_BYTES, MEMBER_BYTES, most_members
from tests.kernels import reference as ref
from tests.kernels.build import c, ffi
from tests.kernels.guard import guarded, poisoned
from tests.kernels.test_quantize import q8_buffer

SMALL_MAX = {"avx": 15, "amx": 11}  # rows from which an expert's are laid out in tiles: what targets have
Array = np.ndarray[Any, Any]
CHOICE = np.dtype([("expert", np.int32), ("weight", np.float32)])


def choose(lib: Any, logits: Array, used: int, renormalise: bool, bias: Array | None = None) -> Array:
    """One row's choices. The logits lie in panels beside those of another row; what pads the last panel is as large as can be."""
    n = len(logits)
    panels = np.full((-(-n // 16), 2, 16), 1e30, np.float32)
    panels[:, 1].reshape(-1)[...] = np.nan
    flat = np.full(panels.shape[0] * 16, 1e30, np.float32)
    flat[:n] = logits
    panels[:, 0] = flat.reshape(-1, 16)
    tile = guarded(panels)
    padded = None
    if bias is not None:
        padded = np.zeros(len(flat), np.float32)
        padded[:n] = bias
        padded = guarded(padded)
    out = poisoned((used,), CHOICE)
    pointer = ffi.cast("infc_expert_choice *", out.ctypes.data)
    lib.t_experts_choose(c(tile), 32, ffi.NULL if padded is None else c(padded), n, used, renormalise, pointer)
    return out.copy()


def expected(logits: Array, used: int, renormalise: bool) -> tuple[Array, Array]:
    """(experts ascending, weights) in float64; the lower expert where two are equal."""
    taken = np.sort(np.argsort(-logits, kind="stable")[:used])
    p = np.exp(logits.astype(np.float64) - logits.max())
    return taken, p[taken] / (p[taken].sum() if renormalise else p.sum())


@pytest.mark.parametrize(("n", "used"), [(1, 1), (8, 2), (8, 8), (60, 4), (128, 8), (130, 17), (1024, 33)])
def test_choose(n: int, used: int, lib: Any, oracle: Any) -> None:
    rng = np.random.default_rng(n)
    for scale in (0.0, 1.0, 30.0):
        logits = (scale * rng.standard_normal(n)).astype(np.float32)
        bias = rng.standard_normal(n).astype(np.float32) if scale else None
        total = logits if bias is None else logits + bias
        for renormalise in (True, False):
            got = choose(lib, logits, used, renormalise, bias)
            assert got.tobytes() == choose(oracle, logits, used, renormalise, bias).tobytes()
            experts, weights = expected(total, used, renormalise)
            np.testing.assert_array_equal(got["expert"], experts)
            np.testing.assert_allclose(got["weight"], weights, rtol=1e-6, atol=1e-12)


def test_equal_logits_take_the_lower_expert(lib: Any) -> None:
    logits = np.array([1, 3, 2, 3, 2, 3, 2, -5], np.float32)
    assert list(choose(lib, logits, 4, True)["expert"]) == [1, 2, 3, 5]
    got = choose(lib, np.full(40, -np.inf, np.float32), 3, True)
    assert list(got["expert"]) == [0, 1, 2]


@pytest.mark.parametrize("bad", [[0], [9], [0, 1, 2], list(range(20))])
def test_not_a_number_still_chooses_experts_that_exist(bad: list[int], lib: Any, oracle: Any) -> None:
    logits = np.random.default_rng(0).standard_normal(20).astype(np.float32)
    logits[bad] = np.nan
    got = choose(lib, logits, 6, True)["expert"]
    assert len(set(got)) == 6 and got.min() >= 0 and got.max() < 20 and (np.diff(got) > 0).all()
    np.testing.assert_array_equal(got, choose(oracle, logits, 6, True)["expert"])


class Groups:
    """infc_groups of random choices, in guarded memory of exactly the planned size."""

    def __init__(self, lib: Any, rows: int, used: int, count: int, seed: int = 0, skew: float = 0.0, small_max: int = 15) -> None:
        rng = np.random.default_rng(seed)
        p = np.exp(-skew * np.arange(count))
        order = [np.sort(rng.choice(count, used, replace=False, p=p / p.sum())) for _ in range(rows)]
        self.choice = guarded(np.zeros((rows, used), CHOICE))
        self.choice["expert"], self.choice["weight"] = np.array(order), rng.random((rows, used))
        self.member = poisoned((most_members(rows, used, count), 2), np.int32)
        self.group = poisoned((min(count, rows * used), GROUP_BYTES), np.uint8)
        lists = ffi.cast("infc_group *", self.group.ctypes.data), ffi.cast("infc_member *", self.member.ctypes.data)
        self.c = ffi.new("infc_groups *", [*lists, 0, 0])
        lib.t_experts_group(ffi.cast("infc_expert_choice *", self.choice.ctypes.data), rows, used, count, small_max, self.c)


@pytest.mark.parametrize(
    ("rows", "used", "count", "skew"),
    [
        (1, 1, 1, 0), (1, 8, 128, 0), (12, 1, 1, 0), (15, 2, 8, 0), (16, 1, 1, 0), (24, 1, 2, 0), (40, 4, 60, 0), (100, 2, 4, 0.5),
        (512, 8, 128, 0.03), (33, 3, 3, 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("small_max", SMALL_MAX.values(), ids=SMALL_MAX)
def test_group(small_max: int, rows: int, used: int, count: int, skew: float, lib: Any) -> None:
    g = Groups(lib, rows, used, count, seed=rows, skew=skew, small_max=small_max)
    assert most_members(rows, used, count) == lib.t_most_members(rows, used, count)
    places: list[int] = []
    before = 0
    found = []
    for i in range(g.c.n):
        e = g.c.group[i]
        members = g.member[e.first : e.first + e.rows]
        mine = g.choice["expert"] == e.expert
        np.testing.assert_array_equal(members[:, 0], np.nonzero(mine)[0])
        np.testing.assert_array_equal(np.ascontiguousarray(members[:, 1]).view(np.float32), g.choice["weight"][mine])
        assert e.many == (e.rows > small_max) and (not e.many or e.first % 16 == 0) and e.before == before
        before += e.rows + 4
        places += range(e.first, e.first + (-(-e.rows // 16) * 16 if e.many else e.rows))
        found.append(e.expert)
    assert found == sorted(set(g.choice["expert"].reshape(-1).tolist())) and g.c.cost == before
    assert len(set(places)) == len(places) and max(places) < len(g.member)


@pytest.mark.parametrize("units", [1, 3, 24])
@pytest.mark.parametrize("threads", [1, 2, 3, 7, 64])
def test_units_are_dealt_out_once_and_evenly(threads: int, units: int, lib: Any) -> None:
    g = Groups(lib, 100, 3, 20, skew=0.2)
    work = np.zeros(threads)
    for i in range(g.c.n):
        bounds = [lib.t_experts_share(g.c, i, units, t, threads) for t in range(threads + 1)]
        assert bounds[0] == 0 and bounds[-1] == units and (np.diff(bounds) >= 0).all()
        work += np.diff(bounds) * (g.c.group[i].rows + 4)
    largest = max(g.c.group[i].rows for i in range(g.c.n)) + 4
    assert work.max() <= work.sum() / threads + largest


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("n", [1, 3, 16, 37])
def test_gather(n: int, tiled: bool, lib: Any) -> None:
    k, rows = 64, 50
    x = np.random.default_rng(1).standard_normal((rows, k)).astype(np.float32)
    a = ref.Activations(x)
    member = guarded(np.stack([np.sort(np.random.default_rng(n).choice(rows, n, replace=False)), np.zeros(n)], axis=1).astype(np.int32))
    chosen = member[:, 0]
    for source_tiled in (False, True):
        source = [ref.tiled(p) if source_tiled else p for p in (a.q, a.d, a.s, a.ds)]
        kept = [guarded(p) for p in source]
        q8 = ffi.new("infc_q8 *", [*(c(p) for p in kept), source_tiled])
        own, _ = q8_buffer(-(-n // 16) * 16, k)
        out = ffi.new("infc_q8 *")
        lib.t_gather_q8(q8, k, ffi.cast("infc_member *", member.ctypes.data), n, tiled, own, out)
        assert out.tiled == tiled
        for field, whole, size in (("q", a.q, 32), ("d", a.d, 4), ("s", a.s, 4), ("ds", a.ds, 4)):
            blocks = -(-n // 16) * 16 * (k // 32) if tiled else n * (k // 32)
            raw = np.frombuffer(ffi.buffer(getattr(out, field), blocks * size), whole.dtype)
            got = raw.reshape(-1, k // 32, 16, *whole.shape[2:]).swapaxes(1, 2) if tiled else raw
            np.testing.assert_array_equal(got.reshape(-1, *whole.shape[1:])[:n], whole[chosen])
    own = poisoned((n, k))
    source = guarded(x)
    got = lib.t_gather_f32(c(source), k, ffi.cast("infc_member *", member.ctypes.data), n, c(own))
    np.testing.assert_array_equal(np.frombuffer(ffi.buffer(got, n * k * 4), np.float32).reshape(n, k), x[chosen])


@pytest.mark.parametrize("with_bias", [False, True])
def test_weighted_sum(with_bias: bool, lib: Any) -> None:
    rng = np.random.default_rng(3)
    tile, x, bias = (rng.standard_normal(s).astype(np.float32) for s in ((3, 16), (5, 48), (16,)))
    member = guarded(np.array([(0, 0.25), (2, 0.7), (4, 1.5)], np.dtype([("row", np.int32), ("weight", np.float32)])))
    out = guarded(x)
    kept = guarded(tile), guarded(bias)
    lib.t_epi_experts(c(kept[0]), ffi.cast("infc_member *", member.ctypes.data), 3, c(kept[1]) if with_bias else ffi.NULL, c(out), 48, 32)
    y = tile + bias if with_bias else tile
    x[[0, 2, 4], 32:] = ref.fma(member["weight"][:, None], y, x[[0, 2, 4], 32:])
    np.testing.assert_array_equal(out, x)


def test_the_plan_counts_what_the_header_does(oracle: Any) -> None:
    assert (oracle.t_gather_rows(), oracle.t_group_bytes(), oracle.t_member_bytes()) == (GATHER_ROWS, GROUP_BYTES, MEMBER_BYTES)
