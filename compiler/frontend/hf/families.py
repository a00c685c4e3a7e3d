"""All families of folders, by the class that config.json names."""

from __future__ import annotations

from infc.errors import InputError
from infc.frontend.hf.dense import DENSE
from infc.frontend.hf.family import Family
from infc.frontend.hf.folder import CONFIG
from infc.frontend.hf.mixtures import MIXTURES

FAMILIES: dict[str, Family] = DENSE | MIXTURES


def family_of(config: dict[str, object]) -> Family:
    """The family that config.json names; InputError G25 lists those there are."""
    named = config.get("architectures")
    name = named[0] if isinstance(named, list) and named else None
    if not isinstance(name, str):
        raise InputError("G25", "the architecture is missing", f"{CONFIG}: architectures")
    if name not in FAMILIES:
        known = ", ".join(sorted({f.arch for f in FAMILIES.values()}))
        raise InputError("G25", f"architecture {name[:60]!r} is not supported (supported: {known})", f"{CONFIG}: architectures")
    return FAMILIES[name]
