"""infc_peak.c: any instruction set may be asked for on any CPU; what this one lacks is not executed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import RUNTIME, WARNINGS


@pytest.mark.parametrize(
    "flags", [("-O2",), ("-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")], ids=["plain", "asan"]
)
def test_every_instruction_set(tmp_path: Path, flags: tuple[str, ...]) -> None:
    sources = [str(RUNTIME / f"infc_{name}.c") for name in ("peak", "together")] + [str(Path(__file__).with_name("peak.c"))]
    program = tmp_path / "peak"
    subprocess.run(["gcc", *WARNINGS, *flags, f"-I{RUNTIME}", *sources, "-o", str(program), "-lpthread"], check=True)
    names = ["vax", "scalar", "avx2", "avx512", "amx"]
    done = subprocess.run([program, *names], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[:3] for row in rows] == [[name, "0", "1"] for name in names]
    loops = {row[0]: {int(n) for n in row[3:]} for row in rows}
    assert loops["vax"] == loops["scalar"] == {0, 1, 2}  # an unknown name may use no more than the baseline
    assert max(loops["avx2"]) <= 6  # nor may a lesser one use the wider units
