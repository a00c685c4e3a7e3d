"""Every dense family with all its features on: threads, chunks, instruction sets change no bit; the float64 model and llama.cpp agree."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from infc.binding.artifact import Artifact
from infc.toolchain import host
from tests.e2e.other_targets import assert_valid
from tests.models.families import FAMILIES, write_family
from tests.reference.families_f64 import FamilyF64
from tests.reference.kl import mean_kl
from tests.reference.peer import assert_agrees

APART = True  # see tests/conftest.py
N = 200  # four windows, and pages of which a window sees a part
BESIDE = 512  # positions compared with llama.cpp's
OPTIONS = {"name": "tiny", "target": ",".join(host.runnable()), "lto": False}


@pytest.fixture(scope="module", params=FAMILIES)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, compiled: Callable[..., Artifact]
) -> tuple[str, Path, Artifact]:
    path = write_family(tmp_path_factory.mktemp("family") / "tiny.gguf", request.param)
    return request.param, path, compiled(path, **OPTIONS)


def _ids(n: int = N) -> list[int]:
    return [int(i) for i in np.random.default_rng(7).integers(4, 320, n)]


def test_bits_and_accuracy(model: tuple[str, Path, Artifact]) -> None:
    _, path, artifact = model
    with artifact.load(isa="scalar", threads=1) as llm:
        expected = llm.logits(_ids())
    for isa in host.runnable():
        for threads, chunk in ((1, 512), (2, 512), (3, 5), (2, 40), (2, 1)):
            with artifact.load(isa=isa, threads=threads, ubatch=chunk) as llm:
                assert llm.logits(_ids()).tobytes() == expected.tobytes(), f"{isa}, {threads} threads, chunks of {chunk}"
    assert mean_kl(FamilyF64(path).logits(_ids()), expected) < 2e-5


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
