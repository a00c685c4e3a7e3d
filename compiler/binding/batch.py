"""Generation loops over ``infc_step``: one sequence, or many that join and leave between steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infc.binding.library import Handle
from infc.binding.sampling import Sampling
from infc.binding.sequence import LOGITS, Floats, rows_of, sequence, step
from infc.binding.text import Token
from infc.errors import InputError, LimitError

if TYPE_CHECKING:
    from infc.binding.model import Info

_TEXT_BYTES = 1 << 17  # the longest token a reader admits is 64 KiB
Ids = NDArray[np.int32]


class Writer:
    """Chooses tokens from logits and turns them into text."""

    def __init__(self, handle: Handle, sampler: Any, prompt: Ids) -> None:
        self.handle = handle
        self.sampler = sampler
        self.choice = handle.ffi.new("infc_choice *")
        self.decoder = handle.ffi.new("infc_decoder *")
        self.room = handle.ffi.new("char[]", _TEXT_BYTES)
        ids = handle.ffi.cast("int32_t *", prompt.ctypes.data)
        handle.check(handle.lib.infc_sampler_accept(sampler, ids, len(prompt)))

    def next(self, logits: Floats, ignore_eos: bool) -> Token:
        """The chosen token; its text only holds complete characters. ``logits``: (vocab); changed if ``ignore_eos``."""
        h = self.handle
        with h.use() as model:
            if ignore_eos:
                self._forbid_end(model, logits)
            h.check(h.lib.infc_sample(self.sampler, h.ffi.cast("float *", logits.ctypes.data), self.choice))
            token = self.choice.id
            if not ignore_eos and h.check(h.lib.infc_is_eog(model, token)):
                return Token(token, self._text(model, -1), self.choice.logprob, True)
            return Token(token, self._text(model, token), self.choice.logprob)

    def _forbid_end(self, model: Any, logits: Floats) -> None:
        lib = self.handle.lib
        logits[_end_tokens(self.handle, model, lib, len(logits))] = -np.inf

    def rest(self) -> str:
        """What is left of an incomplete character at the end."""
        with self.handle.use() as model:
            return self._text(model, -1)

    def _text(self, model: Any, token: int) -> str:
        h = self.handle
        n = h.check(h.lib.infc_decode(model, self.decoder, token, 0, self.room, _TEXT_BYTES))
        return bytes(h.ffi.buffer(self.room, n)).decode("utf-8", "replace")


def _end_tokens(handle: Handle, model: Any, lib: Any, vocab: int) -> list[int]:
    """Tokens that end a text, asked once per model."""
    if handle.end_tokens is None:
        handle.end_tokens = [i for i in range(vocab) if lib.infc_is_eog(model, i) == 1]
    return handle.end_tokens


def run_one(
    handle: Handle, n_ctx: int, vocab: int, seq: int, ids: Ids, max_tokens: int, sampling: Sampling, ignore_eos: bool
) -> Iterator[Token]:
    """Prompt and decode loop of one sequence, starting empty. Stops at ``max_tokens``, a full context or the end of the text."""
    logits = np.empty(vocab, np.float32)
    step(handle, rows_of(seq, 0, ids, last=LOGITS), logits=logits)
    position = len(ids)
    with sampling.sampler(handle) as sampler:
        writer = Writer(handle, sampler, ids)
        for made in range(1, max_tokens + 1):
            token = writer.next(logits, ignore_eos)
            if token.is_eos or made == max_tokens or position >= n_ctx:
                yield token if token.is_eos else Token(token.id, token.text + writer.rest(), token.logprob)
                return
            yield token
            step(handle, rows_of(seq, position, np.array([token.id], np.int32), last=LOGITS), logits=logits)
            position += 1


@dataclass
class _Stream:
    """One prompt on its way through a batch."""

    index: int
    ids: Ids
    pages: int
    stack: ExitStack = field(default_factory=ExitStack)
    seq: int = -1
    position: int = 0
    writer: Writer | None = None
    pending: Ids | None = None  # tokens the next step evaluates
    text: list[str] = field(default_factory=list)
    made: int = 0


def run_many(handle: Handle, info: Info, prompts: list[Ids], max_tokens: int, sampling: Sampling, ignore_eos: bool) -> list[str]:
    """Texts in the order of the prompts. A prompt is admitted when a sequence and all pages it may need are free."""
    texts = [""] * len(prompts)
    if max_tokens <= 0:
        return texts
    waiting: deque[_Stream] = deque()
    for i, ids in enumerate(prompts):
        if len(ids) > info.n_ctx:
            raise LimitError("C02", f"prompt {i} has {len(ids)} tokens and the context {info.n_ctx}", "compile with a larger --ctx")
        positions = min(len(ids) + max_tokens, info.n_ctx)
        waiting.append(_Stream(i, ids, -(-positions // info.page_size)))
    running: list[_Stream] = []
    free = info.n_pages
    try:
        while waiting or running:
            while waiting and len(running) < info.max_seqs and (waiting[0].pages <= free or not running):
                stream = waiting.popleft()
                running.append(stream)  # first, so that its resources are given back whatever fails
                free -= stream.pages
                _start(handle, sampling, stream)
            _advance(handle, info, running, max_tokens, ignore_eos)
            for stream in [s for s in running if s.pending is None]:
                running.remove(stream)
                free += stream.pages
                stream.stack.close()
                texts[stream.index] = "".join(stream.text)
    finally:
        for stream in running:
            stream.stack.close()
    return texts


def _start(handle: Handle, sampling: Sampling, stream: _Stream) -> None:
    stream.seq = stream.stack.enter_context(sequence(handle))
    sampler = stream.stack.enter_context(sampling.sampler(handle, stream.index))
    stream.writer = Writer(handle, sampler, stream.ids)
    stream.pending = stream.ids


def _advance(handle: Handle, info: Info, running: list[_Stream], max_tokens: int, ignore_eos: bool) -> None:
    """One forward pass over everything pending, one choice per stream. A stream that is done has nothing pending."""
    parts = []
    for s in running:
        if s.pending is None:
            raise InputError("C06", "a finished stream was asked to go on")
        parts.append(rows_of(s.seq, s.position, s.pending, last=LOGITS))
        s.position += len(s.pending)
    logits = np.empty((len(running), info.vocab_size), np.float32)
    step(handle, np.concatenate(parts), logits=logits)
    for s, row in zip(running, logits, strict=True):
        assert s.writer is not None  # set by _start
        token = s.writer.next(row, ignore_eos)
        s.made += 1
        s.text.append(token.text)
        s.pending = np.array([token.id], np.int32)
        if token.is_eos or s.made == max_tokens or s.position >= info.n_ctx:
            s.text.append("" if token.is_eos else s.writer.rest())
            s.pending = None
