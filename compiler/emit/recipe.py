"""What stands between the emitter and the toolchain: which files, with which flags. Written as recipe.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Source:
    """One C file under src/. ``flags`` are its own; ``role``: "runtime", "tokenizer", "program", "forward", or "main" (executable only)."""

    path: str
    flags: tuple[str, ...]
    role: str

    @property
    def object(self) -> str:
        """Name of its object file."""
        return self.path[:-2].replace("/", "_") + ".o"


@dataclass(frozen=True)
class Recipe:
    """How to build the program: relative paths only."""

    name: str
    targets: tuple[str, ...]
    sources: tuple[Source, ...]
    include_dirs: tuple[str, ...]
    c_flags: tuple[str, ...]
    link_flags: tuple[str, ...]

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read what ``to_json`` wrote. Raises ValueError, TypeError or KeyError for anything else."""
        facts = json.loads(text)
        sources = tuple(Source(s["path"], tuple(s["flags"]), s["role"]) for s in facts["sources"])
        lists = {k: tuple(facts[k]) for k in ("targets", "include_dirs", "c_flags", "link_flags")}
        return cls(name=facts["name"], sources=sources, **lists)

    def to_json(self) -> str:
        """Stable text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"
