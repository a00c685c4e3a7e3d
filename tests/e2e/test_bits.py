"""The contract: one hash a prompt, whatever computes it.

SmolLM2's logits for prompts of 1, 7, 64, 300 and 1,000 tokens, over instruction sets, thread counts, chunk sizes, and alone or in
company. The hashes are checked in (tests/golden/logits.json); `--update-golden` writes those of the scalar build.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import infc
from infc.binding.artifact import Artifact
from infc.binding.sequence import LOGITS, rows_of, sequence, step, token_array
from infc.toolchain import host
from tests import tiles

APART = True  # see tests/conftest.py
GOLDEN = Path(__file__).parents[1] / "golden" / "logits.json"
PASSAGE = Path(__file__).parents[1] / "data" / "passage.txt"
LENGTHS = (1, 7, 64, 300, 1000)
THREADS = (1, 2, 3)
CHUNKS = (1, 7, 64, 512)
ISAS = ("scalar", "avx2", "avx512", "amx")


def _digest(logits: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(logits).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def ids(smollm2_fat: Artifact) -> list[int]:
    with smollm2_fat.load(isa="scalar", threads=1) as model:
        found = model.tokenize(PASSAGE.read_text())
    assert len(found) >= 2 * max(LENGTHS) - 700
    return found


@pytest.fixture(scope="module")
def golden(smollm2_fat: Artifact, ids: list[int], request: pytest.FixtureRequest) -> dict[str, str]:
    if request.config.getoption("--update-golden"):
        with smollm2_fat.load(isa="scalar", threads=2) as model:
            made = {str(n): _digest(model.logits(ids[:n])) for n in LENGTHS}
        GOLDEN.write_text(json.dumps(made, indent=1) + "\n")
    found: dict[str, str] = json.loads(GOLDEN.read_text())
    return found


def _configurations() -> Iterator[tuple[str, int, int]]:
    for isa in ISAS:
        for threads in THREADS:
            for chunk in CHUNKS:
                yield isa, threads, chunk


def _affordable(isa: str, threads: int, chunk: int) -> tuple[int, ...]:
    """The scalar build takes a second per 40 tokens: each long prompt runs on it in one configuration, short ones in all. The longest
    prompt runs with chunks of 512, of which only it has two, on every number of threads; with smaller ones, of which 300 tokens are many
    too, on one number each. Emulated tiles take a second per 50 tokens; the other kernels of that program have no tiles."""
    if isa == "amx" and tiles.emulated():
        return LENGTHS[:4] if (threads, chunk) == (2, 512) else LENGTHS[:3] if chunk >= 64 else LENGTHS[:2]
    if isa != "scalar":
        return LENGTHS if chunk == 512 or (threads, chunk) in ((1, 1), (3, 7), (2, 64)) else LENGTHS[:4]
    if (threads, chunk) == (2, 512):
        return (*LENGTHS[:3], LENGTHS[4])
    return LENGTHS[:4] if (threads, chunk) == (3, 64) else LENGTHS[:3]


@pytest.mark.parametrize(("isa", "threads", "chunk"), list(_configurations()))
def test_one_hash_a_prompt(smollm2_fat: Artifact, ids: list[int], golden: dict[str, str], isa: str, threads: int, chunk: int) -> None:
    if isa not in tiles.runnable():
        pytest.skip(tiles.why_not(isa))
    products = (tiles.LINEAR, tiles.ATTENTION) if chunk >= 64 else ()
    with smollm2_fat.load(isa=isa, threads=threads, ubatch=chunk) as model, tiles.used(smollm2_fat, isa, *products):
        assert model.info.isa == isa and model.info.threads == threads
        lengths = _affordable(isa, threads, chunk)
        # Token by token a prompt's steps are the first of a longer prompt's: one run shows all.
        whole = model.logits(ids[: lengths[-1]]) if chunk == 1 else None
        for n in lengths:
            assert _digest(model.logits(ids[:n]) if whole is None else whole[:n]) == golden[str(n)], f"{n} tokens"


@pytest.mark.parametrize("isa", ISAS[1:])
@pytest.mark.parametrize(("threads", "chunk"), [(1, 512), (2, 64), (3, 7), (2, 1)])
def test_company_changes_nothing(smollm2_fat: Artifact, ids: list[int], golden: dict[str, str], isa: str, threads: int, chunk: int) -> None:
    """The prompt's rows interleaved with those of three other sequences, of other lengths and texts."""
    if isa not in tiles.runnable():
        pytest.skip(tiles.why_not(isa))
    # As above; row by row nobody is in company but for the pages, of which the shorter prompts have several too.
    lengths = LENGTHS[:3] if chunk == 1 else LENGTHS if chunk == 512 else LENGTHS[:4]
    if isa == "amx" and tiles.emulated():
        lengths = LENGTHS[: 3 if chunk >= 64 else 2]
    products = (tiles.LINEAR,) if chunk >= 64 else ()  # tiles of attention are of successive rows of one sequence
    with smollm2_fat.load(isa=isa, threads=threads, ubatch=chunk) as model, tiles.used(smollm2_fat, isa, *products):
        for n in lengths:
            handle = model._handle
            with sequence(handle) as a, sequence(handle) as b, sequence(handle) as c, sequence(handle) as d:
                others = [rows_of(s, 0, token_array(ids[100 + 30 * i : 100 + 30 * i + n // (i + 1) + 1])) for i, s in enumerate((b, c, d))]
                mine = rows_of(a, 0, token_array(ids[:n]), LOGITS)
                order = np.argsort(np.concatenate([(np.arange(len(r)) + 0.5) / len(r) for r in (mine, *others)]), kind="stable")
                rows = np.concatenate([mine, *others])[order]
                out = np.empty((n, model.info.vocab_size), np.float32)
                step(handle, rows, logits=out)
            assert _digest(out) == golden[str(n)], f"{n} tokens"


def test_decode_after_prefill_and_a_fork_equal_the_whole(smollm2_fat: Artifact, ids: list[int]) -> None:
    """A prefix kept, forked, truncated and continued token by token gives the bits of one prefill."""
    n = 90
    with infc.load(smollm2_fat.path, threads=2, isa=host.runnable()[-1]) as model:
        whole = model.logits(ids[:n])
        handle = model._handle
        with sequence(handle) as a, handle.use() as m:
            step(handle, rows_of(a, 0, token_array(ids[:75])))
            fork = handle.check(handle.lib.infc_seq_fork(m, a, 70))
            out = np.empty((1, model.info.vocab_size), np.float32)
            for seq, start in ((fork, 70), (a, 75)):
                for pos in range(start, n):
                    step(handle, rows_of(seq, pos, token_array(ids[pos : pos + 1]), LOGITS), logits=out)
                    assert out[0].tobytes() == whole[pos].tobytes(), f"position {pos}"
            handle.check(handle.lib.infc_seq_truncate(m, fork, 33))
            step(handle, rows_of(fork, 33, token_array(ids[33:40]), 0, LOGITS), logits=out)
            assert out[0].tobytes() == whole[39].tobytes()
            handle.check(handle.lib.infc_seq_close(m, fork))
