"""Byte-level byte-pair encoding: the vocabulary as raw bytes, and the merges as a hash table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from infc.errors import InputError
from infc.tokenizer.section import NONE

# The 64-bit slot of a merge: left << 44 | right << 24 | rank.
MAX_VOCAB, MAX_MERGES = 1 << 20, (1 << 24) - 1
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
# 2^64 / golden ratio, odd: Fibonacci hashing. infc_merge.c has the same number.
_FIBONACCI = np.uint64(0x9E3779B97F4A7C15)
_SECOND = np.uint64(0xD6E8FEB86659FD93)  # odd; infc_merge.c has the same number
# FNV-1a, 64 bits.
_FNV_BASIS, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


def _byte_of_char() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes are U+0100 onwards in order."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(rest)}


BYTE_OF_CHAR: Mapping[str, int] = _byte_of_char()


def token_bytes(text: str) -> bytes | None:
    """The bytes an ordinary token stands for; None if a character is not of the alphabet (then no text makes it)."""
    try:
        return bytes([BYTE_OF_CHAR[c] for c in text])
    except KeyError:
        return None


def byte_ids(ids: Mapping[str, int]) -> np.ndarray:
    """uint32 (256,): the token of each byte, NONE where the vocabulary has none (HF drops such a byte; so do we)."""
    out = np.full(256, NONE, np.uint32)
    for char, byte in BYTE_OF_CHAR.items():
        out[byte] = ids.get(char, NONE)
    return out


def parse_merges(merges: Sequence[str], ids: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """(pairs uint64 (n,) = left << 20 | right, ids uint32 (n,)) by rank. InputError G74 for a malformed or unknown part."""
    if len(merges) > MAX_MERGES:
        raise InputError("G74", f"{len(merges)} merges (at most {MAX_MERGES})", "key: tokenizer.ggml.merges")
    pairs: list[int] = []
    made: list[int] = []
    for rank, merge in enumerate(merges):
        left, space, right = merge.partition(" ")
        if not space or " " in right:
            raise InputError("G74", "a merge is not two parts with a space between", f"merge: {rank}")
        try:
            pairs.append(ids[left] << 20 | ids[right])
            made.append(ids[left + right])
        except KeyError as e:
            raise InputError("G74", f"merge part {e.args[0]:.40} is not in the vocabulary", f"merge: {rank}") from None
    return np.array(pairs, np.uint64), np.array(made, np.uint32)


def _probe(hashes: np.ndarray, n_homes: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Linear probing without wrap-around. Returns (order of insertion, slot of each in that order, number of slots)."""
    homes = ((hashes >> np.uint64(32)) * np.uint64(n_homes)) >> np.uint64(32)
    order = np.argsort(homes, kind="stable")
    index = np.arange(len(order), dtype=np.int64)
    # Inserted in the order of home slots, each goes to its home or right after the one before.
    slots = np.maximum.accumulate(homes[order].astype(np.int64) - index) + index
    last = int(slots[-1]) if len(slots) else -1
    return order, slots, max(n_homes, last + 1) + 1  # the last slot stays empty and ends every search


def merge_table(pairs: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """uint64 slots of a cuckoo hash table pair -> rank (uint32, one a pair). A pair given twice has its last rank, as in HF.

    A pair lies in one of two slots, so that a lookup is two loads and no branch: a probe loop would be mispredicted at most symbols.
    InputError G79 if the pairs resist.
    """
    unique, first = np.unique(pairs[::-1], return_index=True)
    items = unique << np.uint64(24) | ranks[::-1][first].astype(np.uint64)
    n_slots = 2 * len(unique) + len(unique) // 4 + 1
    for _ in range(24):
        homes = [((unique * m >> np.uint64(32)) * np.uint64(n_slots) >> np.uint64(32)).tolist() for m in (_FIBONACCI, _SECOND)]
        placed = _cuckoo(homes[0], homes[1], n_slots)
        if placed is not None:
            table = np.full(n_slots, _EMPTY, np.uint64)
            table[list(placed)] = items[list(placed.values())]
            return table
        n_slots += n_slots // 8 + 1
    raise InputError("G79", "the merges resist hashing", "key: tokenizer.ggml.merges")


def _cuckoo(one: list[int], two: list[int], n_slots: int) -> dict[int, int] | None:
    """Slot -> item where item i lies in ``one[i]`` or ``two[i]``; None if some item finds no place."""
    placed: dict[int, int] = {}
    longest = 64 + 8 * n_slots.bit_length()
    for start in range(len(one)):
        item, slot = start, one[start]
        for _ in range(longest):
            if slot not in placed:
                break
            item, placed[slot] = placed[slot], item  # the newcomer stays, the one before goes to its other place
            slot = two[item] if slot == one[item] else one[item]
        else:
            return None
        placed[slot] = item
    return placed


def _fnv1a(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """uint64 (n,): hash of ``data[offsets[i] : offsets[i + 1]]`` for each i, one byte position of all at a time."""
    lengths = np.diff(offsets)
    hashes = np.full(len(lengths), _FNV_BASIS, np.uint64)
    alive = np.flatnonzero(lengths > 0)
    at = 0
    while len(alive):
        hashes[alive] = (hashes[alive] ^ data[offsets[alive] + at].astype(np.uint64)) * _FNV_PRIME
        at += 1
        alive = alive[lengths[alive] > at]
    return hashes


def word_table(words: Mapping[bytes, int]) -> tuple[int, np.ndarray]:
    """(home slots, uint32 slots) of a hash table from a token's bytes to the token."""
    ids = np.array(list(words.values()), np.uint32)
    offsets = np.cumsum([0, *map(len, words)])
    hashes = _fnv1a(np.frombuffer(b"".join(words), np.uint8), offsets)
    n_homes = max(1, 2 * len(words))
    # The high half chooses the slot: fold the low half in, which short words change most.
    order, slots, size = _probe(hashes * _FIBONACCI, n_homes)
    table = np.full(size, NONE, np.uint32)
    table[slots] = ids[order]
    return n_homes, table
