"""Attention + Quantize -> AttentionQuantize: each head's output is whole blocks of 32, so its unit can quantize it."""

from __future__ import annotations

from infc.ir import ops as o
from infc.ir.graph import Graph, replace_ops


def fuse_attention_quantize(graph: Graph) -> Graph:
    """Applies when a head is a whole number of blocks and the projection is the only reader."""
    if graph.config.head_dim % 32 != 0:
        return graph
    producer = {name: op for op in graph.ops for name in op.outputs}
    consumers = graph.consumers()
    ops: list[o.Op] = []
    for op in graph.ops:
        if isinstance(op, o.Attention) and all(isinstance(r, o.Quantize) for r in consumers[op.outputs[0]]):
            continue
        if isinstance(op, o.Quantize):
            attention = producer[op.inputs[0]]
            if isinstance(attention, o.Attention) and len(consumers[op.inputs[0]]) == 1:
                a = attention
                op = o.AttentionQuantize(a.inputs, op.outputs, a.origin, a.layer, a.scale, a.window, a.softcap, a.sinks)
        ops.append(op)
    return replace_ops(graph, ops)
