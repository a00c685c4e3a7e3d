"""Weight layout: section WEIGHTS in the order in which a step reads it, fused matrices interleaved unit by unit."""

from __future__ import annotations

from dataclasses import dataclass, field

from infc.formats import ROWS, format_of
from infc.ir import experts as e
from infc.ir import ops as o
from infc.ir.ops import Weight
from infc.plan.memory import align
from infc.plan.plan import PanelPlacement, RopePlacement, VectorPlacement, WeightLayout


@dataclass(frozen=True)
class Placed:
    """Where an operation's weights lie: its matrices, one unit's bytes, and ``extra``: its vectors (biases, norms of heads), side by
    side in the order of the operation, each padded to 16 floats; of Embed the matrix of positions."""

    offset: int = 0
    unit_bytes: int = 0
    extra: int = 0


def padded_floats(w: Weight) -> int:
    """Floats that a vector takes."""
    return align(w.k, ROWS)


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

    def vector_block(self, *weights: Weight | None) -> int:
        """Place float vectors side by side, once; the offset of the first."""
        some = [w for w in weights if w is not None]
        if not some:
            return 0
        known = next((v.offset for v in self.vectors if v.weight == some[0]), None)
        if known is not None:
            return known
        offsets = [self.take(padded_floats(w) * 4) for w in some]
        self.vectors += [VectorPlacement(w, offset) for w, offset in zip(some, offsets, strict=True)]
        return offsets[0]

    def matrix(self, w: Weight) -> int:
        """Place a matrix on its own; its offset."""
        size = panel_bytes(w)
        offset = self.take(n_panels(w) * size)
        self.panels.append(PanelPlacement(w, offset, size, n_panels(w), 0))
        return offset

    def interleaved(self, parts: tuple[tuple[Weight, int], ...]) -> tuple[int, int]:
        """Place matrices side by side: each unit holds ``count`` panels of each ``(weight, count)``, an expert's units lie together.
        Returns (offset, unit bytes)."""
        unit_bytes = sum(panel_bytes(w) * count for w, count in parts)
        first, per_unit = parts[0]
        stride = n_panels(first) // per_unit * unit_bytes
        offset = self.take(first.experts * stride)
        inner = 0
        for w, count in parts:
            self.panels.append(PanelPlacement(w, offset + inner, panel_bytes(w), count, unit_bytes, stride if w.experts > 1 else 0))
            inner += panel_bytes(w) * count
        return offset, unit_bytes

    def finish(self, ropes: tuple[RopePlacement, ...]) -> WeightLayout:
        """The frozen layout; its size is a whole number of 4 KiB pages."""
        return WeightLayout(tuple(self.panels), tuple(self.vectors), ropes, align(self.cursor, 4096))


def place(builder: LayoutBuilder, op: o.Op, head_panels: int, group: int) -> Placed:
    """Place the weights of one fused operation."""
    match op:
        case o.NormQuantize():
            return Placed(builder.vector_block(op.weight, op.bias))
        case o.LayerNorm():
            return Placed(builder.vector_block(op.weight, op.bias))
        case o.RmsNorm() | o.NormAdd():
            return Placed(builder.vector_block(op.weight))
        case o.NormRopeKvWrite():
            return Placed(builder.vector_block(op.q_norm, op.k_norm))
        case o.QkvRopeKvWrite():
            q, k, v = op.matrices
            offset, unit_bytes = builder.interleaved(((q, group * head_panels), (k, head_panels), (v, head_panels)))
            return Placed(offset, unit_bytes, builder.vector_block(*op.vectors))
        case o.GateUp():
            unit = unit_panels(n_panels(op.gate))
            offset, unit_bytes = builder.interleaved(((op.gate, unit), (op.up, unit)))
            return Placed(offset, unit_bytes, builder.vector_block(op.gate_bias, op.up_bias))
        case o.Embed():
            offset = builder.matrix(op.weight)
            unit = unit_panels(n_panels(op.weight))
            return Placed(offset, unit * panel_bytes(op.weight), builder.matrix(op.positions) if op.positions is not None else 0)
        case o.Attention():
            sinks = builder.vector_block(op.sinks)
            return Placed(sinks, 0, sinks)
        case e.Route():
            offset = builder.matrix(op.weight)
            if op.shared is not None:  # one more panel
                assert builder.matrix(op.shared) == offset + n_panels(op.weight) * panel_bytes(op.weight)
            return Placed(offset, panel_bytes(op.weight), builder.vector_block(op.bias))
        case e.ExpertsGateUp():
            unit = unit_panels(n_panels(op.gate))
            offset, unit_bytes = builder.interleaved(((op.gate, unit), (op.up, unit)))
            return Placed(offset, unit_bytes, builder.vector_block(op.gate_bias, op.up_bias))
        case e.ExpertsResidual():
            offset, unit_bytes = builder.interleaved(((op.weight, unit_panels(n_panels(op.weight))),))
            return Placed(offset, unit_bytes, builder.vector_block(op.bias))
        case o.Biased():
            unit = unit_panels(n_panels(op.weight))
            offset = builder.matrix(op.weight)
            return Placed(offset, unit * panel_bytes(op.weight), builder.vector_block(op.bias))
    return Placed()
