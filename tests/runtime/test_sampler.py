"""The sampler against a plain numpy one: the same filters in the same order, the same draw."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.runtime.harness import EINPUT, VOCAB
from tests.runtime.model import Runtime
from tests.runtime.test_host import AVX2, AVX512

OFF = {
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repeat_penalty": 1.0,
    "repeat_last_n": 0,
    "seed": 0,
}


class Sampler:
    def __init__(self, runtime: Runtime, model, **options: float) -> None:
        self.rt, ffi = runtime, runtime.ffi
        given = ffi.new("infc_sampling *", {"size": ffi.sizeof("infc_sampling"), **OFF, **options})
        out = ffi.new("infc_sampler **")
        runtime.check(runtime.lib.infc_sampler_open(model.handle, given, out))
        self.handle = ffi.gc(out[0], runtime.lib.infc_sampler_close)

    def __call__(self, logits: np.ndarray) -> tuple[int, float]:
        choice = self.rt.ffi.new("infc_choice *")
        data = np.ascontiguousarray(logits, np.float32)
        before = data.tobytes()
        self.rt.check(self.rt.lib.infc_sample(self.handle, self.rt.ffi.from_buffer("float[]", data), choice))
        assert data.tobytes() == before, "the caller's logits are unchanged"
        return choice.id, choice.logprob

    def accept(self, *ids: int) -> None:
        self.rt.check(self.rt.lib.infc_sampler_accept(self.handle, self.rt.ffi.new("int32_t[]", ids), len(ids)))


@pytest.fixture
def sampler(runtime, open_model):
    model = open_model()
    return lambda **options: Sampler(runtime, model, **options)


def random_logits(seed: int, scale: float = 3.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(VOCAB) * scale).astype(np.float32)


def reference(logits: np.ndarray, u: float, recent: list[int], o: dict[str, float]) -> int:
    """llama.cpp's default chain in float64; ``u`` is the uniform number of the draw."""
    x = logits.astype(np.float64)
    for t in set(recent):
        x[t] = x[t] / o["repeat_penalty"] if x[t] > 0 else x[t] * o["repeat_penalty"]
    order = np.lexsort((np.arange(VOCAB), -x))
    p = np.exp(x - x.max())
    if o["temperature"] <= 0:
        return int(order[0])
    sorts = bool(0 < o["top_k"] < VOCAB) or o["top_p"] < 1
    kept = order[: int(o["top_k"])] if o["top_k"] > 0 else order
    if o["top_p"] < 1:
        sums = np.cumsum(p[kept])
        kept = kept[: int(np.searchsorted(sums, o["top_p"] * sums[-1])) + 1]
    kept = kept[p[kept] >= o["min_p"]]
    if not sorts:
        kept = np.sort(kept)  # the draw runs over ids when nothing had to be sorted
    weights = np.exp((x[kept] - x.max()) / o["temperature"])
    return int(kept[np.searchsorted(np.cumsum(weights), u * weights.sum(), side="right")])


CASES = [
    {},
    {"temperature": 0},
    {"temperature": 0, "repeat_penalty": 1.5, "repeat_last_n": 4},
    {"temperature": 0.7},
    {"top_k": 1},
    {"top_k": 40},
    {"top_k": VOCAB},
    {"top_p": 0.5},
    {"top_p": 0.95, "temperature": 1.7},
    {"top_p": 0.0},
    {"min_p": 0.1},
    {
        "top_k": 40,
        "top_p": 0.9,
        "min_p": 0.05,
        "temperature": 0.8,
        "repeat_penalty": 1.1,
        "repeat_last_n": 16,
    },
    {"top_p": 0.9, "min_p": 0.2, "repeat_penalty": 1.3, "repeat_last_n": -1},
    {"top_k": 5, "min_p": 0.5},
]


