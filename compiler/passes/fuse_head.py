"""Linear (+ Scale) (+ Softcap) -> Head where the result is the logits: what is done to a logit is its epilogue."""

from __future__ import annotations

from infc.ir import ops as o
from infc.ir.graph import Graph, replace_ops


def fuse_head(graph: Graph) -> Graph:
    """Walks back from the graph's outputs."""
    producer = {name: op for op in graph.ops for name in op.outputs}
    gone: set[int] = set()
    fused: dict[int, o.Op] = {}
    for name in graph.outputs:
        last = op = producer[name]
        cap, scale = 0.0, 1.0
        if isinstance(op, o.Softcap):
            gone.add(id(op))
            cap, op = op.cap, producer[op.inputs[0]]
        if isinstance(op, o.Scale):
            gone.add(id(op))
            scale, op = op.factor, producer[op.inputs[0]]
        if isinstance(op, o.Linear):
            gone.add(id(op))
            fused[id(last)] = o.Head(op.inputs, (name,), op.origin, op.weight, op.bias, scale, cap)
    ops = [fused.get(id(op), op) for op in graph.ops if id(op) in fused or id(op) not in gone]
    return replace_ops(graph, ops)
