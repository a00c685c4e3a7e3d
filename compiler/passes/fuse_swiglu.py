"""Linear gate + Linear up + Silu + Mul (+ Quantize) -> GateUpSwiglu: the hidden state is never in memory as f32."""

from __future__ import annotations

from infc.ir import ops as o
from infc.ir.graph import Graph, replace_ops


def fuse_swiglu(graph: Graph) -> Graph:
    """The quantization joins in when int8 is all that the next layer reads and no block of 32 straddles the end."""
    producer = {name: op for op in graph.ops for name in op.outputs}
    consumers = graph.consumers()
    gone: set[int] = set()
    fused: dict[int, o.Op] = {}
    for mul in graph.ops:
        if not isinstance(mul, o.Mul):
            continue
        silu, up = producer[mul.inputs[0]], producer[mul.inputs[1]]
        if not (isinstance(silu, o.Silu) and isinstance(up, o.Linear)):
            continue
        gate = producer[silu.inputs[0]]
        if not isinstance(gate, o.Linear):
            continue
        readers = consumers[mul.outputs[0]]
        last: o.Op = mul
        if len(readers) == 1 and isinstance(readers[0], o.Quantize) and gate.weight.n % 32 == 0:
            last = readers[0]
        gone.update(id(op) for op in (gate, up, silu, mul, last))
        inputs = (gate.inputs[0], up.inputs[0])
        fused[id(last)] = o.GateUpSwiglu(inputs, last.outputs, gate.origin, gate.weight, up.weight, last is not mul)
    ops = [fused.get(id(op), op) for op in graph.ops if id(op) in fused or id(op) not in gone]
    return replace_ops(graph, ops)
