"""Weights in small pages of the page cache become huge pages between steps, within the share of time that steps earn, and stay the same."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cffi
import numpy as np
import pytest

from tests.runtime import harness
from tests.runtime.page_cache import PIECE, huge_bytes, huge_when_mapped, write_small
from tests.runtime.test_blob import BLOB_STRUCTS

SECOND = 1_000_000_000
DECLARATIONS = BLOB_STRUCTS + harness.declarations("infc_huge.h")


def written_small(path: Path) -> bytes:
    """A file that ends in a blob of 13 MB; returned: its bytes."""
    harness.append_blob(path, harness.blob({1: np.random.default_rng(0).bytes((13 << 20) + 12345), 4: b"meta"}))
    data = path.read_bytes()
    path.unlink()
    write_small(path, data)
    return data


class Weights:
    """A blob mapped by the runtime, and the state that tends it."""

    def __init__(self, library: Path, path: Path) -> None:
        self.ffi = cffi.FFI()
        self.ffi.cdef(DECLARATIONS)
        self.lib: Any = self.ffi.dlopen(str(library))
        self.blob = self.ffi.new("infc_blob *")
        assert self.lib.infc_blob_open(self.blob, str(path).encode()) == 0
        self.lib.infc_blob_populate(self.blob, 0, 1)
        self.huge = self.ffi.new("infc_huge *")
        self.lib.infc_huge_open(self.huge, self.blob)

    @property
    def pieces(self) -> int:
        return (int(self.ffi.cast("uintptr_t", self.huge.end)) - int(self.ffi.cast("uintptr_t", self.huge.first))) // PIECE

    @property
    def looked_at(self) -> int:
        return (int(self.ffi.cast("uintptr_t", self.huge.next)) - int(self.ffi.cast("uintptr_t", self.huge.first))) // PIECE

    def huge_pieces(self) -> int:
        return huge_bytes(int(self.ffi.cast("uintptr_t", self.blob.base))) // PIECE

    def content(self) -> bytes:
        return bytes(self.ffi.buffer(self.blob.base, self.blob.size))

    def steps(self, seconds: int) -> None:
        """Steps of a second each."""
        for _ in range(seconds):
            self.lib.infc_huge_earn(self.huge, SECOND)
            self.lib.infc_huge_spend(self.huge)

    def close(self) -> None:
        self.lib.infc_huge_close(self.huge)
        self.lib.infc_blob_close(self.blob)


@pytest.fixture
def file(tmp_path: Path) -> tuple[Path, bytes]:
    path = tmp_path / "copied.bin"
    data = written_small(path)
    return path, data


@pytest.fixture
def weights(runtime, file: tuple[Path, bytes]) -> Iterator[Weights]:
    opened = Weights(runtime.path, file[0])
    yield opened
    opened.close()


def tended(weights: Weights) -> None:
    if weights.huge.pagemap < 0:
        pytest.skip("this kernel does not tell which pages are huge (Linux 6.7)")
    if weights.huge_pieces():
        pytest.skip("this file system keeps a file in huge pages however it is written")


def test_small_pieces_become_huge_and_hold_the_same(weights: Weights, file: tuple[Path, bytes], tmp_path: Path) -> None:
    tended(weights)
    before = weights.content()
    assert file[1].startswith(before)
    weights.steps(20)
    assert weights.content() == before
    other = tmp_path / "other.bin"
    written_small(other)
    if not huge_when_mapped(other, drop=True):
        pytest.skip("this file system reads no file into huge pages")
    assert weights.pieces == 6
    assert weights.huge_pieces() == weights.pieces
    assert weights.huge.pause_ns > 30 * SECOND  # nothing is left to do
    write_small(file[0], file[1])  # the pages come back small, as after a time of little memory
    weights.lib.infc_blob_populate(weights.blob, 0, 1)
    assert weights.huge_pieces() == 0
    weights.steps(80)
    assert weights.huge_pieces() == weights.pieces
    assert weights.content() == before


def test_a_piece_at_a_time_and_only_when_earned(weights: Weights) -> None:
    tended(weights)
    weights.lib.infc_huge_spend(weights.huge)
    weights.lib.infc_huge_earn(weights.huge, 63_000_000)
    weights.lib.infc_huge_spend(weights.huge)
    assert weights.looked_at == 0  # a sixteenth of 63 ms is not yet what a piece is reckoned at
    weights.lib.infc_huge_earn(weights.huge, 1_000_016)
    assert weights.huge.credit_ns == 1
    weights.lib.infc_huge_spend(weights.huge)
    assert weights.looked_at == 1
    assert weights.huge.credit_ns < 0  # what it took is owed
    weights.lib.infc_huge_spend(weights.huge)
    assert weights.looked_at == 1


def test_a_long_idle_program_saves_up_no_long_stop(weights: Weights) -> None:
    for _ in range(100):
        weights.lib.infc_huge_earn(weights.huge, SECOND)
    assert weights.huge.credit_ns == 50_000_000


def test_another_process_that_maps_the_file_is_left_alone_and_the_tries_end(runtime, weights: Weights, file: tuple[Path, bytes]) -> None:
    tended(weights)
    other = Weights(runtime.path, file[0])  # another mapping counts as another process: its pages stay in the page cache
    before = weights.content()
    tries = 0
    while weights.huge.pagemap >= 0 and tries < 300:
        weights.steps(1)
        tries += 1
    assert weights.huge_pieces() == 0
    # Three passes, eight and 32 seconds of steps after the first two.
    assert 8 + 32 <= tries < 60
    assert weights.content() == before == other.content()
    other.close()


def test_a_file_system_without_large_pieces_is_not_read_for_long(weights: Weights, file: tuple[Path, bytes]) -> None:
    tended(weights)
    before = weights.content()
    libc: Any = weights.ffi.dlopen(None)
    weights.ffi.cdef("int madvise(void *, size_t, int);")
    start = int(weights.ffi.cast("uintptr_t", weights.huge.first))
    assert libc.madvise(weights.ffi.cast("void *", start), weights.pieces * PIECE, mmap.MADV_NOHUGEPAGE) == 0
    tries = 0
    while weights.huge.pagemap >= 0 and tries < 300:
        weights.steps(1)
        tries += 1
    # Eight pieces read for nothing: six of the first pass and, eight seconds of steps later, two of the second.
    assert weights.huge.refusals == 8
    assert 8 <= tries < 30
    assert weights.huge_pieces() == 0
    assert weights.content() == before


def test_weights_of_a_few_pages_are_not_tended(runtime, tmp_path: Path) -> None:
    path = harness.append_blob(tmp_path / "small.bin", harness.default_blob())
    opened = Weights(runtime.path, path)
    assert opened.huge.pagemap == -1
    opened.steps(2)
    opened.close()
