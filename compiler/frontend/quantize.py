"""Quantization while a model is compiled: matrices of floats become blocks when they are read, one matrix at a time.

What each becomes is decided in ``mixes``, its bytes in ``quantizers``; no file is written but the artifact's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from infc.errors import InputError
from infc.formats import FORMATS, BlockFormat
from infc.frontend.check_data import check_values
from infc.frontend.floats import to_f32
from infc.frontend.mixes import Types
from infc.frontend.model_file import Bytes, ModelFile, TensorInfo
from infc.frontend.quantizers import quantize

_CHUNK = 1 << 22  # elements quantized at a time, rounded down to whole rows: bounds the temporaries, which take some 20 bytes each
_FLOATS = ("F32", "F16", "BF16")
# Matrices that stay: looked up or added row by row, or so small and so decisive (a router) that nobody quantizes them.
_EXEMPT = ("position_embd.weight", "token_types.weight", "ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight")
_LAYER = re.compile(r"blk\.(\d{1,9})\.")


class QuantizedModel(ModelFile):
    """``source`` with its matrices of floats in other types; closing it closes the source."""

    def __init__(self, source: ModelFile, kind: str, embedding: str | None = None) -> None:
        """``kind``: a type in FORMATS or one of ``mixes.MIXES``; ``embedding``: a type for the embedding and the head.

        Raises InputError if that leaves every tensor as it is.
        """
        super().__init__(source.path)
        self._source = source
        self.kv = {k: v for k, v in source.kv.items() if k != "general.file_type"}
        self.kv_types = {k: v for k, v in source.kv_types.items() if k != "general.file_type"}
        self.notes = list(source.notes)
        types = _types(source, kind.lower(), embedding)
        uneven, done, instead = [], [], []
        for name, t in source.tensors.items():
            if _is_matrix(t):
                after = types.of(name, t.ne[0])
                if t.type not in _FLOATS:
                    done.append(name)
                elif after is None:
                    uneven.append(name)
                else:
                    f = FORMATS[after]
                    if t.ne[0] % FORMATS[types.base].block_size:
                        instead.append(f"{name} ({after})")
                    t = TensorInfo(name, after, t.ne, 0, _elements(t) // f.block_size * f.raw_bytes)
            self.tensors[name] = t
        if all(t == source.tensors[name] for name, t in self.tensors.items()):
            why = "every matrix is quantized already" if done else "no matrix can be"
            raise InputError("opt", f"nothing to quantize: {why}", source.path.name)
        size = FORMATS[types.base].block_size
        for names, what in (
            (done, "left as they are, being quantized already"),
            (uneven, f"left as they are, since rows do not divide into blocks of {size}"),
            (instead, f"of another type, since rows do not divide into blocks of {size}"),
        ):
            if names:
                self.notes.append(f"{what}: {_some(names)}")

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


def _types(source: ModelFile, kind: str, embedding: str | None) -> Types:
    layers = [int(m[1]) for m in map(_LAYER.match, source.tensors) if m]
    experts = source.kv.get(f"{source.kv.get('general.architecture')}.expert_count", 0)
    return Types(
        kind,
        embedding,
        n_layers=max(layers, default=-1) + 1,
        n_experts=experts if isinstance(experts, int) else 0,
        tied="output.weight" not in source.tensors,
    )


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
        out[i : i + step] = quantize(values, f.name)
    result = out.reshape(-1)
    try:
        check_values(TensorInfo(t.name, f.name, t.ne, 0, result.nbytes), [result], [])
    except InputError as e:
        raise InputError(e.code, f"values too large for {f.name}", f"tensor {t.name}") from None
    return result
