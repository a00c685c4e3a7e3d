"""A compiled model on disk: DIR/NAME, DIR/libNAME.so, DIR/NAME.h, DIR/manifest.json, DIR/src/."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infc.errors import InputError

if TYPE_CHECKING:
    from infc.binding.model import Model

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Artifact:
    """What one compile left. ``manifest``: the parsed manifest.json."""

    path: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Artifact:
        """Read DIR/manifest.json. Raises InputError if DIR holds no artifact."""
        folder = Path(path)
        try:
            manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
            name = manifest["name"]
        except OSError as e:
            reason = (e.strerror or str(e)).lower()
            raise InputError("art", f"not an artifact of infc: manifest.json: {reason}", str(folder)) from None
        except (ValueError, KeyError, TypeError):
            raise InputError("art", "not an artifact of infc: manifest.json says something else", str(folder)) from None
        if not isinstance(name, str) or "/" in name or not name:
            raise InputError("art", "manifest.json names no artifact", str(folder))
        return cls(folder, manifest)

    @property
    def name(self) -> str:
        """The artifact's name."""
        return str(self.manifest["name"])

    @property
    def program(self) -> Path:
        """The standalone executable."""
        return self.path / self.name

    @property
    def library(self) -> Path:
        """The shared library."""
        return self.path / f"lib{self.name}.so"

    def load(self, threads: int = 0, isa: str | None = None, ubatch: int = 0) -> Model:
        """Open the library in this process. ``threads`` 0: as many as affinity, quota and cores allow; ``ubatch``: rows a chunk."""
        from infc.binding.model import Model

        return Model(self.library, threads=threads, isa=isa, ubatch=ubatch)
