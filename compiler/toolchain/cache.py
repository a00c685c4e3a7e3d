"""Artifacts by content: model bytes, options, compiler and infc's own sources name an entry; nothing else does."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from infc.toolchain.append import copy_file, file_sha256

_INDEX = "index.json"
_PACKAGES = ("infc", "infc.templates", "infc.runtime_c", "infc.targets")
_SUFFIXES = (".py", ".j2", ".c", ".h", ".toml", ".txt", ".json")


def default_root() -> Path | None:
    """$INFC_CACHE, else ~/.cache/infc; None for a user without a home (a shared place would not be ours alone to trust)."""
    named = os.environ.get("INFC_CACHE")
    try:
        return Path(named) if named else Path.home() / ".cache" / "infc"
    except RuntimeError:
        return None


def sources_digest() -> str:
    """SHA-256 over every file of infc: an edited template makes every entry stale."""
    digest = hashlib.sha256()
    seen: set[str] = set()
    for package in _PACKAGES:
        root = Path(str(resources.files(package)))
        for path in sorted(p for p in root.rglob("*") if p.suffix in _SUFFIXES and p.is_file()):
            name = f"{package}/{path.relative_to(root).as_posix()}"
            if name not in seen and "__pycache__" not in path.parts:
                seen.add(name)
                digest.update(f"{name}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


class Cache:
    """A folder of entries ``KEY-SIZE-MODEL``: key of everything but the model, the model's size and the model's digest.

    With the size in the name a model that was never compiled need not be hashed before it is checked.
    """

    def __init__(self, root: Path, choices: dict[str, Any]) -> None:
        self.root = root
        text = json.dumps(choices, sort_keys=True, default=str)
        self.key = hashlib.sha256(text.encode()).hexdigest()[:32]

    def may_hold(self, size: int) -> bool:
        """Whether a model of ``size`` bytes was compiled with these choices."""
        return any(self.root.glob(f"{self.key}-{size}-*/{_INDEX}"))

    def entry(self, size: int, model_sha256: str) -> Path:
        """The entry's folder, which may not exist."""
        return self.root / f"{self.key}-{size}-{model_sha256[:32]}"

    def load(self, entry: Path, into: Path) -> bool:
        """Copy a valid entry's files to ``into``. A damaged entry is removed and counts as absent."""
        if not entry.is_dir():
            return False
        try:
            index = json.loads((entry / _INDEX).read_text("utf-8"))
            for name, (size, sha256) in index["files"].items():
                source = entry / "files" / name
                if source.stat().st_size != size or file_sha256(source).hex() != sha256:
                    raise ValueError(name)
            for name in index["files"]:
                target = into / name
                target.parent.mkdir(parents=True, exist_ok=True)
                copy_file(entry / "files" / name, target)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            shutil.rmtree(entry, ignore_errors=True)
            return False
        try:
            os.utime(entry)  # the oldest go first when the cache is full
        except OSError:
            pass
        return True

    def store(self, entry: Path, files: Path, bound_bytes: int) -> None:
        """Keep a copy of ``files`` as ``entry``; a full disk or a read-only home costs nothing but the speed-up."""
        temporary: Path | None = None
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=self.root))
            index: dict[str, tuple[int, str]] = {}
            for path in sorted(p for p in files.rglob("*") if p.is_file()):
                name = path.relative_to(files).as_posix()
                target = temporary / "files" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                copy_file(path, target)
                index[name] = (path.stat().st_size, file_sha256(path).hex())
            (temporary / _INDEX).write_text(json.dumps({"files": index}, sort_keys=True), "utf-8")
            os.rename(temporary, entry)
            self.prune(bound_bytes, keep=entry)
        except OSError:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)

    def prune(self, bound_bytes: int, keep: Path) -> None:
        """Remove the entries used longest ago until at most ``bound_bytes`` are left, and what killed compiles left behind."""
        entries = []
        for folder in self.root.iterdir():
            if folder.is_dir():
                size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
                entries.append((folder.stat().st_mtime, size, folder))
        entries.sort(reverse=True)
        newest = entries[0][0] if entries else 0.0
        total = 0
        for mtime, size, folder in entries:
            stale = folder.name.startswith(".new-") and newest - mtime > 3600
            total += size
            if stale or (total > bound_bytes and folder != keep):
                shutil.rmtree(folder, ignore_errors=True)
                total -= size
