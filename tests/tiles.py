"""Target amx on CPUs with AVX-512 and without AMX: the same C, whose tile instructions are those of tests/kernels/emul_amx.h."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import cffi
import pytest

import infc.emit
from infc.binding.artifact import Artifact
from infc.emit import Recipe
from infc.kernels.target import Target
from infc.options import TARGETS
from infc.plan.plan import Plan
from infc.toolchain import host

HEADER = Path(__file__).parent / "kernels" / "emul_amx.h"
LINEAR, ATTENTION = 8, 16  # groups of four of their products' inner index; linear layers whose scales are of 16 weights have 4


@cache
def emulated() -> bool:
    """Whether tests of target amx take tiles in plain C here."""
    return not host.missing("avx512") and bool(host.missing("amx"))


def runnable() -> tuple[str, ...]:
    """The targets whose programs run here, ascending: amx, too, where its tiles can be emulated."""
    return tuple(t for t in TARGETS if t in host.runnable() or (t == "amx" and emulated()))


def why_not(isa: str) -> str:
    """Why programs of target ``isa`` do not run here, for a skip."""
    return f"this CPU has no {isa}" + (", nor AVX-512 for emulated tiles" if isa == "amx" else "")


def flags(target: Target) -> tuple[str, ...]:
    """Those of target amx for emulated tiles, but for the level."""
    return ("-DINFC_EMULATE_AMX", *(f for f in target.flags if not f.startswith(("-O", "-mamx"))))


@contextmanager
def emulation() -> Iterator[None]:
    """While this lasts, what ``infc.compile`` builds for amx has emulated tiles and asks the CPU for AVX-512, which is all that it needs
    then; plan and forward pass are amx's own. Such a compile must leave the artifact cache alone, whose key would not tell it apart."""
    emit = infc.emit.emit

    def emulating(plan: Plan, out: Path) -> Recipe:
        def stand_in(t: Target) -> Target:
            return replace(t, cpu_bits="INFC_CPU_AVX512", flags=("-Og", *flags(t))) if t.name == "amx" else t

        recipe = emit(replace(plan, targets=tuple(replace(tp, target=stand_in(tp.target)) for tp in plan.targets)), out)
        shutil.copyfile(HEADER, out / "src" / HEADER.name)
        return recipe

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infc.emit, "emit", emulating)
        yield


_ffi = cffi.FFI()
_ffi.cdef("extern uint64_t emul_tile_products[17];")


@contextmanager
def used(artifact: Artifact, isa: str, *groups: int) -> Iterator[None]:
    """Asserts that meanwhile tiles are multiplied with each of these numbers of ``groups``, if ``isa`` is amx and emulated: real products
    are not counted."""
    if isa != "amx" or not emulated():
        yield
        return
    products = _ffi.dlopen(str(artifact.library)).emul_tile_products
    before = list(products)
    yield
    made = [g for g, (old, new) in enumerate(zip(before, products, strict=True)) if new > old]
    assert set(groups) <= set(made), f"tile products of {groups} groups were expected, of {made} were made"
