"""Linear q, k, v + heads' norms + Rope + Rope + KvWrite -> QkvRopeKvWrite: one pass over the weights, no f32 k or v in memory.

Where q and k are normalised as whole rows the projections stay, and what follows them becomes NormRopeKvWrite.
"""

from __future__ import annotations

from infc.ir import ops as o
from infc.ir.graph import Graph, replace_ops


class _Chain:
    """What happens to q or k between its projection and its use, walking back from ``name``."""

    def __init__(self, producer: dict[str, o.Op], name: str) -> None:
        self.ops: list[o.Op] = []
        self.rope: tuple[str, ...] = ()
        self.norm: o.HeadNorm | o.RmsNorm | None = None
        op = producer[name]
        if isinstance(op, o.Rope):
            self.ops.append(op)
            self.rope, op = op.inputs[1:], producer[op.inputs[0]]
        if isinstance(op, o.HeadNorm | o.RmsNorm):
            self.ops.append(op)
            self.norm, op = op, producer[op.inputs[0]]
        self.linear = op


def _projection(linear: o.Linear, norm: o.HeadNorm | o.RmsNorm | None) -> o.Projection:
    return o.Projection(linear.weight, linear.bias, None if norm is None else norm.weight)


def fuse_qkv(graph: Graph) -> Graph:
    """q, k and v may read the same norm as int8 or as f32, each as its own weight format wants."""
    producer = {name: op for op in graph.ops for name in op.outputs}
    consumers = graph.consumers()
    gone: set[int] = set()
    fused: dict[int, o.Op] = {}
    for write in graph.ops:
        if not isinstance(write, o.KvWrite):
            continue
        attention = consumers[write.outputs[0]][0]
        if not isinstance(attention, o.Attention):
            continue
        q, k, v = _Chain(producer, attention.inputs[0]), _Chain(producer, write.inputs[0]), producer[write.inputs[1]]
        outputs = (attention.inputs[0], write.outputs[0])
        if not (isinstance(q.linear, o.Linear) and isinstance(k.linear, o.Linear) and isinstance(v, o.Linear)) or q.rope != k.rope:
            continue
        eps = q.norm.eps if q.norm is not None else 0.0
        if isinstance(q.norm, o.RmsNorm) and isinstance(k.norm, o.RmsNorm):
            rows = (q.linear.outputs[0], k.linear.outputs[0], v.outputs[0], *q.rope)
            norms = (q.norm.weight, k.norm.weight)
            replaced: o.Op = o.NormRopeKvWrite(rows, outputs, write.origin, *norms, write.layer, eps, attention.scale)
            gone.update(id(op) for op in (*q.ops, *k.ops))
        elif not isinstance(q.norm, o.RmsNorm) and not isinstance(k.norm, o.RmsNorm):
            inputs = (q.linear.inputs[0], k.linear.inputs[0], v.inputs[0], *q.rope)
            parts = (_projection(q.linear, q.norm), _projection(k.linear, k.norm), _projection(v, None))
            replaced = o.QkvRopeKvWrite(inputs, outputs, q.linear.origin, *parts, write.layer, eps, attention.scale)
            gone.update(id(op) for op in (q.linear, k.linear, v, *q.ops, *k.ops))
        else:
            continue
        gone.add(id(write))
        fused[id(write)] = replaced
    ops = [fused.get(id(op), op) for op in graph.ops if id(op) in fused or id(op) not in gone]
    return replace_ops(graph, ops)
