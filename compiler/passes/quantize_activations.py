"""Puts a Quantize before every linear layer whose weights want int8 activations; one per value, however many readers."""

from __future__ import annotations

from dataclasses import replace

from infc.formats import format_of
from infc.ir import experts as e
from infc.ir import ops as o
from infc.ir.graph import Graph, Value, replace_ops
from infc.ir.verify import quantized as dtype_of


def quantize_activations(graph: Graph) -> Graph:
    """Linear(x f32) -> Linear(Quantize(x)) where the weight's format is block-quantized.

    The head reads two terms: rounding its one input to int8 alone makes 30 % of the model's KL divergence (docs/arithmetic.md), and
    its weights are read once either way.
    """
    values = graph.value_map()
    new_values: list[Value] = []
    quantized: dict[str, str] = {}
    ops: list[o.Op] = []
    for op in graph.ops:
        if isinstance(op, o.Linear | o.Head | e.ExpertLinear) and format_of(op.weight.type).activation == "q8":
            x = op.inputs[0]
            terms = 2 if isinstance(op, o.Head) else 1
            if x not in quantized:
                name = f"{x}:{dtype_of(terms)}"
                quantized[x] = name
                new_values.append(replace(values[x], name=name, dtype=dtype_of(terms)))
                ops.append(o.Quantize((x,), (name,), op.origin, terms))
            op = replace(op, inputs=(quantized[x], *op.inputs[1:]))
        ops.append(op)
    return replace_ops(graph, ops, tuple(new_values))
