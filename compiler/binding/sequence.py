"""One sequence of an open model: the KV cache behind a generation, given back when the block ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infc.binding.library import Handle
from infc.errors import InfcError, InputError

ROW = np.dtype([("seq", "<i4"), ("pos", "<i4"), ("token", "<i4"), ("flags", "<u4")])  # infc_row
LOGITS, HIDDEN = 1, 2  # INFC_ROW_*

Floats = NDArray[np.float32]
Rows = NDArray[Any]


@contextmanager
def sequence(handle: Handle) -> Iterator[int]:
    """An open sequence's id; closed with the block unless the model itself is gone."""
    with handle.use() as model:
        seq = handle.check(handle.lib.infc_seq_open(model))
    try:
        yield seq
    finally:
        try:
            with handle.use() as model:
                handle.lib.infc_seq_close(model, seq)
        except InfcError:
            pass  # closed meanwhile: its sequences went with it


def token_array(ids: Sequence[int]) -> NDArray[np.int32]:
    """Token ids as int32. Raises InputError for what is no list of small whole numbers."""
    try:
        array = np.asarray(ids)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise InputError("C01", "token ids must be a list of whole numbers")
        wide = array.astype(np.int64)
    except (ValueError, OverflowError):
        raise InputError("C01", "token ids must be a list of whole numbers") from None
    if wide.size and (wide.min() < 0 or wide.max() > np.iinfo(np.int32).max):
        raise InputError("C01", "a token id is negative or too large")
    return wide.astype(np.int32)


def rows_of(seq: int, start: int, ids: NDArray[np.int32], flags: int = 0, last: int = 0) -> Rows:
    """Rows of one sequence from position ``start``; every row has ``flags``, the final one ``last`` too."""
    rows = np.zeros(len(ids), ROW)
    rows["seq"], rows["pos"], rows["token"], rows["flags"] = seq, start + np.arange(len(ids)), ids, flags
    if len(ids):
        rows["flags"][-1] |= last
    return rows


def step(handle: Handle, rows: Rows, logits: Floats | None = None, hidden: Floats | None = None) -> None:
    """``infc_step``: the library writes straight into ``logits`` (rows asked, vocab) and ``hidden`` (rows asked, dim)."""
    ffi = handle.ffi
    rows = np.ascontiguousarray(rows)

    def pointer(array: Floats | None) -> Any:
        return ffi.NULL if array is None else ffi.cast("float *", array.ctypes.data)

    with handle.use() as model:
        c_rows = ffi.cast("infc_row *", rows.ctypes.data)
        handle.check(handle.lib.infc_step(model, c_rows, len(rows), pointer(logits), pointer(hidden)))
