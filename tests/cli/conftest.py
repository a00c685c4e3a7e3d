"""The executable's own code over a toy model (fake_model.c), built with sanitizers once per session."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import shared

RUNTIME = Path(__file__).resolve().parents[2] / "runtime_c"
SOURCES = (
    "main", "args", "output", "json", "session", "generate", "describe", "bench", "bench_report", "bandwidth", "peak", "together",
    "startup", "perplexity", "chat_cli",
)  # fmt: skip
WARNINGS = ("-std=gnu11", "-Wall", "-Wextra", "-Werror")
BOS, EOS, USER, ASSISTANT, SYSTEM, VOCAB = 256, 257, 258, 259, 260, 264


def build(out: Path, cc: str, *flags: str) -> Path:
    """Compile the executable over the toy model; returns its path."""
    sources = [str(RUNTIME / f"infc_{s}.c") for s in SOURCES] + [str(Path(__file__).with_name("fake_model.c"))]
    subprocess.run([cc, *WARNINGS, *flags, f"-I{RUNTIME}", *sources, "-o", str(out), "-lpthread", "-lm"], check=True)
    return out


class Program:
    """Runs an executable; every call is one process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        return {**os.environ, **extra}

    def start(self, *arguments: str, stderr: int = subprocess.PIPE, **env: str) -> subprocess.Popen[bytes]:
        """A process that runs while the test goes on."""
        pipe = subprocess.PIPE
        return subprocess.Popen([str(self.path), *arguments], stdin=pipe, stdout=pipe, stderr=stderr, env=self.environment(env))

    def __call__(self, *arguments: str, stdin: bytes = b"", timeout: float = 60, **env: str) -> subprocess.CompletedProcess[bytes]:
        """Run with ``arguments``; keyword arguments in capitals are environment variables."""
        return subprocess.run(
            [str(self.path), *arguments], input=stdin, capture_output=True, timeout=timeout, env=self.environment(env), check=False
        )

    def ok(self, *arguments: str, stdin: bytes = b"", **env: str) -> bytes:
        """stdout of a run that must succeed."""
        done = self(*arguments, stdin=stdin, **env)
        assert done.returncode == 0, done
        return done.stdout

    def refused(self, code: int, *arguments: str, stdin: bytes = b"", **env: str) -> str:
        """The one line of a run that must end with ``code`` and write nothing to stdout."""
        done = self(*arguments, stdin=stdin, **env)
        assert done.returncode == code, done
        assert done.stdout == b""
        lines = done.stderr.decode("ascii").splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith(f"{self.path.name}: error: ")
        assert len(done.stderr) <= 300
        assert lines[0].isprintable()
        return lines[0]


@pytest.fixture(scope="session")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The toy executable with AddressSanitizer and UBSan: a test that reaches a fault fails with its report."""
    flags = ("-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    folder = shared.once(shared.folder(tmp_path_factory, "cli") / "toy", lambda place: build(place / "toy", "gcc", *flags))
    return Program(folder / "toy")
