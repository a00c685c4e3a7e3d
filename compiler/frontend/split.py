"""A GGUF model in parts, ``NAME-00001-of-0000N.gguf``: each part is a GGUF file of its own, the first one holds the metadata.

Every part states ``split.no`` (from 0), ``split.count`` and ``split.tensors.count`` (of all parts together); all must agree with
each other, with the file names and with what is there (InputError G28, G44 for a tensor that two parts hold).
"""

from __future__ import annotations

import re
from pathlib import Path

from infc.errors import InputError
from infc.frontend import gguf
from infc.frontend.model_file import Bytes, ModelFile
from infc.limits import Limits

_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)
_COUNT, _NO, _TENSORS = "split.count", "split.no", "split.tensors.count"
_KEYS = (_COUNT, _NO, _TENSORS)
_MOST = 4096  # parts: each one is an open file


class SplitModel(ModelFile):
    """The parts as one model: metadata of the first, tensors of all, each read from the part that holds it."""

    def __init__(self, parts: list[ModelFile]) -> None:
        super().__init__(parts[0].path)
        self._parts = parts
        self._home: dict[str, ModelFile] = {}
        first = parts[0]
        self.kv = {k: v for k, v in first.kv.items() if k not in _KEYS}
        self.kv_types = {k: v for k, v in first.kv_types.items() if k not in _KEYS}
        for part in parts:
            for name, info in part.tensors.items():
                if name in self._home:
                    both = f"{self._home[name].path.name} and {part.path.name}"
                    raise InputError("G44", f"duplicate tensor {name}", both)
                self._home[name] = part
                self.tensors[name] = info

    def data(self, name: str) -> Bytes:
        return self._home[name].data(name)

    def check_unchanged(self) -> None:
        for part in self._parts:
            part.check_unchanged()

    def close(self) -> None:
        for part in self._parts:
            part.close()


def part_names(path: Path) -> list[Path]:
    """The parts that ``path``'s own name promises, in order; ``path`` alone if it is not named like a part."""
    named = _PART.fullmatch(path.name)
    if named is None or not 0 < int(named[2]) <= int(named[3]) <= _MOST:
        return [path]
    return [path.with_name(f"{named[1]}-{i:05}-of-{named[3]}.gguf") for i in range(1, int(named[3]) + 1)]


def read(path: Path, limits: Limits) -> ModelFile:
    """A GGUF file, or the model that ``path`` is a part of. The caller closes it. Raises InputError."""
    model = gguf.read(path, limits)
    try:
        number, count, tensors = _counts(model)
        if count <= 1:
            return _whole(model, tensors)
    except BaseException:
        model.close()
        raise
    if number == 0:
        return _join(path, [model], count, limits)
    model.close()  # the metadata is in another part
    return _join(path, [], count, limits)


def _counts(model: ModelFile) -> tuple[int, int, int]:
    """(split.no, split.count, split.tensors.count); -1 for a count that is not stated."""
    found = []
    for key, default in ((_NO, 0), (_COUNT, 1), (_TENSORS, -1)):
        kind = model.kv_types.get(key, "u16")
        if kind not in ("u16", "u32", "i32"):
            raise InputError("G28", f"must be a number, not {kind}", f"key {key}")
        value = model.kv.get(key, default)
        assert isinstance(value, int)
        found.append(value)
    number, count, tensors = found
    if count < 0 or not 0 <= number < max(count, 1) or count > _MOST:
        raise InputError("G28", f"part {number} of {count}, counted from 0 (at most {_MOST})", f"key {_NO}")
    return number, count, tensors


def _whole(model: ModelFile, tensors: int) -> ModelFile:
    """A file that is all of its model: what it says of parts must say so."""
    if tensors not in (-1, len(model.tensors)):
        raise InputError("G28", f"{tensors} tensors stated, {len(model.tensors)} found", f"key {_TENSORS}")
    for key in _KEYS:
        model.kv.pop(key, None)
        model.kv_types.pop(key, None)
    return model


def _join(path: Path, opened: list[ModelFile], count: int, limits: Limits) -> ModelFile:
    """All parts; ``opened`` has the first of them if it is open already."""
    names = part_names(path)
    try:
        if len(names) != count:
            wanted = f"-0000I-of-{count:05}.gguf"
            raise InputError("G28", f"a model of {count} parts needs files named {wanted}", path.name)
        for i, name in enumerate(names):
            if i >= len(opened):
                if not name.exists():
                    raise InputError("G28", f"part {i + 1} of {count} is missing", name.name)
                opened.append(gguf.read(name, limits))
            _check_part(opened[i], i, count, opened[0])
        stated = _counts(opened[0])[2]
        found = sum(len(part.tensors) for part in opened)
        if found > limits.tensors:
            raise InputError("G07", f"{found} tensors, {limits.over('tensors')}", path.name)
        model = SplitModel(opened)
        if stated not in (-1, found):
            raise InputError("G28", f"{stated} tensors stated, {found} found in {count} parts", f"key {_TENSORS}")
        return model
    except BaseException:
        for part in opened:
            part.close()
        raise


def _check_part(part: ModelFile, index: int, count: int, first: ModelFile) -> None:
    """``part`` says of itself what its name says, and states the same totals as the first."""
    if _COUNT not in part.kv:
        raise InputError("G28", f"it is no part of a model, but part {index + 1} of {count} was expected", part.path.name)
    number, stated, tensors = _counts(part)
    if stated != count:
        raise InputError("G28", f"it is of {stated} parts, the first of {count}", part.path.name)
    if number != index:
        raise InputError("G28", f"it holds part {number + 1}, but its name says {index + 1}", part.path.name)
    if tensors != _counts(first)[2]:
        raise InputError("G28", f"it states {tensors} tensors, the first part {_counts(first)[2]}", part.path.name)
