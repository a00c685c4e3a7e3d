"""Mixtures of experts: instruction sets, threads, chunks and company change no bit; the float64 model and llama.cpp agree."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from infc.binding.artifact import Artifact
from infc.options import TARGETS
from tests import tiles
from tests.e2e.other_targets import assert_valid, only_where_missing
from tests.models.tiny_moe import EXPERT_TYPES
from tests.reference.experts_f64 import ExpertsF64
from tests.reference.kl import mean_kl
from tests.reference.peer import assert_agrees

APART = True  # see tests/conftest.py
N = 450  # of which an expert gets more rows than are gathered at once, in one chunk
BESIDE = 512  # positions compared with llama.cpp's
N_CTX = 1024
EXACT = 150  # of N the float64 model is asked


@pytest.fixture(scope="module", params=EXPERT_TYPES)
def model(request: pytest.FixtureRequest, tiny_moe: Callable[..., Path], compiled: Callable[..., Artifact]) -> tuple[Path, Artifact]:
    path = tiny_moe(request.param, N_CTX)
    return path, compiled(path, emulated=True, **options(request.param))


def options(family: str) -> dict[str, object]:
    """For all that runs here; one family keeps keys and values as f16."""
    return {"name": "tiny", "target": ",".join(tiles.runnable()), "kv": "f16" if family == "qwen2moe" else "q16", "lto": False}


def _products(family: str, chunk: int) -> tuple[int, ...]:
    """Whose products target amx makes on tiles in chunks of that many rows."""
    if chunk < 512:  # then how many rows an expert or a thread gets decides
        return ()
    return tuple(
        product
        for product, made in ((tiles.LINEAR, EXPERT_TYPES[family] != "F16"), (tiles.ATTENTION, options(family)["kv"] == "q16"))
        if made
    )


def _ids(n: int = N) -> list[int]:
    return [int(i) for i in np.random.default_rng(7).integers(4, 320, n)]


@pytest.fixture(scope="module")
def expected(model: tuple[Path, Artifact]) -> NDArray[np.float32]:
    with model[1].load(isa="scalar", threads=1) as llm:
        return llm.logits(_ids())


@pytest.mark.parametrize("isa", TARGETS)
def test_bits(request: pytest.FixtureRequest, model: tuple[Path, Artifact], expected: NDArray[np.float32], isa: str) -> None:
    if isa not in tiles.runnable():
        pytest.skip(tiles.why_not(isa))
    artifact, family = model[1], request.node.callspec.params["model"]
    for threads, chunk in ((1, 512), (2, 512), (3, 512), (2, 40), (3, 5), (1, 1), (2, 1)):
        with artifact.load(isa=isa, threads=threads, ubatch=chunk) as llm, tiles.used(artifact, isa, *_products(family, chunk)):
            for _ in range(2 if threads > 1 else 1):  # a race may need a second chance to show
                assert llm.logits(_ids()).tobytes() == expected.tobytes(), f"{threads} threads, chunks of {chunk}"


def test_accuracy(model: tuple[Path, Artifact], expected: NDArray[np.float32]) -> None:
    assert mean_kl(ExpertsF64(model[0]).logits(_ids(EXACT)), expected[:EXACT]) < 1e-3


@only_where_missing
def test_other_targets_have_valid_c(request: pytest.FixtureRequest, model: tuple[Path, Artifact], tmp_path: Path) -> None:
    assert_valid(model[0], tmp_path / "emitted", **options(request.node.callspec.params["model"]))


def test_company_changes_nothing(model: tuple[Path, Artifact]) -> None:
    """Rows of one prompt between those of others, which take other experts."""
    _, artifact = model
    prompts = [_ids()[a:b] for a, b in ((0, 40), (30, 51), (60, 61), (10, 90))]
    with artifact.load(isa=tiles.runnable()[-1], threads=2) as llm:
        alone = [llm.generate(p, max_tokens=12, temperature=0) for p in prompts]
        assert llm.batch(prompts, max_tokens=12, temperature=0) == alone


@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed")
def test_llama_cpp_agrees(model: tuple[Path, Artifact]) -> None:
    path, artifact = model
    assert_agrees(artifact, path, _ids(BESIDE))
