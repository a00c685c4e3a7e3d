"""What a mixture of experts adds to graph, plan, layout and costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from infc.formats import format_of
from infc.frontend.families import build
from infc.frontend.gguf import ModelFile, read
from infc.frontend.validate import validate
from infc.ir import experts as e
from infc.ir.graph import Graph
from infc.kernels.target import target
from infc.options import CompileOptions
from infc.passes.order import run_passes
from infc.plan import Plan, build_plan
from infc.plan.cost import phase_costs, step_cost
from infc.plan.experts import GATHER_ROWS, GROUP_BYTES, MEMBER_BYTES, most_members
from infc.plan.memory import align
from infc.plan.plan import padded
from infc.weights.blob import weight_runs
from infc.weights.repack import unpack
from tests.models.tiny_moe import EXPERT_TYPES

Moe = Callable[[str], Path]


def planned(path: Path) -> tuple[ModelFile, Graph, Plan]:
    model = read(path)
    config, warnings = validate(model)
    assert warnings == []
    graph = list(run_passes(build(model, config)))[-1][1]
    return model, graph, build_plan(graph, CompileOptions.create(), (target("avx2"),), "tiny")


@pytest.mark.parametrize("family", EXPERT_TYPES)
def test_everything_is_fused(family: str, tiny_moe: Moe) -> None:
    _, graph, plan = planned(tiny_moe(family))
    plain = e.ExpertLinear | e.ExpertSum | e.SwigluOai | e.ScaleRows
    assert not [op for op in graph.ops if isinstance(op, plain)]
    kinds = {p.kind for k in plan.targets[0].kinds for p in k.phases}
    assert {"route", "experts_gate_up", "experts_residual"} <= kinds and ("gate_up" in kinds) == (family == "qwen2moe")
    assert len(plan.targets[0].kinds) == (2 if family == "gpt-oss" else 1)  # its layers see a window in turn


@pytest.mark.parametrize("family", EXPERT_TYPES)
def test_a_threads_lists_and_copies_are_large_enough(family: str, tiny_moe: Moe) -> None:
    _, _, plan = planned(tiny_moe(family))
    experts = plan.config.experts
    assert experts is not None
    members = most_members(plan.max_rows, experts.used, experts.count)
    h = next(b for b in plan.buffers if b.name.startswith("experts_h"))
    assert (h.rows, h.width) == (members, experts.hidden_dim)
    source = "post_attention_norm" if family == "gpt-oss" else "ffn_norm"
    if EXPERT_TYPES[family] == "F16":
        gather, size = f"gather_{source}", 4 * GATHER_ROWS * plan.config.dim
    else:
        gather, size = f"gather_{source}_q8", padded(GATHER_ROWS) * (plan.config.dim + 3 * 4 * plan.config.dim // 32)
    sizes = {"groups": align(experts.count * GROUP_BYTES) + members * MEMBER_BYTES, gather: size}
    offsets = dict(plan.private.offsets)
    for name, size in sizes.items():
        others = [at for other, at in offsets.items() if at > offsets[name]]
        assert offsets[name] + size <= min([*others, plan.private.size]), name


@pytest.mark.parametrize("family", EXPERT_TYPES)
def test_each_expert_lies_where_the_plan_says(family: str, tiny_moe: Moe) -> None:
    """Every byte of every expert, found again by the strides that the emitted code uses."""
    model, _, plan = planned(tiny_moe(family))
    section = np.zeros(plan.layout.size, np.uint8)
    for offset, run in weight_runs(plan, model):
        section[offset : offset + run.size] = run
    seen = 0
    for phase in plan.targets[0].kinds[0].phases:
        if phase.experts is None or phase.kind == "route":
            continue
        base = plan.layer_offsets[0] + phase.offset
        for lin in phase.linears:
            role = lin.role.removeprefix("ffn_")
            f = format_of(lin.weight_type)
            file = model.data(f"blk.0.ffn_{role}_exps.weight").reshape(phase.experts.count, lin.n, -1)
            size = lin.panels_per_unit * lin.k // f.block_size * f.r16_bytes
            for i in range(phase.experts.count):
                units = [base + i * phase.experts.stride + u * phase.unit_bytes + lin.unit_offset for u in range(phase.units)]
                panels = np.concatenate([section[at : at + size] for at in units]).reshape(lin.n // 16, -1)
                np.testing.assert_array_equal(unpack(lin.weight_type, panels), file[i])
                seen += 1
    assert seen == 3 * 6


def test_a_row_reads_its_own_experts_only(tiny_moe: Moe) -> None:
    _, _, plan = planned(tiny_moe("mixtral"))
    c, experts = plan.config, plan.config.experts
    assert experts is not None
    by_kind = {p.phase.kind: p for p in phase_costs(plan, plan.targets[0])}
    matrix = 64 * 96 // 32 * 18
    assert by_kind["experts_gate_up"].expert_bytes == 2 * matrix and by_kind["experts_residual"].expert_bytes == matrix
    assert by_kind["experts_gate_up"].int_macs == experts.used * 2 * c.dim * experts.hidden_dim
    assert by_kind["route"].weight_bytes == 16 * c.dim * 4
    dense = sum(p.calls * p.weight_bytes for p in phase_costs(plan, plan.targets[0]))
    assert step_cost(plan).stream_bytes == dense + c.n_layers * experts.used * 3 * matrix


def test_units_share_no_barrier_only_where_both_follow(tiny_moe: Moe) -> None:
    _, _, plan = planned(tiny_moe("qwen2moe"))
    found = [(p.kind, p.barrier) for p in plan.targets[0].kinds[0].phases][-5:]
    assert found == [("norm", True), ("experts_gate_up", False), ("gate_up", True), ("experts_residual", False), ("residual", True)]
