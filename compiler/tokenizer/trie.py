"""A trie of byte strings in three flat tables, for WordPiece and Unigram. ``infc_trie.h`` walks it.

Nodes are numbered level by level, those of a level by the string that leads to them: so the children of node i are nodes ``first[i]``
to ``first[i + 1]``, by ascending byte. Node 0 is the root.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from infc.errors import InputError
from infc.tokenizer.section import NONE

_MOST_NODES = 1 << 26


def trie(tokens: Mapping[bytes, int]) -> dict[str, np.ndarray]:
    """Tables of ``tokens`` (bytes -> id), none of them empty: ``trie_first`` uint32 (n + 1,), ``trie_bytes`` uint8 (n,), the byte that
    leads to a node, ``trie_tokens`` uint32 (n,), the token that ends there or NONE. InputError G79 if they are too large."""
    keys = sorted(tokens)
    if sum(map(len, keys)) > _MOST_NODES:
        raise InputError("G79", f"the tokens take more than {_MOST_NODES} bytes", "key: tokenizer.ggml.tokens")
    ids = np.array([tokens[k] for k in keys], np.uint32)
    lengths = np.array([len(k) for k in keys], np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    data = np.frombuffer(b"".join(keys), np.uint8)
    node = np.zeros(len(keys), np.int64)  # that each key has come to
    parents, bytes_, ends = [np.zeros(0, np.int64)], [np.zeros(1, np.uint8)], [np.full(1, NONE, np.uint32)]
    alive, depth, n_nodes = np.arange(len(keys)), 0, 1
    while len(alive):
        byte, parent = data[offsets[alive] + depth], node[alive]
        new = np.ones(len(alive), bool)
        new[1:] = (parent[1:] != parent[:-1]) | (byte[1:] != byte[:-1])
        node[alive] = n_nodes - 1 + np.cumsum(new)
        parents.append(parent[new])
        bytes_.append(byte[new])
        end = np.full(int(new.sum()), NONE, np.uint32)
        depth += 1
        done = alive[lengths[alive] == depth]
        end[node[done] - n_nodes] = ids[done]
        ends.append(end)
        n_nodes += len(end)
        alive = alive[lengths[alive] > depth]
    first = 1 + np.searchsorted(np.concatenate(parents), np.arange(n_nodes + 1))
    return {"trie_first": first.astype(np.uint32), "trie_bytes": np.concatenate(bytes_), "trie_tokens": np.concatenate(ends)}
