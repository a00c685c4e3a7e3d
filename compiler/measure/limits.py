"""What this machine can do, measured by the artifact's own ``bench`` command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infc.binding.artifact import Artifact
from infc.errors import HostError, InfcError, InputError, LimitError

_ERRORS: dict[int, type[InfcError]] = {2: InputError, 3: LimitError}


@dataclass(frozen=True)
class Limits:
    """Rates of ``threads`` threads: GB/s read from a buffer of as many bytes as a pass reads, 1e9 multiply-accumulates a second."""

    threads: int
    read_gb_s: float
    int8_gmac_s: float
    int16_gmac_s: float
    f32_gmac_s: float

    def read_s(self, size: float) -> float:
        """Least seconds in which ``size`` bytes can be read."""
        return size * 1e-9 / self.read_gb_s

    def math_s(self, int_macs: float, int16_macs: float, f32_macs: float) -> float:
        """Least seconds of so many multiply-accumulates on int8, int16 and f32 operands, one kind after the other."""
        return (int_macs / self.int8_gmac_s + int16_macs / self.int16_gmac_s + f32_macs / self.f32_gmac_s) * 1e-9


def bench_rows(artifact: Artifact, arguments: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of ``NAME bench ARGUMENTS -o json --no-process``. Raises what its exit status means, with its own sentence."""
    argv = [str(artifact.program), "bench", *arguments, "-o", "json", "--no-process"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    except OSError as e:
        raise InputError("art", f"cannot start the executable: {e.strerror}", str(artifact.program)) from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        kind = _ERRORS.get(done.returncode, HostError)
        raise kind("bench", last.split(": error: ")[-1])
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def measure_limits(artifact: Artifact, threads: int, isa: str, depth: int = 0) -> Limits:
    """Run a few tokens for the sake of the limits that are measured beside them. ``depth``: positions that a pass reads."""
    (row,) = bench_rows(artifact, ["-p", "0", "-n", "4", "-b", "0", "-r", "5", "-d", str(depth), "-t", str(threads), "--isa", isa])
    return Limits(threads, row["read_bw_gb_s"], *(row[f"{kind}_peak_gmac_s"] for kind in ("int8", "int16", "f32")))
