"""What is measured: the rows of the table of issue 3 and what it asks of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from infc.measure.peer import Tests

LLAMA_AMX, LLAMA_AVX512, IK = "llama-amx", "llama-avx512", "ik"
PEERS = {LLAMA_AMX: "llama.cpp AMX", LLAMA_AVX512: "llama.cpp AVX-512", IK: "ik_llama.cpp"}
# Of what a want is a share or a multiple, besides a peer's column.
READ, BEST = "read", "best"
SMOLLM2, GEMMA, ONE_B = "SmolLM2", "Gemma 3 270M", "1B"
DEPTH = 4096
_FAST = ("amx", "avx512")
_ALL = (*_FAST, "avx2")


@dataclass(frozen=True)
class Want:
    """``of`` READ: at least ``least`` % of the bandwidth. ``of`` a column of PEERS, or BEST of llama.cpp's: ``least`` times it."""

    of: str
    least: float

    def __str__(self) -> str:
        if self.of == READ:
            return f"{self.least:g} % of bandwidth"
        return f"{self.least:g} x {PEERS.get(self.of, 'the best of llama.cpp')}"


Wants = Mapping[str, tuple[Want, ...]]  # by target; one that is not there has nothing to reach


@dataclass(frozen=True)
class Speed:
    """Tests that one process of every contestant runs. ``wants``: by test, as NAME bench calls it, then by target.

    ``batched``: llama-batched-bench stands beside it, else llama-bench. ``flash``: llama.cpp runs with and without flash attention, and the
    faster counts.
    """

    name: str
    tests: Tests
    wants: Mapping[str, Wants]
    model: str = SMOLLM2
    isas: tuple[str, ...] = _FAST
    peers: tuple[str, ...] = tuple(PEERS)
    batched: bool = False
    flash: bool = False


@dataclass(frozen=True)
class Ratio:
    """A figure of ours: the median of ``test``, or that over the median of ``over``; ``most`` or ``least``: what it must keep to."""

    title: str
    unit: str
    test: str
    over: str = ""
    most: float | None = None
    least: float | None = None

    @property
    def want(self) -> str:
        """In words."""
        return f"at most {self.most:g} {self.unit}" if self.most is not None else f"at least {self.least:g} {self.unit}"


@dataclass(frozen=True)
class Special:
    """What NAME bench has no row for. ``kind``: the function of ``sides`` that makes its turns."""

    name: str
    kind: str
    figures: tuple[Ratio, ...]
    model: str = SMOLLM2
    isas: tuple[str, ...] = field(default=_FAST)


Group = Speed | Special


def _one(kind: str, n: int, threads: int = 1, depth: int = 0) -> Tests:
    """One test, once a turn."""
    prompts, gens = ((n,), ()) if kind == "pp" else ((), (n,))
    return Tests(prompts, gens, (depth,), (), (threads,), 1)


_DECODE = (Want(READ, 92), Want(LLAMA_AMX, 1.6), Want(LLAMA_AVX512, 4))
_DECODE_2 = (Want(READ, 88), Want(LLAMA_AMX, 1.5))
_PROMPT: Wants = {"amx": (Want(LLAMA_AMX, 5), Want(IK, 5)), "avx512": (Want(LLAMA_AVX512, 10), Want(IK, 2.5))}
_DEEP = (Want(READ, 75), Want(BEST, 3))
_LLAMA = (LLAMA_AMX, LLAMA_AVX512)

GROUPS: tuple[Group, ...] = (
    Speed("tg128-t1", _one("tg", 128), {"tg128": {"amx": _DECODE, "avx512": _DECODE, "avx2": (Want(READ, 85),)}}, isas=_ALL),
    Speed("tg128-t2", _one("tg", 128, 2), {"tg128": {"amx": _DECODE_2, "avx512": _DECODE_2}}),
    Speed("pp512-t1", _one("pp", 512), {"pp512": _PROMPT}, isas=_ALL),
    Speed("pp512-t2", _one("pp", 512, 2), {"pp512": _PROMPT}),
    # Forks of llama.cpp do not all have -d.
    Speed("pp512-d4096", _one("pp", 512, 1, DEPTH), {f"pp512 @ d{DEPTH}": {"amx": (Want(LLAMA_AMX, 4),)}}, peers=_LLAMA, flash=True),
    Speed("tg32-d4096", _one("tg", 32, 1, DEPTH), {f"tg32 @ d{DEPTH}": {"amx": _DEEP, "avx512": _DEEP}}, peers=_LLAMA, flash=True),
    Speed(
        "batches-t2",
        Tests((), (), (0,), (4, 16, 32), (2,), 1),
        {f"batch{n}": {"amx": (Want(LLAMA_AMX, least),)} for n, least in ((4, 3), (16, 5), (32, 6))},
        peers=_LLAMA,
        batched=True,
    ),
    Special(
        "step4",
        "steps",
        (
            Ratio("step of 1 row", "ms", "M=1"),
            Ratio("step of 4 rows", "ms", "M=4"),
            Ratio("a step of 4 rows over one of 1", "x", "M=4", "M=1", most=1.25),
        ),
    ),
    Special(
        "start",
        "start",
        (
            Ratio("start to first token of a 4-token prompt", "ms", "first token", most=10),
            Ratio("peak RSS over weights, KV and arena", "x", "RSS", "needed", most=1.05),
        ),
    ),
    Special(
        "tokenizer",
        "tokenizer",
        tuple(Ratio(f"tokenizer over HF's, 1 thread: {text}", "x", text, f"{text}, HF", least=10) for text in ("prose", "english")),
        isas=(),  # whatever the target: its widest twin
    ),
    Speed("1b-tg24", _one("tg", 24), {"tg24": {"amx": (Want(READ, 92),), "avx512": (Want(READ, 92),)}}, ONE_B),
    Speed("1b-pp512", _one("pp", 512), {"pp512": {"amx": (Want(LLAMA_AMX, 5),)}}, ONE_B),
    Speed("gemma-tg128", _one("tg", 128), {"tg128": {}}, GEMMA),
    Speed("gemma-pp512", _one("pp", 512), {"pp512": {}}, GEMMA),
)
NAMES = tuple(g.name for g in GROUPS)
