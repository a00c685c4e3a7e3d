"""Added tokens (special and user-defined), found in raw text before it is cut: leftmost first, then longest.

The automaton reads bytes. Its state is the list of tokens begun but not finished, earliest first; once one has matched,
nothing that begins later is followed. So the last match seen before the automaton dies is the one, and every byte is read
once but for what lies behind that match.

Table: ``u32 n_states, u32 n_classes, u32 longest, u32 0 | u8 class_of_byte[256] | u32 out[n_states] |
u16 next[n_states * n_classes]``; state 0 is dead, 1 the start; ``out`` is the token that ends on entering a state.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from infc.errors import InputError
from infc.tokenizer.section import NONE

_MAX_STATES = 1 << 16
_MAX_CELLS = 1 << 22
# A token that almost occurs makes the matcher read its length again: keep that a constant.
_MAX_TOKEN_BYTES = 1024
# Bounds the time and memory of building: bytes of all tokens (nodes of the trie), and tokens in progress in a state.
_MAX_BYTES = 1 << 18
_MAX_IN_PROGRESS = 32


@dataclass(slots=True)
class _Trie:
    children: list[dict[int, int]] = field(default_factory=lambda: [{}])
    token: dict[int, int] = field(default_factory=dict)

    def insert(self, text: bytes, token: int) -> None:
        at = 0
        for byte in text:
            if byte not in self.children[at]:
                self.children[at][byte] = len(self.children)
                self.children.append({})
            at = self.children[at][byte]
        self.token.setdefault(at, token)


# Trie nodes in progress (earliest start first), whether a token has matched, and the one that ends here.
_State = tuple[tuple[int, ...], bool, int]
_DEAD: _State = ((), True, NONE)
_START: _State = ((), False, NONE)


def _step(trie: _Trie, state: _State, byte: int) -> _State:
    nodes, matched, _ = state
    alive: list[int] = []
    for node in nodes if matched else (*nodes, 0):
        child = trie.children[node].get(byte)
        if child is None:
            continue
        if trie.children[child]:
            alive.append(child)
        if child in trie.token:
            return tuple(alive), True, trie.token[child]
    return tuple(alive), matched, NONE


def _too_large(why: str) -> InputError:
    return InputError("G79", f"added tokens need too large a table: {why}", "key: tokenizer.ggml.token_type")


def automaton(tokens: Mapping[bytes, int]) -> bytes:
    """The table for ``tokens`` (bytes -> id); empty if there are none. InputError G79 if they need too large a table."""
    if not tokens:
        return b""
    if sum(map(len, tokens)) > _MAX_BYTES:
        raise _too_large(f"they take more than {_MAX_BYTES} bytes")
    trie = _Trie()
    for text, token in tokens.items():
        if not 0 < len(text) <= _MAX_TOKEN_BYTES:
            raise InputError("G79", f"added token of {len(text)} bytes (1 to {_MAX_TOKEN_BYTES} are supported)", f"token: {token}")
        trie.insert(text, token)
    used = sorted({b for text in tokens for b in text})
    classes = np.zeros(256, np.uint8)  # class 0: bytes in no token
    classes[used] = np.arange(1, len(used) + 1) if len(used) < 256 else np.arange(256)
    n_classes = int(classes.max()) + 1
    numbers: dict[_State, int] = {_DEAD: 0, _START: 1}
    order = [_DEAD, _START]
    rows: list[np.ndarray] = [np.zeros(n_classes, np.uint16)]
    while len(rows) < len(order):
        state = order[len(rows)]
        if len(state[0]) > _MAX_IN_PROGRESS:
            raise _too_large("they overlap too much")
        # Only bytes that some token in progress continues with, or that begin one, do anything but fall back.
        row = np.full(n_classes, 0 if state[1] else 1, np.uint16)
        nodes = state[0] if state[1] else (*state[0], 0)
        for byte in sorted(set().union(*(trie.children[n] for n in nodes))):
            to = _step(trie, state, byte)
            if to not in numbers:
                if len(order) >= _MAX_STATES or len(order) * n_classes >= _MAX_CELLS:
                    raise _too_large("they are too varied")
                numbers[to] = len(order)
                order.append(to)
            row[classes[byte]] = numbers[to]
        rows.append(row)
    out = np.array([s[2] for s in order], "<u4")
    head = struct.pack("<4I", len(rows), n_classes, max(map(len, tokens)), 0)
    return head + classes.tobytes() + out.tobytes() + np.stack(rows).astype("<u2").tobytes()
