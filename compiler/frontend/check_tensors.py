"""Every tensor the architecture needs is there, has its shape and a type its role allows; no other one is."""

from __future__ import annotations

import re

from infc.errors import InputError
from infc.frontend.config import ModelConfig
from infc.frontend.families import FAMILIES
from infc.frontend.gguf import ModelFile
from infc.frontend.keys import Keys
from infc.frontend.rules import Rule

_LAYER = re.compile(r"blk\.(\d{1,9})\.")
# general.file_type -> the type most matrices must have had in mind; only types that are never replaced by another.
_FILE_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 32: "BF16"}


def check(model: ModelFile, config: ModelConfig) -> None:
    """Raise InputError G30, G32, G42, G59 or G60 for the first tensor that is wrong."""
    _check_layer_count(model, config)
    embedding = model.tensors.get("token_embd.weight")
    if embedding is not None and embedding.ne[0] != config.dim:
        raise InputError("G32", f"width {config.dim} stated, {embedding.ne[0]} found", "tensor token_embd.weight")
    known = set()
    for rule in FAMILIES[config.arch].tensors(config):
        known.add(rule.name)
        _check_one(model, rule)
    for name, t in model.tensors.items():
        if name not in known:
            raise InputError("G59", f"a tensor that {config.arch} does not have", f"tensor {name}: offset {t.offset}")
    _check_file_type(model, config.arch)


def _check_layer_count(model: ModelFile, config: ModelConfig) -> None:
    layers = [int(m.group(1)) for m in map(_LAYER.match, model.tensors) if m]
    found = max(layers, default=-1) + 1
    if found != config.n_layers:
        raise InputError(
            "G30",
            f"{config.n_layers} layers stated, tensors of {found} found",
            f"key {config.arch}.block_count",
        )


def _check_one(model: ModelFile, rule: Rule) -> None:
    t = model.tensors.get(rule.name)
    if t is None:
        if rule.required:
            raise InputError("G59", "a tensor is missing", f"tensor {rule.name}")
        return
    where = f"tensor {rule.name}: offset {t.offset}"
    if t.ne != rule.ne and not (len(rule.ne) == 1 and t.ne == (*rule.ne, 1)):  # some converters write a vector as a matrix of one row
        hint = " (transposed)" if t.ne == rule.ne[::-1] else ""
        raise InputError("G59", f"shape {t.ne}, expected {rule.ne}{hint}", where)
    if t.type not in rule.types:
        names = ", ".join(sorted(rule.types))
        raise InputError("G60", f"type {t.type} is not supported here ({names} are)", where)


def _check_file_type(model: ModelFile, arch: str) -> None:
    """``general.file_type`` is only a hint, but one that no tensor bears out marks a damaged or doctored file."""
    if "general.file_type" not in model.kv:
        return
    stated = Keys(model, arch).u32("general.file_type", "G42", 0, 2**31 - 1)
    name = _FILE_TYPES.get(stated & ~1024)  # 1024: "guessed"
    if name is None:
        return
    types = {t.type for t in model.tensors.values() if len(t.ne) > 1}
    if name not in types or (name == "F32" and types != {"F32"}):
        raise InputError(
            "G42",
            f"file type {stated} ({name}) but matrices of {', '.join(sorted(types))}",
            "key general.file_type",
        )
