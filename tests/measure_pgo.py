"""What profile-guided and link-time optimisation give, per test: a command, not a test.

    python -m tests.measure_pgo MODEL.gguf [--target avx512] [--rounds 3] [--threads 1] [--text FILE] [--work DIR] [--cc gcc]

Compiles MODEL with neither, PGO, LTO and both, and with neither once more, then runs the five in turns, A B C D E A B ..., and prints
a markdown table: medians, and against ``neither`` the median of the ratios within a round with the lowest and highest. A ratio whose
range holds 1, or that is no further from 1 than ``neither again``, is no difference: the place of a file's pages in memory is worth a
few per cent of decode. Speeds are `NAME bench`'s (tok/s); the tokenizer's is MB/s of a text of 4 MB, in the library, with no Python object
made; the start is from posix_spawn to the first byte (its ratio is of speeds: above 1 is faster). With ``--work`` builds and figures
stay in DIR, and a later call with the same DIR goes on from there: ``--rounds 0`` builds only, and prints what there is.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import infc
from infc.binding.artifact import Artifact
from tests.measure_start import Runs, run

# (PGO, LTO). The first once more is the control: the same bytes in other pages of memory.
VARIANTS = {
    "neither": (False, False), "neither again": (False, False),
    "PGO": (True, False), "LTO": (False, True), "PGO and LTO": (True, True),
}  # fmt: skip
_PASSAGE = Path(__file__).parent / "data" / "passage.txt"
_TEXT_BYTES = 4_000_000
_STARTS = 7  # runs a round; their median counts


@dataclass
class Variant:
    """One of the builds, and its figures by test, one a round."""

    name: str
    artifact: Artifact
    build_s: float
    figures: dict[str, list[float]] = field(default_factory=dict)

    def add(self, test: str, value: float) -> None:
        self.figures.setdefault(test, []).append(value)

    @property
    def code_bytes(self) -> int:
        """Bytes of the executable before the weights."""
        return int(json.loads((self.artifact.path / "manifest.json").read_text())["code_bytes"][self.artifact.program.name])


def cpu_seconds() -> float:
    """Of this process and the compilers it waited for: the wall clock of a shared machine says little."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def build(model: Path, name: str, target: str, cc: str | None, work: Path) -> Variant:
    """Compile one variant, never from the cache; or take the one that an earlier call left in ``work``, with its figures."""
    out, notes = work / name.replace(" ", "-"), work / f"{name.replace(' ', '-')}.json"
    if notes.exists():
        known = json.loads(notes.read_text())
        return Variant(name, Artifact.open(out), known["build_s"], known["figures"])
    pgo, lto = VARIANTS[name]
    start = cpu_seconds()
    artifact = infc.compile(model, name="m", target=target, pgo=pgo, lto=lto, cc=cc, out=out, cache=False)
    return Variant(name, artifact, cpu_seconds() - start)


def keep(v: Variant) -> None:
    """Leave the figures beside the artifact."""
    notes = {"build_s": v.build_s, "figures": v.figures}
    v.artifact.path.with_name(f"{v.artifact.path.name}.json").write_text(json.dumps(notes))


def tokenizer_mb_s(v: Variant, text: bytes) -> float:
    """The best of three calls; the ids go to an array and are dropped."""
    ids = np.empty(len(text) + 2, np.int32)
    with v.artifact.load(threads=1) as model:
        handle = model._handle
        took = []
        for _ in range(3):
            start = time.monotonic()
            with handle.use() as opened:
                handle.check(handle.lib.infc_tokenize(opened, text, len(text), 0, handle.ffi.cast("int32_t *", ids.ctypes.data), len(ids)))
            took.append(time.monotonic() - start)
    return len(text) * 1e-6 / min(took)


def measure(v: Variant, threads: int, text: bytes) -> None:
    """One round of one variant."""
    program = str(v.artifact.program)
    bench = [program, "bench", "-p", "512", "-n", "128", "-b", "4,16", "-t", str(threads), "-r", "1", "-o", "json"]
    done = subprocess.run(bench, check=True, capture_output=True, text=True)
    for row in json.loads(done.stdout):
        v.add(row["test"], row["tok_s"])
    v.add("tokenize, MB/s", tokenizer_mb_s(v, text))
    starts = Runs()
    for _ in range(_STARTS):
        run(program, threads, starts)
    v.add("start, ms", statistics.median(starts.first_byte))


def ratios(v: Variant, base: Variant, test: str) -> list[float]:
    """Speed of ``v`` over ``base``'s in the same round."""
    pairs = zip(v.figures[test], base.figures[test], strict=True)
    return [b / a if test.endswith(" ms") else a / b for a, b in pairs]


def table(variants: list[Variant]) -> str:
    """The markdown table."""
    base, *others = variants
    lines = ["| test | neither | " + " | ".join(v.name for v in others) + " |", "|---" * (len(variants) + 1) + "|"]
    for test in base.figures:
        cells = [f"{statistics.median(base.figures[test]):.4g}"]
        for v in others:
            r = ratios(v, base, test)
            cells.append(f"{statistics.median(v.figures[test]):.4g}: {statistics.median(r):.3f} ({min(r):.3f}-{max(r):.3f})")
        lines.append(f"| {test} | {' | '.join(cells)} |")
    lines.append("| build, s of CPU | " + " | ".join(f"{v.build_s:.1f}" for v in variants) + " |")
    lines.append("| executable without weights, KB | " + " | ".join(f"{v.code_bytes / 1e3:.0f}" for v in variants) + " |")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--target", default="native")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--text", type=Path, default=_PASSAGE, help="what the tokenizer reads, repeated to 4 MB")
    parser.add_argument("--work", type=Path, help="where the builds go and stay")
    parser.add_argument("--cc")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (asked.work or Path(temporary)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        variants = [build(asked.model, name, asked.target, asked.cc, work) for name in VARIANTS]
        piece = asked.text.read_bytes() + b"\n"
        for v in variants:
            keep(v)
        text = piece * (_TEXT_BYTES // len(piece) + 1)
        for _ in range(asked.rounds):
            for v in variants:
                measure(v, asked.threads, text)
                keep(v)
        targets = ", ".join(variants[0].artifact.manifest["targets"])
        print(f"{asked.model.name}, {targets}, {asked.threads} threads, {len(variants[0].figures.get('start, ms', ()))} rounds\n")
        print(table(variants))


if __name__ == "__main__":
    main()
