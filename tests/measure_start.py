"""Start-up of executables, measured from outside and interleaved (A B C A B C ...): a command, not a test.

    python -m tests.measure_start PROGRAM... [-r ROUNDS] [-t THREADS] [--cold]

Each run evaluates a prompt of four tokens and prints one. Columns: posix_spawn to the first byte on stdout, to the exit of the
process, page faults, peak RSS: medians, with the lowest and highest in brackets. ``--cold``: the file leaves the page cache
before each run (the disk then decides). PROGRAM is a path, or LABEL=PATH.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

_ARGUMENTS = ("--tokens", "1,2,3,4", "-n", "1", "--temp", "0", "--print-ids", "--ignore-eos")


@dataclass
class Runs:
    """What was seen of one program, one entry a run: ms, ms, faults, MB."""

    first_byte: list[float] = field(default_factory=list)
    exit: list[float] = field(default_factory=list)
    faults: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)


def run(program: str, threads: int, into: Runs) -> None:
    """One process from spawn to exit. Raises RuntimeError if it fails or prints nothing."""
    out, inward = os.pipe2(os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, inward, 1), (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
    argv = [program, *_ARGUMENTS, "-t", str(threads)]
    start = time.monotonic()
    pid = os.posix_spawn(program, argv, os.environ, file_actions=actions)
    os.close(inward)
    first = os.read(out, 1)
    seen = time.monotonic()
    while os.read(out, 4096):
        pass
    os.close(out)
    _, status, usage = os.wait4(pid, 0)
    end = time.monotonic()
    if status or not first:
        raise RuntimeError(f"{program} ended with status {status} after {'a' if first else 'no'} token")
    into.first_byte.append((seen - start) * 1e3)
    into.exit.append((end - start) * 1e3)
    into.faults.append(usage.ru_minflt + usage.ru_majflt)
    into.peak.append(usage.ru_maxrss * 1024 / 1e6)


def forget(program: str) -> None:
    """Drop a file's clean pages from the page cache."""
    fd = os.open(program, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def cell(values: list[float], digits: int) -> str:
    """Median, and the range in brackets."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def main() -> None:
    """Parse the arguments, measure, print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="+", metavar="PROGRAM")
    parser.add_argument("-r", type=int, default=25, metavar="ROUNDS")
    parser.add_argument("-t", type=int, default=1, metavar="THREADS")
    parser.add_argument("--cold", action="store_true")
    asked = parser.parse_args()
    programs = [(p.split("=", 1) if "=" in p else [Path(p).name, p]) for p in asked.programs]
    runs = [Runs() for _ in programs]
    for _, path in programs:
        run(path, asked.t, Runs())  # warms the page cache
    for _ in range(asked.r):
        for (_, path), seen in zip(programs, runs, strict=True):
            if asked.cold:
                forget(path)
            run(path, asked.t, seen)
    print(f"{asked.r} rounds, {asked.t} threads, {'cold' if asked.cold else 'warm'} page cache\n")
    print("| program | first byte, ms | exit, ms | page faults | peak RSS, MB |\n|---|---|---|---|---|")
    for (label, _), seen in zip(programs, runs, strict=True):
        row = [cell(seen.first_byte, 2), cell(seen.exit, 2), cell(seen.faults, 0), cell(seen.peak, 1)]
        print(f"| {label} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
