"""Parts of the comparison of perplexities: what llama.cpp writes is read back, differences are what they say, bad input is refused."""

from __future__ import annotations

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


def test_a_difference_is_in_percent_of_perplexity() -> None:
    a = np.array([-1.0, -2.0, -3.0, -2.0])
    b = a + np.array([0.01, 0.03, 0.01, 0.03])
    value, error = (float(v) for v in p.difference(a, b).split(" +- "))
    assert value == pytest.approx(100 * (np.exp(-a.mean()) / np.exp(-b.mean()) - 1), abs=1e-3)
    assert error == pytest.approx(100 * 0.011547 / 2, abs=1e-3)


@pytest.mark.parametrize(
    ("option", "said"), [(["--windows", "1"], "--windows"), (["--exact", "9"], "--exact"), ([], "llama-quantize is missing")]
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
