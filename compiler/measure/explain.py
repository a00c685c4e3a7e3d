"""A profile beside the limits: per kernel calls, bytes, multiply-accumulates, time, and the share of the limit reached."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from infc.binding.artifact import Artifact
from infc.emit.phases import FILE
from infc.errors import InputError
from infc.measure.limits import Limits, measure_limits
from infc.measure.profile import Probed, Profile, Workload, probed_library

Phases = list[dict[str, Any]]


@dataclass(frozen=True)
class KernelTime:
    """One kernel's share of a step. ``bound``: which limit binds it, "read" or "math"; ``limit_pct``: least time over time."""

    phase: str
    kernel: str
    calls: float
    bytes: float
    int_macs: float
    int16_macs: float
    f32_macs: float
    seconds: float
    bound: str
    limit_pct: float

    @property
    def macs(self) -> float:
        """Multiply-accumulates of all kinds."""
        return self.int_macs + self.int16_macs + self.f32_macs


@dataclass(frozen=True)
class Explained:
    """A step: its kernels in the order in which they run, and all the time that no kernel accounts for."""

    profile: Profile
    limits: Limits
    kernels: tuple[KernelTime, ...]
    outside_s: float  # row set-up, waking the threads, waiting for the slowest after the last kernel

    @property
    def step_s(self) -> float:
        """Seconds of a step."""
        return self.profile.wall_s

    @property
    def limit_pct(self) -> float:
        """Of the whole step: the sum of the kernels' least times over the time."""
        return sum(k.limit_pct * k.seconds for k in self.kernels) / self.step_s

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``; seconds, bytes and counts are those of one step."""
        p = self.profile
        facts = {"isa": p.isa, "threads": p.threads, "workload": asdict(p.workload), "limits": asdict(self.limits)}
        total = {"outside_s": self.outside_s, "step_s": self.step_s, "tok_s": p.workload.rows / self.step_s, "limit_pct": self.limit_pct}
        return facts | total | {"kernels": [asdict(k) for k in self.kernels]}


def read_phases(artifact: Artifact, isa: str) -> Phases:
    """The table of src/phases.json for one instruction set. Raises InputError if an older infc made the artifact."""
    path = artifact.path / "src" / FILE
    try:
        table: Phases = json.loads(path.read_text("utf-8"))[isa]
        if any("window" not in phase for phase in table):  # the newest figure
            raise KeyError
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError("art", "the artifact does not say what its phases are: compile it again", str(path)) from None
    return table


def _kernel_name(phase: dict[str, Any], rows: int) -> str:
    """The function that takes ``rows`` rows."""
    names = [k["name"] for k in phase["kernels"] if k["rows"] is None or k["rows"][0] <= rows * phase["terms"] <= k["rows"][1]]
    return str((names or [k["name"] for k in phase["kernels"]])[-1])


def _weight_bytes(phase: dict[str, Any], rows: int) -> float:
    """What one call on so many rows reads of the weights; of experts at most: rows may share them."""
    experts = min(phase["experts"], phase["experts_used"] * rows) if "experts" in phase else 0
    return float(phase["weight_bytes"] + (experts * phase["expert_bytes"] if experts else 0))


def _least(window: int, positions: float) -> float:
    """What a row sees of so many positions."""
    return min(positions, window) if window else positions


@dataclass(frozen=True)
class _Calls:
    """What the calls of a step that belong to one phase take, ``rows`` in all. ``chunks``: the passes, (first position, rows) each. A
    prompt's are of one sequence; in decoding each row is one of another, all at the same position (on average over the steps)."""

    rows: int
    chunks: tuple[tuple[float, int], ...]
    prompt: bool

    @property
    def chunk_rows(self) -> int:
        """Of the largest pass."""
        return max(rows for _, rows in self.chunks)

    def read(self, window: int) -> float:
        """Positions read, over all passes and sequences: of a prompt's pass, those that its rows see together."""
        if not self.prompt:
            return self.attended(window)
        return sum(_least(window, first + 1) + rows - 1 for first, rows in self.chunks)

    def attended(self, window: int) -> float:
        """Positions attended to, over all rows."""
        step = 1 if self.prompt else 0
        return float(sum(_least(window, first + 1 + step * r) for first, rows in self.chunks for r in range(rows)))


