"""Weight layout: section WEIGHTS in the order in which a step reads it, fused matrices interleaved unit by unit."""

from __future__ import annotations

from dataclasses import dataclass, field

from infc.formats import ROWS, format_of
from infc.ir import ops as o
from infc.ir.ops import Weight
from infc.plan.memory import align
from infc.plan.plan import PanelPlacement, RopePlacement, VectorPlacement, WeightLayout


def panel_bytes(w: Weight) -> int:
    """Bytes of 16 rows of ``w`` in the r16 layout."""
    f = format_of(w.type)
    return w.k // f.block_size * f.r16_bytes


def n_panels(w: Weight) -> int:
    """16-row panels of ``w``, the last one padded."""
    return -(-w.n // ROWS)


def unit_panels(panels: int) -> int:
    """Panels that one work item covers: two where they pair up, since kernels run two panels side by side."""
    return 2 if panels % 2 == 0 else 1


@dataclass
class LayoutBuilder:
    """Hands out offsets in section WEIGHTS. Mutable while the plan is made; ``finish`` freezes it."""

    cursor: int = 0
    panels: list[PanelPlacement] = field(default_factory=list)
    vectors: list[VectorPlacement] = field(default_factory=list)

    def take(self, size: int) -> int:
        """Reserve ``size`` bytes; the offset, 64-byte aligned."""
        offset = align(self.cursor)
        self.cursor = offset + align(size)
        return offset

    def vector(self, w: Weight) -> int:
        """Place a float vector once; its offset."""
        known = next((v.offset for v in self.vectors if v.weight == w), None)
        if known is not None:
            return known
        offset = self.take(align(w.k, ROWS) * 4)
        self.vectors.append(VectorPlacement(w, offset))
        return offset

    def matrix(self, w: Weight) -> int:
        """Place a matrix on its own; its offset."""
        size = panel_bytes(w)
        offset = self.take(n_panels(w) * size)
        self.panels.append(PanelPlacement(w, offset, size, n_panels(w), 0))
        return offset

    def interleaved(self, parts: tuple[tuple[Weight, int], ...]) -> tuple[int, int]:
        """Place matrices side by side: each unit holds ``count`` panels of each ``(weight, count)``. Returns (offset, unit bytes)."""
        unit_bytes = sum(panel_bytes(w) * count for w, count in parts)
        units = n_panels(parts[0][0]) // parts[0][1]
        offset = self.take(units * unit_bytes)
        inner = 0
        for w, count in parts:
            self.panels.append(PanelPlacement(w, offset + inner, panel_bytes(w), count, unit_bytes))
            inner += panel_bytes(w) * count
        return offset, unit_bytes

    def finish(self, rope: RopePlacement) -> WeightLayout:
        """The frozen layout; its size is a whole number of 4 KiB pages."""
        return WeightLayout(tuple(self.panels), tuple(self.vectors), rope, align(self.cursor, 4096))


def place(builder: LayoutBuilder, op: o.Op, head_panels: int, group: int) -> tuple[int, int]:
    """Place the weights of one fused operation. Returns (offset, unit bytes)."""
    match op:
        case o.NormQuantize() | o.RmsNorm():
            return builder.vector(op.weight), 0
        case o.QkvRopeKvWrite():
            return builder.interleaved(((op.q, group * head_panels), (op.k, head_panels), (op.v, head_panels)))
        case o.GateUpSwiglu():
            unit = unit_panels(n_panels(op.gate))
            return builder.interleaved(((op.gate, unit), (op.up, unit)))
        case o.LinearResidual() | o.Linear() | o.Embed():
            unit = unit_panels(n_panels(op.weight))
            return builder.matrix(op.weight), unit * panel_bytes(op.weight)
    return 0, 0
