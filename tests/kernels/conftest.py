"""The kernel harness, built once a session per ISA and compiler; results of the oracle, cached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernels.build import Build, builds, finish, start

BUILDS = builds()


def pytest_report_header() -> str:
    return "kernels: " + ", ".join(b.name for b in BUILDS)


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Build, Any]]:
    """Every build of the harness; two compilers at a time."""
    folder = tmp_path_factory.mktemp("kernels")
    loaded, running = {}, []
    for b in BUILDS:
        running.append((b, start(b, folder)))
        if len(running) == 2:
            first, started = running.pop(0)
            loaded[first] = finish(started)
    for b, started in running:
        loaded[b] = finish(started)
    yield loaded


@pytest.fixture(scope="session")
def oracle(libraries: dict[Build, Any]) -> Any:
    """The scalar build."""
    return libraries[BUILDS[0]]


@pytest.fixture(params=BUILDS, ids=lambda b: b.name)
def lib(request: pytest.FixtureRequest, libraries: dict[Build, Any]) -> Any:
    """Each build in turn."""
    return libraries[request.param]
