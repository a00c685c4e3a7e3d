"""The hyper-parameters that families share, read and checked: a family's file asks for these and adds its own."""

from __future__ import annotations

import math

from infc.errors import InputError
from infc.frontend.config import Experts, Layer, ModelConfig, Rope, Yarn
from infc.frontend.keys import Keys
from infc.limits import Limits

RMS, LAYER_NORM = ".attention.layer_norm_rms_epsilon", ".attention.layer_norm_epsilon"


def dense(
    keys: Keys,
    limits: Limits,
    ropes: tuple[Rope, ...],
    layers: tuple[Layer, ...] = (),
    eps: str = RMS,
    experts: Experts | None = None,
) -> ModelConfig:
    """The configuration of a transformer; ``layers`` empty: all alike, of the first rope. Dense without ``experts``; with them
    ``hidden_dim`` is the width of the layer that all rows share, if there is one.

    Raises InputError G26, G27, G30 to G33, G35 to G37, G40, G41 or G67.
    """
    n_layers = layer_count(keys, limits)
    dim = keys.u32(".embedding_length", "G32", 1)
    width = None if experts is None else experts.shared_dim or experts.hidden_dim
    hidden_dim = keys.uniform_u32(".feed_forward_length", n_layers, "G33", 0 if width else 1, width)
    n_heads, n_kv_heads, head_dim = heads(keys, limits)
    if experts is None:
        no_experts(keys, limits)
    return ModelConfig(
        arch=keys.arch,
        name=keys.string("general.name", keys.model.path.stem),
        dim=dim,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        hidden_dim=width or hidden_dim,
        vocab_size=_vocab_size(keys, limits),
        n_ctx_train=keys.u32(".context_length", "G36", 1),
        norm_eps=keys.f32(eps, "G35", lambda x: 0 < x < 1),
        tied_embeddings="output.weight" not in keys.model.tensors,
        ropes=ropes,
        layers=layers or (Layer(rope=0 if ropes else -1),) * n_layers,
        experts=experts,
    )


def layer_count(keys: Keys, limits: Limits) -> int:
    """``block_count``."""
    return keys.u32(".block_count", "G30", 1, limits.layers)


