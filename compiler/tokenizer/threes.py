"""Digits in groups of three counted from the right, which no automaton of ours can do: where a run is cut depends on all of it.

Two spellings are known. ``D{1,3}(?=(?:D{3})*E)`` takes groups from a run of ``D`` if ``E``, ``\\b`` or ``(?!D)``, holds behind it.
``(?=(D{3})+(?!D))`` is a cut alone, before each group of three. ``infc_pretok.c`` measures each run once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from infc.tokenizer.charset import CharSet, properties
from infc.tokenizer.regex import Chars, parse

IN_RUN, LEAVES_ALONE, BETWEEN_ONLY = 1, 2, 4  # infc_pretok.c has the same marks
_DIGITS = r"(?P<d>\\d|\\p\{N\}|\\p\{Nd\}|\[0-9\])"
_GROUPS = re.compile(_DIGITS + r"\{1,3\}\(\?=\((?:\?:)?(?P=d)\{3\}\)\*(?:(?P<b>\\b)|\(\?!(?P=d)\))\)")
_CUTS = re.compile(r"\(\?=\((?:\?:)?" + _DIGITS + r"\{3\}\)\+\(\?!(?P=d)\)\)")


@dataclass(frozen=True, slots=True)
class Threes:
    """``digits``: what runs are of; ``alone``: a run is left alone where one of these follows; ``between``: cuts between groups only."""

    digits: CharSet
    alone: CharSet
    between: bool

    @property
    def sets(self) -> tuple[CharSet, CharSet]:
        return self.digits, self.alone

    def marks(self, n_classes: int, members: Mapping[CharSet, frozenset[int]]) -> np.ndarray:
        """uint16 (1, n_classes + 1): marks of each class, and of the whole in the last place."""
        row = np.zeros((1, n_classes + 1), np.uint16)
        row[0, sorted(members[self.digits])] |= IN_RUN
        row[0, sorted(members[self.alone])] |= LEAVES_ALONE
        row[0, n_classes] = BETWEEN_ONLY * self.between
        return row


def threes(pattern: str) -> Threes | None:
    """What ``pattern`` says, if it is one of the two spellings."""
    groups, cuts = _GROUPS.fullmatch(pattern), _CUTS.fullmatch(pattern)
    found = groups or cuts
    if found is None:
        return None
    digits = parse(found["d"])
    assert isinstance(digits, Chars)
    bounded = groups is not None and groups["b"] is not None
    word = properties()["Word"]
    if bounded and digits.set & ~word:
        return None  # a boundary within a run
    return Threes(digits.set, word & ~digits.set if bounded else CharSet(), cuts is not None)


def cuts_of(marks: np.ndarray, classes: list[int], begin: int, end: int) -> list[int]:
    """Where a piece is cut; the slow, readable twin of the C code."""
    cuts: list[int] = []
    at = begin
    while at < end:
        stop = at
        while stop < end and marks[classes[stop]] & IN_RUN:
            stop += 1
        if stop == at:
            at += 1
            continue
        between = bool(marks[-1] & BETWEEN_ONLY)
        if stop == end or not marks[classes[stop]] & LEAVES_ALONE:
            cuts += range(stop - (stop - at) // 3 * 3, stop, 3)
            cuts += [] if between else [at, stop]
        at = stop
    return cuts
