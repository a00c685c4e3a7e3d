"""Every dense family with all its features on: threads, chunks, instruction sets change no bit; the float64 model and llama.cpp agree."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from infc.binding.artifact import Artifact
from infc.toolchain import host
from tests.models.families import FAMILIES, write_family
from tests.reference.families_f64 import FamilyF64
from tests.reference.kl import mean_kl
from tests.reference.peer import llama_cpp_logprobs

pytestmark = pytest.mark.apart("model")
N = 200  # four windows, and pages of which a window sees a part
PEER = [f for f in FAMILIES if f != "phi3"]  # llama.cpp does not load the tiny phi3


@pytest.fixture(scope="module", params=FAMILIES)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, compiled: Callable[..., Artifact]
) -> tuple[str, Path, Artifact]:
    path = write_family(tmp_path_factory.mktemp("family") / "tiny.gguf", request.param)
    return request.param, path, compiled(path, name="tiny", target=",".join(isas(request.param)), lto=False)


def isas(family: str, runnable: tuple[str, ...] | None = None) -> list[str]:
    """All that this host runs for the family with a window, caps and norms behind its blocks; of the others the first and the last."""
    names = runnable or tuple(host.runnable())
    return list(dict.fromkeys(names if family == "gemma2" else (names[0], names[-1])))


def _ids(n: int = N) -> list[int]:
    return [int(i) for i in np.random.default_rng(7).integers(4, 320, n)]


def test_bits_and_accuracy(model: tuple[str, Path, Artifact]) -> None:
    family, path, artifact = model
    with artifact.load(isa="scalar", threads=1) as llm:
        expected = llm.logits(_ids())
    for isa in isas(family):
        for threads, chunk in ((1, 512), (2, 512), (3, 5), (2, 40), (2, 1)):
            with artifact.load(isa=isa, threads=threads, ubatch=chunk) as llm:
                assert llm.logits(_ids()).tobytes() == expected.tobytes(), f"{isa}, {threads} threads, chunks of {chunk}"
    assert mean_kl(FamilyF64(path).logits(_ids()), expected) < 2e-5


@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed")
@pytest.mark.parametrize("family", PEER)
def test_llama_cpp_agrees_with_the_float64_model(family: str, tmp_path: Path) -> None:
    """And so with the program, which the test above holds to that model; keys that llama.cpp ignores are left out of the file."""
    path = write_family(tmp_path / "tiny.gguf", family, peer=True)
    exact, theirs = FamilyF64(path).logits(_ids(504)), llama_cpp_logprobs(path, _ids(504))
    assert mean_kl(exact, theirs) < 1e-3
    second, first = np.partition(exact, -2, axis=1)[:, -2:].T
    assert ((exact.argmax(axis=1) == theirs.argmax(axis=1)) | (first - second < 0.05)).mean() >= 0.99  # random weights make ties
