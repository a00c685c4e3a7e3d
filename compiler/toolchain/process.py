"""Run one child process: argument list, clean environment, one-line failures."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infc.errors import ToolchainError

# A compiler reads many variables that change its output (CPATH, LIBRARY_PATH, CFLAGS in wrappers, SOURCE_DATE_EPOCH); only these pass.
_KEPT = ("PATH", "HOME", "LD_LIBRARY_PATH", "SYSTEMROOT")
OVERRUN = "T02"  # a child that did not end in time


@dataclass(frozen=True)
class Finished:
    """How a child ended. ``status`` is negative for a signal, as in ``subprocess``."""

    status: int
    stdout: str
    stderr: str


def environment(tmp: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The child's environment: fixed locale, temporary files below ``tmp`` so that a killed build leaves nothing elsewhere."""
    env = {k: os.environ[k] for k in _KEPT if k in os.environ}
    env |= {"LC_ALL": "C", "TMPDIR": str(tmp)}
    return env | dict(extra or {})


def run(argv: Sequence[str], cwd: Path, tmp: Path, timeout: float, extra: Mapping[str, str] | None = None) -> Finished:
    """Run to the end and return what it said. Raises ToolchainError if it cannot start or overruns ``timeout`` seconds."""
    try:
        done = subprocess.run(
            list(argv), cwd=cwd, env=environment(tmp, extra), stdin=subprocess.DEVNULL, capture_output=True,
            timeout=timeout, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise ToolchainError("T01", f"cannot find {argv[0]!r}", "install gcc or clang, or name a compiler with --cc") from None
    except PermissionError:
        raise ToolchainError("T01", f"{argv[0]!r} is not executable") from None
    except subprocess.TimeoutExpired:
        raise ToolchainError(OVERRUN, f"{Path(argv[0]).name} did not end within {timeout:.0f} s") from None
    return Finished(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def first_error(stderr: str) -> str:
    """The line of a compiler's output that says what went wrong."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for mark in ("error:", "undefined reference", "cannot find", "multiple definition"):
        for line in lines:
            if mark in line:
                return line
    return lines[-1] if lines else "no message"


def check(argv: Sequence[str], cwd: Path, tmp: Path, what: str, timeout: float = 900) -> Finished:
    """``run``, and ToolchainError naming ``what`` unless it ended with 0."""
    done = run(argv, cwd, tmp, timeout)
    if done.status != 0:
        raise ToolchainError("T03", f"{what} failed", first_error(done.stderr))
    return done
