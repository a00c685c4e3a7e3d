"""How the next token is chosen: one frozen object with the executable's defaults."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from infc.binding.library import Handle
from infc.errors import InputError


@dataclass(frozen=True, slots=True)
class Sampling:
    """temperature 0: the most likely token. top_k 0, top_p 1, min_p 0, repeat_penalty 1: off. seed None: random."""

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    seed: int | None = None

    @classmethod
    def create(cls, given: dict[str, Any]) -> Sampling:
        """From keywords; InputError names an unknown one."""
        known = [f.name for f in fields(cls)]
        for key in given:
            if key not in known:
                raise InputError("opt", f"unknown option {key!r}", f"known: {', '.join(known)}")
        return cls(**given)

    @contextmanager
    def sampler(self, handle: Handle, stream: int = 0) -> Iterator[Any]:
        """An ``infc_sampler``; ``stream`` sets prompts of one batch apart: number i draws as if alone with seed + i."""
        ffi, lib = handle.ffi, handle.lib
        seed = secrets.randbits(63) if self.seed is None else self.seed + stream
        c = ffi.new("infc_sampling *")
        try:
            c.size = ffi.sizeof("infc_sampling")
            c.temperature, c.top_k, c.top_p, c.min_p = self.temperature, self.top_k, self.top_p, self.min_p
            c.repeat_penalty, c.repeat_last_n, c.seed = self.repeat_penalty, self.repeat_last_n, seed & (2**64 - 1)
        except (OverflowError, TypeError) as e:
            raise InputError("opt", f"a sampling option has no usable value: {e}") from None
        out = ffi.new("infc_sampler **")
        with handle.use() as model:
            handle.check(lib.infc_sampler_open(model, c, out))
        try:
            yield out[0]
        finally:
            lib.infc_sampler_close(out[0])
