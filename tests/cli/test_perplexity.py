"""NAME perplexity FILE against the same sum in numpy, from --logits-out."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import BOS, Program

TEXT = "The quick brown fox jumps over the lazy dog, and then the dog jumps over the fox, as the old story has it. " * 2


def logits_of(program: Program, ids: list[int], folder: Path) -> np.ndarray:
    file = folder / "l.f32"
    program.ok("--tokens", ",".join(map(str, ids)), "-n", "0", "--logits-out", str(file))
    return np.frombuffer(file.read_bytes(), "<f4").reshape(len(ids), -1).astype(np.float64)


def expected(program: Program, ids: list[int], n_ctx: int, bos: int | None, folder: Path) -> tuple[float, float, int]:
    """(perplexity, standard error, positions scored): llama.cpp's definition."""
    nll: list[float] = []
    for start in range(0, len(ids) - n_ctx + 1, n_ctx):
        window = ids[start : start + n_ctx]
        fed = window if bos is None else [bos, *window[1:]]
        logits = logits_of(program, fed, folder)
        for j in range(n_ctx // 2, n_ctx - 1):
            row = logits[j]
            nll.append(math.log(np.exp(row - row.max()).sum()) + row.max() - row[window[j + 1]])
    mean = sum(nll) / len(nll)
    variance = sum(v * v for v in nll) / len(nll) - mean * mean
    return math.exp(mean), math.sqrt(variance / (len(nll) - 1)) * math.exp(mean), len(nll)


@pytest.mark.parametrize(("n_ctx", "extra"), [(16, ()), (33, ("-ub", "5")), (64, ())])
@pytest.mark.parametrize("no_bos", [False, True])
def test_equals_the_definition(fake: Program, tmp_path: Path, n_ctx: int, extra: tuple[str, ...], no_bos: bool) -> None:
    file = tmp_path / "text"
    file.write_text(TEXT)
    env = {"FAKE_NO_BOS": "1"} if no_bos else {}
    ids = [*TEXT.encode()] if no_bos else [BOS, *TEXT.encode()]
    out = json.loads(fake.ok("perplexity", str(file), "-c", str(n_ctx), "--json", *extra, **env))
    ppl, error, scored = expected(fake, ids, n_ctx, None if no_bos else BOS, tmp_path)
    assert out["n_scored"] == scored
    assert out["n_windows"] == len(ids) // n_ctx
    assert out["n_tokens"] == len(ids)
    assert out["ppl"] == pytest.approx(ppl, rel=1e-8)
    assert out["ppl_error"] == pytest.approx(error, rel=1e-5)
    assert out["nll"] == pytest.approx(math.log(ppl), rel=1e-8)


def test_text_output(fake: Program, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text(TEXT)
    done = fake("perplexity", str(file))
    ppl, error, _ = expected(fake, [BOS, *TEXT.encode()], 64, BOS, tmp_path)  # the context, as it is less than 512
    assert done.stdout.decode() == f"Final estimate: PPL = {ppl:.4f} +/- {error:.5f}\n"
    assert done.stderr.decode().splitlines()[-1].startswith(f"toy: [3/3] PPL {ppl:.4f}")


def test_refusals(fake: Program, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("abc")
    assert "has 4 tokens, a window has 64" in fake.refused(2, "perplexity", str(file))
    assert "the context holds 64 positions" in fake.refused(3, "perplexity", str(file), "-c", "65")
