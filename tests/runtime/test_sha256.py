"""SHA-256 against hashlib, for every way the padding can fall and any cutting of the input."""

from __future__ import annotations

import hashlib

import pytest


def digest(runtime, *parts: bytes) -> bytes:
    state, out = runtime.ffi.new("infc_sha256 *"), runtime.ffi.new("uint8_t[32]")
    runtime.lib.infc_sha256_start(state)
    for part in parts:
        runtime.lib.infc_sha256_add(state, part, len(part))
    runtime.lib.infc_sha256_finish(state, out)
    return bytes(out)


@pytest.mark.parametrize("n", [*range(130), 4096, 100_003])
def test_lengths(runtime, n: int) -> None:
    data = bytes(i * 7 & 255 for i in range(n))
    assert digest(runtime, data) == hashlib.sha256(data).digest()


@pytest.mark.parametrize("cut", [1, 3, 63, 64, 65, 100])
def test_cuts(runtime, cut: int) -> None:
    data = bytes(i * 11 & 255 for i in range(1000))
    assert digest(runtime, *(data[i : i + cut] for i in range(0, 1000, cut))) == hashlib.sha256(data).digest()
