"""The emulator that runs AVX-512 code where there is none computes what a processor does. Opt-in: see docs/emulation.md."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "run512"
BOCHS = shutil.which(os.environ.get("BOCHS") or str(CACHE / "bochs"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BOCHS is None, reason="no Bochs with AVX-512: run tests/emulation/build_bochs.sh"),
]


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("emulation") / "operations"
    # -ffp-contract=off: the operands are the same however the file is compiled.
    built = run("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-ffp-contract=off", HERE / "operations.c", "-lm", "-o", program)
    assert built.returncode == 0, built.stderr
    return program


def test_emulated_arithmetic_equals_the_processors(operations: Path) -> None:
    native = run(operations, "avx2")
    assert native.returncode == 0 and native.stdout.count("\n") == 60, native.stderr
    for path in "avx2", "avx512":
        guest = run(HERE / "run512.sh", operations, "--", f"operations {path}")
        assert guest.returncode == 0, guest.stderr
        assert guest.stdout == native.stdout, path


def test_status_output_and_files_come_back(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("carried\n")
    guest = run(HERE / "run512.sh", "-o", tmp_path / "out", tmp_path / "data", "--", "cat data; cp data $OUT/; echo late >&2; exit 7")
    assert (guest.returncode, guest.stdout, guest.stderr) == (7, "carried\n", "late\n")
    assert (tmp_path / "out" / "data").read_text() == "carried\n"
