"""The kernel harness, built once a session per ISA and compiler; results of the oracle, cached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.kernels.build import Build, builds, ffi, finish, host_has, start

BUILDS = builds()


def pytest_report_header() -> str:
    return "kernels: " + ", ".join(b.name for b in BUILDS)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[Build, Path]:
    """Every build of the harness; two compilers at a time."""
    folder = tmp_path_factory.mktemp("kernels")
    done, running = {}, []
    for b in BUILDS:
        running.append((b, start(b, folder)))
        if len(running) == 2:
            first, started = running.pop(0)
            done[first] = finish(started)
    return done | {b: finish(started) for b, started in running}


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
    if build.isa == "amx" and not (host_has("amx") and library.t_tiles()):
        pytest.skip("this machine has no AMX tiles")
    return library


@pytest.fixture(params=BUILDS, ids=lambda b: b.name)
def lib(request: pytest.FixtureRequest, libraries: dict[Build, Any]) -> Any:
    """Each build in turn."""
    return usable(request.param, libraries)
