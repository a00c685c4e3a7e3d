"""Quantization while a model is compiled: matrices of floats become blocks when they are read, one tensor at a time.

The arithmetic is ggml's reference quantizer, as the ``gguf`` package has it in numpy; no file is written but the artifact's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize as reference
from numpy.typing import NDArray

from infc.errors import InputError
from infc.formats import FORMATS, BlockFormat
from infc.frontend.check_data import check_values
from infc.frontend.floats import to_f32
from infc.frontend.model_file import Bytes, ModelFile, TensorInfo

_CHUNK = 1 << 22  # elements quantized at a time, rounded down to whole rows: bounds the temporaries, which take some 20 bytes each
_FLOATS = ("F32", "F16", "BF16")
_EMBEDDINGS = ("token_embd.weight", "output.weight")
# Matrices that stay: looked up or added row by row, or so small and so decisive (a router) that nobody quantizes them.
_EXEMPT = ("position_embd.weight", "token_types.weight", "ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight")


class QuantizedModel(ModelFile):
    """``source`` with its matrices of floats in other types; closing it closes the source."""

    def __init__(self, source: ModelFile, kind: str, embedding: str | None = None) -> None:
        """``kind``, ``embedding``: names in FORMATS; the second one is for the embedding and the head (None: the same).

        Raises InputError if that leaves every tensor as it is.
        """
        super().__init__(source.path)
        self._source = source
        self.kv = {k: v for k, v in source.kv.items() if k != "general.file_type"}
        self.kv_types = {k: v for k, v in source.kv_types.items() if k != "general.file_type"}
        self.notes = list(source.notes)
        uneven, done = [], []
        for name, t in source.tensors.items():
            f = FORMATS[embedding if embedding is not None and name in _EMBEDDINGS else kind]
            if _is_matrix(t) and t.type not in _FLOATS:
                done.append(name)
            elif _is_matrix(t) and t.ne[0] % f.block_size:
                uneven.append(name)
            elif _is_matrix(t):
                t = TensorInfo(name, f.name, t.ne, 0, _elements(t) // f.block_size * f.raw_bytes)
            self.tensors[name] = t
        if all(t == source.tensors[name] for name, t in self.tensors.items()):
            why = "every matrix is quantized already" if done else "no matrix can be"
            raise InputError("opt", f"nothing to quantize: {why}", source.path.name)
        if done:
            self.notes.append(f"left as they are, being quantized already: {_some(done)}")
        if uneven:
            self.notes.append(f"left as they are, since rows do not divide into blocks of {FORMATS[kind].block_size}: {_some(uneven)}")

    def data(self, name: str) -> Bytes:
        """As of the source, or quantized now: each call does the work again and keeps nothing."""
        if self.tensors[name].type == self._source.tensors[name].type:
            return self._source.data(name)
        pieces = list(self.pieces(name))
        return np.concatenate(pieces) if len(pieces) > 1 else pieces[0]

    def pieces(self, name: str) -> Iterator[Bytes]:
        before, after = self._source.tensors[name], self.tensors[name]
        for data in self._source.pieces(name):
            yield data if before.type == after.type else convert(data, before, FORMATS[after.type])

    def check_unchanged(self) -> None:
        self._source.check_unchanged()

    def close(self) -> None:
        self._source.close()


def _some(names: list[str]) -> str:
    """Three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _elements(t: TensorInfo) -> int:
    return t.nbytes // FORMATS[t.type].raw_bytes * FORMATS[t.type].block_size


def _is_matrix(t: TensorInfo) -> bool:
    return len(t.ne) > 1 and t.name.endswith(".weight") and not t.name.endswith(_EXEMPT) and t.type in FORMATS


def convert(data: Bytes, t: TensorInfo, f: BlockFormat) -> Bytes:
    """``data``, whole rows of the float tensor ``t``, in the blocks of ``f``.

    Raises InputError G63 or G64 where a scale or a value leaves the range of the new type.
    """
    k = t.ne[0]
    source = data.reshape(-1, k * FORMATS[t.type].raw_bytes)
    rows = len(source)
    row_bytes = k // f.block_size * f.raw_bytes
    out = np.empty((rows, row_bytes), np.uint8)
    step = max(1, _CHUNK // k)
    for i in range(0, rows, step):
        values = to_f32(source[i : i + step].reshape(-1), t.type).reshape(-1, k)
        with np.errstate(all="ignore"):  # what overflows is looked for below
            part: NDArray[Any] = reference(values, GGMLQuantizationType[f.name])
        out[i : i + step] = part.view(np.uint8).reshape(-1, row_bytes)
    result = out.reshape(-1)
    try:
        check_values(TensorInfo(t.name, f.name, t.ne, 0, result.nbytes), [result], [])
    except InputError as e:
        raise InputError(e.code, f"values too large for {f.name}", f"tensor {t.name}") from None
    return result
