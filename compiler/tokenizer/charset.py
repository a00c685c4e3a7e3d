"""Sets of Unicode code points, and the partition of all code points that a group of sets induces."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

CODE_POINTS = 0x110000


@dataclass(frozen=True, slots=True)
class CharSet:
    """Code points as the ascending positions at which membership changes, starting outside the set."""

    toggles: tuple[int, ...] = ()

    @staticmethod
    def of(*ranges: tuple[int, int]) -> CharSet:
        """The union of inclusive ranges ``(first, last)``."""
        return union(CharSet((a, b + 1) if b + 1 < CODE_POINTS else (a,)) for a, b in ranges)

    @staticmethod
    def chars(text: str) -> CharSet:
        """The code points of ``text``."""
        return CharSet.of(*((ord(c), ord(c)) for c in text))

    def __contains__(self, code_point: int) -> bool:
        return bisect_right(self.toggles, code_point) % 2 == 1

    def __invert__(self) -> CharSet:
        return CharSet(self.toggles[1:] if self.toggles[:1] == (0,) else (0, *self.toggles))

    def __or__(self, other: CharSet) -> CharSet:
        return union((self, other))

    def __and__(self, other: CharSet) -> CharSet:
        return ~(~self | ~other)

    def __bool__(self) -> bool:
        return bool(self.toggles)


def union(sets: Iterable[CharSet]) -> CharSet:
    """Code points in any of the sets, by one sweep over their ends."""
    steps = sorted((t, 1 if i % 2 == 0 else -1) for s in sets for i, t in enumerate(s.toggles))
    out: list[int] = []
    depth = 0
    for position, step in steps:
        before, depth = depth, depth + step
        if (before > 0) == (depth > 0):
            continue
        if out and out[-1] == position:
            out.pop()  # one range ends where the next begins
        else:
            out.append(position)
    return CharSet(tuple(out))


def partition(sets: Sequence[CharSet]) -> tuple[list[int], list[int], list[frozenset[int]]]:
    """Cut all code points into the coarsest classes that no set divides.

    Returns (starts, classes, members): code points from ``starts[i]`` to the next start are of class ``classes[i]``;
    ``members[k]`` are the classes that make up ``sets[k]``. Class 0 holds code point 0; numbers follow first appearance.
    """
    flips: dict[int, int] = {0: 0}  # at a code point, the sets whose membership changes there, as bits
    for k, s in enumerate(sets):
        for t in s.toggles:
            flips[t] = flips.get(t, 0) ^ 1 << k
    starts = sorted(flips)
    numbers: dict[int, int] = {}
    classes = []
    inside = 0
    for start in starts:
        inside ^= flips[start]
        classes.append(numbers.setdefault(inside, len(numbers)))
    members = [frozenset(n for bits, n in numbers.items() if bits >> k & 1) for k in range(len(sets))]
    return starts, classes, members


@lru_cache(maxsize=1)
def properties() -> dict[str, CharSet]:
    """Every property of ``unicode.txt``, and the one-letter groups (``L``, ``M``, ``N``, ``P``, ``S``, ``Z``, ``C``)."""
    table: dict[str, CharSet] = {}
    for line in resources.files(__package__).joinpath("unicode.txt").read_text("ascii").splitlines():
        if line.startswith("#"):
            continue
        name, *ranges = line.split()
        ends = [tuple(int(x, 16) for x in r.split("-")) for r in ranges]
        table[name] = CharSet(tuple(t for e in ends for t in (e[0], e[-1] + 1) if t < CODE_POINTS))
    for group in "LMNPSZC":
        table[group] = union(s for n, s in table.items() if len(n) == 2 and n[0] == group)
    return table


_LONG_NAMES = {
    "letter": "L", "mark": "M", "number": "N", "punctuation": "P", "symbol": "S", "separator": "Z", "other": "C", "uppercaseletter": "Lu",
    "lowercaseletter": "Ll", "titlecaseletter": "Lt", "modifierletter": "Lm", "otherletter": "Lo", "nonspacingmark": "Mn",
    "decimalnumber": "Nd", "letternumber": "Nl", "othernumber": "No", "control": "Cc", "format": "Cf", "space": "White_Space",
    "digit": "Nd",
}  # fmt: skip


def property_named(name: str) -> CharSet | None:
    """The set of ``\\p{name}``, where case and the signs between words do not matter; None if there is none here."""
    plain = "".join(c for c in name.lower() if c not in " -_")
    key = _LONG_NAMES.get(plain) or _plain_names().get(plain)
    return properties()[key] if key else None


@lru_cache(maxsize=1)
def _plain_names() -> dict[str, str]:
    return {key.lower().replace("_", ""): key for key in properties()}