def _calls(p: Profile) -> tuple[_Calls, _Calls]:
    """(calls that take all rows, calls that take those whose logits are wanted: of a prompt the last)."""
    w = p.workload
    begins = range(0, w.rows, p.chunk_rows)
    sizes = [min(p.chunk_rows, w.rows - begin) for begin in begins]
    if w.prompt:
        chunks = tuple((float(w.depth + begin), n) for begin, n in zip(begins, sizes, strict=True))
        return _Calls(w.rows, chunks, True), _Calls(1, ((float(w.depth + w.rows - 1), 1),), True)
    every = _Calls(w.rows, tuple((p.position, n) for n in sizes), False)
    return every, every


def explain_profile(phases: Phases, profile: Profile, limits: Limits) -> Explained:
    """Join times with costs. Phases of several layer kinds that call the same kernel are one line."""
    both = _calls(profile)
    found: dict[tuple[str, str], list[float]] = {}
    for phase in phases:
        i = phase["probe"]
        numbers = (phase["calls"] - phase["wanted_calls"], phase["wanted_calls"])
        sums = [float(profile.marks[i]), 0.0, 0.0, 0.0, 0.0, float(profile.seconds[i])]
        for n, c in zip(numbers, both, strict=True):
            positions, window = c.attended(phase["window"]), phase["window"]
            weights = len(c.chunks) * _weight_bytes(phase, c.chunk_rows)
            sums[1] += n * (weights + c.rows * phase["row_bytes"] + phase["kv_bytes"] * c.read(window))
            sums[2] += n * phase["int_macs"] * c.rows
            sums[3] += n * phase["kv_int16_macs"] * positions
            sums[4] += n * (phase["f32_macs"] * c.rows + phase["kv_f32_macs"] * positions)
        name = _kernel_name(phase, both[0 if numbers[0] else 1].chunk_rows)  # the last layer's call may be another one
        known = found.setdefault((phase["phase"], name), [0.0] * len(sums))
        known[:] = [a + b for a, b in zip(known, sums, strict=True)]
    kernels = []
    for (title, name), (calls, size, int_macs, int16_macs, f32_macs, seconds) in found.items():
        by_read, by_math = limits.read_s(size), limits.math_s(int_macs, int16_macs, f32_macs)
        pct = 100 * max(by_read, by_math) / seconds if seconds > 0 else 0.0
        bound = "read" if by_read >= by_math else "math"
        kernels.append(KernelTime(title, name, calls, size, int_macs, int16_macs, f32_macs, seconds, bound, pct))
    outside = profile.wall_s - sum(k.seconds for k in kernels)
    return Explained(profile, limits, tuple(kernels), outside)


class Explainer:
    """An artifact with probes: profiles any number of workloads."""

    def __init__(self, artifact: Artifact, probed: Probed) -> None:
        self.artifact = artifact
        self.probed = probed
        self.phases = read_phases(artifact, probed.isa)

    def explain(self, workload: Workload) -> Explained:
        """Profile one workload, then measure the limits."""
        profile = self.probed.run(workload, len(self.phases))
        return explain_profile(self.phases, profile, measure_limits(self.artifact, profile.threads, profile.isa, profile.workload.depth))


@contextmanager
def explainer(artifact: Artifact, threads: int, isa: str | None, cc: str | None) -> Iterator[Explainer]:
    """Build and open. ``threads`` 0: as many as affinity, quota and cores allow. Raises ToolchainError, HostError or InputError."""
    read_phases(artifact, next(iter(artifact.manifest.get("targets", [])), ""))  # before minutes of compiling
    with probed_library(artifact, cc) as library, Probed(library, artifact, threads, isa) as probed:
        yield Explainer(artifact, probed)
