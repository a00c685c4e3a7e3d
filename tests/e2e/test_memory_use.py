"""What a process takes: never more than the plan, little beside the weights, keys and arena, and the weights only once for two."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infc.binding.artifact import Artifact
from infc.cli.describe import describe_plan
from infc.toolchain import host
from tests.runtime.page_cache import huge_when_mapped, write_small

N_PROMPT, N_DECODE = 512, 128
# The kernel hands a parent's peak to its children, so a small interpreter in between starts the program.
_PEAK = """
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss * 1024 if status == 0 else -1)
"""


def _peak(program: Path, *arguments: str) -> int:
    """Peak resident bytes of one run."""
    done = subprocess.run([sys.executable, "-S", "-c", _PEAK, str(program), *arguments], capture_output=True, text=True, check=True)
    peak = int(done.stdout)
    assert peak > 0, done.stderr
    return peak


def _planned(model: Path, threads: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The bytes that ``infc plan`` prints, by name, for one sequence of all positions that a program of that context holds."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(threads)))
    text = describe_plan(model, 1, {"target": host.runnable()[-1], "max_seqs": 64, "kv_tokens": None, "ctx": None})
    rows = [line.split() for line in text.split("\n\n")[0].splitlines()[1:]]
    return {name: int(value) for name, value in rows}


@pytest.mark.parametrize("threads", [1, 2])
def test_peak_is_within_the_plan(threads: int, smollm2_artifact: Artifact, smollm2_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need = _planned(smollm2_path, threads, monkeypatch)
    facts = json.loads((smollm2_artifact.path / "manifest.json").read_text())
    pages = -(-(N_PROMPT + N_DECODE) // facts["memory"]["kv_page_size"])
    need["kv"] = pages * facts["memory"]["kv_page_bytes"]
    ids = ",".join(str(1 + i % 1000) for i in range(N_PROMPT))
    options = ["--tokens", ids, "-n", str(N_DECODE), "--ignore-eos", "-t", str(threads)]
    greedy = _peak(smollm2_artifact.program, *options, "--temp", "0")
    every = _peak(smollm2_artifact.program, *options, "--temp", "1", "--top-p", "0.9", "--top-k", "0", "--repeat-penalty", "1.1")
    assert max(greedy, every) <= sum(need[part] for part in ("weights", "tables", "kv", "arena", "scratch", "process"))
    assert greedy <= 1.05 * (need["weights"] + need["kv"] + need["arena"] + need["scratch"])


def _rollup(process: subprocess.Popen[bytes]) -> dict[str, int]:
    """Bytes by kind of all of a process's memory."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="this kernel has no smaps_rollup")
def test_two_processes_share_the_weights(smollm2_artifact: Artifact) -> None:
    weights = json.loads((smollm2_artifact.path / "manifest.json").read_text())["weights"]["sections"]["weights"]
    # Its prompt comes from a pipe, so a process waits with the model open and the weights present.
    command = [str(smollm2_artifact.program), "-f", "-", "-n", "1", "-t", "1", "--temp", "0", "--print-ids"]
    two = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    try:
        deadline = time.monotonic() + 60
        while any(_rollup(p)["Rss"] < weights for p in two):
            assert time.monotonic() < deadline and all(p.poll() is None for p in two)
            time.sleep(0.02)
        seen = [_rollup(p) for p in two]
        for memory in seen:
            assert memory["Shared_Clean"] >= weights, memory
            assert memory["Pss"] <= memory["Rss"] - 0.49 * weights, memory  # each page counts half
            assert memory["Private_Dirty"] <= 4 << 20, memory  # nobody has copied anything
        assert sum(m["Pss"] for m in seen) <= weights + (8 << 20)
        answers = [p.communicate(b"Once upon a time", timeout=60)[0] for p in two]
        assert [p.returncode for p in two] == [0, 0]
        assert answers[0] == answers[1] != b""
    finally:
        for p in two:
            p.kill()
            p.wait()


def test_a_copied_program_says_the_same_while_its_weights_become_huge_pages(smollm2_artifact: Artifact, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    write_small(copy, smollm2_artifact.program.read_bytes())
    copy.chmod(0o755)
    command = ["-p", "The old man", "-n", "300", "--ignore-eos", "-t", "2", "--temp", "0", "--print-ids"]
    programs = (smollm2_artifact.program, copy)
    expected, answer = (subprocess.run([program, *command], capture_output=True, check=True).stdout for program in programs)
    assert answer == expected != b""
    kept = huge_when_mapped(copy, drop=False)
    if not huge_when_mapped(copy, drop=True):
        pytest.skip("this file system reads no file into huge pages")
    assert kept >= 4 << 20  # of 94; how far it comes depends on the disk
