"""A loaded model: text in, text out. Any number of threads may use one; steps are serialised inside the library."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from infc.binding import batch as batch_module
from infc.binding.library import Handle
from infc.binding.sampling import Sampling
from infc.binding.sequence import HIDDEN, LOGITS, Floats, rows_of, sequence, step, token_array
from infc.binding.text import Token, until_stop
from infc.errors import InputError

Prompt = str | Sequence[int]
Messages = Sequence[Mapping[str, str]]
_SPECIAL, _BOS, _END = 1, 2, 4  # INFC_TOKENIZE_*


@dataclass(frozen=True)
class Info:
    """``infc_info``: shapes, limits and memory of an open model. Sizes in bytes; bos_id and eos_id -1: none."""

    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    hidden_dim: int
    vocab_size: int
    n_ctx: int
    page_size: int
    n_pages: int
    max_seqs: int
    max_rows: int
    threads: int
    bos_id: int
    eos_id: int
    has_chat: bool
    weights_bytes: int
    kv_bytes: int
    arena_bytes: int
    isa: str


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as e:
        raise InputError("C01", f"the text has a lone surrogate at character {e.start}") from None


class Model:
    """An open model. Use it as a context manager or call ``close``. Errors: see ``infc.errors``."""

    def __init__(self, library: str | os.PathLike[str], threads: int = 0, isa: str | None = None, ubatch: int = 0) -> None:
        self._handle = Handle(library, threads, isa, ubatch)
        self.info = self._read_info()

    def _read_info(self) -> Info:
        h = self._handle
        c = h.ffi.new("infc_info *")
        with h.use() as model:
            h.check(h.lib.infc_get_info(model, c))
        values = {name: getattr(c, name) for name in Info.__dataclass_fields__}
        return Info(**(values | {"isa": h.ffi.string(c.isa).decode(), "has_chat": bool(c.has_chat)}))

    @property
    def meta(self) -> dict[str, Any]:
        """The description written at compile time."""
        h = self._handle
        size = h.ffi.new("size_t *")
        with h.use() as model:
            text = h.lib.infc_meta(model, size)
            data = bytes(h.ffi.buffer(text, size[0])) if text else b"{}"
        found: dict[str, Any] = json.loads(data)
        return found

    # ---- tokens ----------------------------------------------------------------------------------------------------------

    def tokenize(self, text: str, *, special: bool = True, bos: bool = True, end: bool = False) -> list[int]:
        """Token ids. ``special``: read special tokens' names in the text; ``bos``, ``end``: begin and end as the model wants a
        whole text to (few have an end: BERT's [SEP], T5's </s>)."""
        h, data = self._handle, _encode(text)
        flags = (_SPECIAL if special else 0) | (_BOS if bos else 0) | (_END if end else 0)

        def call(ids: Any, cap: int) -> int:
            with h.use() as model:
                return h.check(h.lib.infc_tokenize(model, data, len(data), flags, ids, cap))

        return self._ids(call, len(data) + 2)

    def _ids(self, call: Any, cap: int) -> list[int]:
        """Run ``call(ids, cap)`` with room for what it returns."""
        while True:
            ids = np.empty(max(cap, 1), np.int32)
            n = call(self._handle.ffi.cast("int32_t *", ids.ctypes.data), cap)
            if n <= cap:
                found: list[int] = ids[:n].tolist()
                return found
            cap = n

    def detokenize(self, ids: Sequence[int], *, special: bool = False) -> str:
        """The tokens' text; bytes that are no UTF-8 become U+FFFD. ``special``: special tokens' names too."""
        h, array = self._handle, token_array(ids)
        cap = 16 * len(array) + 16
        while True:
            out = h.ffi.new("char[]", cap)
            with h.use() as model:
                n = h.check(h.lib.infc_detokenize(model, h.ffi.cast("int32_t *", array.ctypes.data), len(array), int(special), out, cap))
            if n <= cap:
                return bytes(h.ffi.buffer(out, n)).decode("utf-8", "replace")
            cap = n

    def chat_date(self, date: str | None) -> None:
        """The date that the chat template writes, YYYY-MM-DD; None, and at first: that of the day."""
        h = self._handle
        with h.use() as model:
            h.check(h.lib.infc_chat_date(model, date.encode() if date is not None else h.ffi.NULL))

    def chat_tokens(self, messages: Messages, *, add_generation_prompt: bool = True) -> list[int]:
        """A conversation in the model's own template. ``messages``: {"role": "system" | "user" | "assistant", "content": text}."""
        h = self._handle
        if not self.info.has_chat:
            raise InputError("C01", "this model was compiled without a chat template")
        c = h.ffi.new("infc_message[]", len(messages))
        alive = []  # C borrows the bytes
        for i, message in enumerate(messages):
            try:
                role, content = message["role"], message["content"]
            except (KeyError, TypeError):
                raise InputError("C01", f"message {i} needs a role and a content") from None
            texts = h.ffi.new("char[]", _encode(role)), h.ffi.from_buffer("char[]", _encode(content))
            alive.append(texts)
            c[i].role, c[i].content, c[i].size = texts[0], texts[1], len(texts[1])

        def call(ids: Any, cap: int) -> int:
            with h.use() as model:
                return h.check(h.lib.infc_chat_tokenize(model, c, len(messages), int(add_generation_prompt), ids, cap))

        return self._ids(call, 64 + sum(len(t[1]) + 16 for t in alive))

    # ---- generation ------------------------------------------------------------------------------------------------------

    def stream(
        self, prompt: Prompt, max_tokens: int = 128, *, stop: str | Sequence[str] = (), ignore_eos: bool = False, **sampling: Any
    ) -> Iterator[Token]:
        """Generate token by token: ``temperature, top_k, top_p, min_p, repeat_penalty, repeat_last_n, seed``. Ends after
        ``max_tokens``, at a full context, at an end-of-text token (yielded, ``is_eos``) or before a ``stop`` string. Closing the
        iterator gives the sequence back. Errors in the arguments are raised here, not at the first token."""
        ids = self.tokenize(prompt) if isinstance(prompt, str) else prompt
        array, chosen = token_array(ids), Sampling.create(sampling)
        if not len(array):
            raise InputError("C01", "the prompt is empty")
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        tokens = self._generate(array, max_tokens, chosen, ignore_eos)
        return until_stop(tokens, tuple(s for s in stops if s)) if any(stops) else tokens

    def _generate(self, ids: NDArray[np.int32], max_tokens: int, sampling: Sampling, ignore_eos: bool) -> Iterator[Token]:
        if max_tokens <= 0:
            return
        with sequence(self._handle) as seq:
            yield from batch_module.run_one(self._handle, self.info.n_ctx, self.info.vocab_size, seq, ids, max_tokens, sampling, ignore_eos)

    def generate(self, prompt: Prompt, max_tokens: int = 128, **options: Any) -> str:
        """The continuation as one string. Options: see ``stream``."""
        return "".join(t.text for t in self.stream(prompt, max_tokens, **options))

    def chat(self, messages: Messages, max_tokens: int = 512, **options: Any) -> str:
        """The assistant's next message. Options: see ``stream``."""
        return self.generate(self.chat_tokens(messages), max_tokens, **options)

    def chat_stream(self, messages: Messages, max_tokens: int = 512, **options: Any) -> Iterator[Token]:
        """Like ``chat``, token by token."""
        return self.stream(self.chat_tokens(messages), max_tokens, **options)

    def batch(self, prompts: Sequence[Prompt], max_tokens: int = 128, *, ignore_eos: bool = False, **sampling: Any) -> list[str]:
        """Continuations of many prompts that share forward passes; each text is the one it would be alone. With a seed, prompt i
        draws with seed + i. Prompts wait for free sequences and KV pages."""
        arrays = [token_array(self.tokenize(p) if isinstance(p, str) else p) for p in prompts]
        if any(not len(a) for a in arrays):
            raise InputError("C01", "a prompt is empty")
        return batch_module.run_many(self._handle, self.info, arrays, max_tokens, Sampling.create(sampling), ignore_eos)

    # ---- numbers ---------------------------------------------------------------------------------------------------------

    def logits(self, ids: Sequence[int]) -> Floats:
        """(n_tokens, vocab) float32: row i scores the token after ids[:i + 1]. The library writes into the returned array."""
        array = token_array(ids)
        out = np.empty((len(array), self.info.vocab_size), np.float32)
        if len(array):
            with sequence(self._handle) as seq:
                step(self._handle, rows_of(seq, 0, array, LOGITS), logits=out)
        return out

    def embed(self, texts: Sequence[str]) -> Floats:
        """(n_texts, dim) float32: the mean over a text's tokens of the final hidden states, scaled to length 1."""
        out = np.zeros((len(texts), self.info.dim), np.float32)
        for i, text in enumerate(texts):
            ids = token_array(self.tokenize(text))
            if not len(ids):
                continue
            hidden = np.empty((len(ids), self.info.dim), np.float32)
            with sequence(self._handle) as seq:
                step(self._handle, rows_of(seq, 0, ids, HIDDEN), hidden=hidden)
            mean = hidden.mean(axis=0, dtype=np.float64)
            norm = float(np.linalg.norm(mean))
            out[i] = mean / norm if norm > 0 else mean
        return out

    def verify(self) -> None:
        """Compare the weights with the checksum written at compile time; HostError if they differ."""
        with self._handle.use() as model:
            self._handle.check(self._handle.lib.infc_verify(model))

    # ---- life ------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Free the model when the calls in progress end. Later calls raise InputError."""
        self._handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        handle = getattr(self, "_handle", None)
        if handle is not None:
            handle.close()
