"""What the page cache holds of a file: written as a copy leaves it, mapped, counted."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import cffi

PIECE = 2 << 20


def huge_bytes(address: int) -> int:
    """Bytes of huge pages in the file mapping that holds ``address``."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            low, high = (int(x, 16) for x in line.split()[0].split("-"))
            inside = low <= address < high
        elif inside and line.startswith("FilePmdMapped:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no such mapping")


def write_small(path: Path, data: bytes) -> None:
    """Writes ``data`` as a copying program does, in pieces of 64 KiB, which the page cache keeps as they come; it is on the disk then."""
    with path.open("wb", buffering=0) as f:
        for at in range(0, len(data), 1 << 16):
            f.write(data[at : at + (1 << 16)])
        os.fsync(f.fileno())


def huge_when_mapped(path: Path, drop: bool) -> int:
    """Bytes of a file's whole pieces of 2 MiB that a new mapping has as huge pages. ``drop``: read anew, with huge pages asked for."""
    size = path.stat().st_size // PIECE * PIECE
    ffi = cffi.FFI()
    ffi.cdef("void *mmap(void *, size_t, int, int, int, long); int munmap(void *, size_t); int madvise(void *, size_t, int);")
    libc = ffi.dlopen(None)
    map_fixed = 0x10
    with path.open("rb") as f:
        if drop:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        reserved = int(ffi.cast("uintptr_t", libc.mmap(ffi.NULL, size + PIECE, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)))
        start = -(-reserved // PIECE) * PIECE
        at = libc.mmap(ffi.cast("void *", start), size, mmap.PROT_READ, mmap.MAP_SHARED | map_fixed, f.fileno(), 0)
        if drop:
            libc.madvise(at, size, mmap.MADV_HUGEPAGE)
        sum(memoryview(ffi.buffer(at, size))[::4096])
        found = huge_bytes(start)
        libc.munmap(ffi.cast("void *", reserved), size + PIECE)
    return found
