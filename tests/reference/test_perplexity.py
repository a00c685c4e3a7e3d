"""Parts of the comparison of perplexities: what llama.cpp writes is read back, differences are what they say, bad input is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.reference import perplexity as p


def test_log_probabilities_come_back(tmp_path: Path) -> None:
    """The file as llama-perplexity lays it out: a head, the tokens, then rows of two floats and steps of 16 bits; an odd vocabulary."""
    rng, n_vocab, windows = np.random.default_rng(0), 301, 2
    tokens = rng.integers(0, n_vocab, (windows, p.WINDOW)).astype(np.int32)
    x = rng.uniform(-12, -1, (windows, p.SCORED, n_vocab))
    file = tmp_path / "logits"
    with open(file, "wb") as out:
        out.write(b"_logits_" + np.array([p.WINDOW, n_vocab, windows], np.int32).tobytes() + tokens.tobytes())
        for row in x.reshape(-1, n_vocab):
            low, scale = np.float32(row.min()), np.float32((row.max() - row.min()) / 65535)
            steps = np.zeros(n_vocab + 1, np.uint16)
            steps[:-1] = np.rint((row - low) / scale).clip(0, 65535)
            out.write(np.array([scale, low], np.float32).tobytes() + steps.tobytes())
    peer = p.Peer(tokens, [1.0, 1.0], file, n_vocab)
    for w in range(windows):
        np.testing.assert_allclose(peer.log_probabilities(w), x[w], atol=2e-4)


def scores(likelihood: list[float], whole: list[bool], kl: list[float] | None = None, after: list[float] | None = None) -> p.Scores:
    """Of one window."""
    return p.Scores([np.array(likelihood)], [np.array(whole)], [np.array(kl)] if kl else [], after or [])


def test_a_difference_is_in_percent_of_perplexity() -> None:
    """The ratio is of the perplexities that the programs state; the error is of the tokens that neither cut off."""
    a = np.array([-1.0, -2.0, -3.0, -2.0, -9.0])
    b = a + np.array([0.01, 0.03, 0.01, 0.03, 7.0])
    whole = [True] * 4 + [False]
    ours = scores(list(a), [True] * 5)
    value, error = (float(v) for v in ours.over(scores(list(b), whole), 1).split(" +- "))
    assert value == pytest.approx(100 * (np.exp(-a.mean()) / np.exp(-b.mean()) - 1), abs=1e-3)
    assert error == pytest.approx(100 * 0.011547 / 2, abs=1e-3)
    value, again = (float(v) for v in ours.over(scores(list(b), whole, after=[20.0]), 1).split(" +- "))
    assert value == pytest.approx(100 * (np.exp(-a.mean()) / 20 - 1), abs=1e-3)
    assert again == error


def test_a_row_has_a_cell_for_every_head() -> None:
    """Which is the whole of what the scores hold, in the order of the heads; a block that no row divides by is a dash."""
    x, all_whole = [-1.0, -2.0], [True, True]
    theirs = scores(x, all_whole, [0.5, 0.7], [5.0])
    few = {"infc": scores(x, all_whole), "llama.cpp": scores(x, all_whole, after=[5.0]), "float64": p.Scores()}
    assert p.row("Q4_0", few) == "| Q4_0 | 4.4817 | 5.0000 | -10.366 +- 0.000 |"
    every = {"infc": scores(x, all_whole, [0.1, 0.3]), "llama.cpp": theirs, "again": scores(x, all_whole, [0.8, 0.8], [6.0])}
    every |= {"int8/32": scores([-1.0, -3.0], all_whole, [0.2, 0.2]), "int8/256": p.Scores(), "float64": scores(x, all_whole)}
    assert p.row("Q4_0", every).split(" | ")[4:] == [
        "+20.000 +- 0.000",
        "4.4817",
        "+0.000 +- 0.000",
        "+11.565 +- 0.000",
        "0.200000",
        "0.600000",
        "0.800000",
        "0.200000",
        "-",
        "+64.872 +- 50.000",
        "- |",
    ]
    assert len(p.row("Q4_0", every).split(" | ")) == len(p.heads(exact=True, again=True, blocks=[32, 256]))


def test_formats_together() -> None:
    """Differences that formats do not share cancel position by position, and so does their error; a token cut off in one counts in none."""
    x = np.array([-1.0, -2.0, -3.0, -4.0])
    errors = np.array([0.02, -0.02, 0.02, 9.0])
    whole = [True, True, True, False]
    formats = [
        {"infc": scores(list(x), [True] * 4, after=[a]), "llama.cpp": scores(list(x + sign * errors), cut, after=[10.0])}
        for a, sign, cut in ((10.1, 1, whole), (9.9, -1, [True] * 4))
    ]
    value, error = (float(v) for v in p.together(formats).split(" +- "))
    assert value == pytest.approx(100 * ((1.01 * 0.99) ** 0.5 - 1), abs=1e-3)
    assert error == 0
    one = p.together(formats[:1])
    assert one == formats[0]["infc"].over(formats[0]["llama.cpp"], 1)
    assert float(one.split(" +- ")[1]) > 1


def test_int8_in_blocks() -> None:
    """What are multiples of max / 127 stays; else the error is at most half a step of the block, and zeros stay zeros."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, 64)) * np.repeat([1.0, 100.0], 32)
    x[1, :32] = 0
    for block in (32, 64):
        step = np.repeat(np.abs(x.reshape(3, -1, block)).max(axis=-1), block, axis=-1) / 127
        error = np.abs(p.int8_blocks(x, block) - x)
        assert (error <= step / 2 * (1 + 1e-9)).all()
        assert error.max() > 0.4 * step.max()
        np.testing.assert_allclose(p.int8_blocks(p.int8_blocks(x, block), block), p.int8_blocks(x, block), rtol=1e-12)
    assert (p.int8_blocks(x, 64)[0, :32] != p.int8_blocks(x, 32)[0, :32]).any()


def test_the_oracle_rounds_what_matrices_multiply(tiny_llama: Callable[..., Path]) -> None:
    oracle = p.Oracle(tiny_llama(dim=64, hidden_dim=96))
    assert [oracle.has(block) for block in (32, 64)] == [True, False]
    ids = np.random.default_rng(3).integers(0, 100, 12)
    exact = oracle.logits(ids)
    oracle.block = 32
    near = np.abs(oracle.logits(ids) - exact).max() / np.abs(exact).max()
    assert 1e-4 < near < 0.1
    oracle.block = 0
    np.testing.assert_array_equal(oracle.logits(ids), exact)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--windows", "1"], "--windows"),
        (["--exact", "9"], "--exact"),
        (["--int8", "32,0"], "--int8 32,0"),
        (["--int8", "a"], "--int8 a"),
        (["--int8", "32", "--exact", "0"], "--exact 0"),
        ([], "llama-quantize is missing"),
    ],
)
def test_bad_input_is_refused(option: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if option:
        for name in ("llama-quantize", "llama-perplexity"):
            (tmp_path / name).write_text("")
    (tmp_path / "m.gguf").write_bytes(b"")
    with pytest.raises(SystemExit) as stopped:
        p.main(["--model", str(tmp_path / "m.gguf"), "--llama", str(tmp_path), *option])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
