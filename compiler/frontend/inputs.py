"""Which reader a path needs, and which files make its model."""

from __future__ import annotations

import os
from pathlib import Path

from infc.errors import InputError
from infc.frontend import split
from infc.frontend.model_file import ModelFile
from infc.limits import DEFAULT, Limits


def open_model(path: str | os.PathLike[str], limits: Limits = DEFAULT) -> ModelFile:
    """Open and check a model: a GGUF file or any part of one that is split, or a folder of safetensors. The caller closes it.

    Raises InputError with the class of what is wrong.
    """
    where = Path(path)
    if _is_folder(where):
        from infc.frontend import hf

        return hf.read(where, limits)
    if where.name.endswith((".safetensors", ".safetensors.index.json")):
        raise InputError("S09", "give the folder: config.json and tokenizer.json belong to the model", str(where))
    return split.read(where, limits)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except ValueError:  # NUL in the path: the reader of files says so
        return False


def files_of(path: Path) -> list[Path]:
    """The files that make the model, in a fixed order, without reading any: what its digest is taken over."""
    if _is_folder(path):
        from infc.frontend.hf.folder import files_of

        return files_of(path)
    return [p for p in split.part_names(path) if p.exists()] or [path]
