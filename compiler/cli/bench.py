"""``infc bench``: the executable's own bench, or with more options a duel with llama.cpp's, or a drawing."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click

from infc.binding.artifact import Artifact
from infc.errors import InputError
from infc.measure.peer import LlamaBatchedBench, LlamaBench, Tests
from infc.measure.versus import Duel, compare

_LISTS = {
    "-p": "prompts", "--n-prompt": "prompts", "-n": "gens", "--n-gen": "gens", "-d": "depths", "--n-depth": "depths",
    "-b": "batches", "--batch": "batches", "-t": "threads", "--threads": "threads",
}  # fmt: skip
_REPS, _FORMAT = ("-r", "--repetitions"), ("-o", "--output")
_FLAGS = ("--pin", "--no-process")
_PLOT_STEPS, _PLOT_BATCH = 32, 4  # one kernel class each: one row, a few, a chunk


@dataclass(frozen=True)
class Asked:
    """NAME bench's arguments, read so that a peer can be given the same tests."""

    tests: Tests
    json: bool
    more: tuple[str, ...]  # what a peer has no counterpart of

    def value(self, name: str) -> str | None:
        """The value of an option among ``more``."""
        return self.more[self.more.index(name) + 1] if name in self.more[:-1] else None


def _whole_numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(t) for t in text.split(","))
    except ValueError:
        raise InputError("opt", f"option {name}: {text!r} is no list of whole numbers") from None


def read_arguments(arguments: Sequence[str]) -> Asked:
    """Raises InputError for a missing or malformed value; what is left is for NAME bench to judge."""
    found: dict[str, tuple[int, ...]] = {}
    reps, form, more = 2, "md", []
    rest = list(arguments)
    while rest:
        name = rest.pop(0)
        if name in _FLAGS:
            more.append(name)
            continue
        if not rest:
            raise InputError("opt", f"option {name} needs a value")
        text = rest.pop(0)
        if name in _LISTS:
            found[_LISTS[name]] = _whole_numbers(name, text)
        elif name in _REPS:
            (reps, *_) = _whole_numbers(name, text)
        elif name in _FORMAT:
            form = text
        else:
            more += [name, text]
    if form not in ("md", "json"):
        raise InputError("opt", f"option -o: {form!r} is neither md nor json")
    lists = {k: v if k == "depths" else tuple(x for x in v if x > 0) for k, v in found.items()}
    return Asked(Tests(reps=reps, **lists), form == "json", tuple(more))


def _range(values: Sequence[float]) -> str:
    return f"{median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def table(duels: Sequence[Duel], peer: str) -> str:
    """Markdown: medians over the turns, lowest and highest in brackets."""
    head = ("test", "threads", "infc tok/s", f"{peer} tok/s", "ratio of medians", "% of read bandwidth", "% of arithmetic peak")
    rows = [head]
    for d in duels:
        low, high = d.spread
        ratio = f"{d.ratio:.2f} ({low:.2f}-{high:.2f})"
        rows.append((d.test, str(d.threads), _range(d.ours), _range(d.peer), ratio, f"{d.read_pct:.1f}", f"{d.math_pct:.1f}"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    aligned = [[row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in aligned]
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def versus(
    artifact: Artifact, arguments: Sequence[str], vs: Path | None, batched: Path | None, model: Path | None, vs_args: str, turns: int
) -> None:
    """Duel with llama-bench (``vs``), llama-batched-bench (``batched``) or both."""
    if model is None:
        raise InputError("opt", "--vs-model is missing: the file that the peer loads")
    if not model.is_file():
        raise InputError("opt", "--vs-model is not a file", str(model))
    try:
        extra = tuple(shlex.split(vs_args))
    except ValueError as e:
        raise InputError("opt", f"--vs-args: {str(e).lower()}", vs_args) from None
    asked = read_arguments(arguments)
    peers: list[LlamaBench | LlamaBatchedBench] = []
    if vs is not None:
        peers.append(LlamaBench(vs, model, extra))
    if batched is not None:
        peers.append(LlamaBatchedBench(batched, model, extra))
    duels = _with_progress(lambda say: compare(artifact, peers, asked.tests, turns, asked.more, say))
    if asked.json:
        print(json.dumps([d.to_json() for d in duels], indent=1))
    else:
        print(table(duels, peers[0].program.name))


def _with_progress(work: Callable[[Callable[[str], None]], list[Duel]]) -> list[Duel]:
    from infc.cli.progress import Progress

    with Progress() as progress:
        return work(progress.reporter.stage)


def plot(artifact: Artifact, arguments: Sequence[str], path: Path) -> None:
    """Bench as asked, then profile decoding and a prompt and draw their kernels below the limits."""
    from infc.cli.progress import Progress
    from infc.measure.explain import explainer
    from infc.measure.plot import draw, require_matplotlib
    from infc.measure.profile import Workload

    require_matplotlib()
    asked = read_arguments(arguments)
    if not path.absolute().parent.is_dir():
        raise InputError("opt", "--plot: there is no such folder", str(path.absolute().parent))
    done = subprocess.run([str(artifact.program), "bench", *arguments], check=False)
    if done.returncode != 0:
        raise click.exceptions.Exit(done.returncode)  # it has said why
    with Progress() as progress:
        progress.reporter.stage("compile")
        with explainer(artifact, asked.tests.threads[0], asked.value("--isa"), None) as e:
            progress.reporter.stage("measure")
            rows = min(max(asked.tests.prompts, default=512), e.probed.info.max_rows)
            depth = max(asked.tests.depths)
            loads = [Workload(1, depth, False, _PLOT_STEPS), Workload(_PLOT_BATCH, 0, False, _PLOT_STEPS), Workload(rows, depth, True, 3)]
            explained = [e.explain(w) for w in loads if e.probed.refuses(w) is None or w.rows != _PLOT_BATCH]
        last = explained[-1].profile
        title = f"{artifact.name}, {last.isa}, {last.threads} thread{'s' if last.threads > 1 else ''}"
        draw(path, title, explained)
