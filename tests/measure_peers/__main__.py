"""The command."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import tests.measure_peers
from infc.binding.artifact import Artifact
from infc.errors import InfcError, InputError
from infc.toolchain import host
from tests.measure_peers.report import Report, markdown
from tests.measure_peers.rows import GEMMA, GROUPS, IK, LLAMA_AMX, LLAMA_AVX512, NAMES, ONE_B, PEERS, SMOLLM2, Group
from tests.measure_peers.sides import Machine, Model, contestants

_FEATURES = ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16")
_MEASURED = ("amx", "avx512", "avx2")
_OPTIONS = {SMOLLM2: "MODEL.gguf", GEMMA: "--gemma", ONE_B: "--one-b", LLAMA_AMX: "--llama-amx", LLAMA_AVX512: "--llama-avx512", IK: "--ik"}


def _first_line(argv: list[str]) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.partition("\n")[0].strip()
    except OSError:
        return "none"


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor() or "unknown")


def describe_machine() -> dict[str, str]:
    """What decides the figures; two tables with other values here are not of one machine."""
    name, features = host.cpu()
    return {
        "CPU": f"{_cpu_name()} ({name}), {len(os.sched_getaffinity(0))} cores",
        "features": " ".join(f for f in _FEATURES if f in features),
        "kernel": f"{platform.system()} {platform.release()}",
        "gcc": _first_line(["gcc", "--version"]),
    }


def identity(model: Model) -> dict[str, str]:
    """The bytes that ran: turns of two builds must not meet in one median."""
    with model.artifact.program.open("rb") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest()
    return {"program": digest, "gguf": f"{model.gguf.name}, {model.gguf.stat().st_size} bytes"}


class Notes:
    """The turns, by group, and where they come from; a file if it was asked for."""

    def __init__(self, path: Path | None, machine: dict[str, str]) -> None:
        self.path = path
        self.data: dict[str, Any] = {"machine": machine, "models": {}, "commands": [], "turns": {}}
        if path is not None and path.exists():
            try:
                known = json.loads(path.read_text("utf-8"))
                same = known["machine"] == machine and {"models", "commands", "turns"} <= known.keys()
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                raise InputError("opt", "--keep: the file holds something else", str(path)) from None
            if not same:
                raise InputError("opt", "--keep: the file holds turns of another machine, kernel or compiler", str(path))
            self.data = known

    def know(self, name: str, found: dict[str, str]) -> None:
        """Raises InputError if earlier turns ran another build of the model."""
        if self.data["models"].setdefault(name, found) != found:
            raise InputError("opt", f"--keep: earlier turns ran another artifact of {name}, or another file", str(self.path))

    def add(self, group: str, turn: dict[str, Any]) -> None:
        """Only whole turns: a later call goes on behind them."""
        self.data["turns"].setdefault(group, []).append(turn)
        self.write()

    def write(self) -> None:
        """To the file, if there is one."""
        if self.path is not None:
            self.path.write_text(json.dumps(self.data) + "\n", "utf-8")


def _model(artifact: str | Path, gguf: str | Path) -> Model:
    opened = Artifact.open(artifact)
    for path in (opened.program, Path(gguf)):
        if not path.is_file():
            raise InputError("opt", "there is no such file", str(path))
    return Model(opened, Path(gguf))


def read_machine(asked: argparse.Namespace) -> tuple[Machine, list[str]]:
    """What can be measured, and what is left out with the reason. Raises InputError for what is asked and cannot be."""
    models = {SMOLLM2: _model(asked.artifact, asked.gguf)}
    models |= {name: _model(*pair) for name, pair in ((GEMMA, asked.gemma), (ONE_B, asked.one_b)) if pair}
    peers = {name: path for name, path in ((LLAMA_AMX, asked.llama_amx), (LLAMA_AVX512, asked.llama_avx512), (IK, asked.ik)) if path}
    for path in peers.values():
        if not path.is_dir():
            raise InputError("opt", "a peer's programs are in a folder", str(path))
    runs = host.runnable()
    if LLAMA_AMX in peers and "amx" not in runs:
        raise InputError("opt", "this CPU has no AMX: a build of llama.cpp for it is --llama-avx512")
    left_out = [f"{PEERS[p]}: no {_OPTIONS[p]}" for p in PEERS if p not in peers]
    left_out += [f"{name}: no {_OPTIONS[name]}" for name in (GEMMA, ONE_B) if name not in models]
    has = models[SMOLLM2].artifact.manifest.get("targets", [])
    wanted = asked.isa.split(",") if asked.isa else _MEASURED
    isas = []
    for isa in wanted:
        if isa not in _MEASURED:
            raise InputError("opt", f"--isa: {isa!r} is none of {', '.join(_MEASURED)}")
        why = "this CPU lacks " + ", ".join(host.missing(isa)) if isa not in runs else "the artifact was not compiled for it"
        if isa in runs and isa in has:
            isas.append(isa)
        elif asked.isa:
            raise InputError("opt", f"--isa {isa}: {why}")
        else:
            left_out.append(f"target {isa}: {why}")
    return Machine(models, peers, tuple(isas)), left_out


def measure(groups: Sequence[Group], machine: Machine, turns: int, notes: Notes, left_out: list[str]) -> None:
    """Turns of each group: every contestant once, A B C A B C."""
    for group in groups:
        if group.model not in machine.models:
            continue
        with ExitStack() as opened:
            found = contestants(group, machine, opened, left_out)
            if not found:
                left_out.append(f"{group.name}: no target of it that was asked for")
                continue
            for turn in range(turns):
                samples = {}
                for label, run in found.items():
                    print(f"{group.name}, turn {turn + 1} of {turns}: {label}", file=sys.stderr, flush=True)
                    samples[label] = run()
                notes.add(group.name, samples)


def show(notes: Notes, left_out: Sequence[str], form: str) -> str:
    """The whole output."""
    report, data = Report.of(notes.data["turns"]), notes.data
    if form == "json":
        facts = {k: data[k] for k in ("machine", "models", "commands")}
        return json.dumps(facts | report.to_json() | {"left_out": list(left_out), "turns": data["turns"]}, indent=1)
    out = [f"- {name}: {value}" for name, value in data["machine"].items()]
    out += [f"- {c['date']}, load {c['load']}: `{c['command']}`" for c in data["commands"]]
    out += ["", markdown(report)]
    if left_out:
        out.append("\nLeft out: " + "; ".join(dict.fromkeys(left_out)) + ".")
    if "start" in data["turns"]:
        out.append("Two processes share the weights: tests/e2e/test_memory_use.py looks.")
    return "\n".join(out)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments; leaves with status 2 and a sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.measure_peers", description=tests.measure_peers.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", type=Path, metavar="ARTIFACT")
    parser.add_argument("gguf", type=Path, metavar="MODEL.gguf")
    parser.add_argument("--gemma", nargs=2, metavar=("ARTIFACT", "FILE"), help="Gemma 3 270M Q4_K_M")
    parser.add_argument("--one-b", nargs=2, metavar=("ARTIFACT", "FILE"), help="of Llama-3.2-1B's shape: tests.models.llama_1b")
    for name, option in ((LLAMA_AMX, "--llama-amx"), (LLAMA_AVX512, "--llama-avx512"), (IK, "--ik")):
        parser.add_argument(option, type=Path, metavar="BIN", help=f"the folder of {PEERS[name]}'s programs")
    parser.add_argument("--isa", help="targets to measure, of amx, avx512, avx2; default: all that the artifact and the CPU have")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rows", help="names, with commas between; default: all")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="where the turns stay; a later call goes on from there")
    parser.add_argument("-o", choices=("md", "json"), default="md")
    asked = parser.parse_args(argv)
    rows = asked.rows.split(",") if asked.rows else list(NAMES)
    unknown = [r for r in rows if r not in NAMES]
    if unknown:
        parser.error(f"--rows: {unknown[0]!r} is none of {', '.join(NAMES)}")
    if asked.turns < 0 or (asked.turns == 0 and asked.keep is None):
        parser.error("--turns: at least one, or none with --keep")
    asked.groups = [g for g in GROUPS if g.name in rows]
    return asked


def main(argv: Sequence[str]) -> int:
    """Measure and print. Exit status 2 for bad input, 3 where the host refuses, as infc."""
    if "--list" in argv:
        print("\n".join(NAMES))
        return 0
    asked = parse(argv)
    try:
        machine, left_out = read_machine(asked)
        notes = Notes(asked.keep, describe_machine())
        if asked.turns:
            for name, model in machine.models.items():
                if any(g.model == name for g in asked.groups):
                    notes.know(name, identity(model))
            command = shlex.join(["python", "-m", "tests.measure_peers", *argv])
            notes.data["commands"].append({"date": date.today().isoformat(), "load": round(os.getloadavg()[0], 2), "command": command})
            measure(asked.groups, machine, asked.turns, notes, left_out)
        print(show(notes, left_out, asked.o))
    except InfcError as e:
        print(f"measure_peers: {e}", file=sys.stderr)
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
