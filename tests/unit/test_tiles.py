"""What stands in for AMX in tests of whole programs (tests/tiles.py) is compiled from the C that amx has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import infc
from tests import tiles


def test_only_flags_and_what_the_cpu_is_asked_for_differ(tiny_llama: Callable[..., Path], tmp_path: Path) -> None:
    options = {"name": "m", "target": "avx512,amx", "stop_after": "emit"}
    infc.compile(tiny_llama(), out=tmp_path / "real", **options)
    with tiles.emulation():
        infc.compile(tiny_llama(), out=tmp_path / "emulated", **options)
    real, emulated = ({p.name: p.read_text() for p in (tmp_path / f / "src").iterdir() if p.is_file()} for f in ("real", "emulated"))
    assert emulated.keys() - real.keys() == {tiles.HEADER.name} and not real.keys() - emulated.keys()
    assert {n for n in real if real[n] != emulated[n]} == {"program.c", "recipe.json", "Makefile"}
    assert real["program.c"] == emulated["program.c"].replace('{"amx", INFC_CPU_AVX512,', '{"amx", INFC_CPU_AVX512 | INFC_CPU_AMX,')
    (flags,) = [line for line in emulated["Makefile"].splitlines() if "-DINFC_ISA_AMX" in line]
    assert "-DINFC_EMULATE_AMX" in flags and "-mamx" not in flags
