"""Table-driven refusals: a case is a class number, a label and a function that spoils a valid file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from infc.errors import InputError
from infc.frontend.inputs import open_model
from infc.frontend.validate import validate
from infc.limits import DEFAULT, Limits
from tests.models.raw_gguf import Raw, valid

Spoil = Callable[[Raw], Raw | bytes | None]
Case = tuple[str, str, Spoil]


def table(*cases: Case) -> pytest.MarkDecorator:
    """Parametrize (code, spoil) over the cases, named like ``G05-version 4``."""
    return pytest.mark.parametrize(("code", "spoil"), [pytest.param(c, f, id=f"{c}-{what}") for c, what, f in cases])


def spoilt(spoil: Spoil) -> bytes:
    raw = valid()
    result = spoil(raw)
    if isinstance(result, bytes):
        return result
    return (raw if result is None else result).encode()


def load(path: Path, limits: Limits = DEFAULT) -> list[str]:
    """Read and validate; the warnings."""
    with open_model(path, limits) as model:
        return validate(model, limits)[1]


def assert_refused(path: Path, code: str, limits: Limits = DEFAULT) -> InputError:
    """The file is refused with this class, in one printable line of at most 300 bytes."""
    with pytest.raises(InputError) as caught:
        load(path, limits)
    line = "infc: " + str(caught.value)
    assert caught.value.code == code, line
    assert caught.value.exit_code == 2
    assert line.startswith(f"infc: error[{code}]: ")
    assert line.isprintable()
    assert len(line.encode()) <= 300
    return caught.value
