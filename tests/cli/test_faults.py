"""Exit codes of every failure, signals, closed and full outputs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Program

CODES = {-1: 2, -2: 3, -3: 3, -4: 3, -5: 3, -6: 70, -99: 70}


@pytest.mark.parametrize(("rc", "code"), CODES.items())
@pytest.mark.parametrize("function", ["open", "step", "tokenize", "sample"])
def test_library_failures_become_exit_codes(fake: Program, function: str, rc: int, code: int) -> None:
    line = fake.refused(code, "-p", "x", FAKE_FAIL=f"{function}:{rc}")
    assert "ordered \\x1b[31mfailure" in line
    assert ("internal: " in line) == (code == 70)


@pytest.mark.parametrize("command", [["info"], ["verify"], ["tokenize", "x"], ["chat"], ["perplexity", "/dev/null"]])
def test_every_command_reports_a_host_that_is_refused(fake: Program, command: list[str]) -> None:
    fake.refused(3, *command, FAKE_FAIL="open:-3")


def test_isa_not_compiled_in(fake: Program) -> None:
    assert "no such ISA" in fake.refused(3, "-p", "x", "--isa", "vax")


def test_step_failure_after_text(fake: Program) -> None:
    done = fake("chat", "--temp", "0", stdin=b"a\n", FAKE_FAIL="step:-6")
    assert done.returncode == 70
    assert b"error: internal: ordered" in done.stderr


def test_truncated_weights(fake: Program) -> None:
    done = fake("-p", "x", FAKE_BUS="1", ASAN_OPTIONS="handle_sigbus=0")
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr == b"toy: error: the file of the weights was truncated while in use\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_cleanly(fake: Program, number: int, code: int) -> None:
    process = fake.start("-p", "x", "-n", "-1", "--temp", "0", FAKE_SCRIPT="x", FAKE_SLOW_MS="20", FAKE_N_CTX="60000")
    assert process.stdout is not None
    first = os.read(process.stdout.fileno(), 1)
    process.send_signal(number)
    rest, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert set(first + rest) == set(b"x")
    assert b"decode" in err  # the line of figures is still written


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for the signal."""
    (mask,) = re.findall(r"SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(mask, 16) >> (number - 1) & 1)


def test_signal_during_the_prompt(fake: Program) -> None:
    process = fake.start("-p", "x" * 4000, "-ub", "1", FAKE_SLOW_MS="20", FAKE_N_CTX="60000")
    end = time.monotonic() + 30
    while not _catches(process.pid, signal.SIGTERM):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.01)
    time.sleep(0.2)  # 4,000 steps of 20 ms: the signal falls into them
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (143, b"")


def test_a_closed_pipe_ends_quietly(fake: Program) -> None:
    process = fake.start("-p", "x", "-n", "-1", "--temp", "0", FAKE_SCRIPT="x", FAKE_SLOW_MS="1", FAKE_N_CTX="60000")
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        assert os.read(process.stdout.fileno(), 1) == b"x"
        process.stdout.close()
        assert process.wait(timeout=30) == -signal.SIGPIPE
        assert process.stderr.read() == b""


@pytest.mark.parametrize("command", [["-p", "x", "-n", "3"], ["info"], ["tokenize", "x", "--json"], ["--help"]])
def test_a_full_disk(fake: Program, command: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([str(fake.path), *command], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 3
    assert done.stderr == b"toy: error: cannot write the output: No space left on device\n"


def test_a_full_disk_for_logits(fake: Program) -> None:
    assert "cannot write '/dev/full'" in fake.refused(3, "-p", "x", "--logits-out", "/dev/full")


def test_no_descriptor_but_the_three(fake: Program, tmp_path: Path) -> None:
    """Works without stdin: a service may close it."""
    done = subprocess.run(
        ["sh", "-c", f'exec "{fake.path}" -p x -n 3 --temp 0 --logits-out "{tmp_path}/l" <&-'],
        env=fake.environment({"FAKE_SCRIPT": "x"}), capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"xxx")
    assert (tmp_path / "l").stat().st_size == 2 * 264 * 4
