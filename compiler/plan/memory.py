"""Arena offsets from lifetimes: no two buffers that live at the same time overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGN = 64  # a cache line, and one AVX-512 vector


def align(n: int, to: int = ALIGN) -> int:
    """The smallest multiple of ``to`` that is >= n."""
    return -(-n // to) * to


@dataclass(frozen=True)
class Lifetime:
    """A buffer of ``size`` bytes that is live from step ``first`` to step ``last``, both included."""

    name: str
    size: int
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        """Whether both are live at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class ArenaPlan:
    """Offsets in bytes, each a multiple of 64, and the arena's total size."""

    offsets: tuple[tuple[str, int], ...]
    size: int

    def offset(self, name: str) -> int:
        """Offset of the buffer called ``name``."""
        return dict(self.offsets)[name]


def plan_arena(lifetimes: Sequence[Lifetime]) -> ArenaPlan:
    """Greedy by size, best fit: large buffers first, each in the smallest gap left by those it overlaps in time.

    The rule of Pisarchyk and Lee, "Efficient memory management for deep neural net inference" (2020), greedy by size.
    """
    placed: list[tuple[Lifetime, int]] = []
    for life in sorted(lifetimes, key=lambda x: (-x.size, x.first, x.name)):
        busy = sorted((off, off + align(p.size)) for p, off in placed if p.overlaps(life))
        size = align(life.size)
        best, best_gap, end = -1, 0, 0
        for start, stop in busy:
            gap = start - end
            if gap >= size and (best < 0 or gap < best_gap):
                best, best_gap = end, gap
            end = max(end, stop)
        placed.append((life, best if best >= 0 else end))
    total = max((off + align(p.size) for p, off in placed), default=0)
    return ArenaPlan(tuple(sorted((p.name, off) for p, off in placed)), total)