def heads(keys: Keys, limits: Limits) -> tuple[int, int, int]:
    """(query heads, key/value heads, width of a head); ``attention.key_length`` defaults to dim / heads. Values are as wide as keys."""
    n_layers = layer_count(keys, limits)
    dim = keys.u32(".embedding_length", "G32", 1)
    n_heads = keys.uniform_u32(".attention.head_count", n_layers, "G31", 1)
    n_kv_heads = keys.uniform_u32(".attention.head_count_kv", n_layers, "G31", 1, n_heads)
    if n_heads % n_kv_heads:
        raise InputError(
            "G31",
            f"{n_heads} heads do not divide by {n_kv_heads} key/value heads",
            "key .attention.head_count_kv",
        )
    if not keys.has(".attention.key_length") and dim % n_heads:
        raise InputError("G31", f"width {dim} does not divide by {n_heads} heads", "key .attention.head_count")
    head_dim = keys.u32(".attention.key_length", "G31", 1, default=dim // n_heads)
    value_dim = keys.u32(".attention.value_length", "G31", 1, default=dim // n_heads)
    if value_dim != head_dim:
        raise InputError("G31", f"heads of {head_dim} for keys and {value_dim} for values", "key .attention.value_length")
    if n_heads * head_dim >= 2**31:
        raise InputError("G31", f"{n_heads} heads of {head_dim} dimensions", "key .attention.key_length")
    return n_heads, n_kv_heads, head_dim


def rope(keys: Keys, limits: Limits, *, halves: bool, partial: bool = False, base: str = ".rope.freq_base") -> Rope:
    """The rotation that the keys describe, with linear scaling or factors from tensors. ``partial``: less than a head may turn.

    Llama 3's factors are tensor ``rope_freqs``, Phi 3's ``rope_factors_short`` and ``rope_factors_long``.
    """
    head_dim = heads(keys, limits)[2]
    dim = keys.u32(".rope.dimension_count", "G34", 2, head_dim, head_dim)
    if dim % 2 or (dim != head_dim and not partial):
        raise InputError(
            "G34",
            f"{dim} rotated dimensions of {head_dim}: must be {'even' if partial else 'all, and even'}",
            "key .rope.dimension_count",
        )
    kind = keys.string(".rope.scaling.type", "linear")
    known = ("none", "linear", "longrope", "yarn")
    if kind not in known:
        raise InputError("G34", f"rope scaling {kind!r} is not supported ({', '.join(known)} are)", "key .rope.scaling.type")
    n_ctx = keys.u32(".context_length", "G36", 1)
    key = ".rope.scaling.factor" if keys.has(".rope.scaling.factor") else ".rope.scale_linear"
    factor = keys.f32(key, "G34", lambda x: x >= 0, 1.0)
    tensors = keys.model.tensors
    short, long = "rope_factors_short.weight", "rope_factors_long.weight"
    if (short in tensors) != (long in tensors):
        raise InputError("G34", "factors for short and for long contexts come together", f"tensor {short if short in tensors else long}")
    if kind == "longrope" and short not in tensors:
        raise InputError("G34", f"rope scaling 'longrope' without tensor {short}", "key .rope.scaling.type")
    factor = 1.0 if kind == "none" or factor == 0 else factor  # llama.cpp reads a factor of 0 as none
    yarn = _yarn(keys, key, base) if kind == "yarn" and factor != 1 else None
    single = "rope_freqs.weight" if "rope_freqs.weight" in tensors else None
    return Rope(
        dim=dim,
        base=keys.f32(base, "G34", lambda x: x >= 1, 10000.0),
        factor=factor,
        attn_factor=1.0 if yarn is None else 1.0 + 0.1 * math.log(factor),
        orig_ctx=keys.u32(".rope.scaling.original_context_length", "G34", 1, default=n_ctx),
        factors=short if short in tensors else single,
        long_factors=long if long in tensors else None,
        halves=halves,
        yarn=yarn,
    )


def _yarn(keys: Keys, factor: str, base: str) -> Yarn:
    """Betas as llama.cpp reads them; ``factor`` and ``base`` name keys of which YaRN asks more than others do."""
    keys.f32(factor, "G34", lambda x: x > 1)
    keys.f32(base, "G34", lambda x: x > 1, 10000.0)
    fast = keys.f32(".rope.scaling.yarn_beta_fast", "G34", lambda x: x > 0, 32.0)
    slow = keys.f32(".rope.scaling.yarn_beta_slow", "G34", lambda x: 0 < x < fast, 1.0)
    return Yarn(fast, slow, keys.f32(".rope.scaling.yarn_ext_factor", "G34", lambda x: 0 < x <= 1, 1.0))


def windows(keys: Keys, limits: Limits, every: int = 0, default: int = 0) -> tuple[Layer, ...]:
    """Layers with ``attention.sliding_window`` and without: of ``every`` layers the last one sees everything (0: all have the window).

    ``attention.sliding_window_pattern`` replaces ``every``, or says of each layer whether it has the window.
    """
    n_layers = layer_count(keys, limits)
    window = keys.u32(".attention.sliding_window", "G39", 0, default=default)
    pattern = keys.pattern(".attention.sliding_window_pattern", "G39", n_layers, every)
    local = pattern if isinstance(pattern, list) else [pattern == 0 or i % pattern < pattern - 1 for i in range(n_layers)]
    return tuple(Layer(window=window if has else 0) for has in local)


def without_pictures(keys: Keys) -> None:
    """Keys of a language model that can be shown pictures, and that change nothing of a text without any: how a head's pairs are shared out
    among the three positions of a picture's part, and how many layers a picture joins. Here a text has one position, and no pictures."""
    for key in (".rope.dimension_sections", ".n_deepstack_layers"):
        keys.has(key)


def scale(keys: Keys, key: str, default: float = 1.0) -> float:
    """A positive factor."""
    return keys.f32(key, "G38", lambda x: x > 0, default)


def softcap(keys: Keys, key: str, default: float = 0.0) -> float:
    """A soft cap; 0: none."""
    return keys.f32(key, "G38", lambda x: x >= 0, default)


def _vocab_size(keys: Keys, limits: Limits) -> int:
    """The number of tokens; ``vocab_size``, when there, must agree."""
    n = len(keys.strings("tokenizer.ggml.tokens")) if keys.has("tokenizer.ggml.tokens") else 0
    if n == 0 or n > limits.vocab:
        what = f"{n} tokens, {limits.over('vocab')}" if n else "the vocabulary is missing or empty"
        raise InputError("G67", what, "key tokenizer.ggml.tokens")
    stated = keys.u32(".vocab_size", "G41", 1, default=n)
    if stated != n:
        raise InputError("G41", f"a vocabulary of {stated} stated, {n} tokens found", f"key {keys.full('.vocab_size')}")
    return n


def no_experts(keys: Keys, limits: Limits) -> None:
    """A mixture of experts is refused."""
    count = keys.u32(".expert_count", "G37", 0, limits.experts, 0)
    used = keys.u32(".expert_used_count", "G37", 0, count, 0)
    if count > 0 and used == 0:
        raise InputError("G37", f"none of {count} experts is used", "key .expert_used_count")
    if count > 0:
        raise InputError("G37", f"{keys.arch} with a mixture of experts ({used} of {count}) is not supported", "key .expert_count")
