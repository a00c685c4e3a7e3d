"""Append the blob to an executable or a library: page-aligned, followed by the 64-byte trailer the runtime looks for."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

ALIGN = 4096  # the blob is mapped, so it starts on a page
TRAILER_MAGIC = b"INFCEND1"
TRAILER = struct.Struct("<8sII QQ 32s")  # magic, version, 0, blob offset, blob size, sha256(blob)
_VERSION = 1
_CHUNK = 1 << 24


def file_sha256(path: Path) -> bytes:
    """SHA-256 of a file's bytes, streamed."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").digest()


def append_blob(binary: Path, blob: Path, digest: bytes) -> int:
    """Pad ``binary`` to a page, append ``blob`` and the trailer. Returns the blob's offset. ``digest``: sha256 of the blob."""
    with binary.open("r+b") as out, blob.open("rb") as source:
        size = os.fstat(source.fileno()).st_size
        offset = -(-os.fstat(out.fileno()).st_size // ALIGN) * ALIGN
        out.truncate(offset)
        out.seek(offset)
        out.flush()
        _copy(source.fileno(), out.fileno(), size)
        out.seek(offset + size)
        out.write(TRAILER.pack(TRAILER_MAGIC, _VERSION, 0, offset, size, digest))
    return offset


def _copy(source: int, out: int, size: int) -> None:
    """Copy inside the kernel from offset 0 to ``out``'s position; file systems that can, share the blocks."""
    done = 0
    while done < size:
        try:
            n = os.copy_file_range(source, out, min(size - done, 1 << 30))
        except OSError:
            n = os.sendfile(out, source, done, min(size - done, _CHUNK))
            os.lseek(source, done + n, os.SEEK_SET)
        if n == 0:
            raise OSError(f"blob ended after {done} of {size} bytes")
        done += n


def copy_file(source: Path, target: Path) -> None:
    """Copy contents and permission bits, inside the kernel."""
    with source.open("rb") as s, target.open("wb") as t:
        stat = os.fstat(s.fileno())
        _copy(s.fileno(), t.fileno(), stat.st_size)
        os.fchmod(t.fileno(), stat.st_mode & 0o777)


def read_trailer(binary: Path) -> tuple[int, int, bytes] | None:
    """(offset, size, sha256) of the appended blob, or None if there is no whole one."""
    with binary.open("rb") as f:
        end = f.seek(0, os.SEEK_END)
        if end < TRAILER.size:
            return None
        f.seek(end - TRAILER.size)
        magic, version, zero, offset, size, digest = TRAILER.unpack(f.read(TRAILER.size))
    whole = magic == TRAILER_MAGIC and version == _VERSION and zero == 0 and offset + size + TRAILER.size == end
    return (offset, size, digest) if whole else None
