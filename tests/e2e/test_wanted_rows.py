"""The last layer computes what somebody wants: whichever rows of a batch ask, their logits and hidden states are those of a batch in which
all ask, and every row's keys and values are there for the next step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from infc.binding.artifact import Artifact
from infc.binding.model import Model
from infc.binding.sequence import HIDDEN, LOGITS, ROW, rows_of, sequence, step, token_array
from infc.kernels.target import load_targets
from infc.options import TARGETS
from tests import tiles
from tests.e2e.test_experts import options
from tests.models.families import FAMILIES, write_family

APART = True  # see tests/conftest.py
BOTH = LOGITS | HIDDEN
HELD = (0, 3, 70, 129)  # positions of each sequence before the batch: none, some, over a page, over two
MODELS = ("llama-q4_1", "gemma3", "olmo2", "gpt2", "mixtral", "qwen2moe")
SMALL = {t.name: t.small_max for t in load_targets()}  # rows up to which activations are laid out row by row


def around(*small: int) -> list[int]:
    return sorted({n + d for n in small for d in (0, 1)})


SIZES = sorted({2, 5, 70, *around(*SMALL.values())})  # rows of a batch

Answer = tuple[NDArray[np.float32], NDArray[np.float32]]  # logits and hidden states of a batch's rows


@pytest.fixture(scope="module", params=MODELS)
def artifact(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    compiled: Callable[..., Artifact],
    tiny_llama: Callable[..., Path],
    tiny_moe: Callable[..., Path],
) -> Artifact:
    name: str = request.param
    if name == "llama-q4_1":
        return compiled(tiny_llama(types="Q4_1", head_dim=32), name="tiny", target=",".join(tiles.runnable()), lto=False, emulated=True)
    if name in FAMILIES:
        path = write_family(tmp_path_factory.mktemp("family") / "tiny.gguf", name)
        return compiled(path, name="tiny", target=",".join(tiles.runnable()), lto=False, emulated=True)
    return compiled(tiny_moe(name, 1024), emulated=True, **options(name))


class _Sequences:
    """Sequences of one open model that hold HELD positions, to which batches are added and from which they are taken again."""

    def __init__(self, model: Model, stack: ExitStack, flags: int) -> None:
        self.handle, self.info = model._handle, model.info
        self.ids = np.random.default_rng(3).integers(4, 320, 400).astype(np.int32)
        self.seqs = [stack.enter_context(sequence(self.handle)) for _ in HELD]
        for i, (seq, n) in enumerate(zip(self.seqs, HELD, strict=True)):
            if n:
                self.ask(rows_of(seq, 0, self.tokens(i, 0, n), flags))

    def tokens(self, i: int, start: int, n: int) -> NDArray[np.int32]:
        return token_array(self.ids[40 * i + start : 40 * i + start + n].tolist())

    def batch(self, n: int) -> NDArray[np.void]:
        """n rows of all sequences that take turns of odd lengths, so that runs of consecutive rows are of many lengths."""
        rng, at, found = np.random.default_rng(n), list(HELD), []
        while sum(map(len, found)) < n:
            i, length = int(rng.integers(len(HELD))), int(rng.choice([1, 1, 2, 3, 5, 20]))
            found.append(rows_of(self.seqs[i], at[i], self.tokens(i, at[i], length)))
            at[i] += length
        return np.concatenate(found)[:n]

    def ask(self, rows: NDArray[np.void]) -> Answer:
        """Logits and hidden states of the rows whose flags ask for them."""
        logits = np.full((np.count_nonzero(rows["flags"] & LOGITS), self.info.vocab_size), np.nan, np.float32)
        hidden = np.full((np.count_nonzero(rows["flags"] & HIDDEN), self.info.dim), np.nan, np.float32)
        step(self.handle, rows, logits if len(logits) else None, hidden if len(hidden) else None)
        return logits, hidden

    def then_one_more(self, rows: NDArray[np.void]) -> Answer:
        """One row of every sequence after ``rows``: what it attends to has been written by them. All are then taken back."""
        ends = [max([n, *(rows["pos"][rows["seq"] == seq] + 1)]) for seq, n in zip(self.seqs, HELD, strict=True)]
        more = np.zeros(len(HELD), ROW)
        more["seq"], more["pos"], more["token"], more["flags"] = self.seqs, ends, 7, BOTH
        answer = self.ask(more)
        with self.handle.use() as m:
            for seq, n in zip(self.seqs, HELD, strict=True):
                self.handle.check(self.handle.lib.infc_seq_truncate(m, seq, n))
        return answer


@pytest.fixture(scope="module")
def expected(artifact: Artifact) -> dict[int, tuple[Answer, Answer]]:
    """By size of the batch: what a batch and the step after it give where all rows ask, of the histories too."""
    with artifact.load(isa="scalar", threads=1) as model, ExitStack() as stack:
        held, found = _Sequences(model, stack, BOTH), {}
        for n in SIZES:
            rows = held.batch(n)
            rows["flags"] = BOTH
            found[n] = held.ask(rows), held.then_one_more(rows)
        return found


def _flags(n: int, small: int) -> Iterator[NDArray[np.uint32]]:
    """Which of n rows ask for what: the first, the last, and of every count some at random places."""
    rng = np.random.default_rng(11)
    for count in sorted({c for c in (0, 1, 2, *around(small), n - 1, n) if c <= n}):
        chosen = [rng.permutation(n)[:count]]
        if count == 1:
            chosen = [np.array([0]), np.array([n - 1]), *chosen]
        if count == n - 1:
            chosen += [np.arange(1, n), np.arange(n - 1)]
        for places in chosen:
            flags = np.zeros(n, np.uint32)
            flags[places] = rng.choice([LOGITS, HIDDEN, BOTH], len(places))
            yield flags


@pytest.mark.parametrize("isa", TARGETS)
def test_unwanted_rows_change_nothing(artifact: Artifact, expected: dict[int, tuple[Answer, Answer]], isa: str) -> None:
    if isa not in tiles.runnable():
        pytest.skip(tiles.why_not(isa))
    every = ((1, 512), (2, 512), (3, 512), (2, 16), (3, 7))
    for threads, chunk in every[:4:3] if isa == "scalar" else every:  # of which one takes long
        with artifact.load(isa=isa, threads=threads, ubatch=chunk) as model, ExitStack() as stack:
            held = _Sequences(model, stack, 0)
            for n in (2, 5, *around(SMALL[isa]), 70):
                (logits, hidden), after = expected[n]
                rows = held.batch(n)
                for flags in _flags(n, SMALL[isa]):
                    rows["flags"] = flags
                    what = f"{threads} threads, chunks of {chunk}, {n} rows, of which {np.flatnonzero(flags).tolist()} ask"
                    got = held.ask(rows)
                    assert got[0].tobytes() == logits[flags & LOGITS != 0].tobytes(), what
                    assert got[1].tobytes() == hidden[flags & HIDDEN != 0].tobytes(), what
                    again = held.then_one_more(rows)
                    assert [a.tobytes() for a in again] == [a.tobytes() for a in after], what
