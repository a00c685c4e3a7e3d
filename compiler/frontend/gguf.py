"""Reader of GGUF version 2 and 3: bounds-checked, linear in the file's metadata, no allocation before its check.

Layout (little endian): "GGUF", u32 version, u64 n_tensors, u64 n_kv; then n_kv x (string key, u32 type, value); then
n_tensors x (string name, u32 n_dims, u64 dims[n_dims], u32 type, u64 offset); padding to the alignment; tensor data.
A string is u64 length and bytes; an array is u32 element type, u64 count and the elements.

Nothing that llama.cpp refuses is accepted; where it is lenient (trailing bytes, booleans of 7, names with quotes) this
reader is not. The class numbers in the errors are those of SECURITY.md.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from pathlib import Path
from typing import NoReturn

import numpy as np
from gguf.constants import GGML_QUANT_SIZES

from infc.errors import InputError
from infc.formats import FORMATS
from infc.frontend.mapped import MappedFile
from infc.frontend.model_file import Array, Bytes, MappedModel, ModelFile, TensorInfo, Value
from infc.limits import DEFAULT, Limits

__all__ = ["MAX_DIM", "Array", "Bytes", "ModelFile", "TensorInfo", "Value", "read"]

MAX_DIM = 2**31 - 1
_I64_MAX = 2**63 - 1
_U64_MAX = 2**64 - 1
_HEADER_BYTES = 24
_MAX_NAME = 64  # ggml's GGML_MAX_NAME: a name has at most 63 bytes
_MAX_DIMS = 4
_DEFAULT_ALIGNMENT = 32
_MIN_ALIGNMENT = 8
_LEADING = 4096  # how far a displaced magic is looked for, to give the right message

# GGUF value types: id -> (name, struct code). 8 is a string, 9 an array.
_SCALARS = {
    0: ("u8", "B"), 1: ("i8", "b"), 2: ("u16", "H"), 3: ("i16", "h"), 4: ("u32", "I"), 5: ("i32", "i"),
    6: ("f32", "f"), 7: ("bool", "B"), 10: ("u64", "Q"), 11: ("i64", "q"), 12: ("f64", "d"),
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_STRUCTS = {code: struct.Struct("<" + code) for _, code in _SCALARS.values()}
# ggml tensor types: id -> (name, elements a block, bytes a block)
_TENSOR_TYPES = {t.value: (t.name, *sizes) for t, sizes in GGML_QUANT_SIZES.items()}

_KEY = re.compile(rb"[!-~]+")
_NAME = re.compile(rb"[A-Za-z0-9_.\-]+")


def read(path: str | os.PathLike[str], limits: Limits = DEFAULT) -> ModelFile:
    """Open and check a GGUF file; the caller closes it. Raises InputError with the class of what is wrong."""
    file = MappedFile(Path(path), _HEADER_BYTES, "GGUF")
    try:
        model = MappedModel(file)
        _Parser(file.map, file.size, limits, model).parse()
    except BaseException:
        file.close()
        raise
    return model


class _Parser:
    """One pass over the metadata. ``pos`` never passes ``end``, and ``end`` never passes the file or the metadata cap."""

    def __init__(self, data: mmap.mmap, size: int, limits: Limits, out: ModelFile) -> None:
        self.data = data
        self.size = size
        self.limits = limits
        self.out = out
        self.pos = 0
        self.end = min(size, limits.metadata_bytes)
        self.strings = 0

    def parse(self) -> None:
        n_tensors, n_kv = self.header()
        for i in range(n_kv):
            self.pair(i)
        alignment = self.alignment()
        infos = [self.tensor(i) for i in range(n_tensors)]
        self.layout(infos, alignment)

    def fail(self, code: str, what: str, where: str, offset: int) -> NoReturn:
        raise InputError(code, what, f"{where}: offset {offset}")

    def need(self, n: int, code: str, where: str) -> int:
        """Check that n more bytes are there, step over them and return where they start."""
        start = self.pos
        if n > self.end - start:
            if n > self.size - start:
                self.fail(code, f"{n} bytes are needed but the file ends at {self.size}", where, start)
            self.fail("G29", f"metadata {self.limits.over('metadata_bytes')}", where, start)
        self.pos = start + n
        return start

    def number(self, code: str, error: str, where: str) -> int:
        s = _STRUCTS[code]
        value: int = s.unpack_from(self.data, self.need(s.size, error, where))[0]
        return value

    def header(self) -> tuple[int, int]:
        magic = self.data[:4]
        if magic != b"GGUF":
            if magic == b"FUGG":
                self.fail("G06", "byte-swapped GGUF", "magic", 0)
            found = self.data.find(b"GGUF", 0, _LEADING)
            if found > 0:
                self.fail("G10", f"{found} bytes before the GGUF magic", "magic", 0)
            self.fail("G02", f"not a GGUF file: it starts with {magic!r}", "magic", 0)
        self.pos = 4
        version = self.number("I", "G01", "version")
        if version == 0:
            self.fail("G03", "GGUF version 0", "version", 4)
        if version & 0xFFFF == 0:
            self.fail("G06", "big-endian GGUF: convert it on a little-endian machine", "version", 4)
        if version == 1:
            self.fail("G04", "GGUF version 1 is obsolete: convert the model again", "version", 4)
        if version > 3:
            self.fail("G05", f"GGUF version {version}: versions 2 and 3 are known", "version", 4)
        n_tensors = self.number("Q", "G01", "n_tensors")
        if n_tensors > self.limits.tensors:
            self.fail("G07", f"{n_tensors} tensors, {self.limits.over('tensors')}", "n_tensors", 8)
        n_kv = self.number("Q", "G01", "n_kv")
        if n_kv > self.limits.kv:
            self.fail("G08", f"{n_kv} keys, {self.limits.over('kv')}", "n_kv", 16)
        return n_tensors, n_kv

    def pair(self, index: int) -> None:
        where = f"key {index}"
        at = self.pos
        n = self.number("Q", "G09", where)
        if n == 0:
            self.fail("G13", "empty key", where, at)
        if n > self.limits.key_bytes:
            self.fail("G12", f"key of {n} bytes, {self.limits.over('key_bytes')}", where, at)
        start = self.need(n, "G12", where)
        raw = self.data[start : start + n]
        if _KEY.fullmatch(raw) is None:
            self.fail("G14", f"key {raw[:40]!r} is not printable ASCII", where, start)
        key = raw.decode("ascii")
        if key in self.out.kv:
            self.fail("G15", f"duplicate key {key}", where, start)
        at = self.pos
        kind = self.number("I", "G09", key)
        if kind == _ARRAY:
            self.out.kv[key], self.out.kv_types[key] = self.array(key)
        elif kind == _STRING:
            self.out.kv[key], self.out.kv_types[key] = self.string(key, "G22"), "str"
        elif kind in _SCALARS:
            self.out.kv[key], self.out.kv_types[key] = self.scalar(kind, key), _SCALARS[kind][0]
        else:
            self.fail("G16", f"unknown value type {kind}", key, at)

    def scalar(self, kind: int, key: str) -> int | float | bool:
        name, code = _SCALARS[kind]
        at = self.pos
        value = self.number(code, "G09", key)
        if name != "bool":
            return value
        if value > 1:
            self.fail("G23", f"a boolean of {value}", key, at)
        return value == 1

    def string(self, where: str, error: str) -> str:
        at = self.pos
        n = self.number("Q", error, where)
        start = self.need(n, error, where)
        if n > self.limits.string_bytes:
            self.fail("G29", f"string of {n} bytes, {self.limits.over('string_bytes')}", where, at)
        try:
            return self.data[start : start + n].decode("utf-8")
        except UnicodeDecodeError as e:
            self.fail("G71", "a string that is not UTF-8", where, start + e.start)

    def array(self, key: str) -> tuple[Value, str]:
        at = self.pos
        kind = self.number("I", "G09", key)
        if kind == _ARRAY:
            self.fail("G18", "an array of arrays", key, at)
        if kind != _STRING and kind not in _SCALARS:
            self.fail("G17", f"unknown element type {kind}", key, at)
        at = self.pos
        count = self.number("Q", "G09", key)
        if count > _I64_MAX:
            self.fail("G19", f"array of {count} elements", key, at)
        width = _STRUCTS[_SCALARS[kind][1]].size if kind in _SCALARS else 8
        if count * width > self.size - self.pos:
            self.fail("G20", f"array of {count} elements in a file of {self.size} bytes", key, at)
        if kind == _STRING:
            self.strings += count
            if self.strings > self.limits.strings:
                self.fail("G29", f"{self.strings} strings, {self.limits.over('strings')}", key, at)
            return [self.string(key, "G21") for _ in range(count)], "[str]"
        name, code = _SCALARS[kind]
        start = self.need(count * width, "G20", key)
        values = np.frombuffer(self.data, np.dtype("<" + code), count, start).copy()
        if name == "bool":
            if count and int(values.max()) > 1:
                self.fail("G23", f"a boolean of {int(values.max())}", key, start)
            values = values.astype(np.bool_)
        return values, f"[{name}]"

    def alignment(self) -> int:
        key = "general.alignment"
        value = self.out.kv.get(key, _DEFAULT_ALIGNMENT)
        kind = self.out.kv_types.get(key, "u32")
        if kind != "u32" or not isinstance(value, int):
            raise InputError("G24", f"alignment must be of type u32, not {kind}", key)
        if value < _MIN_ALIGNMENT or value & (value - 1):
            raise InputError("G24", f"alignment {value} is not a power of two from {_MIN_ALIGNMENT} up", key)
        if value > self.limits.alignment:
            raise InputError("G24", f"alignment {value}, {self.limits.over('alignment')}", key)
        return value

    def tensor(self, index: int) -> TensorInfo:
        """Tensor entry ``index``; its ``offset`` is still relative to the data section, as in the file."""
        where = f"tensor {index}"
        at = self.pos
        n = self.number("Q", "G09", where)
        if not 0 < n < _MAX_NAME:
            self.fail("G43", f"a tensor name of {n} bytes: 1 to {_MAX_NAME - 1} are allowed", where, at)
        start = self.need(n, "G09", where)
        raw = self.data[start : start + n]
        if _NAME.fullmatch(raw) is None:
            self.fail(
                "G45",
                f"tensor name {raw!r}: only letters, digits, '_', '.' and '-' are allowed",
                where,
                start,
            )
        name = raw.decode("ascii")
        if name in self.out.tensors:
            self.fail("G44", f"duplicate tensor {name}", where, start)
        ne = self.shape(name)
        at = self.pos
        kind = self.number("I", "G09", name)
        if kind not in _TENSOR_TYPES:
            self.fail("G54", f"unknown or removed tensor type {kind} (supported: {', '.join(FORMATS)})", name, at)
        type_name, block, block_bytes = _TENSOR_TYPES[kind]
        if ne[0] % block:
            self.fail("G55", f"rows of {ne[0]} elements: {type_name} needs a multiple of {block}", name, at)
        n_elements = 1
        for d in ne:
            n_elements *= d
        if n_elements > _I64_MAX:
            self.fail("G49", f"shape {ne} has more than 2^63 elements", name, at)
        nbytes = n_elements // block * block_bytes
        if nbytes > _U64_MAX:
            self.fail("G50", f"shape {ne} of {type_name} has more than 2^64 bytes", name, at)
        info = TensorInfo(name, type_name, ne, self.number("Q", "G09", name), nbytes)
        self.out.tensors[name] = info
        return info

    def shape(self, name: str) -> tuple[int, ...]:
        at = self.pos
        n_dims = self.number("I", "G09", name)
        if not 1 <= n_dims <= _MAX_DIMS:
            self.fail("G46", f"{n_dims} dimensions: 1 to {_MAX_DIMS} are allowed", name, at)
        at = self.need(8 * n_dims, "G09", name)
        ne: tuple[int, ...] = struct.unpack_from(f"<{n_dims}Q", self.data, at)
        for d in ne:
            if d == 0:
                self.fail("G47", f"a dimension of 0 in {ne}", name, at)
            if d > _I64_MAX:
                self.fail("G48", f"a negative dimension, {d - 2**64}", name, at)
            if d > MAX_DIM:
                self.fail("G62", f"a dimension of {d}: at most {MAX_DIM} is allowed", name, at)
        return ne

    def layout(self, infos: list[TensorInfo], alignment: int) -> None:
        """Data must follow in file order, each tensor at the next multiple of the alignment, ending with the file."""
        data = -(-self.pos // alignment) * alignment
        at = 0
        for t in infos:
            padded = -(-t.nbytes // alignment) * alignment
            if padded > _U64_MAX:
                self.fail("G52", f"a size of {t.nbytes} bytes overflows when padded to {alignment}", t.name, data)
            if padded > _I64_MAX:
                self.fail("G51", f"a size of {t.nbytes} bytes overflows a signed stride", t.name, data)
            if t.offset != at:
                other = _other_alignment(infos)
                if other:
                    self.fail(
                        "G58",
                        f"offsets are laid out for an alignment of {other}, not {alignment}",
                        t.name,
                        t.offset,
                    )
                self.fail("G56", f"data at {t.offset} of the data section, expected at {at}", t.name, t.offset)
            at += padded
            if at > _I64_MAX:
                self.fail("G53", "the sum of the tensors' sizes overflows", t.name, data)
        last = infos[-1].offset + infos[-1].nbytes if infos else 0
        if data + last > self.size and infos:
            bad = next(t for t in infos if data + t.offset + t.nbytes > self.size)
            need = data + last - self.size
            self.fail("G57", f"the file is {need} bytes too short for its tensors", bad.name, data + bad.offset)
        if self.size > data + at:
            self.fail("G10", f"{self.size - data - at} bytes after the last tensor", "end of data", data + at)
        for t in infos:
            self.out.tensors[t.name] = TensorInfo(t.name, t.type, t.ne, data + t.offset, t.nbytes)


def _other_alignment(infos: list[TensorInfo]) -> int:
    """The power of two that the offsets are consistent with, or 0: tells a wrong key from wrong offsets."""
    for shift in range(17):
        a = 1 << shift
        at = 0
        for t in infos:
            if t.offset != at:
                break
            at += -(-t.nbytes // a) * a
        else:
            return a  # never ``alignment``: some offset contradicts that one
    return 0
