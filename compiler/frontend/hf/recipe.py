"""How a GGUF tensor is made from those of a folder: which bytes, in which order, as which type. One matrix at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infc.errors import InputError
from infc.frontend.floats import to_f32
from infc.frontend.hf.folder import Folder
from infc.frontend.model_file import Bytes, TensorInfo

_FLOATS = {"F32": 4, "F16": 2, "BF16": 2}
# Matrices that GGUF keeps in full: positions are added, a router's choice must not change.
_FULL = ("position_embd.weight", "ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight")
_FLAT = ("ffn_gate_inp_shexp.weight",)  # a matrix of one row that GGUF has as a vector
_MXFP4_BYTES = 17  # of a block of 32: the exponent, then two elements a byte


@dataclass(frozen=True, slots=True)
class Rows:
    """Share ``index`` of ``count`` of a matrix's rows: neighbours or, ``woven``, every ``count``-th."""

    index: int = 0
    count: int = 1
    woven: bool = False

    def of(self, a: NDArray[Any]) -> NDArray[Any]:
        if self.woven:
            return a[self.index :: self.count]
        n = len(a) // self.count
        return a[self.index * n : (self.index + 1) * n]


@dataclass(frozen=True, slots=True)
class Recipe:
    """``names``: the tensors of the folder: one; or, ``apart``, the experts' matrices in their order. ``stacked``: the first dimension
    of the one is the expert. Then, of each matrix: ``transposed``, ``rows``, ``heads`` > 0: rows reordered, ``plus_one``.

    ``scales``: the tensor of exponents if the named one has the blocks of MXFP4.
    """

    names: tuple[str, ...]
    heads: int = 0
    plus_one: bool = False
    transposed: bool = False
    apart: bool = False
    stacked: bool = False
    rows: Rows = Rows()
    scales: str = ""


def info(name: str, recipe: Recipe, folder: Folder) -> TensorInfo:
    """Type and shape of the GGUF tensor. Raises InputError S05 or S06."""
    entries = [folder.entries[n][1] for n in recipe.names]
    first = entries[0]
    if recipe.scales:
        return _mxfp4_info(name, recipe, folder)
    if first.dtype not in _FLOATS:
        raise InputError("S05", f"dtype {first.dtype} is not supported (F32, F16 and BF16 are)", f"tensor {recipe.names[0]}")
    if any((e.dtype, e.shape) != (first.dtype, first.shape) for e in entries):
        raise InputError("S06", "the experts' matrices differ in shape or dtype", f"tensor {recipe.names[0]}")
    shape, count = first.shape, len(entries)
    if recipe.stacked and len(shape) > 1:
        shape, count = shape[1:], shape[0]
    if name.endswith(_FLAT) and shape[:1] == (1,):
        shape = shape[1:]
    turns = 2 * recipe.heads or recipe.rows.count
    if not shape or len(shape) > 2 or (recipe.transposed and len(shape) != 2):
        raise InputError("S06", f"shape {first.shape} of {name}", f"tensor {recipe.names[0]}")
    shape = shape[::-1] if recipe.transposed else shape
    if shape[0] % turns:
        raise InputError("S06", f"shape {first.shape} of {name}: {shape[0]} rows do not divide by {turns}", f"tensor {recipe.names[0]}")
    shape = (shape[0] // recipe.rows.count, *shape[1:])
    ne = (*reversed(shape), *((count,) if recipe.apart or recipe.stacked else ()))
    full = len(shape) == 1 or name.endswith((*_FULL, ".bias"))
    type = "F32" if full else first.dtype
    nbytes = _FLOATS[type]
    for d in ne:
        nbytes *= d
    return TensorInfo(name, type, ne, 0, nbytes)


def _mxfp4_info(name: str, recipe: Recipe, folder: Folder) -> TensorInfo:
    blocks, scales = folder.entries[recipe.names[0]][1], folder.entries[recipe.scales][1]
    shape = blocks.shape
    if (blocks.dtype, scales.dtype) != ("U8", "U8") or shape[-1:] != (16,) or scales.shape != shape[:-1] or len(shape) != 4:
        what = f"blocks of {blocks.dtype} {shape} and scales of {scales.dtype} {scales.shape} are not MXFP4"
        raise InputError("S06", what, f"tensor {recipe.names[0]}")
    experts, n, groups, _ = shape
    if n % recipe.rows.count:
        raise InputError("S06", f"{n} rows do not divide by {recipe.rows.count}", f"tensor {recipe.names[0]}")
    n //= recipe.rows.count
    return TensorInfo(name, "MXFP4", (32 * groups, n, experts), 0, experts * n * groups * _MXFP4_BYTES)


def pieces(recipe: Recipe, folder: Folder, type: str) -> Iterator[Bytes]:
    """The tensor's matrices as bytes of ``type``, one behind the other; views where nothing is done to them."""
    if recipe.scales:
        shape = folder.entries[recipe.names[0]][1].shape
        scales = folder.data(recipe.scales).reshape(shape[:-1])
        for blocks, exponents in zip(folder.data(recipe.names[0]).reshape(shape), scales, strict=True):
            yield _mxfp4(recipe.rows.of(blocks), recipe.rows.of(exponents))
        return
    for source in recipe.names:
        entry = folder.entries[source][1]
        words: NDArray[Any] = folder.data(source).view(f"<u{_FLOATS[entry.dtype]}").reshape(entry.shape)
        for matrix in words if recipe.stacked else (words,):
            yield _made(matrix, recipe, entry.dtype, type)


def _made(words: NDArray[Any], recipe: Recipe, dtype: str, type: str) -> Bytes:
    """One matrix or vector after what the recipe does to it."""
    words = recipe.rows.of(words.T if recipe.transposed else words)
    if recipe.heads:  # the halves of a head, one behind the other, become neighbours
        halves = words.reshape(recipe.heads, 2, len(words) // recipe.heads // 2, *words.shape[1:])
        words = halves.swapaxes(1, 2)
    data: Bytes = np.ascontiguousarray(words).reshape(-1).view(np.uint8)
    if type == dtype and not recipe.plus_one:
        return data
    values = to_f32(data, dtype)
    return (values + np.float32(1) if recipe.plus_one else values).view(np.uint8)


def _mxfp4(blocks: Bytes, exponents: Bytes) -> Bytes:
    """(n, groups, 16), (n, groups) -> ggml's blocks.

    The folder's byte j has elements 2j (low half) and 2j + 1; ggml's has j (low half) and j + 16. Exponents and elements are coded alike.
    """
    out = np.empty((*exponents.shape, _MXFP4_BYTES), np.uint8)
    out[..., 0] = exponents
    for parity in range(2):
        elements = blocks >> np.uint8(4) if parity else blocks & np.uint8(15)
        out[..., 1 + parity :: 2] = elements[..., :8] | elements[..., 8:] << np.uint8(4)
    return out.reshape(-1)
