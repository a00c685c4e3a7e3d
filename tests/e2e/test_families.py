"""Every dense family with all its features on: threads, chunks, instruction sets change no bit; the float64 model and llama.cpp agree."""

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
from tests.models.families import FAMILIES, write_family
from tests.reference.families_f64 import FamilyF64
from tests.reference.kl import mean_kl
from tests.reference.peer import assert_agrees

APART = True  # see tests/conftest.py
N = 200  # four windows, and pages of which a window sees a part
BESIDE = 512  # positions compared with llama.cpp's
# Among them: GELU, squared ReLU, biases, LayerNorm, norms behind a matrix, factors of the residual and the logits, a cap
QUANTIZED = ("gemma2", "granite", "jais2")
OPTIONS = {"name": "tiny", "target": ",".join(tiles.runnable()), "lto": False}


@pytest.fixture(scope="module", params=FAMILIES)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, compiled: Callable[..., Artifact]
) -> tuple[str, Path, Artifact]:
    path = write_family(tmp_path_factory.mktemp("family") / "tiny.gguf", request.param)
    return request.param, path, compiled(path, emulated=True, **OPTIONS)


def _ids(n: int = N) -> list[int]:
    return [int(i) for i in np.random.default_rng(7).integers(4, 320, n)]


@pytest.fixture(scope="module")
def expected(model: tuple[str, Path, Artifact]) -> NDArray[np.float32]:
    with model[2].load(isa="scalar", threads=1) as llm:
        return llm.logits(_ids())


@pytest.mark.parametrize("isa", TARGETS)
def test_bits(model: tuple[str, Path, Artifact], expected: NDArray[np.float32], isa: str) -> None:
    if isa not in tiles.runnable():
        pytest.skip(tiles.why_not(isa))
    artifact = model[2]
    for threads, chunk in ((1, 512), (2, 512), (3, 5), (2, 40), (2, 1)):
        products = (tiles.ATTENTION,) if chunk == 512 else ()  # 40 rows of one kv head are too few for two threads
        with artifact.load(isa=isa, threads=threads, ubatch=chunk) as llm, tiles.used(artifact, isa, *products):
            assert llm.logits(_ids()).tobytes() == expected.tobytes(), f"{threads} threads, chunks of {chunk}"


def test_accuracy(model: tuple[str, Path, Artifact], expected: NDArray[np.float32]) -> None:
    assert mean_kl(FamilyF64(model[1]).logits(_ids()), expected) < 2e-5


@pytest.mark.parametrize("family", QUANTIZED)
def test_quantized_matrices_on_tiles(family: str, compiled: Callable[..., Artifact], tmp_path: Path) -> None:
    """The models above multiply floats, which tiles do not; these have what no test of a quantized llama or mixture emits."""
    if "amx" not in tiles.runnable():
        pytest.skip(tiles.why_not("amx"))
    path = write_family(tmp_path / "tiny.gguf", family, types="Q4_1")
    artifact = compiled(path, emulated=True, name="tiny", target="scalar,amx", lto=False)
    with artifact.load(isa="scalar", threads=1) as llm:
        expected = llm.logits(_ids())
    for threads, chunk in ((1, 512), (2, 512), (2, 40), (3, 5), (2, 1)):
        products = {512: (tiles.LINEAR, tiles.ATTENTION), 40: (tiles.LINEAR,)}.get(chunk, ())
        with artifact.load(isa="amx", threads=threads, ubatch=chunk) as llm, tiles.used(artifact, "amx", *products):
            assert llm.logits(_ids()).tobytes() == expected.tobytes(), f"{threads} threads, chunks of {chunk}"


@only_where_missing
def test_other_targets_have_valid_c(model: tuple[str, Path, Artifact], tmp_path: Path) -> None:
    assert_valid(model[1], tmp_path / "emitted", **OPTIONS)


@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed")
def test_llama_cpp_agrees(model: tuple[str, Path, Artifact], compiled: Callable[..., Artifact], tmp_path: Path) -> None:
    """With the program's logits. Keys that llama.cpp ignores are left out of the file."""
    family, path, artifact = model
    if FAMILIES[family].unread:
        path = write_family(tmp_path / "tiny.gguf", family, peer=True)
        artifact = compiled(path, name="tiny", lto=False)
    assert_agrees(artifact, path, _ids(BESIDE))
