"""IR: what each pass must leave behind, and that verify sees a broken graph."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from infc.frontend.families import build
from infc.frontend.gguf import read
from infc.frontend.validate import validate
from infc.ir import ops as o
from infc.ir.graph import Graph, Value, dump
from infc.ir.verify import IllegalGraph, verify
from infc.passes.order import run_passes

Tiny = Callable[..., Path]


def _graph(path: Path) -> Graph:
    model = read(path)
    config, _ = validate(model)
    return verify(build(model, config), "frontend")


def _fused(path: Path) -> Graph:
    return list(run_passes(_graph(path)))[-1][1]


def _count(graph: Graph) -> Counter[str]:
    return Counter(type(op).__name__ for op in graph.ops)


def test_a_quantized_layer_becomes_seven_operations(tiny_llama: Tiny) -> None:
    graph = _fused(tiny_llama(types="Q4_0", head_dim=32))
    layer = [type(op).__name__ for op in graph.ops if op.origin.layer == 0]
    assert layer == [
        "NormQuantize", "QkvRopeKvWrite", "AttentionQuantize", "LinearResidual", "NormQuantize", "GateUp", "LinearResidual",
    ]  # fmt: skip


def test_float_weights_take_no_quantization(tiny_llama: Tiny) -> None:
    count = _count(_fused(tiny_llama(types="F16")))
    assert count["Quantize"] == count["NormQuantize"] == count["AttentionQuantize"] == 0
    assert count["RmsNorm"] == 5 and count["QkvRopeKvWrite"] == 2 and count["GateUp"] == 2


def test_formats_mix_within_one_fusion(tiny_llama: Tiny) -> None:
    graph = _fused(tiny_llama(types={"attn_q": "Q4_0", "attn_k": "F16", "attn_v": "Q8_0", "ffn_gate": "F32", "ffn_up": "Q5_1"}))
    count = _count(graph)
    assert count["QkvRopeKvWrite"] == 2 and count["GateUp"] == 2
    assert count["Linear"] == 0 and count["Head"] == 1
    qkv = next(op for op in graph.ops if isinstance(op, o.QkvRopeKvWrite))
    dtypes = [graph.value(n).dtype for n in qkv.inputs[:3]]
    assert dtypes == ["q8", "f32", "q8"]


def test_heads_that_straddle_blocks_quantize_by_row(tiny_llama: Tiny) -> None:
    count = _count(_fused(tiny_llama(types="Q4_0", head_dim=48)))
    assert count["Attention"] == 2 and count["Quantize"] == 2 and count["AttentionQuantize"] == 0


def test_dump_is_stable(tiny_llama: Tiny) -> None:
    path = tiny_llama(types="Q4_0")
    assert dump(_fused(path)) == dump(_fused(path))
    assert "QkvRopeKvWrite" in dump(_fused(path))


@pytest.mark.parametrize("breakage", ["undeclared", "order", "twice", "width", "output"])
def test_verify_names_the_broken_rule(tiny_llama: Tiny, breakage: str) -> None:
    graph = _graph(tiny_llama(types="F32"))
    ops = list(graph.ops)
    match breakage:
        case "undeclared":
            ops[3] = replace(ops[3], inputs=("nobody",))
        case "order":
            ops[2], ops[3] = ops[3], ops[2]
        case "twice":
            ops.append(ops[-1])
        case "width":
            wrong = tuple(Value(v.name, 7, v.dtype) if v.name == "q.0" else v for v in graph.values)
            graph = replace(graph, values=wrong)
        case "output":
            ops.pop()
    with pytest.raises(IllegalGraph, match="after broken"):
        verify(replace(graph, ops=tuple(ops)), "broken")
