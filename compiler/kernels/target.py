"""Targets: one TOML file per CPU cluster in ``infc.targets``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from infc.errors import InputError

CLASSES = ("gemv", "small", "gemm", "tiles")


@dataclass(frozen=True)
class Rate:
    """Measured limits of one core: multiply-accumulates in 1e9/s, bytes read in 1e9/s."""

    gmac_s: float
    gb_s: float


@dataclass(frozen=True)
class Target:
    """What the planner and the toolchain know about a CPU cluster."""

    name: str
    isa: str
    requires: tuple[str, ...]
    define: str
    cpu_bits: str
    flags: tuple[str, ...]
    small_max: int
    rates: tuple[tuple[str, Rate], ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The batch classes that this target has kernels for."""
        return tuple(c for c, _ in self.rates)

    def rate(self, batch_class: str) -> Rate:
        """The measured limits for a batch class."""
        return dict(self.rates)[batch_class]


def _parse(data: dict[str, Any]) -> Target:
    rates = tuple((c, Rate(**data["rates"][c])) for c in CLASSES if c in data["rates"])
    return Target(
        name=data["name"],
        isa=data["isa"],
        requires=tuple(data["requires"]),
        define=data["define"],
        cpu_bits=data["cpu_bits"],
        flags=tuple(data["flags"]),
        small_max=data["classes"]["small_max"],
        rates=rates,
    )


@cache
def load_targets() -> tuple[Target, ...]:
    """All targets, least capable first."""
    files = [f for f in resources.files("infc.targets").iterdir() if f.name.endswith(".toml")]
    targets = [_parse(tomllib.loads(f.read_text("utf-8"))) for f in files]
    return tuple(sorted(targets, key=lambda t: (len(t.requires), t.name)))


def target(name: str) -> Target:
    """The target called ``name``; InputError lists those there are."""
    for t in load_targets():
        if t.name == name:
            return t
    raise InputError("T01", f"unknown target {name!r}", "known: " + ", ".join(t.name for t in load_targets()))
