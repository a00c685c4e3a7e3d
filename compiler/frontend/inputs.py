"""Which reader a path needs, and which files make its model."""

from __future__ import annotations

import os
from pathlib import Path

from infc.frontend import split
from infc.frontend.model_file import ModelFile
from infc.limits import DEFAULT, Limits


def open_model(path: str | os.PathLike[str], limits: Limits = DEFAULT) -> ModelFile:
    """Open and check a model: a GGUF file or any part of one that is split, or a folder of safetensors. The caller closes it.

    Raises InputError with the class of what is wrong.
    """
    where = Path(path)
    return split.read(where, limits)


def files_of(path: Path) -> list[Path]:
    """The files that make the model, in a fixed order, without reading any: what its digest is taken over."""
    return [p for p in split.part_names(path) if p.exists()] or [path]
