"""Fixtures: the runtime with the fake program, loaded through cffi, and models opened on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import shared
from tests.runtime import harness
from tests.runtime.model import Model, Runtime


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared.once(shared.folder(tmp_path_factory, "runtime") / "archive", harness.archive) / harness.ARCHIVE


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Runtime:
    """The shared library with its blob appended, so that it finds its own weights."""
    library = harness.build_library(tmp_path_factory.mktemp("runtime") / "libfake.so", archive)
    return Runtime(harness.append_blob(library, harness.default_blob()))


@pytest.fixture
def open_model(runtime: Runtime) -> Iterator[Callable[..., Model]]:
    """``open_model(threads=1, ubatch=0, ...) -> Model``; closed after the test, its pages checked."""
    models: list[Model] = []

    def make(**options: object) -> Model:
        models.append(Model(runtime, **options))
        return models[-1]

    yield make
    for model in models:
        model.close()
