"""A widened model is the model: the float64 logits of both are equal, but for the rounding of the norms' weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.models.widened import main, widen
from tests.reference.llama_f64 import LlamaF64


@pytest.mark.parametrize(
    ("multiple", "shape"),
    [
        (1, {}),
        (256, {"dim": 64, "hidden_dim": 96}),
        (96, {"dim": 64, "n_heads": 3, "n_kv_heads": 1, "head_dim": 32, "hidden_dim": 128, "tied": False}),
    ],
)
def test_logits_stay(multiple: int, shape: dict[str, object], tiny_llama: Callable[..., Path], tmp_path: Path) -> None:
    source, out = tiny_llama(**shape), tmp_path / "wide.gguf"
    widen(source, out, multiple)
    for tensor in gguf.GGUFReader(out).tensors:
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
        assert tensor.shape[0] % multiple == 0
    ids = np.random.default_rng(1).integers(0, 100, 24)
    expected = LlamaF64(source).logits(ids)
    np.testing.assert_allclose(LlamaF64(out).logits(ids), expected, atol=1e-5 * np.abs(expected).max())
    assert np.abs(expected).max() > 1e-3


@pytest.mark.parametrize("what", [{"rope_freqs": True}, {"rope_scaling": 4.0}])
def test_what_is_not_carried_over_is_refused(
    what: dict[str, object],
    tiny_llama: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["widened", str(tiny_llama(**what)), str(tmp_path / "out.gguf")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "only a plain llama can be widened" in capsys.readouterr().err
    assert not (tmp_path / "out.gguf").exists()
