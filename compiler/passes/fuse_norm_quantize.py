"""RmsNorm or LayerNorm + Quantize -> NormQuantize, so that a normalised row is quantized while it is in registers and L1."""

from __future__ import annotations

from infc.ir import ops as o
from infc.ir.graph import Graph, replace_ops


def fuse_norm_quantize(graph: Graph) -> Graph:
    """The norm itself stays where somebody else reads its f32 result (the hidden state, an F16 projection)."""
    consumers = graph.consumers()
    norms = {op.outputs[0]: op for op in graph.ops if isinstance(op, o.RmsNorm | o.LayerNorm)}
    ops: list[o.Op] = []
    for op in graph.ops:
        if isinstance(op, o.RmsNorm | o.LayerNorm):
            readers = consumers[op.outputs[0]]
            only_quantize = bool(readers) and all(isinstance(r, o.Quantize) for r in readers)
            if only_quantize and op.outputs[0] not in graph.outputs:
                continue
        if isinstance(op, o.Quantize) and op.inputs[0] in norms:
            n = norms[op.inputs[0]]
            bias = n.bias if isinstance(n, o.LayerNorm) else None
            op = o.NormQuantize(n.inputs, op.outputs, n.origin, n.weight, bias, n.eps, op.terms)
        ops.append(op)
    return replace_ops(graph, ops)
