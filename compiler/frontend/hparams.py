"""Metadata -> ModelConfig: one reader per architecture, made of the typed getters in ``keys``.

To add an architecture: write a function like ``_llama``, list it in ``ARCHITECTURES``, give its tensors in
``check_tensors`` and its graph in a file of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from infc.errors import InputError
from infc.frontend.config import ModelConfig, RopeScaling
from infc.frontend.gguf import ModelFile
from infc.frontend.keys import Keys
from infc.limits import Limits

# Keys of an architecture that change no number this compiler computes.
_INERT = frozenset({".vocab_size", ".tensor_data_layout", ".rope.scaling.finetuned", ".rope.scaling.original_context_length"})
# Keys that would change the arithmetic, with the value that means "off".
_NEUTRAL: dict[str, float] = {
    ".attention.causal": 1,
    ".attention.scale": 0,
    ".attention.clamp_kqv": 0,
    ".attention.max_alibi_bias": 0,
    ".attn_logit_softcapping": 0,
    ".final_logit_softcapping": 0,
    ".embedding_scale": 1,
    ".residual_scale": 1,
    ".logit_scale": 1,
    ".nextn_predict_layers": 0,
    ".pooling_type": 0,
    ".use_parallel_residual": 0,
    ".rope.scaling.attn_factor": 1,
}


def config(model: ModelFile, limits: Limits, warnings: list[str]) -> ModelConfig:
    """The model's hyper-parameters, checked against each other and against ``limits`` (InputError G25 to G42)."""
    if model.kv_types.get("general.architecture") != "str":
        raise InputError("G25", "the architecture is missing or not a string", "key general.architecture")
    arch = str(model.kv["general.architecture"])
    reader = ARCHITECTURES.get(arch)
    if reader is None:
        names = ", ".join(sorted(ARCHITECTURES))
        raise InputError("G25", f"architecture {arch!r} is not supported (supported: {names})", "key general.architecture")
    keys = Keys(model, arch)
    kind = keys.string("general.type", "model")
    if kind != "model":
        raise InputError("G25", f"the file holds a {kind!r}, not a model", "key general.type")
    result, used = reader(keys, limits)
    _check_unused(keys, used, warnings)
    return result


def _check_unused(keys: Keys, used: frozenset[str], warnings: list[str]) -> None:
    """Refuse keys that would change the arithmetic; mention those that nobody here knows."""
    for key, value in keys.model.kv.items():
        if not key.startswith(keys.arch + "."):
            continue
        short = key.removeprefix(keys.arch)
        if short in _NEUTRAL:
            if not isinstance(value, int | float) or float(value) != _NEUTRAL[short]:
                raise InputError("G25", f"a variant of {keys.arch} that is not supported: {value!r}", f"key {key}")
        elif short not in used and short not in _INERT:
            warnings.append(f"key {key} is not known and ignored")


def _llama(keys: Keys, limits: Limits) -> tuple[ModelConfig, frozenset[str]]:
    """LLaMA 1/2/3, Mistral, SmolLM2."""
    n_layers = keys.u32(".block_count", "G30", 1, limits.layers)
    dim = keys.u32(".embedding_length", "G32", 1)
    hidden_dim = keys.uniform_u32(".feed_forward_length", n_layers, "G33", 1)
    n_ctx = keys.u32(".context_length", "G36", 1)
    n_heads = keys.uniform_u32(".attention.head_count", n_layers, "G31", 1)
    n_kv_heads = keys.uniform_u32(".attention.head_count_kv", n_layers, "G31", 1, n_heads)
    if n_heads % n_kv_heads:
        raise InputError(
            "G31",
            f"{n_heads} heads do not divide by {n_kv_heads} key/value heads",
            "key .attention.head_count_kv",
        )
    head_dim = _head_dim(keys, dim, n_heads)
    rope_dim = keys.u32(".rope.dimension_count", "G34", 2, head_dim, head_dim)
    if rope_dim != head_dim or rope_dim % 2:
        # llama.cpp refuses a partial rotation in this architecture too
        raise InputError(
            "G34",
            f"{rope_dim} rotated dimensions of {head_dim}: must be all, and even",
            "key .rope.dimension_count",
        )
    _check_experts(keys, limits)
    _check_window(keys, n_ctx)
    cfg = ModelConfig(
        arch=keys.arch,
        name=keys.string("general.name", keys.model.path.stem),
        dim=dim,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        hidden_dim=hidden_dim,
        vocab_size=_vocab_size(keys, limits),
        n_ctx_train=n_ctx,
        rms_eps=keys.f32(".attention.layer_norm_rms_epsilon", "G35", lambda x: 0 < x < 1),
        rope_dim=rope_dim,
        rope_freq_base=keys.f32(".rope.freq_base", "G34", lambda x: x >= 1, 10000.0),
        rope_scaling=_rope_scaling(keys, n_ctx),
        tied_embeddings="output.weight" not in keys.model.tensors,
    )
    used = {
        ".block_count",
        ".embedding_length",
        ".feed_forward_length",
        ".context_length",
        ".attention.head_count",
    }
    used |= {
        ".attention.head_count_kv",
        ".attention.key_length",
        ".attention.value_length",
        ".rope.dimension_count",
    }
    used |= {
        ".attention.layer_norm_rms_epsilon",
        ".rope.freq_base",
        ".rope.scaling.type",
        ".rope.scaling.factor",
    }
    used |= {".rope.scale_linear", ".expert_count", ".expert_used_count", ".attention.sliding_window"}
    return cfg, frozenset(used)


