"""How text is cut into words before byte-pair merging: the patterns by GGUF name, and their tables.

Each name is data: a list of splits applied one inside the other, as HF's ``Sequence`` does with ``Isolated`` pieces (text
between matches is a piece too). A new name is a new entry; a pattern outside the subset of ``regex.py`` is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from infc.errors import InputError
from infc.tokenizer.charset import CODE_POINTS, partition
from infc.tokenizer.dfa import Dfa, char_sets, cut_before, determinize
from infc.tokenizer.regex import Chars, parse
from infc.tokenizer.scan import scan_table

_BLOCK = 256  # code points a block of the second stage holds; infc_pretok.h has the same number


@dataclass(frozen=True, slots=True)
class Pretokenizer:
    """``splits``: patterns from the outermost; ``ignore_merges``: a piece that is a token needs no merging.

    ``add_bos``: what a file that does not say wants.
    """

    splits: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False


_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_TIKTOKEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

PRETOKENIZERS: Mapping[str, Pretokenizer] = MappingProxyType(
    {
        "gpt-2": Pretokenizer((_GPT2,)),
        "smollm": Pretokenizer((r"\p{Numeric}", _GPT2)),
        "llama-bpe": Pretokenizer((_TIKTOKEN % r"\p{N}{1,3}",), ignore_merges=True, add_bos=True),
        "qwen2": Pretokenizer((_TIKTOKEN % r"\p{N}",)),
    }
)


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


def pretokenizer(name: object) -> Pretokenizer:
    """The entry of ``name``; InputError G76 if there is none: a guess would give a wrong, silent tokenization."""
    if not isinstance(name, str) or name not in PRETOKENIZERS:
        known = ", ".join(sorted(PRETOKENIZERS))
        raise InputError("G76", f"pre-tokenizer {name!s:.40} is not known (known: {known})", "key: tokenizer.ggml.pre")
    return PRETOKENIZERS[name]


@lru_cache(maxsize=16)
def compile_splits(patterns: tuple[str, ...]) -> SplitTables:
    """Tables of nested splits. All splits share one set of classes."""
    trees = [parse(p) for p in patterns]
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