@pytest.mark.parametrize("options", CASES, ids=str)
def test_against_numpy(runtime, sampler, options: dict[str, float]) -> None:
    o = {**OFF, **options}
    for seed in range(12):
        s = sampler(**{**options, "seed": seed})
        recent: list[int] = []
        for turn in range(25):
            logits = random_logits(seed * 100 + turn)
            got, logprob = s(logits)
            window = o["repeat_last_n"] if o["repeat_last_n"] >= 0 else 40
            want = reference(logits, runtime.lib.infc_uniform(seed, turn), recent[-int(window) :] if window else [], o)
            assert got == want, (seed, turn)
            x = logits.astype(np.float64)
            assert logprob == pytest.approx(x[got] - x.max() - math.log(np.exp(x - x.max()).sum()), abs=2e-6)
            recent.append(got)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies(sampler, temperature: float) -> None:
    logits = np.full(VOCAB, -np.inf, np.float32)
    logits[[3, 50, 99]] = [1.0, 0.0, 2.0]
    p = np.exp(logits[[3, 50, 99]] / temperature)
    p /= p.sum()
    s = sampler(temperature=temperature, seed=7)
    n = 4000
    drawn = [s(logits)[0] for _ in range(n)]
    counts = np.array([drawn.count(t) for t in (3, 50, 99)])
    assert counts.sum() == n
    assert ((counts - n * p) ** 2 / (n * p)).sum() < 13.8  # chi-square, 2 degrees of freedom, 0.1 %; the seed is fixed


def test_the_same_seed_draws_the_same_and_another_does_not(sampler) -> None:
    logits = random_logits(1, 1.0)
    a, b, c = ([s(logits)[0] for _ in range(40)] for s in (sampler(seed=5), sampler(seed=5), sampler(seed=6)))
    assert a == b != c


def test_philox_known_answers(runtime) -> None:
    """Vectors of the authors' kat_vectors file (Random123)."""
    out = runtime.ffi.new("uint32_t[4]")
    for counter, key, want in (
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ):
        runtime.lib.infc_philox(counter, key, out)
        assert list(out) == want


def test_uniform(runtime) -> None:
    u = np.array([runtime.lib.infc_uniform(3, i) for i in range(2000)])
    assert (0 <= u).all() and (u < 1).all() and len(set(u)) == 2000
    assert abs(u.mean() - 0.5) < 0.02 and abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.06
    assert runtime.lib.infc_uniform(3, 1 << 40) != runtime.lib.infc_uniform(3, 0)


def test_ties_go_to_the_lower_id(sampler) -> None:
    logits = np.zeros(VOCAB, np.float32)
    assert sampler(temperature=0)(logits)[0] == 0
    logits[[20, 60]] = 1
    assert sampler(temperature=0)(logits)[0] == 20
    assert sampler(top_k=1)(logits)[0] == 20
    assert {sampler(top_k=2, seed=i)(logits)[0] for i in range(20)} == {20, 60}
    assert sampler(top_p=0.001)(logits)[0] == 20


@pytest.mark.parametrize("options", [{"temperature": 0}, {}, {"top_k": 3}, {"top_p": 0.9}, {"min_p": 0.1}], ids=str)
def test_strange_logits(sampler, options: dict[str, float]) -> None:
    s = sampler(**options)
    assert s(np.full(VOCAB, np.nan, np.float32)) == (0, -math.inf)
    assert s(np.full(VOCAB, -np.inf, np.float32)) == (0, -math.inf)
    one = np.full(VOCAB, np.nan, np.float32)
    one[VOCAB - 1] = -5
    assert s(one) == (VOCAB - 1, 0.0)
    infinite = random_logits(2)
    infinite[[8, 9]] = np.inf
    ident, logprob = s(infinite)
    assert ident in (8, 9) and logprob == pytest.approx(-math.log(2))


def test_penalty_window(sampler) -> None:
    logits = np.zeros(VOCAB, np.float32)
    logits[:4] = [4, 3, 2, 1]
    s = sampler(temperature=0, repeat_penalty=100, repeat_last_n=2)
    s.accept(0, 1)
    assert [s(logits)[0] for _ in range(5)] == [2, 0, 1, 2, 0]
    twice = sampler(temperature=0, repeat_penalty=1.2, repeat_last_n=8)
    twice.accept(0, 0, 0)
    assert twice(logits)[0] == 0  # 4 / 1.2 > 3: a token that occurs often is punished once


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": -0.1},
        {"top_p": math.nan},
        {"min_p": -1},
        {"min_p": 1.5},
        {"min_p": math.nan},
        {"repeat_penalty": 0},
        {"repeat_penalty": -1},
        {"repeat_penalty": math.nan},
        {"repeat_last_n": -2},
        {"repeat_last_n": 1 << 21},
        {"size": 8},
    ],
    ids=str,
)
def test_bad_options(runtime, sampler, options: dict[str, float]) -> None:
    with pytest.raises(Exception, match=rf"^{EINPUT}: .*{next(iter(options))}"):
        sampler(**options)


