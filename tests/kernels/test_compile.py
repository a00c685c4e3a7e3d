"""The kernels build natively for every target and compiler here, even those this CPU cannot run, and use what they are for."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernels.build import Build

NATIVE = [Build(isa, cc, "-O1") for isa in ("avx512", "amx") for cc in ("gcc", "clang") if shutil.which(cc)]
# one instruction that a target is chosen for, and none that it may not have
USES = {"avx512": ("vpdpbusd", "zmm"), "amx": ("tdpbssd", "tileloadd")}


@pytest.mark.parametrize("build", NATIVE, ids=lambda b: b.name)
def test_wide_targets_build_natively(build: Build, tmp_path: Path) -> None:
    out = tmp_path / "native.so"
    subprocess.run(build.command(out), check=True, capture_output=True, text=True)
    code = subprocess.run(["objdump", "-d", str(out)], check=True, capture_output=True, text=True).stdout
    for word in USES[build.isa]:
        assert word in code


def test_scalar_uses_nothing_beyond_the_baseline(built: dict[Build, Path]) -> None:
    for build, path in built.items():
        if build.isa == "scalar":
            code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", str(path)], check=True, capture_output=True, text=True).stdout
            assert "cvtps2pd" in code  # this is its code
            assert re.search(r"%[yz]mm|\tv[a-z]+ps\b|pmaddubsw|pshufb", code) is None
