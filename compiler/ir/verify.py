"""What makes a graph legal. Run between all stages: a pass is not trusted because the last one was."""

from __future__ import annotations

from infc.errors import InfcError
from infc.ir import experts as e
from infc.ir import ops as o
from infc.ir.graph import Graph, Value


class IllegalGraph(InfcError):
    """A stage of the compiler produced a graph that breaks a rule: a bug in infc, never in the model file."""


def _fail(stage: str, op: o.Op, why: str) -> None:
    raise IllegalGraph("IR", f"after {stage}: {type(op).__name__}({', '.join(op.inputs)}): {why}", op.origin.tensor)


def quantized(terms: int) -> str:
    """The dtype of an activation quantized in ``terms`` int8 terms."""
    return {1: "q8", 2: "q8x2"}[terms]


def _signature(op: o.Op, graph: Graph) -> tuple[tuple[tuple[str, int], ...], tuple[tuple[str, int], ...]] | None:
    """Expected (dtype, width) of inputs and outputs; width -1 is any; None for operations that check themselves."""
    c = graph.config
    q_width, kv_width = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    match op:
        case o.Embed():
            return (("i32", 1),) * (1 if op.positions is None else 2), (("f32", op.weight.k),)
        case o.RopeRows():
            return (("i32", 1),), (("f32", 2 * c.head_dim),)
        case o.RmsNorm() | o.LayerNorm():
            return (("f32", op.weight.k),), (("f32", op.weight.k),)
        case o.NormQuantize():
            return (("f32", op.weight.k),), ((quantized(op.terms), op.weight.k),)
        case o.NormAdd():
            return (("f32", op.weight.k),) * 2, (("f32", op.weight.k),)
        case o.HeadNorm():
            width = op.n_heads * op.weight.k
            return (("f32", width),), (("f32", width),)
        case o.Rope():
            width = op.n_heads * c.head_dim
            return (("f32", width), ("f32", 2 * c.head_dim)), (("f32", width),)
        case o.KvWrite():
            return (("f32", kv_width), ("f32", kv_width)), (("kv", kv_width),)
        case o.AttentionQuantize():
            return (("f32", q_width), ("kv", kv_width)), (("q8", q_width),)
        case o.Attention():
            return (("f32", q_width), ("kv", kv_width)), (("f32", q_width),)
        case o.GateUp():
            act = "q8" if op.quantize else "f32"
            return (("*", op.gate.k), ("*", op.up.k)), ((act, op.gate.n),)
        case o.Up():
            act = "q8" if op.quantize else "f32"
            return (("*", op.weight.k),), ((act, op.weight.n),)
        case o.QkvRopeKvWrite():
            x = ("*", op.q.weight.k)
            rope = (("f32", 2 * c.head_dim),) * (len(op.inputs) - 3)
            return (x, x, x, *rope), (("f32", q_width), ("kv", kv_width))
        case o.NormRopeKvWrite():
            rope = (("f32", 2 * c.head_dim),) * (len(op.inputs) - 3)
            return (("f32", q_width), ("f32", kv_width), ("f32", kv_width), *rope), (("f32", q_width), ("kv", kv_width))
        case o.Linear() | o.Head():
            return (("*", op.weight.k),), (("f32", op.weight.n),)
        case o.LinearResidual():
            return (("*", op.weight.k), ("f32", op.weight.n)), (("f32", op.weight.n),)
        case e.Route():
            panels = -(-op.weight.n // 16)
            share = (("f32", 1),) if op.shared is not None else ()
            return (("f32", op.weight.k),), (("choice", op.n_used), ("f32", 16 * (panels + len(share))), *share)
        case e.ExpertLinear():
            return (("*", op.weight.k), ("choice", -1)), (("f32", op.weight.n),)
        case e.ScaleRows():
            return (("f32", c.dim), ("f32", 1)), (("f32", c.dim),)
        case e.SharedResidual():
            return (("*", op.weight.k), ("f32", op.weight.n), ("f32", 1)), (("f32", op.weight.n),)
        case e.ExpertSum():
            return (("f32", c.dim), ("f32", c.dim), ("choice", -1)), (("f32", c.dim),)
        case e.ExpertsGateUp():
            act = "q8" if op.quantize else "f32"
            return (("*", op.gate.k), ("*", op.up.k), ("choice", -1)), ((act, op.gate.n),)
        case e.ExpertsResidual():
            return (("*", op.weight.k), ("f32", op.weight.n), ("choice", -1)), (("f32", op.weight.n),)
    return None


def _check_same(stage: str, op: o.Op, values: dict[str, Value]) -> None:
    """Element-wise operations keep the width of their inputs."""
    widths = {(values[n].width, values[n].slots) for n in (*op.inputs, *op.outputs) if values[n].dtype != "i32"}
    if len(widths) != 1:
        _fail(stage, op, f"widths differ: {sorted(widths)}")


def verify(graph: Graph, stage: str) -> Graph:
    """Return the graph if it is legal, else raise IllegalGraph naming the stage, the operation and the rule."""
    values = graph.value_map()
    if len(values) != len(graph.values):
        raise IllegalGraph("IR", f"after {stage}: a value is declared twice")
    written = set(graph.inputs)
    for op in graph.ops:
        for name in op.inputs:
            if name not in values:
                _fail(stage, op, f"reads undeclared {name}")
            if name not in written:
                _fail(stage, op, f"reads {name} before it is written")
        signature = _signature(op, graph)
        if signature is None:
            _check_same(stage, op, values)
        else:
            for names, expected in ((op.inputs, signature[0]), (op.outputs, signature[1])):
                if len(names) != len(expected):
                    _fail(stage, op, f"has {len(names)} values where {len(expected)} belong")
                for name, (dtype, width) in zip(names, expected, strict=True):
                    v = values.get(name)
                    if v is None or (dtype != "*" and v.dtype != dtype) or (width >= 0 and v.width != width):
                        _fail(stage, op, f"{name} is {v}, expected {dtype}[M,{width}]")
        for name in op.outputs:
            if name in written:
                _fail(stage, op, f"writes {name} a second time")
            written.add(name)
    for name in graph.outputs:
        if name not in written:
            raise IllegalGraph("IR", f"after {stage}: output {name} is never written")
    return graph
