"""llama.cpp's own benchmarks as peers: llama-bench and llama-batched-bench, run and read."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from infc.errors import InputError

Key = tuple[str, int]  # test as NAME bench calls it, threads
Speeds = dict[Key, float]  # tokens a second

BATCH_TOKENS = 32  # BATCH_STEPS of runtime_c/infc_bench.c


def test_name(kind: str, n: int, depth: int = 0) -> str:
    """``pp512``, ``tg32 @ d4096``, ``batch8``: the names of llama-bench, and of NAME bench."""
    return f"{kind}{n}" + (f" @ d{depth}" if depth else "")


@dataclass(frozen=True)
class Tests:
    """What both sides run. Lists are as NAME bench takes them."""

    prompts: tuple[int, ...] = (512,)
    gens: tuple[int, ...] = (128,)
    depths: tuple[int, ...] = (0,)
    batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    threads: tuple[int, ...] = (1,)
    reps: int = 2  # of one turn

    def arguments(self) -> list[str]:
        """The same for NAME bench."""
        lists = (("-p", self.prompts), ("-n", self.gens), ("-d", self.depths), ("-b", self.batches), ("-t", self.threads))
        return [a for name, values in lists for a in (name, comma(values or (0,)))] + ["-r", str(self.reps)]


def comma(values: Sequence[int]) -> str:
    """1,2,3"""
    return ",".join(map(str, values))


def _run(argv: list[str]) -> str:
    """stdout of a peer. Raises InputError in one sentence if it does not end well."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
    except OSError as e:
        raise InputError("peer", f"cannot run the peer: {(e.strerror or str(e)).lower()}", argv[0]) from None
    if done.returncode != 0:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise InputError("peer", f"the peer ended with {how}" + (f": {said[-1][:120]}" if said else ""), argv[0])
    return done.stdout


def _number(record: Any, key: str) -> float:
    value = record[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(key)
    return value


def _bench_record(record: dict[str, Any]) -> tuple[Key, float]:
    n_prompt, n_gen = int(_number(record, "n_prompt")), int(_number(record, "n_gen"))
    depth = int(record.get("n_depth", 0))
    samples = record.get("samples_ts") or [record["avg_ts"]]
    name = test_name("tg", n_gen, depth) if n_gen else test_name("pp", n_prompt, depth)
    return (name, int(_number(record, "n_threads"))), median(float(s) for s in samples)


@dataclass(frozen=True)
class LlamaBench:
    """``program``: a llama-bench. ``extra``: more of its arguments, such as -fa 1."""

    program: Path
    model: Path
    extra: tuple[str, ...] = ()

    def run(self, tests: Tests) -> Speeds:
        """One turn: the median of each test's samples. Raises InputError if it fails or prints something else."""
        argv = [str(self.program), "-m", str(self.model), "-p", comma(tests.prompts or (0,)), "-n", comma(tests.gens or (0,))]
        argv += ["-t", comma(tests.threads), "-r", str(tests.reps), "-o", "json"]
        if tests.depths != (0,):  # forks of llama.cpp do not all have the option
            argv += ["-d", comma(tests.depths)]
        text = _run([*argv, *self.extra])
        try:
            return dict(_bench_record(r) for r in json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise InputError("peer", "the peer did not print what llama-bench -o json prints", str(self.program)) from None


@dataclass(frozen=True)
class LlamaBatchedBench:
    """``program``: a llama-batched-bench. Sequences start with one token, as NAME bench's start with none."""

    program: Path
    model: Path
    extra: tuple[str, ...] = ()

    def run(self, tests: Tests) -> Speeds:
        """One turn. It has no repetitions: ``reps`` processes, of which the median counts."""
        found: dict[Key, list[float]] = {}
        for threads in tests.threads:
            for _ in range(tests.reps):
                for key, speed in self._once(tests, threads):
                    found.setdefault(key, []).append(speed)
        return {key: median(speeds) for key, speeds in found.items()}

    def _once(self, tests: Tests, threads: int) -> list[tuple[Key, float]]:
        context = max(tests.batches) * (BATCH_TOKENS + 1)
        argv = [str(self.program), "-m", str(self.model), "-c", str(-(-context // 256) * 256), "-npp", "1", "-ntg", str(BATCH_TOKENS)]
        argv += ["-npl", comma(tests.batches), "-t", str(threads), "--output-format", "jsonl"]
        text = _run([*argv, *self.extra])
        try:
            records = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
            return [((test_name("batch", int(_number(r, "pl"))), threads), float(_number(r, "speed_tg"))) for r in records]
        except (ValueError, TypeError, KeyError):
            raise InputError("peer", "the peer did not print what llama-batched-bench prints as jsonl", str(self.program)) from None
