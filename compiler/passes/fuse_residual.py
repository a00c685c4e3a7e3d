"""Linear (+ Scale) + Add -> LinearResidual: the projection adds into the residual stream in its epilogue."""

from __future__ import annotations

from infc.ir import ops as o
from infc.ir.graph import Graph, replace_ops


def fuse_residual(graph: Graph) -> Graph:
    """inputs of the fused operation: the linear's activation, then the stream it adds to."""
    producer = {name: op for op in graph.ops for name in op.outputs}
    consumers = graph.consumers()
    gone: set[int] = set()
    fused: dict[int, o.Op] = {}
    for add in graph.ops:
        if not isinstance(add, o.Add):
            continue
        linear = producer[add.inputs[1]]
        scaled = linear if isinstance(linear, o.Scale) else None
        if scaled is not None:
            linear = producer[scaled.inputs[0]]
        if isinstance(linear, o.Linear) and len(consumers[linear.outputs[0]]) == 1:
            gone.update((id(linear), id(scaled), id(add)))
            fused[id(add)] = o.LinearResidual(
                (linear.inputs[0], add.inputs[0]),
                add.outputs,
                linear.origin,
                linear.weight,
                linear.bias,
                scaled.factor if scaled is not None else 1.0,
            )
    ops = [fused.get(id(op), op) for op in graph.ops if id(op) in fused or id(op) not in gone]
    return replace_ops(graph, ops)
