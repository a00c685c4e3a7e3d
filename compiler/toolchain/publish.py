"""A folder appears whole or not at all: work beside the destination, fsync, one atomic exchange."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infc.errors import HostError, InputError

_PREFIX = ".infc-build-"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def workspace(destination: Path) -> Iterator[Path]:
    """A private folder on the destination's file system, removed at the end; those of dead processes are removed first.

    The owner holds a lock on the folder itself, which ends with the process however it dies.
    """
    parent = destination.absolute().parent  # children run elsewhere
    try:
        parent.mkdir(parents=True, exist_ok=True)
        sweep(parent)
        work, lock = _claim(parent)
    except OSError as e:
        raise HostError("H01", f"cannot write in {parent}", e.strerror or str(e)) from None
    try:
        (work / "tmp").mkdir()
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        os.close(lock)


def _open_folder(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)


def _claim(parent: Path) -> tuple[Path, int]:
    """A new locked folder. Another compile may sweep it before the lock is taken: then the next try."""
    while True:
        work = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        try:
            lock = _open_folder(work)
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if work.is_dir():
            return work, lock
        os.close(lock)


def sweep(parent: Path) -> None:
    """Remove the workspaces whose owner died. A living owner holds the lock."""
    for stale in parent.glob(_PREFIX + "*"):
        try:
            lock = _open_folder(stale)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(stale, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)


def check_destination(destination: Path, marker: str) -> None:
    """Refuse to replace anything but an empty folder or an earlier artifact, which holds ``marker``."""
    if not os.path.lexists(destination):
        return
    if destination.is_symlink() or not destination.is_dir():
        raise InputError("opt", "the output is in the way and is not a folder: choose another with -o", str(destination))
    if any(destination.iterdir()) and not (destination / marker).is_file():
        raise InputError("opt", "the output folder holds other files: choose another with -o", str(destination))


def sync_tree(folder: Path) -> None:
    """fsync every file and folder below, so that the rename cannot land before the contents."""
    for root, _, files in os.walk(folder):
        for name in [*files, "."]:
            fd = os.open(os.path.join(root, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def publish(staged: Path, destination: Path) -> None:
    """Make ``staged`` (in a ``workspace``) appear as ``destination``; an earlier one is exchanged in one step."""
    sync_tree(staged)
    if destination.is_dir():
        try:
            destination.rmdir()  # an empty folder is simply replaced
        except OSError:
            _exchange(staged, destination)
    if staged.is_dir() and not destination.exists():
        os.rename(staged, destination)
    fd = os.open(destination.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _exchange(staged: Path, destination: Path) -> None:
    """Swap two folders: renameat2 in one step, else (old kernels, some file systems) two renames."""
    libc = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, "renameat2", None)
    if call is not None:
        if call(_AT_FDCWD, os.fsencode(staged), _AT_FDCWD, os.fsencode(destination), _RENAME_EXCHANGE) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOSYS):
            raise HostError("H01", f"cannot replace {destination}", os.strerror(code))
    old = staged.with_name(staged.name + ".old")
    os.rename(destination, old)
    os.rename(staged, destination)
