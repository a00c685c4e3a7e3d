"""How text is cut into words before byte-pair merging: the tables of a list of patterns (``patterns.py`` names the lists)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from infc.errors import InputError
from infc.tokenizer.bpe import BYTE_OF_CHAR
from infc.tokenizer.charset import CODE_POINTS, CharSet, partition
from infc.tokenizer.dfa import Dfa, char_sets, cut_before, determinize, reads_again
from infc.tokenizer.patterns import DIGITS, GPT2, PRETOKENIZERS, known
from infc.tokenizer.regex import Chars, Choice, Concat, Look, Node, parse
from infc.tokenizer.scan import scan_table
from infc.tokenizer.threes import Threes, cuts_of, threes

# Patterns whose search would read a run again from each of its characters, with a spelling that says what lies between matches too.
_LINEAR = {r"\s+$": r"\s+$|(?:\s*\S+)+"}
_MOST_STAGES = 16  # infc_pretok.h has the same number
_BLOCK = 256  # code points a block of the second stage holds; infc_pretok.h has the same number


@dataclass(frozen=True, slots=True)
class SplitTables:
    """What ``infc_pretok.c`` walks. Class of code point c: ``stage2[stage1[c >> 8] * 256 + (c & 255)]``.

    A transition is ``next << 1 | matched_before`` at ``[state * (n_classes + 1) + class]``; class ``n_classes`` is the end.
    """

    n_classes: int
    stage1: np.ndarray  # uint16 (0x1100,)
    stage2: np.ndarray  # uint8 (n_blocks * 256,)
    dfas: tuple[np.ndarray, ...]  # uint16 (n_states, n_classes + 1) each; of one row: marks, see threes.py
    scan: np.ndarray  # uint8: see scan.py


@lru_cache(maxsize=16)
def compile_splits(patterns: tuple[str, ...]) -> SplitTables:
    """Tables of nested splits. All splits share one set of classes."""
    trees = [threes(p) or parse(_LINEAR.get(p, p)) for p in patterns]
    if sum(isinstance(tree, Threes) for tree in trees) > 1:
        raise InputError("G79", "more than one split of the pre-tokenizer into groups of three", "limit: 1")
    sets = list(dict.fromkeys(s for tree in trees for s in (tree.sets if isinstance(tree, Threes) else char_sets(tree))))
    starts, classes, members = partition(sets)
    n_classes = max(classes) + 1
    if n_classes > 255:
        raise InputError("G79", "pre-tokenizer pattern tells too many kinds of character apart", "limit: 255")
    as_classes = dict(zip(sets, members, strict=True))
    dfas: list[Dfa | np.ndarray] = []
    cut: frozenset[int] = frozenset()
    for i, tree in enumerate(trees):
        if isinstance(tree, Threes):
            dfas.append(tree.marks(n_classes, as_classes))
            continue
        # Single characters need no pass of their own.
        if isinstance(tree, Chars) and i + 1 < len(trees) and not isinstance(trees[i + 1], Threes):
            cut |= as_classes[tree.set]
            continue
        dfa = determinize(tree, n_classes, as_classes)
        if reads_again(dfa):
            raise InputError("G76", "pre-tokenizer pattern not supported: it may read a long run in vain", f"split: {i}")
        dfas.append(cut_before(dfa, cut) if cut else dfa)
        cut = frozenset()
    if len(dfas) > _MOST_STAGES:
        raise InputError("G79", f"{len(dfas)} nested splits of the pre-tokenizer", f"limit: {_MOST_STAGES}")
    lengths = np.diff(np.array([*starts, CODE_POINTS]))
    per_point = np.repeat(np.array(classes, np.uint8), lengths).reshape(-1, _BLOCK)
    blocks: dict[bytes, int] = {}
    stage1 = [blocks.setdefault(row.tobytes(), len(blocks)) for row in per_point]
    rows = tuple(d if isinstance(d, np.ndarray) else np.array([[t << 1 | m for t, m in row] for row in d.rows], np.uint16) for d in dfas)
    return SplitTables(
        n_classes,
        np.array(stage1, np.uint16),
        np.frombuffer(b"".join(blocks), np.uint8),
        rows,
        scan_table(rows if len(rows[0]) > 1 else (*rows, *rows), per_point[0, :128]),
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
    if len(dfa) == 1:
        cuts = [begin, *cuts_of(dfa[0], classes, begin, end), end]
        return [(a, b) for a, b in itertools.pairwise(sorted({*cuts})) if a < b]
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


def name_of(patterns: Sequence[str], ignore_merges: bool = False) -> str:
    """The GGUF name whose pre-tokenizer cuts text as ``patterns`` do, from the outermost split; InputError G76 if none does.

    For tokenizers that come as regular expressions (``tokenizer.json``): ``patterns_of`` reads them. Patterns need not be spelled as
    ours: their automata are compared. ``ignore_merges`` chooses between names that differ in nothing else.
    """
    if not patterns:
        raise InputError("G76", "the tokenizer cuts text in no way: no known pre-tokenizer does that", "tokenizer.json: pre_tokenizer")
    wanted = _canonical(tuple(patterns))
    for exact in (True, False):  # where no name has this ignore_merges, it changes nothing that the splits say
        for name, entry in PRETOKENIZERS.items():
            if (entry.ignore_merges == ignore_merges) == exact and _canonical(entry.splits) == wanted:
                if not exact:
                    raise InputError("G76", f"the splits are those of {name}, but ignore_merges is {str(ignore_merges).lower()}")
                return name
    raise InputError("G76", f"no known pre-tokenizer splits by {' then '.join(patterns):.120} (known: {known()})")


@lru_cache(maxsize=64)
def _canonical(patterns: tuple[str, ...]) -> tuple[object, ...]:
    """What two lists of patterns have in common exactly if they cut every text alike split by split: automata over character classes that
    none of them tells apart further, numbered in the order of their first code points."""
    tables = compile_splits(patterns)
    columns = np.concatenate([d[:, : tables.n_classes] for d in tables.dfas])
    ends = [d[:, tables.n_classes].tobytes() for d in tables.dfas]
    points = tables.stage2[(tables.stage1.astype(np.int64)[:, None] * _BLOCK + np.arange(_BLOCK)).reshape(-1)]
    kinds: dict[bytes, int] = {}
    first = np.unique(points, return_index=True)[1]
    number = np.zeros(tables.n_classes, np.uint8)
    for c in np.argsort(first).tolist():
        number[c] = kinds.setdefault(columns[:, c].tobytes(), len(kinds))
    states = tuple(_states(d, number, tables.n_classes) for d in tables.dfas)
    return (number[points].tobytes(), states, tuple(len(e) for e in ends))


def _states(dfa: np.ndarray, number: np.ndarray, n_classes: int) -> tuple[tuple[int, ...], ...]:
    """The rows of an automaton over the numbered kinds, its states numbered in the order in which a walk from the start meets them; of
    one row, its marks."""
    keep = [int(np.flatnonzero(number == k)[0]) for k in range(int(number.max()) + 1)]
    if len(dfa) == 1:
        return (tuple(int(dfa[0, c]) for c in (*keep, n_classes)),)
    order, seen = [0, 1], {0: 0, 1: 1}
    rows = []
    for state in order:
        cells = []
        for c in (*keep, n_classes):
            to, matched = int(dfa[state, c]) >> 1, int(dfa[state, c]) & 1
            if to not in seen:
                seen[to] = len(order)
                order.append(to)
            cells.append(seen[to] << 1 | matched)
        rows.append(tuple(cells))
    return tuple(rows)


def patterns_of(pre_tokenizer: object) -> tuple[str, ...]:
    """The splits of a ``pre_tokenizer`` object of a byte-level ``tokenizer.json``, from the outermost. InputError G76."""
    splits: list[str] = []
    byte_level = False
    for step in _steps(pre_tokenizer):
        kind = step.get("type")
        if kind == "ByteLevel":
            if step.get("add_prefix_space"):
                raise _refuse("ByteLevel that puts a space before the text")
            new = [GPT2] if step.get("use_regex", True) else []
        else:
            new = [_pattern_of(step)]
        if byte_level and not all(_same_of_bytes(p) for p in new):
            raise _refuse(f"{kind!s:.40} behind ByteLevel, where it would cut within characters")
        byte_level |= kind == "ByteLevel"
        splits += new
    if not byte_level:
        raise _refuse(f"{pre_tokenizer!s:.100} without ByteLevel")
    return tuple(splits) or (r"[\s\S]+",)


def _steps(pre_tokenizer: object) -> list[Mapping[str, Any]]:
    """The steps of a Sequence, and of Sequences in it; of another object itself."""
    if not isinstance(pre_tokenizer, Mapping):
        raise _refuse(f"{pre_tokenizer!s:.100}")
    if pre_tokenizer.get("type") != "Sequence":
        return [pre_tokenizer]
    parts = pre_tokenizer.get("pretokenizers")
    if not isinstance(parts, list) or not all(isinstance(p, Mapping) and p.get("type") != "Sequence" for p in parts):
        raise _refuse("a Sequence of something else than steps")
    return parts


def _pattern_of(step: Mapping[str, Any]) -> str:
    """What a step isolates: its pattern, written so that pieces which the step keeps together are one match. InputError G76."""
    kind, behavior, invert = step.get("type"), step.get("behavior"), step.get("invert", False)
    if kind == "Digits":
        return DIGITS if step.get("individual_digits") is True else f"{DIGITS}+"
    if kind == "FixedLength" and type(step.get("length")) is int and step["length"] > 0:
        return rf"[\s\S]{{1,{step['length']}}}"
    if kind not in ("Split", "Punctuation"):
        raise _refuse(f"{step!s:.100}")
    pattern = r"\p{HF_Punctuation}" if kind == "Punctuation" else _spelled(step.get("pattern"))
    if behavior == "Isolated":
        return pattern
    if behavior == "Contiguous":
        return f"(?:{pattern})+"
    if behavior == "Removed" and invert is True:
        if _leaves_gaps(pattern):
            raise _refuse(f"a Split that removes what {pattern!s:.80} does not match")
        return pattern
    other = rf"(?:(?!{pattern})[\s\S])"
    if behavior == "MergedWithPrevious" and not invert:
        return f"{other}*(?:{pattern})|{other}+"
    if behavior == "MergedWithNext" and not invert:
        return f"(?:{pattern}){other}*|{other}+"
    raise _refuse(f"{kind} with behavior {behavior!s:.30}, invert {str(invert)[:10]}")


def _spelled(pattern: object) -> str:
    """The expression of ``{"Regex": ...}`` or, of a text that is found as it is, ``{"String": ...}``."""
    found = pattern if isinstance(pattern, Mapping) else {}
    if isinstance(found.get("Regex"), str):
        return str(found["Regex"])
    if isinstance(found.get("String"), str):
        return "".join(c if c.isalnum() else f"\\x{{{ord(c):x}}}" for c in found["String"])
    raise _refuse(f"a Split by {pattern!s:.80}")


def _leaves_gaps(pattern: str) -> bool:
    """Whether some text has characters that no match holds."""
    (rows,) = compile_splits((pattern,)).dfas
    if len(rows) == 1:
        return True
    silent = [{int(t) >> 1 for t in row if not t & 1} for row in rows]
    fails = {0}
    while grown := {s for s, to in enumerate(silent) if s not in fails and to & fails}:
        fails |= grown
    # The walk's first step must not end it, nor its further ones; at the end of the text there is no first step.
    return any(int(t) >> 1 in fails and not t & 1 for t in rows[1][:-1])


def _same_of_bytes(pattern: str) -> bool:
    """Whether ``pattern`` finds in GPT-2's alphabet of bytes what it finds in the text that they stand for.

    No byte of a character outside ASCII may be matched: it would be cut from its other bytes. Lookahead may ask for one.
    """
    chars = {byte: ord(c) for c, byte in BYTE_OF_CHAR.items()}
    for s, is_look in _sets(parse(pattern)):
        high = {chars[b] in s for b in range(128, 256)}
        outside = ~CharSet.of((0, 127)) & s
        constant = len(high) == 1 and (outside == ~CharSet.of((0, 127)) if True in high else not outside)
        if not constant or (True in high and not is_look) or any((b in s) != (chars[b] in s) for b in range(128)):
            return False
    return True


def _sets(node: Node) -> list[tuple[CharSet, bool]]:
    """The sets of a tree, and whether each is a lookahead's."""
    if isinstance(node, Chars | Look):
        return [(node.set, isinstance(node, Look))]
    return [s for item in (node.items if isinstance(node, Concat | Choice) else (node.item,)) for s in _sets(item)]


def _refuse(what: str) -> InputError:
    return InputError("G76", f"a pre-tokenizer that is not supported: {what}", "tokenizer.json")
