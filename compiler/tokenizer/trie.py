"""A trie of byte strings in one flat table, for WordPiece and Unigram. ``infc_trie.h`` walks it: one load a byte.

A node is its slot, a number of 64 bits. The children of a node lie in 2^k slots of its own, each at ``(byte * m mod 256) >> (8 - k)``
from the first of them, where k and the odd m are such that no two meet: found by trying, the smallest k that has one (k = 8 always
has). Slot 0 is empty, slot 1 the root; a node without children names slot 0. Nodes of few letters come first, so that those often met
lie together.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from infc.errors import InputError

_MOST_BYTES = 1 << 26
# Bits of a slot from which on: m without its last bit, 8 - k, the byte that leads to the node, its token + 1 or 0. Below: the slot where
# its children begin.
_M, _SHIFT, _LABEL, _TOKEN = 24, 31, 35, 43
_MOST_SLOTS = 1 << _M


def trie(tokens: Mapping[bytes, int]) -> dict[str, np.ndarray]:
    """``trie``: uint64 slots of ``tokens`` (bytes -> id below 2^20), none of them empty. InputError G79 if they are too many."""
    parents, labels, ends = _levels(tokens)
    n = len(parents)
    fan = np.bincount(parents[1:], minlength=n)
    bits, multipliers = _hashes(labels, fan)
    sizes = np.where(fan, 1 << bits, 0)
    n_slots = 2 + int(sizes.sum())
    if n_slots > _MOST_SLOTS:
        raise InputError("G79", f"the tokens take more than {_MOST_SLOTS} places of a table", "key: tokenizer.ggml.tokens")
    first = np.where(fan, 2 + np.concatenate([[0], np.cumsum(sizes)[:-1]]), 0)
    up = parents[1:]
    slot = np.ones(n, np.int64)
    slot[1:] = first[up] + _hash(labels[1:], multipliers[up], bits[up])
    values = np.zeros(n, np.uint64)
    for shift, part in ((0, first), (_M, multipliers >> 1), (_SHIFT, 8 - bits), (_LABEL, labels), (_TOKEN, ends + 1)):
        values |= part.astype(np.uint64) << np.uint64(shift)
    out = np.zeros(n_slots, np.uint64)
    out[slot] = values
    return {"trie": out}


def _levels(tokens: Mapping[bytes, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(parent, byte, token or -1) of each node, int64, level by level, the children of a node side by side; node 0 is the root."""
    keys = sorted(tokens)
    if sum(map(len, keys)) > _MOST_BYTES:
        raise InputError("G79", f"the tokens take more than {_MOST_BYTES} bytes", "key: tokenizer.ggml.tokens")
    ids = np.array([tokens[k] for k in keys], np.int64)
    lengths = np.array([len(k) for k in keys], np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    data = np.frombuffer(b"".join(keys), np.uint8)
    node = np.zeros(len(keys), np.int64)  # that each key has come to
    parents, labels, ends = [np.zeros(1, np.int64)], [np.zeros(1, np.int64)], [np.full(1, -1)]
    alive, depth, n_nodes = np.arange(len(keys)), 0, 1
    while len(alive):
        byte, parent = data[offsets[alive] + depth], node[alive]
        new = np.ones(len(alive), bool)
        new[1:] = (parent[1:] != parent[:-1]) | (byte[1:] != byte[:-1])
        node[alive] = n_nodes - 1 + np.cumsum(new)
        parents.append(parent[new])
        labels.append(byte[new].astype(np.int64))
        end = np.full(int(new.sum()), -1)
        depth += 1
        done = alive[lengths[alive] == depth]
        end[node[done] - n_nodes] = ids[done]
        ends.append(end)
        n_nodes += len(end)
        alive = alive[lengths[alive] > depth]
    return np.concatenate(parents), np.concatenate(labels), np.concatenate(ends)


def _hash(labels: np.ndarray, multipliers: np.ndarray | int, bits: np.ndarray | int) -> np.ndarray:
    return (labels * multipliers & 255) >> (8 - bits)


def _hashes(labels: np.ndarray, fan: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k, m) of each node."""
    begins = 1 + np.concatenate([[0], np.cumsum(fan)[:-1]])  # children lie side by side, in the order of their parents
    bits, multipliers = np.zeros(len(fan), np.int64), np.ones(len(fan), np.int64)
    for n in np.unique(fan[fan > 1]).tolist():
        nodes = np.flatnonzero(fan == n)
        children = labels[begins[nodes][:, None] + np.arange(n)]
        for k in range((n - 1).bit_length(), 9):
            for m in range(1, 256, 2):
                places = np.sort(_hash(children, m, k), axis=1)
                apart = (places[:, 1:] != places[:, :-1]).all(1)
                bits[nodes[apart]], multipliers[nodes[apart]] = k, m
                nodes, children = nodes[~apart], children[~apart]
                if not len(nodes):
                    break
            if not len(nodes):
                break
    return bits, multipliers
