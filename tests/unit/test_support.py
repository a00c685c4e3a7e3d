"""docs/support.md is what the registries say, and names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

from infc.formats import FORMATS
from infc.frontend.families import FAMILIES
from tests.support import PAGE, page

ROOT = Path(__file__).parents[2]


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"


def test_every_family_and_format_has_a_row() -> None:
    text = page()
    for name in FAMILIES:
        assert f"| `{name}` |" in text
    for name in FORMATS:
        assert f"| {name} |" in text


def test_the_tests_exist() -> None:
    named = set(re.findall(r"`(tests/[a-z0-9_/]+\.py)(?:::([a-z_]+))?", page()))
    assert len(named) >= 4
    for path, function in named:
        source = (ROOT / path).read_text()
        assert not function or f"def {function}(" in source, f"{path}::{function}"
