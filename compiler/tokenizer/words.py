"""What merging comes to, worked out ahead: words that are one token, and places where no merge can ever join two bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from infc.tokenizer import bpe
from infc.tokenizer.section import NONE

# Bytes of a word that its slot holds; longer words are found by their token's bytes. infc_words.h has the same number.
SHORT_WORD = 12
# Longer tokens are not tried for being what merging makes of their bytes: no word of text is that long but runs of one thing.
_LONGEST_TRIED = 96
# The 128-bit slot of a short word: 12 bytes, zeros after its end, then id | length << 20 | WHOLE_ONLY. infc_words.h hashes the same way.
_LENGTH_SHIFT, _WHOLE_ONLY = 20, 1 << 24
_MULTIPLY_LOW, _MULTIPLY_HIGH = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
_SLOT = np.dtype([("key", "S12"), ("meta", "<u4")])


def merged_whole(words: Sequence[bytes], byte_ids: np.ndarray, pairs: np.ndarray, made: np.ndarray) -> np.ndarray:
    """uint32 (n,): the token that merging makes of all of ``words[i]``; NONE where more than one remains."""
    spelled = [byte_ids[np.frombuffer(w, np.uint8)] for w in words]
    return merged_spelled(spelled, pairs, np.arange(len(pairs), dtype=np.uint32), made)


def merged_spelled(spelled: Sequence[Sequence[int] | np.ndarray], pairs: np.ndarray, ranks: np.ndarray, made: np.ndarray) -> np.ndarray:
    """As ``merged_whole``, of words that are rows of symbols; ``ranks[i]`` is the order of ``pairs[i]``.

    All words of a length take a step at once: one that still may become a single token has lost a symbol in every step so far.
    """
    keys, last = np.unique(pairs[::-1], return_index=True)  # of a pair given twice the last rank, as bpe.merge_table
    ranks = ranks[::-1][last]
    out = np.full(len(spelled), NONE, np.uint32)
    lengths = np.array([len(w) for w in spelled], np.int64)
    for length in np.unique(lengths):
        if not 0 < length <= _LONGEST_TRIED:
            continue
        rows = np.flatnonzero(lengths == length)
        ids = np.array([spelled[i] for i in rows.tolist()], np.uint32).reshape(len(rows), length)
        alive = (ids != NONE).all(1)
        rows, ids = rows[alive], ids[alive]
        while ids.shape[1] > 1 and len(rows) and len(keys):
            wanted = ids[:, :-1].astype(np.uint64) << np.uint64(20) | ids[:, 1:].astype(np.uint64)
            at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            rank = np.where(keys[at] == wanted, ranks[at], np.uint32(NONE))
            best = rank.argmin(1)
            least = rank[np.arange(len(rows)), best]
            alive = least != NONE
            rows, ids, best, least = rows[alive], ids[alive], best[alive], least[alive]
            columns = np.arange(ids.shape[1] - 1)
            ids = np.take_along_axis(ids, columns + (columns > best[:, None]), 1)
            ids[np.arange(len(rows)), best] = made[least]
        if ids.shape[1] == 1:
            out[rows] = ids[:, 0]
    return out


def joins(tokens: Sequence[str], byte_ids: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """uint8 (256, 32): bit ``b & 7`` of ``[a, b >> 3]`` is 1 if some merge has a left part that ends in byte a and a right part that
    begins with byte b.

    Where the bit is 0 a word may be cut between a and b: merges on one side neither use nor change anything on the other.
    A byte that is dropped has its neighbours meet, so nothing is cut beside it.
    """
    table = np.zeros((256, 256), bool)
    ends = [(raw[0], raw[-1]) if (raw := bpe.token_bytes(t)) else None for t in tokens]
    for pair in pairs.tolist():
        left, right = ends[pair >> 20], ends[pair & 0xFFFFF]
        if left and right:  # a part outside the alphabet is never met
            table[left[1], right[0]] = True
    dropped = byte_ids == NONE
    table[dropped, :] = table[:, dropped] = True
    return np.packbits(table, axis=1, bitorder="little")


def short_word_table(words: Mapping[bytes, int], by_merging: np.ndarray) -> tuple[int, np.ndarray]:
    """(home slots, slots of 16 bytes) of a hash table from words of up to SHORT_WORD bytes to their tokens.

    Words given first are nearest their home slot: give the frequent ones first. ``by_merging[i]``: whether merging makes the i-th
    word's token too; if not, the slot speaks of a whole word only, not of a part of one.
    """
    n = len(words)
    lengths = np.array([len(w) for w in words], np.uint64)
    keys = np.array(list(words), "S12")
    padded = np.zeros((n, 16), np.uint8)
    padded[:, :SHORT_WORD] = keys.view(np.uint8).reshape(n, SHORT_WORD)
    halves = padded.view("<u8")
    hashes = halves[:, 0] * _MULTIPLY_LOW + (halves[:, 1] | lengths << np.uint64(32 + _LENGTH_SHIFT)) * _MULTIPLY_HIGH
    n_homes = max(1, n + n // 2)
    homes = ((hashes >> np.uint64(32)) * np.uint64(n_homes)) >> np.uint64(32)
    slots: dict[int, int] = {}
    for i, home in enumerate(homes.tolist()):
        while home in slots:
            home += 1
        slots[home] = i
    table = np.zeros(max(n_homes, max(slots, default=0) + 1) + 1, _SLOT)  # the last slot stays empty and ends every search
    at, order = np.array(list(slots), np.int64), np.array(list(slots.values()), np.int64)
    meta = np.array(list(words.values()), np.uint32) | lengths.astype(np.uint32) << np.uint32(_LENGTH_SHIFT)
    meta |= np.where(by_merging, 0, _WHOLE_ONLY).astype(np.uint32)
    table["key"][at], table["meta"][at] = keys[order], meta[order]
    return n_homes, table
