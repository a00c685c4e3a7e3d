"""Metadata -> ModelConfig: which family it is, then that family's reader, then what nobody asked for.

To add an architecture: see ``infc.frontend.families``.
"""

from __future__ import annotations

from infc.errors import InputError
from infc.frontend.config import ModelConfig
from infc.frontend.families import FAMILIES
from infc.frontend.gguf import ModelFile
from infc.frontend.keys import Keys
from infc.limits import Limits

# Keys of an architecture that change no number this compiler computes.
_INERT = frozenset({".vocab_size", ".tensor_data_layout", ".rope.scaling.finetuned", ".rope.scaling.original_context_length"})
# Keys that would change the arithmetic where a family does not read them, with the values that mean "off".
_NEUTRAL: dict[str, tuple[float, ...]] = {
    ".attention.causal": (1,),
    ".attention.scale": (0,),
    ".attention.clamp_kqv": (0,),
    ".attention.max_alibi_bias": (0,),
    ".attention.sliding_window": (0,),
    ".attention.sliding_window_pattern": (),
    ".attn_logit_softcapping": (0,),
    ".final_logit_softcapping": (0,),
    ".embedding_scale": (1,),
    ".residual_scale": (1,),
    ".rope.scaling.yarn_attn_factor": (1,),
    ".logit_scale": (1,),
    ".nextn_predict_layers": (0,),
    ".pooling_type": (0,),
    ".use_parallel_residual": (0,),
    ".rope.dimension_sections": (),  # several positions a token; in some families other pairs turn then
    ".rope.scaling.attn_factor": (1,),
    ".rope.scaling.yarn_log_multiplier": (0,),
    ".expert_gating_func": (1, 3),  # softmax before or after the choice: the same
    ".expert_group_count": (0, 1),
    ".expert_shared_count": (0, 1),
    ".expert_weights_scale": (0, 1),
    ".interleave_moe_layer_step": (0, 1),
    ".leading_dense_block_count": (0,),
    ".moe_every_n_layers": (0, 1),
}


def config(model: ModelFile, limits: Limits, warnings: list[str]) -> ModelConfig:
    """The model's hyper-parameters, checked against each other and against ``limits`` (InputError G25 to G42)."""
    if model.kv_types.get("general.architecture") != "str":
        raise InputError("G25", "the architecture is missing or not a string", "key general.architecture")
    arch = str(model.kv["general.architecture"])
    family = FAMILIES.get(arch)
    if family is None:
        names = ", ".join(sorted(FAMILIES))
        raise InputError("G25", f"architecture {arch!r} is not supported (supported: {names})", "key general.architecture")
    keys = Keys(model, arch)
    kind = keys.string("general.type", "model")
    if kind != "model":
        raise InputError("G25", f"the file is of type {kind[:40]!r}, which is not supported (model is)", "key general.type")
    result = family.config(keys, limits)
    _check_unused(keys, warnings)
    return result


def _check_unused(keys: Keys, warnings: list[str]) -> None:
    """Refuse keys that would change the arithmetic and that the family does not read; mention those that nobody here knows."""
    for key, value in keys.model.kv.items():
        short = key.removeprefix(keys.arch)
        if not key.startswith(keys.arch + ".") or short in keys.used or short in _INERT:
            continue
        if short not in _NEUTRAL:
            warnings.append(f"key {key} is not known and ignored")
        elif not isinstance(value, int | float) or float(value) not in _NEUTRAL[short]:
            raise InputError("G25", f"a variant of {keys.arch} that is not supported: {value!r}", f"key {key}")
