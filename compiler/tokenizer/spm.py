"""SentencePiece's byte-pair encoding (GGUF model ``llama``), and Gemma 4's (``gemma4``): merging from characters, not bytes.

A text's spaces are marks (U+2581) to such a vocabulary; here tokens are kept with spaces instead, and a mark in a text counts as a
space. Two neighbours merge where their text together is a token; the best score first, of equal ones the leftmost. So the pairs
that can merge are known ahead: every way to cut a token into two tokens. A character without a token becomes the tokens of its bytes.

As in SentencePiece, and unlike llama.cpp, text never merges into a control, unknown or byte token: a ``</s>`` that a user typed
stays text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from infc.errors import InputError
from infc.tokenizer import bpe, words
from infc.tokenizer.section import NONE
from infc.tokenizer.vocabulary import BYTE, CONTROL, OWN, PREFIX, SPACE_MARK, UNKNOWN, USER_DEFINED, Vocabulary, byte_tokens, unmarked

_MAX_PAIRS = 1 << 22
# Words that get a slot in the table of short words beside the characters: the first of the vocabulary, which are the frequent ones.
_MOST_WORDS = 16384
_NOT_MERGED = (UNKNOWN, CONTROL, BYTE)


def raw_tokens(vocabulary: Vocabulary) -> list[bytes]:
    """What each token writes: ordinary ones with spaces for marks, byte tokens their byte, others their text."""
    out = []
    for text, kind in zip(vocabulary.tokens, vocabulary.types.tolist(), strict=True):
        if kind == BYTE:
            try:
                if len(text) != 6 or not text.startswith("<0x") or text[5] != ">":
                    raise ValueError
                out.append(bytes([int(text[3:5], 16)]))
            except ValueError:
                raise InputError("G73", f"byte token {len(out)} is {text[:40]!r}, not <0xHH>", f"key: {PREFIX}tokens") from None
        elif kind in (CONTROL, UNKNOWN, USER_DEFINED):
            out.append(text.encode("utf-8", "surrogatepass"))
        else:
            out.append(unmarked(text))
    return out


def _mergeable(vocabulary: Vocabulary) -> dict[str, int]:
    """Text with marks -> token, for tokens that merging may make. A text given twice is its last token, as in llama.cpp."""
    pairs = zip(vocabulary.tokens, vocabulary.types.tolist(), strict=True)
    return {text: i for i, (text, kind) in enumerate(pairs) if kind not in _NOT_MERGED and " " not in text and text}


def pairs_by_score(ids: Mapping[str, int], scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(pairs uint64 ``left << 20 | right``, rank uint32 of each, token by rank, priority by rank).

    A rank is a token that can be made of two others; ranks ascend as scores fall. Tokens of equal score have one priority.
    """
    made = sorted((i for text, i in ids.items() if len(text) > 1), key=lambda i: (-float(scores[i]), i))
    rank = {i: r for r, i in enumerate(made)}
    pairs: list[int] = []
    ranks: list[int] = []
    for text, token in ids.items():
        for cut in range(1, len(text)):
            left = ids.get(text[:cut])
            if left is None:
                continue
            right = ids.get(text[cut:])
            if right is not None:
                pairs.append(left << 20 | right)
                ranks.append(rank[token])
        if len(pairs) > _MAX_PAIRS:
            raise InputError("G79", f"more than {_MAX_PAIRS} pairs of tokens make a token", f"key: {PREFIX}tokens")
    ordered = scores[made] if made else np.zeros(0, np.float32)
    steps = np.concatenate([[0], np.cumsum(ordered[1:] != ordered[:-1])]) if made else np.zeros(0)
    return np.array(pairs, np.uint64), np.array(ranks, np.uint32), np.array(made, np.uint32), steps.astype(np.uint32)


