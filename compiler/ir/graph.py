"""The graph: values, operations in execution order, and a text form that never changes without a reason."""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, fields
from typing import Any

from infc.frontend.config import ModelConfig, Rope, Yarn
from infc.ir.ops import Op, Origin, Projection, Weight


@dataclass(frozen=True)
class Value:
    """``(M, width)`` of ``dtype``: ``i32``, ``f32``, ``q8`` (int8 blocks of 32 with scales), ``q8x2`` (two of them, to be
    added), ``choice`` (an expert and its weight) or ``kv`` (the page pool). ``slots`` > 0: ``(M, slots, width)``, a row per expert used."""

    name: str
    width: int
    dtype: str
    slots: int = 0


@dataclass(frozen=True)
class Graph:
    """One forward step. ``ops`` are in execution order; every value but ``inputs`` is written by exactly one operation."""

    config: ModelConfig
    values: tuple[Value, ...]
    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def value(self, name: str) -> Value:
        """The value called ``name``; KeyError if there is none."""
        for v in self.values:
            if v.name == name:
                return v
        raise KeyError(name)

    def value_map(self) -> dict[str, Value]:
        """Values by name."""
        return {v.name: v for v in self.values}

    def consumers(self) -> dict[str, list[Op]]:
        """Operations that read each value, in execution order."""
        out: dict[str, list[Op]] = {v.name: [] for v in self.values}
        for op in self.ops:
            for name in op.inputs:
                out[name].append(op)
        return out


def replace_ops(graph: Graph, ops: list[Op], new_values: tuple[Value, ...] = ()) -> Graph:
    """The graph with ``ops`` in place of its own, values that nobody reads or writes dropped."""
    used = set(graph.inputs) | set(graph.outputs)
    for op in ops:
        used.update(op.inputs, op.outputs)
    values = tuple(v for v in (*graph.values, *new_values) if v.name in used)
    return Graph(graph.config, values, tuple(ops), graph.inputs, graph.outputs)


def _attribute(value: Any) -> str:
    match value:
        case Weight():
            part = f"+{value.first}" if value.first else ""
            order = f"~{value.halves[0]}/{value.halves[1]}" if value.halves is not None else ""
            experts = f"{value.experts}," if value.experts > 1 else ""
            return f"{value.tensor}{part}{order}:{value.type}[{experts}{value.n},{value.k}]"
        case Projection():
            return "(" + " ".join(_attribute(w) for w in (value.weight, value.bias, value.norm) if w is not None) + ")"
        case Rope() | Yarn():
            return "(" + " ".join(f"{f.name}={_attribute(getattr(value, f.name))}" for f in _telling(value)) + ")"
        case float():
            return value.hex()
    return str(value)


def _telling(item: Op | Rope | Yarn) -> list[Field[Any]]:
    """The fields of its own whose values are not the default."""
    own = (f for f in fields(item) if f.name not in ("inputs", "outputs", "origin"))
    return [f for f in own if f.default is MISSING or getattr(item, f.name) != f.default]


def dump(graph: Graph) -> str:
    """Stable text: one line a value, one line an operation; what an operation leaves at its default is not mentioned."""
    c = graph.config
    lines = [f"graph {c.arch} dim={c.dim} layers={c.n_layers} heads={c.n_heads}/{c.n_kv_heads} head_dim={c.head_dim}"]
    lines += [f"  value {v.name}: {v.dtype}[M,{f'{v.slots},' if v.slots else ''}{v.width}]" for v in graph.values]
    for op in graph.ops:
        attrs = " ".join(f"{f.name}={_attribute(getattr(op, f.name))}" for f in _telling(op))
        lines.append(f"  {', '.join(op.outputs)} = {type(op).__name__}({', '.join(op.inputs)}) {attrs}".rstrip())
    lines.append(f"  return {', '.join(graph.outputs)}")
    return "\n".join(lines) + "\n"


__all__ = ["Graph", "Origin", "Value", "dump", "replace_ops"]
