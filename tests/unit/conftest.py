"""The tokenizer's C code, built once a run."""

from __future__ import annotations

from typing import Any

import pytest

from tests import shared
from tests.unit import tokenizer_support


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(ffi, library) of the tokenizer's C code; it keeps no state but a tokenizer's own."""
    folder = shared.once(shared.folder(tmp_path_factory, "tokenizer") / "library", tokenizer_support.compile_library)
    return tokenizer_support.load(folder)
