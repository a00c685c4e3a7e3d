"""The contestants of a row: each is called once a turn, and gives its figures by test."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from infc.binding.artifact import Artifact
from infc.errors import HostError, InputError
from infc.measure.explain import Explainer, explainer
from infc.measure.limits import bench_rows
from infc.measure.peer import LlamaBatchedBench, LlamaBench
from infc.measure.profile import Workload
from tests.measure_peers.rows import IK, PEERS, Group, Special, Speed

Sample = dict[str, float]  # figures of one test by name: "value", and of NAME bench's rows the limits
Samples = dict[str, Sample]  # by test
Contestant = Callable[[], Samples]

KEPT = ("read_pct", "math_pct", "read_bw_gb_s", "int8_peak_gmac_s", "int16_peak_gmac_s", "f32_peak_gmac_s")
_STEPS = 32
_FLASH = ("-fa", "0"), ("-fa", "1")
# Lines of NAME bench below its table.
_START = re.compile(r"^start to first token of a 4-token prompt: ([0-9.]+) ms", re.M)
_PEAK = re.compile(r"^peak RSS of .*: ([0-9.]+) MB = .*weights ([0-9.]+) MB \+ their KV ([0-9.]+) MB \+ arena ([0-9.]+) MB\)$", re.M)


@dataclass(frozen=True)
class Model:
    """An artifact and the file that peers load."""

    artifact: Artifact
    gguf: Path


@dataclass(frozen=True)
class Machine:
    """What there is to measure: models by name, folders of programs by peer, targets."""

    models: Mapping[str, Model]
    peers: Mapping[str, Path] = field(default_factory=dict)
    isas: tuple[str, ...] = ()


def read_process(text: str) -> Samples:
    """What NAME bench says of processes: ms to the first token, MB resident and MB needed. Raises InputError if it is not there."""
    start, peak = _START.search(text), _PEAK.search(text)
    if start is None or peak is None:
        raise InputError("bench", "the executable's bench did not say how long a start takes and what is resident", text[-120:])
    resident, *needed = (float(x) for x in peak.groups())
    return {"first token": {"value": float(start[1])}, "RSS": {"value": resident}, "needed": {"value": sum(needed)}}


def read_tokenizer(text: str) -> Samples:
    """What ``tests.bench_tokenizer -o json`` prints: MB/s of the widest twin, and of HF, by text."""
    found: Samples = {}
    for name, rates in json.loads(text).items():
        ours = [rate for who, rate in rates.items() if who != "HF"]  # ascending targets
        found |= {name: {"value": ours[-1]}, f"{name}, HF": {"value": rates["HF"]}}
    return found


def _infc(model: Model, group: Speed, isa: str) -> Samples:
    rows = bench_rows(model.artifact, [*group.tests.arguments(), "--isa", isa])
    found = {r["test"]: {"value": r["tok_s"]} | {k: r[k] for k in KEPT if k in r} for r in rows}
    absent = [t for t in group.wants if t not in found]
    if absent:
        raise InputError("bench", f"the artifact cannot run {absent[0]}", "compile it with --ctx 8192 and without --max-seqs")
    return found


def _peer(program: LlamaBench | LlamaBatchedBench, group: Speed) -> Samples:
    speeds = program.run(group.tests)
    found = {test: {"value": speed} for (test, _), speed in speeds.items()}
    absent = [t for t in group.wants if t not in found]
    if absent:
        raise InputError("peer", f"the peer did not run {absent[0]}", str(program.program))
    return found


def _start(model: Model, isa: str) -> Samples:
    argv = [str(model.artifact.program), "bench", "-p", "8", "-n", "1", "-b", "0", "-t", "1", "-r", "9", "--isa", isa]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostError("bench", (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1])
    return read_process(done.stdout)


def _tokenizer(model: Model) -> Samples:
    argv = [sys.executable, "-m", "tests.bench_tokenizer", "--model", str(model.gguf), "--repeat", "1", "-o", "json"]
    done = subprocess.run([*argv, "--only", "prose", "--only", "english"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostError("bench", (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1])
    return read_tokenizer(done.stdout)


def _step(e: Explainer) -> Samples:
    """ms of a step of one row and of four, one after the other, as `infc explain -b` times them."""
    walls = {rows: e.probed.run(Workload(rows, 0, False, _STEPS), len(e.phases)).wall_s for rows in (1, 4)}
    return {f"M={rows}": {"value": 1e3 * wall} for rows, wall in walls.items()}


def _program(folder: Path, name: str) -> Path | None:
    """The program of a peer, if it was built."""
    path = folder / name
    return path if path.is_file() else None


def targets(group: Group, machine: Machine) -> tuple[str, ...]:
    """The targets that are asked for, that the row is about and that the artifact has."""
    has = machine.models[group.model].artifact.manifest.get("targets", [])
    return tuple(i for i in machine.isas if i in group.isas and i in has)


def _speeds(group: Speed, machine: Machine, left_out: list[str]) -> dict[str, Contestant]:
    model = machine.models[group.model]
    found: dict[str, Contestant] = {f"infc {isa}": partial(_infc, model, group, isa) for isa in targets(group, machine)}
    for peer in group.peers:
        if peer not in machine.peers:
            continue
        name = "llama-batched-bench" if group.batched else "llama-bench"
        program = _program(machine.peers[peer], name)
        if program is None:
            left_out.append(f"{group.name} of {PEERS[peer]}: there is no {name} in its folder")
        elif group.batched:
            found[peer] = partial(_peer, LlamaBatchedBench(program, model.gguf), group)
        else:
            for extra in _FLASH if group.flash and peer != IK else ((),):
                found[" ".join((peer, *extra))] = partial(_peer, LlamaBench(program, model.gguf, extra), group)
    return found


def _specials(group: Special, machine: Machine, opened: ExitStack) -> dict[str, Contestant]:
    model, isas = machine.models[group.model], targets(group, machine)
    if group.kind == "tokenizer":
        return {"infc": partial(_tokenizer, model)}
    if group.kind == "start":
        return {f"infc {isa}": partial(_start, model, isa) for isa in isas}
    return {f"infc {isa}": partial(_step, opened.enter_context(explainer(model.artifact, 1, isa, None))) for isa in isas}


def contestants(group: Group, machine: Machine, opened: ExitStack, left_out: list[str]) -> dict[str, Contestant]:
    """By label, in the order of a turn: ``infc TARGET``, then peers by column, with their switches behind it. What cannot take part is
    said in ``left_out``; of ours nothing at all may be left."""
    found = _speeds(group, machine, left_out) if isinstance(group, Speed) else _specials(group, machine, opened)
    return found if any(label.startswith("infc") for label in found) else {}
