"""How text is cut into words before byte-pair merging: the tables of a list of patterns (``patterns.py`` names the lists)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from infc.errors import InputError
from infc.tokenizer.charset import CODE_POINTS, partition
from infc.tokenizer.dfa import Dfa, char_sets, cut_before, determinize, reads_again
from infc.tokenizer.regex import Chars, parse
from infc.tokenizer.scan import scan_table

# Patterns whose search would read a run again from each of its characters, with a spelling that says what lies between matches too.
_LINEAR = {r"\s+$": r"\s+$|(?:\s*\S+)+"}
_BLOCK = 256  # code points a block of the second stage holds; infc_pretok.h has the same number


@dataclass(frozen=True, slots=True)
class SplitTables:
    """What ``infc_pretok.c`` walks. Class of code point c: ``stage2[stage1[c >> 8] * 256 + (c & 255)]``.

    A transition is ``next << 1 | matched_before`` at ``[state * (n_classes + 1) + class]``; class ``n_classes`` is the end.
    """

    n_classes: int
    stage1: np.ndarray  # uint16 (0x1100,)
    stage2: np.ndarray  # uint8 (n_blocks * 256,)
    dfas: tuple[np.ndarray, ...]  # uint16 (n_states, n_classes + 1) each
    scan: np.ndarray  # uint8: see scan.py


@lru_cache(maxsize=16)
def compile_splits(patterns: tuple[str, ...]) -> SplitTables:
    """Tables of nested splits. All splits share one set of classes."""
    trees = [parse(_LINEAR.get(p, p)) for p in patterns]
    sets = list(dict.fromkeys(s for tree in trees for s in char_sets(tree)))
    starts, classes, members = partition(sets)
    n_classes = max(classes) + 1
    if n_classes > 255:
        raise InputError("G79", "pre-tokenizer pattern tells too many kinds of character apart", "limit: 255")
    as_classes = dict(zip(sets, members, strict=True))
    dfas: list[Dfa] = []
    cut: frozenset[int] = frozenset()
    for i, tree in enumerate(trees):
        if isinstance(tree, Chars) and i + 1 < len(trees):  # single characters: no pass of their own
            cut |= as_classes[tree.set]
            continue
        dfa = determinize(tree, n_classes, as_classes)
        if reads_again(dfa):
            raise InputError("G76", "pre-tokenizer pattern not supported: it may read a long run in vain", f"split: {i}")
        dfas.append(cut_before(dfa, cut) if cut else dfa)
        cut = frozenset()
    lengths = np.diff(np.array([*starts, CODE_POINTS]))
    per_point = np.repeat(np.array(classes, np.uint8), lengths).reshape(-1, _BLOCK)
    blocks: dict[bytes, int] = {}
    stage1 = [blocks.setdefault(row.tobytes(), len(blocks)) for row in per_point]
    rows = tuple(np.array([[t << 1 | m for t, m in row] for row in d.rows], np.uint16) for d in dfas)
    return SplitTables(
        n_classes,
        np.array(stage1, np.uint16),
        np.frombuffer(b"".join(blocks), np.uint8),
        rows,
        scan_table(rows, per_point[0, :128]),
    )


def split_text(tables: SplitTables, text: str) -> list[str]:
    """Cut ``text`` as the C code does; the slow, readable twin that tests compare both C and HF with."""
    codes = np.array([ord(c) for c in text], np.int64)
    classes = tables.stage2[tables.stage1[codes >> 8].astype(np.int64) * _BLOCK + (codes & 255)].tolist()
    spans = [(0, len(text))]
    for dfa in tables.dfas:
        spans = [piece for begin, end in spans for piece in _split(dfa, classes, tables.n_classes, begin, end)]
    return [text[b:e] for b, e in spans]


def _split(dfa: np.ndarray, classes: list[int], end_class: int, begin: int, end: int) -> list[tuple[int, int]]:
    pieces = []
    gap = at = begin
    while at < end:
        state, here, match = 1, at, at
        while state:
            t = int(dfa[state, classes[here] if here < end else end_class])
            match = here if t & 1 else match
            state, here = t >> 1, here + 1
        if match > at:
            if gap < at:
                pieces.append((gap, at))
            pieces.append((at, match))
            gap = match
        at = max(match, at + 1)
    if gap < end:
        pieces.append((gap, end))
    return pieces