def _head_dim(keys: Keys, dim: int, n_heads: int) -> int:
    """``attention.key_length``, by default dim / n_heads. Values must be as wide as keys."""
    if not keys.has(".attention.key_length") and dim % n_heads:
        raise InputError("G31", f"width {dim} does not divide by {n_heads} heads", "key .attention.head_count")
    head_dim = keys.u32(".attention.key_length", "G31", 1, default=dim // n_heads)
    value_dim = keys.u32(".attention.value_length", "G31", 1, default=dim // n_heads)
    if value_dim != head_dim:
        raise InputError("G31", f"heads of {head_dim} for keys and {value_dim} for values", "key .attention.value_length")
    if n_heads * head_dim >= 2**31:
        raise InputError("G31", f"{n_heads} heads of {head_dim} dimensions", "key .attention.key_length")
    return head_dim


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


def _rope_scaling(keys: Keys, n_ctx: int) -> RopeScaling | None:
    """Linear scaling, or None. Llama-3's factors are a tensor (rope_freqs.weight); yarn and longrope are refused."""
    kind = keys.string(".rope.scaling.type", "linear")
    if kind not in ("none", "linear"):
        raise InputError("G34", f"rope scaling {kind!r} is not supported (none and linear are)", "key .rope.scaling.type")
    key = ".rope.scaling.factor" if keys.has(".rope.scaling.factor") else ".rope.scale_linear"
    factor = keys.f32(key, "G34", lambda x: x >= 0, 1.0)
    if kind == "none" or factor in (0.0, 1.0):  # llama.cpp reads a factor of 0 as none
        return None
    orig = keys.u32(".rope.scaling.original_context_length", "G34", 1, default=n_ctx)
    return RopeScaling("linear", factor, orig, 1.0)


def _check_experts(keys: Keys, limits: Limits) -> None:
    count = keys.u32(".expert_count", "G37", 0, limits.experts, 0)
    used = keys.u32(".expert_used_count", "G37", 0, count, 0)
    if count > 0 and used == 0:
        raise InputError("G37", f"none of {count} experts is used", "key .expert_used_count")
    if count > 0:
        raise InputError("G37", f"mixture of experts ({used} of {count}) is not supported yet", "key .expert_count")


def _check_window(keys: Keys, n_ctx: int) -> None:
    """A sliding window shorter than the context would change what attention sees, so it is refused, not ignored."""
    window = keys.u32(".attention.sliding_window", "G39", 0, default=0)
    if 0 < window < n_ctx:
        raise InputError(
            "G39",
            f"a sliding window of {window} (context {n_ctx}) is not supported yet",
            "key .attention.sliding_window",
        )
    if keys.has(".attention.sliding_window_pattern"):
        raise InputError("G39", "a sliding window pattern is not supported yet", "key .attention.sliding_window_pattern")


ARCHITECTURES: dict[str, Callable[[Keys, Limits], tuple[ModelConfig, frozenset[str]]]] = {"llama": _llama}
