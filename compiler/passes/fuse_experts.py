"""ExpertLinear gate and up, their activation (and Quantize) -> ExpertsGateUp; ExpertLinear down + ExpertSum -> ExpertsResidual;
the projection of a layer that all rows share, ScaleRows and Add -> SharedResidual."""

from __future__ import annotations

from infc.ir import experts as e
from infc.ir import ops as o
from infc.ir.graph import Graph, replace_ops


def fuse_experts(graph: Graph) -> Graph:
    """As fuse_swiglu and fuse_residual, with the choices as one more input."""
    producer = {name: op for op in graph.ops for name in op.outputs}
    consumers = graph.consumers()
    gone: set[int] = set()
    fused: dict[int, o.Op] = {}
    for act in graph.ops:
        if isinstance(act, o.Mul):
            silu = producer[act.inputs[0]]
            if not isinstance(silu, o.Silu):
                continue
            gate, extra, kind = producer[silu.inputs[0]], [silu], "silu"
        elif isinstance(act, e.SwigluOai):
            gate, extra, kind = producer[act.inputs[0]], [], "swiglu_oai"
        else:
            continue
        up = producer[act.inputs[1]]
        if not (isinstance(gate, e.ExpertLinear) and isinstance(up, e.ExpertLinear)):
            continue
        readers = consumers[act.outputs[0]]
        quantize = len(readers) == 1 and isinstance(readers[0], o.Quantize) and gate.weight.n % 32 == 0
        last = readers[0] if quantize else act
        gone.update(id(op) for op in (gate, up, act, last, *extra))
        inputs = (gate.inputs[0], up.inputs[0], gate.inputs[1])
        fused[id(last)] = e.ExpertsGateUp(inputs, last.outputs, gate.origin, gate.weight, up.weight, kind, quantize, gate.bias, up.bias)
    for total in graph.ops:
        if not isinstance(total, e.ExpertSum):
            continue
        down = producer[total.inputs[1]]
        if isinstance(down, e.ExpertLinear) and len(consumers[down.outputs[0]]) == 1:
            gone.update((id(down), id(total)))
            inputs = (down.inputs[0], total.inputs[0], total.inputs[2])
            fused[id(total)] = e.ExpertsResidual(inputs, total.outputs, down.origin, down.weight, down.bias)
    for add in graph.ops:
        if not isinstance(add, o.Add):
            continue
        scaled = producer[add.inputs[1]]
        if not isinstance(scaled, e.ScaleRows):
            continue
        shared = producer[scaled.inputs[0]]
        if isinstance(shared, o.Linear):
            gone.update((id(shared), id(scaled), id(add)))
            inputs = (shared.inputs[0], add.inputs[0], scaled.inputs[1])
            fused[id(add)] = e.SharedResidual(inputs, add.outputs, shared.origin, shared.weight, shared.bias)
    ops = [fused.get(id(op), op) for op in graph.ops if id(op) in fused or id(op) not in gone]
    return replace_ops(graph, ops)
