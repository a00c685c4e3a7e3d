"""The kernels build natively for every target and compiler here, even those this CPU cannot run, and use what they are for."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernels.build import Build

NATIVE = [(isa, cc) for isa in ("avx512", "amx") for cc in ("gcc", "clang") if shutil.which(cc)]
# one instruction that a target is chosen for, and none that it may not have
USES = {"avx512": ("vpdpbusd", "zmm"), "amx": ("tdpbssd", "tileloadd")}


@pytest.mark.parametrize(("isa", "cc"), NATIVE)
def test_wide_targets_build_natively(isa: str, cc: str, built: dict[Build, Path], tmp_path: Path) -> None:
    out = next((path for b, path in built.items() if (b.isa, b.cc, b.emulated) == (isa, cc, False)), None)
    if out is None:  # what the other tests run is emulated, or another compiler's
        out = tmp_path / "native.so"
        subprocess.run(Build(isa, cc, "-Og").command(out), check=True, capture_output=True, text=True)
    code = subprocess.run(["objdump", "-d", str(out)], check=True, capture_output=True, text=True).stdout
    for word in USES[isa]:
        assert word in code


def test_scalar_uses_nothing_beyond_the_baseline(built: dict[Build, Path]) -> None:
    for build, path in built.items():
        if build.isa == "scalar":
            code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", str(path)], check=True, capture_output=True, text=True).stdout
            assert "cvtps2pd" in code  # this is its code
            assert re.search(r"%[yz]mm|\tv[a-z]+ps\b|pmaddubsw|pshufb", code) is None
