"""The directory of one safetensors file, checked before anything else looks at it.

Layout: u64 length of the header (little endian), the header (a JSON object: name -> dtype, shape, data_offsets [begin, end) counted
from the header's end), then the tensors without a gap. Class numbers S01 to S07 are this reader's own.
"""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass
from typing import Any

from infc.errors import InputError
from infc.frontend.mapped import MappedFile
from infc.limits import Limits

LEAST = 10  # the length and an empty object
_MAX_DIM = 2**31 - 1
_MAX_DIMS = 4
_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9_.\-]+")
_FIELDS = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor: ``shape[-1]`` is the contiguous dimension, ``offset`` is absolute in the file, sizes are in bytes."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def parse_json(raw: bytes, code: str, where: str) -> dict[str, Any]:
    """A JSON object without duplicate keys; anything else is InputError ``code`` (S03 for a duplicate)."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [k for k, _ in pairs]
            twice = next(k for i, k in enumerate(names) if k in names[:i])
            raise InputError("S03", f"{twice[:60]!r} occurs twice", where)
        return found

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    try:
        found = json.loads(raw.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
    except RecursionError:
        raise InputError(code, "nested too deeply", where) from None
    except ValueError as e:  # not UTF-8, not JSON, an endless number
        raise InputError(code, f"not JSON: {str(e)[:80]}", where) from None
    if not isinstance(found, dict):
        raise InputError(code, "not a JSON object", where)
    return found


def read_header(file: MappedFile, limits: Limits) -> dict[str, Entry]:
    """name -> entry of every tensor in ``file``, in the order of its bytes. Raises InputError S01 to S07."""
    where = file.path.name
    (length,) = struct.unpack_from("<Q", file.map, 0)
    if not 2 <= length <= file.size - 8:
        raise InputError("S01", f"a header of {length} bytes in a file of {file.size}", where)
    if length > limits.string_bytes:
        raise InputError("S01", f"a header of {length} bytes, {limits.over('string_bytes')}", where)
    raw = file.map[8 : 8 + length]
    if raw[:1] != b"{":
        raise InputError("S02", f"not a safetensors file: its header starts with {raw[:8]!r}", where)
    header = parse_json(raw, "S02", where)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise InputError("S02", "__metadata__ is not an object of strings", where)
    if len(header) > limits.tensors:
        raise InputError("S04", f"{len(header)} tensors, {limits.over('tensors')}", where)
    data = 8 + length
    entries = {name: _entry(name, value, data, file.size, limits, where) for name, value in header.items()}
    ordered = dict(sorted(entries.items(), key=lambda item: (item[1].offset, item[1].nbytes)))
    at = data
    for name, e in ordered.items():
        if e.offset != at:
            what = "overlaps the tensor before it" if e.offset < at else f"follows a gap of {e.offset - at} bytes"
            raise InputError("S07", f"tensor {name} {what}", f"{where}: offset {e.offset}")
        at += e.nbytes
    if at != file.size:
        raise InputError("S07", f"{file.size - at} bytes after the last tensor", f"{where}: offset {at}")
    return ordered


def _is_number(x: object) -> bool:
    return type(x) is int and x >= 0  # not bool


def _entry(name: str, value: object, data: int, size: int, limits: Limits, file: str) -> Entry:
    where = f"{file}: tensor {name[:80]}"
    if not 0 < len(name) <= limits.key_bytes or _NAME.fullmatch(name) is None:
        raise InputError("S04", "a tensor name: only letters, digits, '_', '.' and '-' are allowed", where)
    if not isinstance(value, dict) or set(value) != _FIELDS:
        raise InputError("S04", "an entry needs dtype, shape and data_offsets, and nothing else", where)
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise InputError("S05", f"unknown dtype {str(dtype)[:20]!r}", where)
    if not isinstance(shape, list) or len(shape) > _MAX_DIMS or not all(_is_number(d) for d in shape):
        raise InputError("S06", f"a shape is a list of at most {_MAX_DIMS} numbers", where)
    if any(not 0 < d <= _MAX_DIM for d in shape):
        raise InputError("S06", f"shape {str(shape)[:60]}: dimensions must be 1 to {_MAX_DIM}", where)
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_number(x) for x in offsets):
        raise InputError("S07", "data_offsets are two numbers", where)
    begin, end = offsets
    nbytes = math.prod(shape) * _BYTES[dtype]
    if not begin <= end <= size - data:
        raise InputError("S07", f"data from {begin} to {end} of {size - data} bytes", where)
    if end - begin != nbytes:
        raise InputError("S06", f"{end - begin} bytes for a {dtype} of shape {shape}, which has {nbytes}", where)
    return Entry(dtype, tuple(shape), data + begin, nbytes)
