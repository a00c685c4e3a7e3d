"""What the workers of one run share: a folder, artifacts behind file locks, and objects by content.

With `-n 2` (pytest-xdist) every worker has fixtures of its own; what costs seconds to make is made by the first that asks.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from infc.toolchain import process


def folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder ``name`` that all workers of this run see, and no other run."""
    base = factory.getbasetemp()
    found = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared-{name}"
    found.mkdir(exist_ok=True)
    return found


def once(place: Path, make: Callable[[Path], object]) -> Path:
    """``place``, a folder that ``make`` fills: called by one worker, the others wait. What failed is tried again by the next."""
    with _locked(place):
        done = place / ".done"
        if not done.exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            make(place)
            done.touch()
    return place


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    with place.with_name(place.name + ".lock").open("w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)  # ends with the file, and with the process
        yield


@contextmanager
def objects(store: Path) -> Iterator[None]:
    """While this lasts, a source that this run has compiled with the same arguments, and with the same text in every file that it may
    include, is not compiled again: its object is copied. Two artifacts differ in few of their sources. Within itself it changes nothing."""
    check = process.check
    if check is not _CHECK:
        yield
        return

    def remembered(argv: Sequence[str], cwd: Path, tmp: Path, what: str, timeout: float = 900) -> process.Finished:
        # Builder.compile_argv ends so. A profile is input that the key does not see.
        if len(argv) < 4 or (argv[-4], argv[-2]) != ("-c", "-o") or any(a.startswith("-fprofile") for a in argv):
            return check(argv, cwd, tmp, what, timeout)
        folders = [cwd / a[2:] for a in argv if a.startswith("-I")]
        key = hashlib.sha256(json.dumps([*argv[:-2], texts(cwd / argv[-3], folders)]).encode()).hexdigest()
        with _locked(store / key):
            known = store / key
            if not known.exists():
                done = check(argv, cwd, tmp, what, timeout)
                shutil.copyfile(cwd / argv[-1], store / f"{key}.new")
                (store / f"{key}.new").rename(known)
                return done
        shutil.copyfile(known, cwd / argv[-1])
        return process.Finished(0, "", "")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "check", remembered)
        yield


_CHECK = process.check
_INCLUDE = re.compile(rb'^\s*#\s*include\s*"([^"\n]+)"', re.M)


def texts(source: Path, folders: Sequence[Path]) -> dict[str, str]:
    """Digests of ``source`` and of every file that it names in quotes, directly or not, whatever #if says: in a twentieth of the time that
    the preprocessor takes. The system's headers are the same for a whole run."""
    found: dict[str, str] = {}
    left = [source]
    while left:
        file = Path(os.path.normpath(left.pop()))
        name = os.path.relpath(file, source.parent)
        if name not in found and file.is_file():
            text = file.read_bytes()
            found[name] = hashlib.sha256(text).hexdigest()
            left += [folder / m.decode() for m in _INCLUDE.findall(text) for folder in (file.parent, *folders)]
    return dict(sorted(found.items()))


def model_key(path: Path) -> str:
    """The digest of a model's name and bytes: a file's, or those of all files of a folder."""
    digest = hashlib.sha256(path.name.encode())
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as f:
                digest.update(f"\0{file.relative_to(path.parent)}\0".encode() + hashlib.file_digest(f, "sha256").digest())
    return digest.hexdigest()
