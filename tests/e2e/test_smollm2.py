"""SmolLM2-135M, the demo model: greedy text against the float64 model, and the sizes that were promised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import infc
from infc.binding.artifact import Artifact
from tests.reference.kl import mean_kl
from tests.reference.llama_f64 import LlamaF64

PROMPTS = (
    "Once upon a time",
    "The capital of France is",
    "def fibonacci(n):",
    "Water boils at",
    "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n",
    "1, 2, 3, 4,",
    "Dear Madam,\n\nThank you for your letter of",
    "The three laws of motion state that",
    "In the beginning",
    "Q: What do bees make?\nA:",
)
N = 64
END = [0, 2]  # <|endoftext|>, <|im_end|>


@pytest.fixture(scope="module")
def exact(smollm2_path: Path) -> LlamaF64:
    return LlamaF64(smollm2_path)


def _passage(model: infc.Model) -> list[int]:
    return model.tokenize((Path(__file__).parents[1] / "data" / "passage.txt").read_text())[:200]


def _gap_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest error, over all positions, in the difference of the float64 model's two best logits."""
    two = np.argsort(theirs, axis=1)[:, -2:]
    gaps = [np.diff(np.take_along_axis(x.astype(np.float64), two, axis=1), axis=1)[:, 0] for x in (ours, theirs)]
    return float(np.abs(gaps[0] - gaps[1]).max())


@pytest.fixture(scope="module")
def measured(smollm2_artifact: Artifact, exact: LlamaF64) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the first 200 tokens of the passage: ours, and the float64 model's."""
    with smollm2_artifact.load() as model:
        ids = _passage(model)
        ours = model.logits(ids)
    exact.reset()
    return ours, exact.logits(ids)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_agrees_where_the_gap_is_clear(
    prompt: str, smollm2_artifact: Artifact, exact: LlamaF64, measured: tuple[np.ndarray, np.ndarray]
) -> None:
    """The float64 model reads the text that infc wrote: wherever its two best logits differ by more than the error measured on
    another text, it would have written the same."""
    with smollm2_artifact.load() as model:
        ids = model.tokenize(prompt)
        chosen = [t.id for t in model.stream(ids, N, temperature=0, ignore_eos=True)]
    assert len(chosen) == N
    exact.reset()
    theirs = exact.logits([*ids, *chosen])[len(ids) - 1 : -1]
    theirs[:, END] = -np.inf  # as ignore_eos does
    top = np.sort(theirs, axis=1)
    clear = top[:, -1] - top[:, -2] > _gap_error(*measured)
    assert clear.sum() >= N // 4, "the gaps are too small to say anything"
    assert (theirs.argmax(axis=1) == chosen)[clear].all()


def test_kl_divergence_is_small(measured: tuple[np.ndarray, np.ndarray]) -> None:
    """llama.cpp's on this file and passage is 0.0026 over 1,000 positions (docs/benchmarks.md); the first 200 bound a regression."""
    assert mean_kl(measured[1], measured[0]) < 0.004


def test_promised_sizes(smollm2_fat: Artifact) -> None:
    """Emitted C and machine code of each target under 1 MiB, tokenizer data under 2 MiB."""
    emitted = [p for p in (smollm2_fat.path / "src").rglob("*") if p.suffix in (".c", ".h")]
    assert 0 < sum(p.stat().st_size for p in emitted) < 1 << 20
    manifest = smollm2_fat.manifest
    assert 0 < manifest["code_bytes"][smollm2_fat.name] < len(manifest["targets"]) << 20
    assert 0 < manifest["weights"]["sections"]["tokenizer"] < 2 << 20
