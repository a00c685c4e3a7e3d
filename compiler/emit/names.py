"""Kernel names: what, ``__``, how, ``__``, where. Rendered from the plan, never parsed."""

from __future__ import annotations

from infc.kernels.target import Target
from infc.plan.plan import LinearPlan, Phase

_ACTIVATED = {"gelu": "gelu", "relu2": "relu2"}
_GATED = {"silu": "swiglu", "gelu": "geglu"}


def _fused(phase: Phase) -> list[str]:
    """What the epilogue does, in the order in which it does it."""
    what = ["bias"] if any(lin.bias >= 0 for lin in phase.linears) else []
    match phase.kind:
        case "qkv":
            what += ["norm"] if max(phase.head_norms) >= 0 else []
            what += [phase.rope.replace("_", ""), "kv"] if phase.rope else ["kv"]
        case "gate_up":
            what.append(_GATED[phase.activation])
        case "up":
            what.append(_ACTIVATED[phase.activation])
        case "residual" | "head":
            what += ["scaled"] if phase.scale != 1 else ["shared"] if phase.row_scale else []
            what += ["capped"] if phase.cap else []
            what += ["residual"] if phase.kind == "residual" else []
        case "store":
            what.append("store")
    return what + (["q8"] if phase.quantize else [])


def _formats(linears: tuple[LinearPlan, ...]) -> str:
    """The weight formats, once if they agree, then the activation formats likewise."""
    weights = list(dict.fromkeys(lin.weight_type.lower() for lin in linears))
    activations = list(dict.fromkeys(lin.kernels[0].activation for lin in linears))
    if len(weights) > 1:  # which matrix has which format is part of the name
        weights = [lin.weight_type.lower() for lin in linears]
    return "_".join(weights + activations)


def linear_name(phase: Phase, batch: str, target: Target) -> str:
    """E.g. ``gemv2_q4_1_q8_swiglu_q8__avx2_r16__n1536_k576``."""
    count = len(phase.linears)
    what = [batch + (str(count) if count > 1 else ""), _formats(phase.linears), *_fused(phase)]
    n = sum(lin.n for lin in phase.linears) if phase.kind == "qkv" else phase.linears[0].n
    shape = f"n{n}_k{phase.linears[0].k}"
    return "__".join(("_".join(w for w in what if w), f"{target.isa}_r16", shape))


def experts_name(phase: Phase, target: Target) -> str:
    """E.g. ``experts2_q4_1_q8_swiglu_q8__avx2_r16__e8_n1536_k576``: one function for any number of rows."""
    assert phase.experts is not None
    e, lin = phase.experts, phase.linears[0]
    what = {"route": "route", "experts_gate_up": "experts2", "experts_residual": "experts"}[phase.kind]
    gated = {"silu": "swiglu", "": ""}.get(phase.activation, phase.activation) + ("_q8" if phase.quantize else "")
    act = {"route": f"top{e.used}", "experts_residual": "residual"}.get(phase.kind, gated)
    bias = "bias_" if any(lin.bias >= 0 for lin in phase.linears) else ""
    return f"{what}_{_formats(phase.linears)}_{bias}{act}__{target.isa}_r16__e{e.count}_n{lin.n}_k{lin.k}"


def attention_name(phase: Phase, target: Target, kv: str, head_dim: int, group: int, page: int) -> str:
    """E.g. ``attention_f16_q8__avx2_p32__h64_g3``."""
    what = f"attention_{kv}" + ("_capped" if phase.cap else "") + ("_sinks" if phase.sinks else "")
    what += "_unturned" if phase.source == "q" else ""  # queries that no position turns have a buffer of their own
    what += "_q8" if phase.quantize else ""
    return f"{what}__{target.isa}_p{page}__h{head_dim}_g{group}" + (f"_w{phase.window}" if phase.window else "")
