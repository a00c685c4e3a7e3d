"""Buffers that end at a page nobody may touch: reading or writing one byte past them is a crash, not a wrong number."""

from __future__ import annotations

import ctypes
import mmap
from collections import deque
from typing import Any

import numpy as np

_libc = ctypes.CDLL(None, use_errno=True)
_recent: deque[mmap.mmap] = deque(maxlen=2048)


def guarded(a: Any) -> np.ndarray[Any, Any]:
    """A copy of ``a`` whose last byte is the last before a PROT_NONE page (and whose first is near the start of a mapping)."""
    a = np.ascontiguousarray(a)
    size = -(-a.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    region = mmap.mmap(-1, size + mmap.PAGESIZE)
    # The mapping goes with the last view of it, but not at once, as calls take pointers into temporaries; a process may have 65,530.
    _recent.append(region)
    raw = np.frombuffer(region, np.uint8)
    if _libc.mprotect(ctypes.c_void_p(raw.ctypes.data + size), ctypes.c_size_t(mmap.PAGESIZE), 0) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    copy = raw[size - a.nbytes : size].view(a.dtype).reshape(a.shape)
    copy[...] = a
    return copy


def poisoned(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    """A guarded buffer full of NaN (all bits set), for results and scratch."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return guarded(np.full(size, 255, np.uint8).view(dtype).reshape(shape))
