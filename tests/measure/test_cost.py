"""What a step is said to cost, against the layout, the emitted C and the description of the model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from infc.binding.artifact import Artifact
from infc.emit import emit
from infc.plan.cost import phase_costs, step_cost
from infc.plan.layout import n_panels
from infc.plan.plan import Plan
from tests.models.families import WINDOW, write_family
from tests.unit.test_golden import _plan

Tiny = Callable[..., Path]
MODELS = [{"types": "Q4_1"}, {"types": "mixed", "tied": False, "n_layers": 3}, {"types": "F16"}]


def matrices(plan: Plan) -> int:
    """Bytes of all placed matrices and vectors but an embedding table that only the look-up reads."""
    tied = not any(p.weight.tensor == "output.weight" for p in plan.layout.panels)
    panels = [p for p in plan.layout.panels if tied or p.weight.tensor != "token_embd.weight"]
    return sum(n_panels(p.weight) * p.panel_bytes for p in panels) + sum(4 * v.weight.k for v in plan.layout.vectors)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_a_step_streams_every_weight_once(model: dict[str, object], tiny_llama: Tiny) -> None:
    _, plan = _plan(tiny_llama(**model), ("avx2", "scalar"))
    cost = step_cost(plan)
    assert cost.stream_bytes == matrices(plan)
    assert cost.stream_bytes <= plan.layout.size - sum(r.size for r in plan.layout.ropes)
    last = f"blk.{plan.config.n_layers - 1}."
    head = "token_embd.weight" if plan.config.tied_embeddings else "output.weight"
    tail = {head, "output_norm.weight", *(f"{last}{name}.weight" for name in ("attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"))}
    panels = sum(n_panels(p.weight) * p.panel_bytes for p in plan.layout.panels if p.weight.tensor in tail)
    assert cost.head_bytes == panels + sum(4 * v.weight.k for v in plan.layout.vectors if v.weight.tensor in tail)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_multiply_accumulates_are_those_of_the_shapes(model: dict[str, object], tiny_llama: Tiny) -> None:
    _, plan = _plan(tiny_llama(**model), ("scalar",))
    c, cost = plan.config, step_cost(plan)
    q, kv = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    tail = q * c.dim + 3 * c.dim * c.hidden_dim  # of the last layer for rows that somebody wants, as are its later norms
    linear = c.n_layers * (c.dim * (q + 2 * kv) + tail) - tail
    costs = [p for p in phase_costs(plan, plan.targets[0])[:-2] if p.phase.kind == "norm"]
    norms, late = (sum(2 * c.dim * n for n in calls) for calls in ([p.calls for p in costs], [p.wanted_calls for p in costs]))
    assert late in (2 * c.dim, 4 * c.dim)  # in two precisions, if matrices of one layer want both
    assert cost.int_macs + cost.f32_macs == linear + norms - late
    terms = 2 if plan.targets[0].epilogue[-1].terms == 2 else 1
    assert cost.head_int_macs + cost.head_f32_macs == terms * c.dim * c.vocab_size + 2 * c.dim + tail + late


@pytest.mark.parametrize("kv", ["q16", "f16"])
def test_attention_multiplies_what_the_cache_holds(kv: str, tiny_llama: Tiny) -> None:
    _, plan = _plan(tiny_llama(), ("scalar",), kv=kv)
    cost, macs = step_cost(plan), 2 * plan.config.n_heads * plan.config.head_dim
    assert (cost.kv_int16_macs, cost.kv_f32_macs) == ((macs, 0) if kv == "q16" else (0, macs))
    assert (cost.kv_window, cost.kv_windowed_layers, cost.kv_last_window) == (0, 0, 0)


@pytest.mark.parametrize(
    ("family", "windowed", "last"), [("llama", 3, WINDOW), ("gemma2", 2, WINDOW), ("gemma3", 6, WINDOW), ("qwen2", 0, 0)]
)
def test_windows_bound_what_attention_reads(family: str, windowed: int, last: int, tmp_path: Path) -> None:
    _, plan = _plan(write_family(tmp_path / "m.gguf", family), ("scalar",))
    cost = step_cost(plan)
    assert (cost.kv_window, cost.kv_windowed_layers, cost.kv_last_window) == (WINDOW if windowed else 0, windowed, last)
    attention = [p for p in phase_costs(plan, plan.targets[0]) if p.phase.kind == "attention"]
    assert sum(p.calls for p in attention) == plan.config.n_layers
    assert sum(p.calls for p in attention if p.window == WINDOW) == windowed


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_every_phase_has_its_probe(model: dict[str, object], tiny_llama: Tiny, tmp_path: Path) -> None:
    """The numbers in the emitted C, in order of the text, are those of the table; the function called before a probe is in its row."""
    _, plan = _plan(tiny_llama(**model), ("avx2", "scalar"))
    emit(plan, tmp_path)
    table = json.loads((tmp_path / "src" / "phases.json").read_text())
    assert set(table) == {"avx2", "scalar"}
    for isa, phases in table.items():
        text = (tmp_path / "src" / f"forward_{isa}.c").read_text()
        found = [int(n) for n in re.findall(r"INFC_PROBE\(&?p, (\d+)\)", text)]
        assert sorted(found) == [p["probe"] for p in phases] == list(range(len(phases)))
        before = {int(n): body for body, n in re.findall(r"((?:(?!INFC_PROBE).)*)INFC_PROBE\(&?p, (\d+)\)", text, flags=re.S)}
        for p in phases:
            called = [k["name"] for k in p["kernels"] if k["name"] + "(" in before[p["probe"]] or p["phase"] == "embed"]
            assert called == [k["name"] for k in p["kernels"]], p["phase"]


def test_the_description_says_what_bench_needs(tiny_artifact: Artifact, tiny_llama: Tiny) -> None:
    _, plan = _plan(tiny_llama(), ("scalar",))
    with tiny_artifact.load(threads=1) as llm:
        meta = llm.meta
    cost = step_cost(plan)
    assert {name: meta[name] for name in vars(cost)} == vars(cost)
