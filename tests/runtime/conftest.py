"""Fixtures: the runtime with the fake program, loaded through cffi, and models opened on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.runtime import harness
from tests.runtime.model import Model, Runtime


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    """The shared library with its blob appended, so that it finds its own weights."""
    folder = tmp_path_factory.mktemp("runtime")
    # Unwritten positions read as NaN bits and recycled pages are overwritten: a row that reads what it must not shows.
    library = harness.build_library(folder / "libfake.so", flags=("-DINFC_POISON_PAGES",))
    return Runtime(harness.append_blob(library, harness.default_blob()))


@pytest.fixture
def open_model(runtime: Runtime) -> Iterator[Callable[..., Model]]:
    """``open_model(threads=1, ubatch=0, ...) -> Model``; closed, with its pages checked, when the test ends."""
    models: list[Model] = []

    def make(**options: object) -> Model:
        models.append(Model(runtime, **options))
        return models[-1]

    yield make
    for model in models:
        model.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
