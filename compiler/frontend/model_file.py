"""A checked model file: metadata, tensor directory, and the bytes of the tensors. A reader of a format fills it."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import numpy as np

from infc.errors import InputError

Array: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.generic]]"
Bytes: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.uint8]]"
Value: TypeAlias = "int | float | bool | str | list[str] | Array"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of the file: ``ne[0]`` is the contiguous dimension, ``offset`` is absolute, sizes are in bytes."""

    name: str
    type: str
    ne: tuple[int, ...]
    offset: int
    nbytes: int


class ModelFile:
    """A checked GGUF file, mapped read-only. ``kv_types`` spells types as u32, f32, str, or [i32] for an array."""

    def __init__(self, path: Path, fd: int, data: mmap.mmap, before: os.stat_result) -> None:
        self.path = path
        self.kv: dict[str, Value] = {}
        self.kv_types: dict[str, str] = {}
        self.tensors: dict[str, TensorInfo] = {}
        self._fd = fd
        self._map = data
        self._before = before

    def data(self, name: str) -> Bytes:
        """The tensor's bytes: uint8 (nbytes,), a read-only view of the file. Raises InputError G61 if the file shrank."""
        self.check_unchanged()
        t = self.tensors[name]
        return np.frombuffer(self._map, np.uint8, t.nbytes, t.offset)

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
        """Release the file. Views handed out by data() stay valid: they keep the mapping alive."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            try:
                self._map.close()
            except BufferError:
                pass  # views exist; the mapping goes with the last of them

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
