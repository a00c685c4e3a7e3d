"""Stop strings over a stream of tokens: text that may yet become one is held back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token. ``text``: the complete characters it finished, so possibly "". ``logprob``: natural logarithm of its
    probability before any filter. ``is_eos``: it ends the text (its own text is empty)."""

    id: int
    text: str
    logprob: float
    is_eos: bool = False


def _held(text: str, stops: tuple[str, ...]) -> int:
    """Length of the longest end of ``text`` that begins one of ``stops`` without completing it."""
    longest = 0
    for stop in stops:
        for n in range(min(len(stop) - 1, len(text)), longest, -1):
            if text.endswith(stop[:n]):
                longest = n
                break
    return longest


def until_stop(tokens: Iterable[Token], stops: tuple[str, ...]) -> Iterator[Token]:
    """The tokens up to the first of ``stops``, which is cut off; the token that holds its beginning keeps what is before it."""
    held: list[Token] = []
    for token in tokens:
        held.append(token)
        text = "".join(t.text for t in held)
        found = [text.find(s) for s in stops if s in text]
        if found:
            yield from _cut(held, min(found))
            return
        safe = len(text) - _held(text, stops)
        while held and (token.is_eos or len(held[0].text) <= safe):
            safe -= len(held[0].text)
            yield held.pop(0)
    yield from held


def _cut(tokens: list[Token], end: int) -> Iterator[Token]:
    for token in tokens:
        if end <= 0:
            return
        yield token if len(token.text) <= end else replace(token, text=token.text[:end])
        end -= len(token.text)
