"""Rotation: config.json's ``rope_theta``, ``rope_scaling`` and ``rope_parameters`` as GGUF's keys and tensors of factors."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

from infc.errors import InputError
from infc.frontend.hf.config import Config, real
from infc.frontend.hf.folder import CONFIG

Made: TypeAlias = "dict[str, list[float]]"  # tensors that config.json holds: name -> float32 values
_KNOWN = ("linear", "llama3", "yarn", "longrope", "dynamic")


def parameters(c: Config, layer_type: str = "full_attention") -> dict[str, Any]:
    """rope_theta and the scaling's keys, whichever of transformers' three spellings the file has; ``rope_type`` is there."""
    found = c.get("rope_parameters") or {}
    scaling = c.get("rope_scaling") or {}
    if not isinstance(found, dict) or not isinstance(scaling, dict):
        raise InputError("S11", "rope_scaling and rope_parameters are objects", CONFIG)
    if isinstance(found.get(layer_type), dict):  # one set a kind of layer
        found = found[layer_type]
    found = {"rope_theta": c.get("rope_theta"), **scaling, **{k: v for k, v in found.items() if v is not None}}
    kind = found.get("rope_type", found.get("type", "default"))
    if not isinstance(kind, str):
        raise InputError("S11", "rope_type is not a string", CONFIG)
    return found | {"rope_type": kind}


def rope(c: Config, theta: float = 10000.0, partial: bool = False) -> Made:
    """Put base, rotated dimensions and scaling; the tensors of factors that some kinds of scaling are. ``theta``: what a file that does
    not say wants; ``partial``: less than a head may turn."""
    p = parameters(c)
    base = p["rope_theta"]
    base = theta if base is None else real(base, "rope_theta")
    c.put(".rope.freq_base", "f32", base)
    share = c.get("partial_rotary_factor") if c.get("partial_rotary_factor") is not None else p.get("partial_rotary_factor", 1.0)
    head_dim = c.heads[2]
    turned = int(real(share, "partial_rotary_factor") * head_dim)
    if turned != head_dim and not partial:
        raise InputError("S11", f"partial_rotary_factor {share} is not supported in {c.arch}", CONFIG)
    c.put(".rope.dimension_count", "u32", turned)
    kind = p["rope_type"]
    if kind == "linear":
        c.put(".rope.scaling.type", "str", "linear")
        c.put(".rope.scaling.factor", "f32", real(p.get("factor"), "factor of rope_scaling"))
    elif kind == "llama3":
        return {"rope_freqs.weight": _llama3(p, base, turned)}
    elif kind in ("longrope", "su"):
        return _longrope(c, p, turned // 2)
    elif kind == "yarn":
        _yarn(c, p)
    elif kind == "dynamic" and "alpha" not in p:
        # the base grows with the text from here on; before, nothing is scaled
        c.notes.append(f"dynamic RoPE scaling is left out: it starts past {c.number('max_position_embeddings')} positions")
    elif kind != "default":
        raise InputError("S11", f"rope scaling {kind[:40]!r} is not supported ({', '.join(_KNOWN)} are)", CONFIG)
    return {}


def _llama3(p: dict[str, Any], base: float, dim: int) -> list[float]:
    """Divisors of the frequencies, one a pair: 1 for fast pairs, ``factor`` for slow ones, between them smoothly (Llama 3.1)."""
    factor, low, high, trained = (
        real(p.get(key, default), key)
        for key, default in (
            ("factor", 8.0), ("low_freq_factor", 1.0), ("high_freq_factor", 4.0), ("original_max_position_embeddings", 8192),
        )
    )  # fmt: skip
    if not (factor > 0 and 0 < low < high and trained > 0 and base >= 1):
        raise InputError("S11", "the llama3 rope scaling's factors are out of range", CONFIG)
    found = []
    for i in range(dim // 2):
        wavelength = 2 * math.pi * base ** (2 * i / dim)
        blend = min(max((trained / wavelength - low) / (high - low), 0.0), 1.0)
        found.append(1 / ((1 - blend) / factor + blend))
    return found


def _trained(c: Config, p: dict[str, Any]) -> int:
    """The context before it was stretched."""
    found = p.get("original_max_position_embeddings") or c.get("original_max_position_embeddings", "max_position_embeddings")
    value = int(real(found, "original_max_position_embeddings"))
    if not 0 < value < 2**31:
        raise InputError("S11", f"original_max_position_embeddings {value} is out of range", CONFIG)
    return value


def _longrope(c: Config, p: dict[str, Any], n: int) -> Made:
    """Short and long factors, ``n`` each; puts the scaling's keys."""
    for key in ("short_mscale", "long_mscale"):
        if p.get(key) is not None:
            raise InputError("S11", f"rope scaling with {key} is not supported", CONFIG)
    trained = _trained(c, p)
    stretch = c.number("max_position_embeddings") / trained
    attention = math.sqrt(1 + math.log(stretch) / math.log(trained)) if stretch > 1 and trained > 1 else 1.0
    if p.get("attention_factor") is not None:
        attention = real(p["attention_factor"], "attention_factor")
    c.put(".rope.scaling.type", "str", "longrope")
    c.put(".rope.scaling.original_context_length", "u32", trained)
    c.put(".rope.scaling.attn_factor", "f32", attention)
    made = {}
    for name in ("long_factor", "short_factor"):
        values = p.get(name)
        if not isinstance(values, list) or len(values) != n:
            raise InputError("S11", f"{name} must be a list of {n} numbers", CONFIG)
        made[f"rope_factors_{name.removesuffix('_factor')}.weight"] = [real(x, name) for x in values]
    return made


def _yarn(c: Config, p: dict[str, Any]) -> None:
    """Puts the scaling's keys. GGUF files say less than config.json can: what they leave out must have its usual value."""
    factor = real(p.get("factor"), "factor of rope_scaling")
    if factor < 1:
        raise InputError("S11", f"a factor of {factor:g} for yarn", CONFIG)
    expected = 1 + 0.1 * math.log(factor)
    stated = p.get("attention_factor")
    if stated is not None and abs(real(stated, "attention_factor") - expected) > 1e-4:
        raise InputError("S11", f"attention_factor {stated} is not supported with yarn (only {expected:.6g}, from its factor)", CONFIG)
    for key in ("mscale", "mscale_all_dim"):
        if p.get(key) is not None:
            raise InputError("S11", f"yarn with {key} is not supported", CONFIG)
    c.put(".rope.scaling.type", "str", "yarn")
    c.put(".rope.scaling.factor", "f32", factor)
    c.put(".rope.scaling.original_context_length", "u32", _trained(c, p))
    for key, name in (("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow"), ("extrapolation_factor", "yarn_ext_factor")):
        if p.get(key) is not None:
            c.put(f".rope.scaling.{name}", "f32", real(p[key], key))
    if p.get("truncate") is False:
        c.notes.append("yarn's range of frequencies is rounded to whole pairs, as in GGUF files, although truncate is false")
