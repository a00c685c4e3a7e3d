"""One regular file, opened and mapped read-only: whole when opened, unchanged while it is read."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from pathlib import Path

import numpy as np

from infc.errors import InputError
from infc.frontend.model_file import Bytes

_POINTER = b"version https://git-lfs"  # what a clone without LFS has in place of large files


class MappedFile:
    """The bytes of ``path``; ``map`` and ``size`` are what the readers work on. The caller closes it."""

    def __init__(self, path: Path, least: int, kind: str) -> None:
        """Open and check. ``least``: bytes below which the file cannot be a ``kind``. Raises InputError G01 or G11."""
        self.path = path
        self._fd = _open(path)
        try:
            self._before = _check(self._fd, path, least, kind)
            self.size = self._before.st_size
            self.map = mmap.mmap(self._fd, self.size, access=mmap.ACCESS_READ)
            if self.map[: len(_POINTER)] == _POINTER:
                raise InputError("G11", "a pointer of Git LFS, not the file itself: git lfs pull gets that", path.name)
        except BaseException:
            os.close(self._fd)
            raise

    def view(self, offset: int, nbytes: int) -> Bytes:
        """uint8 (nbytes,), a read-only view of the file. Raises InputError G61 if the file changed."""
        self.check_unchanged()
        return np.frombuffer(self.map, np.uint8, nbytes, offset)

    def check_unchanged(self) -> None:
        """Raise InputError G61 if the file was written to since it was opened. Call it again after the last read."""
        now = os.fstat(self._fd)
        if (now.st_size, now.st_mtime_ns) != (self._before.st_size, self._before.st_mtime_ns):
            raise InputError(
                "G61",
                "the file changed while it was read: run again when nothing writes to it",
                self.path.name,
            )

    def close(self) -> None:
        """Release the file. Views handed out stay valid: they keep the mapping alive."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            try:
                self.map.close()
            except BufferError:
                pass  # views exist; the mapping goes with the last of them


def _open(path: Path) -> int:
    try:
        # O_NONBLOCK: opening a FIFO that nobody writes to must not hang.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as e:
        what = "too many levels of symbolic links" if e.errno == errno.ELOOP else (e.strerror or "error")
        raise InputError("G11", f"cannot open the model: {what}", str(path)) from None
    except ValueError:
        raise InputError("G11", "cannot open the model: NUL in its path", str(path)) from None


def _check(fd: int, path: Path, least: int, kind: str) -> os.stat_result:
    st = os.fstat(fd)
    if not stat.S_ISREG(st.st_mode):
        raise InputError("G11", "not a regular file", str(path))
    if st.st_size < least:
        raise InputError("G01", f"a {kind} file has at least {least} bytes, this one {st.st_size}", str(path))
    hole = os.lseek(fd, 0, os.SEEK_HOLE)  # the file's end counts as a hole
    if hole < st.st_size:
        raise InputError("G11", "a hole in the file (incomplete download? else: cp --sparse=never)", f"offset {hole}")
    return st
