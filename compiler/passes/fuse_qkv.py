"""Linear q, k, v + Rope + Rope + KvWrite -> QkvRopeKvWrite: one pass over the weights, no f32 k or v in memory."""

from __future__ import annotations

from infc.ir import ops as o
from infc.ir.graph import Graph, replace_ops


def fuse_qkv(graph: Graph) -> Graph:
    """q, k and v may read the same norm as int8 or as f32, each as its own weight format wants."""
    producer = {name: op for op in graph.ops for name in op.outputs}
    consumers = graph.consumers()
    gone: set[int] = set()
    fused: dict[int, o.Op] = {}
    for write in graph.ops:
        if not isinstance(write, o.KvWrite):
            continue
        rope_k, v = producer[write.inputs[0]], producer[write.inputs[1]]
        attention = consumers[write.outputs[0]][0]
        rope_q = producer[attention.inputs[0]]
        if not (isinstance(rope_k, o.Rope) and isinstance(rope_q, o.Rope) and isinstance(v, o.Linear)):
            continue
        q, k = producer[rope_q.inputs[0]], producer[rope_k.inputs[0]]
        if not (isinstance(q, o.Linear) and isinstance(k, o.Linear)):
            continue
        gone.update(id(op) for op in (q, k, v, rope_q, rope_k, write))
        inputs = (q.inputs[0], k.inputs[0], v.inputs[0], rope_q.inputs[1])
        outputs = (rope_q.outputs[0], write.outputs[0])
        fused[id(write)] = o.QkvRopeKvWrite(inputs, outputs, q.origin, q.weight, k.weight, v.weight, write.layer)
    ops = [fused.get(id(op), op) for op in graph.ops if id(op) in fused or id(op) not in gone]
    return replace_ops(graph, ops)
