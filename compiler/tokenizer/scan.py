"""The short way through a pre-tokenizer's automaton for ASCII text, read off the automaton itself.

Most words are the same few steps: the first two characters lead to a state that stays where it is over a set of bytes (the
letters, say) and ends the match at the first byte outside. Such a state is a *kind* of run. Per pair of first characters the
table says which kind follows, per kind which bytes belong to the run, and which bytes end it in a way that needs no look at
the automaton. The end of a run is then one search for a byte outside a set, 32 or 64 bytes at a time. Everything else (bytes
outside ASCII, the end of the text, three-letter contractions) is left to the automaton: its answer is the same, only later.

Table, uint8: ``n_pairs, n_kinds, 0 * 62 | pair_class[256] | member[256] | ends[256] | ends_one_back[256] | nibbles[8][16] |
pairs[n_pairs * n_pairs]``. Bit k of the four byte tables speaks of kind k. ``nibbles[k][b & 15]`` has bit ``b >> 4`` for the
bytes b of kind k. A pair is ``kind << 2 | bytes before the run (1 or 2)``; 0: ask the automaton.
Kind 0 is that of a space and a letter, which most words begin with: the program tries it first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_KINDS = 8
_HEAD = 64
_DEAD, _START = 0, 1


@dataclass(frozen=True, slots=True)
class _Run:
    """Bytes a run consists of, bytes that end it where they stand, and bytes that end it one byte before them."""

    member: frozenset[int]
    ends: frozenset[int]
    ends_one_back: frozenset[int]


# A word of one character, once the second has shown that it ends there: any byte ends the empty run.
_NOTHING = _Run(frozenset(), frozenset(range(256)), frozenset())


def _run(dfa: np.ndarray, state: int, matched: bool, ascii_classes: np.ndarray) -> _Run | None:
    """The run of ``state``, which was entered on a character before which a match ended (``matched``) or not."""
    to, match = (dfa[state] >> 1)[ascii_classes], (dfa[state] & 1)[ascii_classes].astype(bool)
    member = to == state
    if len(set(match[member])) > 1:
        return None  # where the last match ended would depend on the last byte
    # A match that ended before every character of the run, the last included: it counts where the run ends without a match.
    trailing = matched and bool(match[member].all())
    ends, back = (to == _DEAD) & match, (to == _DEAD) & ~match & trailing
    return _Run(*(frozenset(np.flatnonzero(x).tolist()) for x in (member, ends, back)))


def _pair(dfa: np.ndarray, first: int, second: int, ascii_classes: np.ndarray) -> tuple[_Run, int] | None:
    """(run, bytes before it) of a word whose first two characters are of these classes; None: not known from them."""
    state = int(dfa[_START, first]) >> 1
    if state == _DEAD:
        return None  # no match begins here
    step = int(dfa[state, second])
    if step >> 1 == _DEAD:
        return (_NOTHING, 1) if step & 1 else None
    run = _run(dfa, step >> 1, bool(step & 1), ascii_classes)
    return None if run is None or not (run.ends or run.ends_one_back) else (run, 2)


def scan_table(dfas: tuple[np.ndarray, ...], ascii_classes: np.ndarray) -> np.ndarray:
    """The table for automata ``(n_states, n_classes + 1)`` of ``next << 1 | matched_before``; ``ascii_classes``: (128,).

    Splits inside one another have no short way: their table knows no pair.
    """
    used = sorted(set(ascii_classes.tolist()))
    found: dict[tuple[int, int], tuple[_Run, int]] = {}
    if len(dfas) == 1:
        for a in used:
            for b in used:
                pair = _pair(dfas[0], a, b, ascii_classes)
                if pair is not None:
                    found[a, b] = pair
    weight: dict[_Run, int] = {}
    counts = {c: int((ascii_classes == c).sum()) for c in used}
    for (a, b), (run, _) in found.items():
        weight[run] = weight.get(run, 0) + counts[a] * counts[b]
    likely, _ = found.get((int(ascii_classes[ord(" ")]), int(ascii_classes[ord("a")])), (_NOTHING, 1))
    # Then the kinds that serve the most pairs of bytes; sorting is stable, so the order is that of the classes.
    kinds = {run: k for k, run in enumerate(sorted(weight, key=lambda r: (r != likely, -weight[r]))[:MAX_KINDS])}
    n = len(used) + 1  # pair class 0: bytes outside ASCII
    pair_class = np.zeros(256, np.uint8)
    pair_class[:128] = [used.index(c) + 1 for c in ascii_classes.tolist()]
    sets = np.zeros((3, 256), np.uint8)
    nibbles = np.zeros((MAX_KINDS, 16), np.uint8)
    for run, k in kinds.items():
        for row, members in zip(sets, (run.member, run.ends, run.ends_one_back), strict=True):
            row[sorted(members)] |= np.uint8(1 << k)
        for b in run.member:
            nibbles[k, b & 15] |= np.uint8(1 << (b >> 4))
    pairs = np.zeros((n, n), np.uint8)
    for (a, b), (run, lead) in found.items():
        if run in kinds:
            pairs[used.index(a) + 1, used.index(b) + 1] = kinds[run] << 2 | lead
    head = np.zeros(_HEAD, np.uint8)
    head[:2] = n, len(kinds)
    return np.concatenate([head, pair_class, sets.reshape(-1), nibbles.reshape(-1), pairs.reshape(-1)])
