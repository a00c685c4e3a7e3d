"""Linear gate + Linear up + activation + Mul (+ Quantize) -> GateUp, Linear + activation (+ Quantize) -> Up: the hidden state is
never in memory as f32 where int8 is all that the next layer reads."""

from __future__ import annotations

from infc.ir import ops as o
from infc.ir.graph import Graph, replace_ops

_ACTIVATIONS = {o.Silu: "silu", o.Gelu: "gelu", o.Relu2: "relu2"}


def fuse_mlp(graph: Graph) -> Graph:
    """The quantization joins in when int8 is all that the next layer reads and no block of 32 straddles the end."""
    producer = {name: op for op in graph.ops for name in op.outputs}
    consumers = graph.consumers()
    gone: set[int] = set()
    fused: dict[int, o.Op] = {}
    for act in graph.ops:
        if not isinstance(act, o.Silu | o.Gelu | o.Relu2):
            continue
        gate = producer[act.inputs[0]]
        if not isinstance(gate, o.Linear):
            continue
        what = _ACTIVATIONS[type(act)]
        last: o.Op = act
        parts: tuple[o.Op, ...] = (gate, act)
        up: o.Op | None = None
        readers = consumers[act.outputs[0]]
        if len(readers) == 1 and isinstance(readers[0], o.Mul):
            last, up = readers[0], producer[readers[0].inputs[1]]
            if not isinstance(up, o.Linear):
                continue
            parts = (gate, up, act, last)
            readers = consumers[last.outputs[0]]
        quantize = len(readers) == 1 and isinstance(readers[0], o.Quantize) and gate.weight.n % 32 == 0
        if quantize:
            last = readers[0]
        gone.update(id(op) for op in (*parts, last))
        if isinstance(up, o.Linear):
            inputs = (gate.inputs[0], up.inputs[0])
            fused[id(last)] = o.GateUp(inputs, last.outputs, gate.origin, gate.weight, up.weight, what, quantize, gate.bias, up.bias)
        else:
            fused[id(last)] = o.Up(gate.inputs, last.outputs, gate.origin, gate.weight, gate.bias, what, quantize)
    ops = [fused.get(id(op), op) for op in graph.ops if id(op) in fused or id(op) not in gone]
    return replace_ops(graph, ops)
