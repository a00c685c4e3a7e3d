"""The kernel harness, built once a session per ISA and compiler; results of the oracle, cached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import shared
from tests.kernels.build import Build, builds, ffi, finish, host_has, start

BUILDS = builds()


def pytest_report_header() -> str:
    return "kernels: " + ", ".join(b.name for b in BUILDS)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[Build, Path]:
    """Every build of the harness, of one worker for all; two compilers at a time."""

    def make(folder: Path) -> None:
        running = []
        for b in BUILDS:
            running.append(start(b, folder))
            if len(running) == 2:
                finish(running.pop(0))
        for started in running:
            finish(started)

    folder = shared.once(shared.folder(tmp_path_factory, "kernels") / "harness", make)
    return {b: b.library(folder) for b in BUILDS}


@pytest.fixture(scope="session")
def libraries(built: dict[Build, Path]) -> dict[Build, Any]:
    """The same, loaded."""
    return {b: ffi.dlopen(str(path)) for b, path in built.items()}


@pytest.fixture(scope="session")
def oracle(libraries: dict[Build, Any]) -> Any:
    """The scalar build."""
    return libraries[BUILDS[0]]


def usable(build: Build, libraries: dict[Build, Any]) -> Any:
    """The build's library; a test of AMX skips where the CPU has no tiles or the kernel does not grant them."""
    library = libraries[build]
    if build.isa == "amx" and not build.emulated and not (host_has("amx") and library.t_tiles()):
        pytest.skip("this machine has no AMX tiles")
    return library


@pytest.fixture(params=BUILDS, ids=lambda b: b.name)
def lib(request: pytest.FixtureRequest, libraries: dict[Build, Any]) -> Any:
    """Each build in turn."""
    return usable(request.param, libraries)
