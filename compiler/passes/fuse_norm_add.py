"""RmsNorm + Add -> NormAdd: a block's result is normalised as it joins the residual stream."""

from __future__ import annotations

from infc.ir import ops as o
from infc.ir.graph import Graph, replace_ops


def fuse_norm_add(graph: Graph) -> Graph:
    """inputs of the fused operation: the norm's, then the stream it adds to."""
    producer = {name: op for op in graph.ops for name in op.outputs}
    consumers = graph.consumers()
    gone: set[int] = set()
    fused: dict[int, o.Op] = {}
    for add in graph.ops:
        if not isinstance(add, o.Add):
            continue
        norm = producer[add.inputs[1]]
        if isinstance(norm, o.RmsNorm) and len(consumers[norm.outputs[0]]) == 1:
            gone.update((id(norm), id(add)))
            fused[id(add)] = o.NormAdd((norm.inputs[0], add.inputs[0]), add.outputs, norm.origin, norm.weight, norm.eps)
    ops = [fused.get(id(op), op) for op in graph.ops if id(op) in fused or id(op) not in gone]
    return replace_ops(graph, ops)