def test_accept_checks_every_id_first(sampler) -> None:
    s = sampler(temperature=0, repeat_penalty=100, repeat_last_n=4)
    for bad in (-1, VOCAB):
        with pytest.raises(Exception, match="outside the vocabulary"):
            s.accept(0, bad)
    logits = np.zeros(VOCAB, np.float32)
    logits[0] = 1
    assert s(logits)[0] == 0


# ---- exp and log ------------------------------------------------------------


def padded(n: int) -> np.ndarray:
    return np.full((n + 15) // 16 * 16 + 16, -np.inf, np.float32)


def aligned(x: np.ndarray) -> np.ndarray:
    out = np.empty(x.size + 4, np.float32)
    start = (-out.ctypes.data % 16) // 4
    out[start : start + x.size] = x
    return out[start : start + x.size]


@pytest.fixture(params=[0, AVX2, AVX2 | AVX512], ids=["baseline", "avx2", "avx512"])
def passes(runtime, request: pytest.FixtureRequest):
    """The twin that a CPU with these features takes."""
    if request.param & ~runtime.lib.infc_cpu_features(runtime.ffi.new("infc_cpu_regs *", runtime.lib.infc_cpu_read())):
        pytest.skip("this CPU has no such vectors")
    return runtime.lib.infc_passes_for(request.param)


def test_exp_error(runtime, passes) -> None:
    x = aligned(np.concatenate([np.linspace(-87, 0, 20000), [-87.0, -1e-6, -1e-40, 0.0]]).astype(np.float32))
    x = aligned(np.resize(x, (x.size + 15) // 16 * 16))
    out = aligned(np.zeros_like(x))
    buffer = runtime.ffi.from_buffer
    passes.exp(buffer("float[]", out), buffer("float[]", x), x.size, 0.0, 1.0)
    want = np.exp(x.astype(np.float64))
    assert np.abs(out / want - 1).max() < 2.5e-7
    x[:] = np.resize(np.array([-87.01, -200, -1e30, -np.inf], np.float32), x.size)
    passes.exp(buffer("float[]", out), buffer("float[]", x), x.size, 0.0, 1.0)
    assert (out == 0).all()


def test_log_error(runtime) -> None:
    for x in [*np.geomspace(1e-300, 1e300, 3001), *np.linspace(0.5, 2, 3001), 1.0, 2.0**0.5, 2.0**-149]:
        assert runtime.lib.infc_log(x) == pytest.approx(math.log(x), rel=5e-16, abs=1e-16)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 1023, 1024, 1025, 5000])
def test_sum_of_exponentials(runtime, passes, n: int) -> None:
    logits = np.random.default_rng(n).standard_normal(n).astype(np.float32) * 5
    work = aligned(padded(n))
    buffer = runtime.ffi.from_buffer
    top = passes.copy(buffer("float[]", work), buffer("float[]", logits), n)
    assert top == logits.max() and (work[:n] == logits).all()
    want = np.exp(logits.astype(np.float64) - top).sum()
    assert passes.sum_exp(buffer("float[]", work), n, top) == pytest.approx(want, rel=3e-7)


HOSTILE = np.array([np.nan, np.inf, -np.inf, 3.4028235e38, -3.4028235e38, 1e-45, -1e-45, 0.0, -0.0], np.float32)


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 31, 33, 1023, 1025, 5000])
def test_twins_agree(runtime, passes, n: int) -> None:
    """Every pass gives the bits of the baseline's, whatever the logits are."""
    base, buffer, rng = runtime.lib.infc_passes_for(0), runtime.ffi.from_buffer, np.random.default_rng(n)
    for hostile in (0, 1, n // 3 + 1, n):
        logits = (rng.standard_normal(n) * 20).astype(np.float32)
        logits[rng.permutation(n)[:hostile]] = rng.choice(HOSTILE, hostile)
        found = []
        for twin in (base, passes):
            work, out = aligned(padded(n)), aligned(padded(n))
            top = twin.copy(buffer("float[]", work), buffer("float[]", logits), n)
            figures = [top, twin.max(buffer("float[]", work), n), twin.first_of(buffer("float[]", work), top)]
            assert work[figures[2]] == top
            if np.isfinite(top):
                figures.append(twin.sum_exp(buffer("float[]", work), n, top))
                twin.exp(buffer("float[]", out), buffer("float[]", work), n, top, np.float32(1.7))
            found.append((figures, work.tobytes(), out[:n].tobytes()))
        assert found[0] == found[1]
