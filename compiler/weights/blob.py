"""The blob that is appended to the executable and the library: weights, tokenizer, chat template, description.

Layout (little-endian): a 4096-byte head (magic, version, section table), then the sections, each 4096-aligned.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infc.formats import format_of
from infc.frontend.gguf import ModelFile
from infc.ir.ops import Weight
from infc.plan.memory import align
from infc.plan.plan import PanelPlacement, Plan, WeightLayout
from infc.weights.repack import repack
from infc.weights.rope import rope_table

MAGIC = b"INFCBLB1"
VERSION = 1
PAGE = 4096
WEIGHTS, TOKENIZER, CHAT, META = 1, 2, 3, 4

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class BlobInfo:
    """``size`` and ``sha256`` of the whole blob; sizes of its sections by id, in bytes."""

    size: int
    sha256: str
    sections: tuple[tuple[int, int], ...]


def _raw(model: ModelFile, w: Weight) -> Iterator[Bytes]:
    """(n, row bytes) of every expert, one at a time; of a tensor that holds one matrix the rows from ``first`` on."""
    f = format_of(w.type)
    for piece in model.pieces(w.tensor):
        rows = piece.reshape(-1, w.k // f.block_size * f.raw_bytes)
        yield rows[w.first : w.first + w.n]


def _order(n: int, halves: tuple[int, int] | None) -> NDArray[np.int64] | None:
    """Which of ``n`` rows of the file comes where: pairs that are half a rotation apart, side by side. None: as they are."""
    if halves is None:
        return None
    head_dim, rotated = halves
    within = np.arange(head_dim)
    within[:rotated] = within[:rotated].reshape(2, -1).T.reshape(-1)
    order: NDArray[np.int64] = (np.arange(n).reshape(-1, head_dim)[:, :1] + within).reshape(-1)
    return order


def _vector(model: ModelFile, w: Weight) -> Bytes:
    """The bytes of a float vector, in order."""
    values = model.data(w.tensor).view("<f4")[w.first : w.first + w.k]
    order = _order(w.k, w.halves)
    return (values if order is None else values[order]).view(np.uint8)


def _panels(model: ModelFile, p: PanelPlacement) -> Iterator[tuple[int, Bytes]]:
    """(offset, bytes) runs of one matrix, an expert at a time."""
    for i, raw in enumerate(_raw(model, p.weight)):
        offset = p.offset + i * p.expert_stride
        panels = repack(p.weight.type, raw, _order(p.weight.n, p.weight.halves)).reshape(-1, p.panel_bytes)
        if p.per_unit >= len(panels):
            yield offset, panels.reshape(-1)
            continue
        for unit, first in enumerate(range(0, len(panels), p.per_unit)):
            yield offset + unit * p.unit_stride, panels[first : first + p.per_unit].reshape(-1)


def weight_runs(plan: Plan, model: ModelFile) -> Iterator[tuple[int, Bytes]]:
    """Every (offset in section WEIGHTS, bytes) of the layout, a matrix at a time; gaps are zero."""
    layout: WeightLayout = plan.layout
    for rope in layout.ropes:
        factors = rope.spec.factors_for(rope.n_ctx)
        table = rope_table(rope.spec, rope.n_ctx, model.data(factors).view(np.float32) if factors is not None else None)
        yield rope.offset, table.reshape(-1).view(np.uint8)
    for v in layout.vectors:
        yield v.offset, _vector(model, v.weight)
    for p in layout.panels:
        yield from _panels(model, p)


def _digest(file: BufferedRandom) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def write_blob(plan: Plan, model: ModelFile, path: Path, tokenizer: bytes, chat: bytes, meta: dict[str, object]) -> BlobInfo:
    """Write the blob to ``path``. Peak memory: one tensor and its repacked copy, of a mixture's one expert's matrix.

    Raises InputError if the model file changed while it was read, OSError if the disk is full.
    """
    description = json.dumps(meta, ensure_ascii=False, sort_keys=True).encode()
    # A section without bytes is left out: no chat template, no section CHAT.
    extra = tuple((section, data) for section, data in ((TOKENIZER, tokenizer), (CHAT, chat), (META, description)) if data)
    table = [(WEIGHTS, PAGE, plan.layout.size)]
    cursor = PAGE + align(plan.layout.size, PAGE)
    for section, data in extra:
        table.append((section, cursor, len(data)))
        cursor += align(len(data), PAGE)
    with path.open("w+b") as file:
        file.truncate(cursor)
        file.write(MAGIC + struct.pack("<II", VERSION, len(table)))
        for section, offset, size in table:
            file.write(struct.pack("<IIQQ", section, 0, offset, size))
        for offset, run in weight_runs(plan, model):
            file.seek(PAGE + offset)
            file.write(np.ascontiguousarray(run).data)
        for (section, data), (known, offset, _) in zip(extra, table[1:], strict=True):
            assert section == known
            file.seek(offset)
            file.write(data)
        model.check_unchanged()
        file.flush()
        return BlobInfo(cursor, _digest(file), tuple((s, size) for s, _, size in table))
