"""A checked model: metadata under GGUF's keys, tensor directory under GGUF's names, and the bytes of the tensors.

Each kind of input has a reader that fills it: one GGUF file (``gguf``), one in parts (``split``), a folder of safetensors (``hf``);
``quantize`` wraps any of them. What follows the readers knows only this interface.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from infc.frontend.mapped import MappedFile

Array: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.generic]]"
Bytes: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.uint8]]"
Value: TypeAlias = "int | float | bool | str | list[str] | Array"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: ``ne[0]`` is the contiguous dimension, sizes are in bytes, ``offset`` is absolute in its file."""

    name: str
    type: str
    ne: tuple[int, ...]
    offset: int
    nbytes: int

    @property
    def matrices(self) -> int:
        """How many matrices (or vectors) lie one behind the other: the experts of a mixture, else 1."""
        return math.prod(self.ne[2:])


class ModelFile:
    """What every input is to the stages behind. ``kv_types`` spells types as u32, f32, str, or [i32] for an array.

    ``notes``: sentences about the input that are worth showing to the user.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kv: dict[str, Value] = {}
        self.kv_types: dict[str, str] = {}
        self.tensors: dict[str, TensorInfo] = {}
        self.notes: list[str] = []

    def data(self, name: str) -> Bytes:
        """The tensor's bytes: uint8 (nbytes,), not to be written to. Raises InputError G61 if its file changed."""
        raise NotImplementedError

    def pieces(self, name: str) -> Iterator[Bytes]:
        """The same bytes a matrix at a time: one piece an expert where the tensor holds several, otherwise all of it.

        An input that has to make a tensor makes one piece when it is asked for, so that no stage holds more than that.
        """
        yield from self.data(name).reshape(self.tensors[name].matrices, -1)

    def check_unchanged(self) -> None:
        """Raise InputError G61 if a file was written to since it was opened. Call it again after the last read."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the files. Views handed out by data() stay valid."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class MappedModel(ModelFile):
    """A model whose tensors lie in one file as they are: ``data`` is a view of the mapping."""

    def __init__(self, file: MappedFile) -> None:
        super().__init__(file.path)
        self._file = file

    def data(self, name: str) -> Bytes:
        t = self.tensors[name]
        return self._file.view(t.offset, t.nbytes)

    def check_unchanged(self) -> None:
        self._file.check_unchanged()

    def close(self) -> None:
        self._file.close()
