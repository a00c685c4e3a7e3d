"""Typed access to a model's metadata: right type or InputError, present or a default. Architecture-neutral."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from infc.errors import InputError
from infc.frontend.gguf import ModelFile


class Keys:
    """The metadata of ``model``; a key that starts with "." belongs to the architecture, as ``.block_count``."""

    def __init__(self, model: ModelFile, arch: str) -> None:
        self.model = model
        self.arch = arch
        self.used: set[str] = set()  # keys that somebody asked for, without the architecture's name

    def full(self, key: str) -> str:
        return self.arch + key if key.startswith(".") else key

    def has(self, key: str) -> bool:
        self.used.add(key)
        return self.full(key) in self.model.kv

    def _get(self, key: str, kind: str, default: object) -> object:
        """The value of ``key`` with exactly the type ``kind``, as llama.cpp asks; ``default`` None: it must be there."""
        self.used.add(key)
        key = self.full(key)
        if key not in self.model.kv:
            if default is None:
                raise InputError("G27", "a required key is missing", f"key {key}")
            return default
        found = self.model.kv_types[key]
        if found != kind:
            raise InputError("G26", f"must be of type {kind}, not {found}", f"key {key}")
        return self.model.kv[key]

    def u32(self, key: str, code: str, low: int = 0, high: int = 2**31 - 1, default: int | None = None) -> int:
        value = self._get(key, "u32", default)
        assert isinstance(value, int)
        if not low <= value <= high:
            raise InputError(code, f"{value} is out of range {low} to {high}", f"key {self.full(key)}")
        return value

    def f32(self, key: str, code: str, ok: Callable[[float], bool], default: float | None = None) -> float:
        """A finite number for which ``ok`` holds."""
        value = self._get(key, "f32", default)
        assert isinstance(value, float)
        if not math.isfinite(value) or not ok(value):
            raise InputError(code, f"{value} is out of range", f"key {self.full(key)}")
        return value

    def string(self, key: str, default: str | None = None) -> str:
        value = self._get(key, "str", default)
        assert isinstance(value, str)
        return value

    def boolean(self, key: str, default: bool) -> bool:
        value = self._get(key, "bool", default)
        assert isinstance(value, bool)
        return value

    def strings(self, key: str) -> list[str]:
        value = self._get(key, "[str]", None)
        assert isinstance(value, list)
        return value

    def pattern(self, key: str, code: str, n: int, default: int) -> int | list[bool]:
        """A period, or for each of ``n`` layers yes or no."""
        name = self.full(key)
        kind = self.model.kv_types.get(name, "u32")
        if not kind.startswith("["):
            return self.u32(key, code, 0, default=default)
        self.used.add(key)
        values = np.asarray(self.model.kv[name])
        if kind not in ("[bool]", "[u32]", "[i32]") or len(values) != n or not np.isin(values, (0, 1)).all():
            raise InputError(code, f"must be a number or {n} times yes or no", f"key {name}")
        return [bool(v) for v in values]

    def uniform_u32(self, key: str, n: int, code: str, low: int, default: int | None = None) -> int:
        """A number for all ``n`` layers, or an array of ``n`` equal ones: layers that differ are not supported yet."""
        name = self.full(key)
        if self.model.kv_types.get(name) not in ("[u32]", "[i32]"):
            return self.u32(key, code, low, default=default)
        self.used.add(key)
        values = np.asarray(self.model.kv[name])
        if len(values) != n:
            raise InputError("G33" if code == "G33" else "G40", f"{len(values)} values for {n} layers", f"key {name}")
        first = int(values[0])
        if first < low or bool((values != first).any()):
            raise InputError(
                code,
                f"values must be {low} or more and equal in all layers: others are not supported",
                f"key {name}",
            )
        return first