def spm_tables(vocabulary: Vocabulary) -> dict[str, np.ndarray | bytes]:
    """Tables of GGUF's ``llama``. InputError G68, G69, G73, G79."""
    ids = _mergeable(vocabulary)
    if vocabulary.own_flag("split"):  # words are cut before a space: none is made that has one farther in
        ids = {text: i for text, i in ids.items() if SPACE_MARK not in text[1:]}
    listed = vocabulary.kv.get(OWN + "merges")
    if listed is not None:
        if not all(isinstance(m, str) for m in listed):
            raise InputError("G74", "merges of a folder that are no strings", f"key: {OWN}merges")
        pairs, made = bpe.parse_merges(listed, vocabulary.ids())
        kept = np.isin(made, np.array(list(ids.values()), np.uint32))
        return _tables(vocabulary, ids, pairs[kept], np.arange(len(made), dtype=np.uint32)[kept], made)
    pairs, ranks, made, priorities = pairs_by_score(ids, vocabulary.scores())
    distinct = bool(len(made) == 0 or priorities[-1] == len(made) - 1)
    return _tables(vocabulary, ids, pairs, ranks, made) | {"priorities": b"" if distinct else priorities}


def gemma4_tables(vocabulary: Vocabulary, merges: Sequence[str]) -> dict[str, np.ndarray | bytes]:
    """Tables of ``gemma4``: the same, with the order of merging in a list. Line ends never merge with what is beside them."""
    ids = _mergeable(vocabulary)
    pairs, made = bpe.parse_merges(merges, ids)
    tables = _tables(vocabulary, ids, pairs, np.arange(len(made), dtype=np.uint32), made)
    joins = np.unpackbits(np.asarray(tables["joins"]), axis=1, bitorder="little")
    line = np.arange(256) == ord("\n")
    joins[line[:, None] != line[None, :]] = 0
    return tables | {"joins": np.packbits(joins, axis=1, bitorder="little")}


def _tables(
    vocabulary: Vocabulary, ids: Mapping[str, int], pairs: np.ndarray, ranks: np.ndarray, made: np.ndarray
) -> dict[str, np.ndarray | bytes]:
    """Tables but for the priorities; ``short_homes`` is a number of the header."""
    characters = {text: i for text, i in ids.items() if len(text) == 1}
    char_ids = np.full(128, NONE, np.uint32)
    for text, i in characters.items():
        if ord(text) < 128:
            char_ids[ord(text)] = i
    char_ids[ord(" ")] = characters.get(SPACE_MARK, NONE)
    short_homes, short_slots = words.short_word_table(*_short(ids, characters, (pairs, ranks, made)))
    return {
        "byte_ids": byte_tokens(vocabulary),
        "char_ids": char_ids,
        "merge_slots": bpe.merge_table(pairs, ranks),
        "merge_ids": made,
        "short_slots": short_slots,
        "joins": _joins(vocabulary, pairs),
        "short_homes": np.array([short_homes], np.uint32),
    }


def _short(
    ids: Mapping[str, int], characters: Mapping[str, int], merges: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[dict[bytes, int], np.ndarray]:
    """Bytes -> token for the table of short words: all characters, and the first words that merging makes one token of."""
    some = [(raw, text, i) for text, i in ids.items() if len(text) > 1 and len(raw := unmarked(text)) <= words.SHORT_WORD]
    spelled = [[characters.get(c, NONE) for c in text] for _, text, _ in some]
    whole = words.merged_spelled(spelled, *merges)
    table = {unmarked(text): i for text, i in characters.items()}
    table |= {raw: i for (raw, _, i), m in list(zip(some, whole.tolist(), strict=True))[:_MOST_WORDS] if m == i}
    return table, np.ones(len(table), bool)


def _joins(vocabulary: Vocabulary, pairs: np.ndarray) -> np.ndarray:
    """As ``words.joins``, over the bytes of these tokens."""
    raw = [unmarked(t) for t in vocabulary.tokens]
    first, last = (np.array([r[at] if r else 0 for r in raw], np.uint8) for at in (0, -1))
    table = np.zeros((256, 256), bool)
    table[last[(pairs >> np.uint64(20)).astype(np.int64)], first[(pairs & np.uint64(0xFFFFF)).astype(np.int64)]] = True
    return np.packbits(table, axis=1, bitorder="little")
