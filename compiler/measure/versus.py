"""An artifact against peers: turns A B A B, so that a machine whose speed drifts slows both alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from infc.binding.artifact import Artifact
from infc.errors import InputError
from infc.measure.limits import bench_rows
from infc.measure.peer import Key, LlamaBatchedBench, LlamaBench, Speeds, Tests


@dataclass(frozen=True)
class Duel:
    """One test. ``ours`` and ``peer``: tokens a second, one figure a turn; the shares of the limits are medians over the turns."""

    test: str
    threads: int
    ours: tuple[float, ...]
    peer: tuple[float, ...]
    read_pct: float
    math_pct: float

    @property
    def ratio(self) -> float:
        """Ratio of the medians."""
        return median(self.ours) / median(self.peer)

    @property
    def spread(self) -> tuple[float, float]:
        """Lowest and highest ratio of one turn to the peer's turn after it."""
        ratios = [a / b for a, b in zip(self.ours, self.peer, strict=True)]
        return min(ratios), max(ratios)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        low, high = self.spread
        facts = {"test": self.test, "threads": self.threads, "tok_s": median(self.ours), "peer_tok_s": median(self.peer)}
        ratios = {"ratio": self.ratio, "ratio_min": low, "ratio_max": high, "read_pct": self.read_pct, "math_pct": self.math_pct}
        return facts | ratios | {"turns": list(self.ours), "peer_turns": list(self.peer)}


def compare(
    artifact: Artifact,
    peers: Sequence[LlamaBench | LlamaBatchedBench],
    tests: Tests,
    turns: int,
    more: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> list[Duel]:
    """Run ``turns`` turns of each side. ``more``: further arguments of NAME bench. Tests that only one side ran are left out.

    Raises InputError if a peer fails or shares no test with us.
    """
    if not any(isinstance(p, LlamaBench) for p in peers):
        tests = replace(tests, prompts=(), gens=())
    if not any(isinstance(p, LlamaBatchedBench) for p in peers):
        tests = replace(tests, batches=())
    ours: dict[Key, list[dict[str, Any]]] = {}
    theirs: dict[Key, list[float]] = {}
    for turn in range(1, turns + 1):
        say(f"turn {turn} of {turns}: infc")
        for row in bench_rows(artifact, [*tests.arguments(), *more]):
            ours.setdefault((row["test"], row["threads"]), []).append(row)
        say(f"turn {turn} of {turns}: peer")
        speeds: Speeds = {}
        for peer in peers:
            speeds |= peer.run(tests)
        for key, speed in speeds.items():
            theirs.setdefault(key, []).append(speed)
    duels = [_duel(key, rows, theirs[key]) for key, rows in ours.items() if len(theirs.get(key, ())) == len(rows)]
    if not duels:
        raise InputError("peer", "the peer ran none of the artifact's tests", f"ours: {', '.join(sorted({t for t, _ in ours}))}")
    return duels


def _duel(key: Key, rows: list[dict[str, Any]], peer: list[float]) -> Duel:
    read, math = (median(r[name] for r in rows) for name in ("read_pct", "math_pct"))
    return Duel(*key, tuple(r["tok_s"] for r in rows), tuple(peer), read, math)
