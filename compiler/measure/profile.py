"""Builds an artifact's own sources once more, with the probes on, and runs the result in this process."""

from __future__ import annotations

import ctypes
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infc.binding.artifact import Artifact
from infc.binding.library import Handle
from infc.binding.sequence import LOGITS, ROW, sequence, step
from infc.emit.recipe import Recipe
from infc.errors import InputError, LimitError
from infc.toolchain import cc as cc_module
from infc.toolchain.build import Builder

_DEFINE = "-DINFC_PROFILE"
WARM_UP = 2  # steps that are not counted


@dataclass(frozen=True)
class Workload:
    """What a step computes: ``rows`` rows from position ``depth`` on, of one sequence (``prompt``) or each of its own."""

    rows: int
    depth: int
    prompt: bool
    steps: int


@dataclass(frozen=True)
class Profile:
    """Means over the steps that count: the middle half by time, so that no disturbance does and the parts still add up.

    ``seconds`` and ``marks``: (probes,); ``wall_s`` includes what lies outside the forward pass; ``position``: mean number of positions
    that a step of decoding found in its sequence.
    """

    workload: Workload
    isa: str
    threads: int
    chunk_rows: int  # rows that one forward pass takes
    seconds: NDArray[np.float64]
    marks: NDArray[np.float64]
    wall_s: float
    position: float


def read_recipe(artifact: Artifact) -> Recipe:
    """src/recipe.json. Raises InputError if the artifact's sources are not all there."""
    path = artifact.path / "src" / "recipe.json"
    try:
        recipe = Recipe.from_json(path.read_text("utf-8"))
    except OSError as e:
        raise InputError("art", f"the artifact's sources are missing: {(e.strerror or str(e)).lower()}", str(path)) from None
    except (ValueError, TypeError, KeyError):
        raise InputError("art", "the recipe of the artifact's sources says something else", str(path)) from None
    return recipe


@contextmanager
def probed_library(artifact: Artifact, cc: str | None, jobs: int = 2) -> Iterator[Path]:
    """A library of the same sources with the probes on, in a folder that lives as long as the block. It carries no weights."""
    recipe = read_recipe(artifact)
    library_only = replace(recipe, sources=tuple(s for s in recipe.sources if s.role != "main"))
    with tempfile.TemporaryDirectory(prefix="infc-explain-") as folder:
        work = Path(folder)
        for name in ("out", "tmp"):
            (work / name).mkdir()
        os.symlink((artifact.path / "src").resolve(), work / "out" / "src")
        builder = Builder(library_only, work, cc_module.find(cc, work / "tmp"), jobs)
        builder.compile_all(lambda source: (_DEFINE,))
        yield builder.link_library("../probed.so", ())


class Probed:
    """An open model with probes. Use it as a context manager."""

    def __init__(self, library: Path, artifact: Artifact, threads: int, isa: str | None) -> None:
        self._take = ctypes.CDLL(str(library)).infc_profile_take
        self.handle = Handle(library, threads, isa, weights=artifact.program)
        self.info: Any = self.handle.ffi.new("infc_info *")
        with self.handle.use() as model:
            self.handle.check(self.handle.lib.infc_get_info(model, self.info))

    def __enter__(self) -> Probed:
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.close()

    @property
    def isa(self) -> str:
        """The instruction set that runs."""
        return str(self.handle.ffi.string(self.info.isa).decode())

    def take(self, n: int) -> tuple[NDArray[np.float64], NDArray[np.uint64]]:
        """(seconds, marks) of probes 0..n-1 since the last call."""
        seconds, marks = np.zeros(n, np.float64), np.zeros(n, np.uint64)
        double_p, uint64_p = ctypes.POINTER(ctypes.c_double), ctypes.POINTER(ctypes.c_uint64)
        self.handle.check(self._take(ctypes.c_int32(n), seconds.ctypes.data_as(double_p), marks.ctypes.data_as(uint64_p)))
        return seconds, marks

    def refuses(self, w: Workload) -> LimitError | None:
        """Why a workload does not fit the program, if it does not."""
        i = self.info
        seqs, held = (1, w.rows) if w.prompt else (w.rows, w.steps + WARM_UP)
        if w.depth + held > i.n_ctx:
            return LimitError("C02", f"depth {w.depth} and {held} more positions do not fit the context of {i.n_ctx}", "compile with --ctx")
        pages = -(-(w.depth + held) // i.page_size)
        if seqs > i.max_seqs or seqs * pages > i.n_pages:
            return LimitError("C02", f"{seqs} sequences of {w.depth + held} positions do not fit", "compile with --max-seqs, --kv-tokens")
        return None

    def run(self, w: Workload, n_probes: int) -> Profile:
        """Fill ``depth`` positions, warm up, run and time the steps. Raises LimitError if they do not fit the program."""
        refused = self.refuses(w)
        if refused is not None:
            raise refused
        h, rng = self.handle, np.random.default_rng(1)
        with ExitStack() as stack:
            seqs = [stack.enter_context(sequence(h)) for _ in range(1 if w.prompt else w.rows)]
            for seq in seqs:
                if w.depth:
                    step(h, self._rows(rng, [seq], w.depth, 0))
            logits = np.empty((len(seqs), self.info.vocab_size), np.float32)
            taken: list[tuple[float, int, NDArray[np.float64], NDArray[np.uint64]]] = []
            for i in range(WARM_UP + w.steps):
                start_pos = w.depth + (0 if w.prompt else i)
                rows = self._rows(rng, seqs, w.rows if w.prompt else 1, start_pos)
                rows["flags"][-len(seqs) :] = LOGITS
                self.take(n_probes)
                start = time.perf_counter()
                step(h, rows, logits)
                taken.append((time.perf_counter() - start, start_pos, *self.take(n_probes)))
                if w.prompt:
                    with h.use() as model:
                        h.check(h.lib.infc_seq_truncate(model, seqs[0], w.depth))
        return self._summary(w, taken[WARM_UP:])

    def _summary(self, w: Workload, taken: list[tuple[float, int, NDArray[np.float64], NDArray[np.uint64]]]) -> Profile:
        by_time = sorted(taken, key=lambda t: t[0])
        cut = len(by_time) // 4
        walls, positions, seconds, marks = zip(*by_time[cut : len(by_time) - cut], strict=True)
        means = (np.mean(seconds, axis=0), np.mean(np.asarray(marks, np.float64), axis=0), fmean(walls), fmean(positions))
        return Profile(w, self.isa, self.info.threads, min(w.rows, self.info.max_rows), *means)

    def _rows(self, rng: np.random.Generator, seqs: list[int], each: int, start: int) -> NDArray[Any]:
        """``each`` rows of random tokens from position ``start`` on of every sequence."""
        rows = np.zeros(len(seqs) * each, ROW)
        rows["seq"] = np.repeat(seqs, each)
        rows["pos"] = start + np.tile(np.arange(each), len(seqs))
        rows["token"] = rng.integers(0, self.info.vocab_size, len(rows))
        return rows
