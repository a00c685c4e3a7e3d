"""What a family of folders provides, and the pieces that families share.

The tables say what llama.cpp's converter does, so a folder and the GGUF file made from it compile to the same program:
rows of q and k are reordered where GGUF rotates neighbouring pairs (``permuted``), Gemma's norms get their one added.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from infc.errors import InputError
from infc.frontend.hf.config import Config
from infc.frontend.hf.folder import CONFIG
from infc.frontend.hf.rope import Made

ATTENTION = {f"self_attn.{a}_proj": f"attn_{b}" for a, b in (("q", "q"), ("k", "k"), ("v", "v"), ("o", "output"))}
MLP = {f"mlp.{a}_proj": f"ffn_{a}" for a in ("gate", "up", "down")}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
HEAD_NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
ENDS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
LLAMA = NORMS | ATTENTION | MLP
_SKIPPED = re.compile(r".*\.rotary_emb\.inv_freq")


@dataclass(frozen=True)
class Stacked:
    """A tensor of all experts, the first dimension being the expert: ``targets`` are the GGUF tensors that share its rows, one behind
    the other or, ``woven``, taking turns. ``scales``: where the tensor holds MXFP4 blocks, the name of their exponents."""

    targets: tuple[str, ...]
    woven: bool = False
    transposed: bool = False
    scales: str = ""


@dataclass(frozen=True)
class Family:
    """``arch``: ``general.architecture``. ``layer``, ``ends``: module in the folder -> module in GGUF, in a layer and outside.

    ``settings`` puts metadata and returns tensors that come from config.json. ``tied``: what a file that does not say wants.
    ``experts``: module of an expert, "{}" being its number -> module in GGUF. ``stacked``, ``renamed``: whole names in a layer.
    """

    arch: str
    settings: Callable[[Config], Made]
    layer: dict[str, str] = field(default_factory=lambda: LLAMA)
    ends: dict[str, str] = field(default_factory=lambda: ENDS)
    prefix: str = "model.layers."
    experts: dict[str, str] = field(default_factory=dict)
    stacked: dict[str, Stacked] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    skipped: re.Pattern[str] = _SKIPPED
    permuted: bool = False
    norms_plus_one: bool = False
    transposed: tuple[str, ...] = ()
    tied: bool = False


def window(c: Config, missing: int = 0) -> None:
    """A window that is shorter than the context; null: none. ``missing``: that of a file that does not say."""
    size = c.number("sliding_window", default=0) if "sliding_window" in c.values else missing
    if 0 < size < c.number("max_position_embeddings"):
        c.put(".attention.sliding_window", "u32", size)


def layer_types(c: Config) -> list[bool] | None:
    """Of every layer, whether ``layer_types`` gives it a window; None: the file does not say."""
    kinds = c.get("layer_types")
    if kinds is None:
        return None
    known = ("sliding_attention", "full_attention")
    if not isinstance(kinds, list) or len(kinds) != c.layers or not all(k in known for k in kinds):
        raise InputError("S11", f"layer_types must be {c.layers} of {' and '.join(known)}", CONFIG)
    return [k == known[0] for k in kinds]


def pattern(c: Config, every: int) -> None:
    """``layer_types``, where they are not what the family has anyway: of ``every`` layers all but the last have the window."""
    local = layer_types(c)
    if local is None:
        every = c.number("sliding_window_pattern", default=every)
        if every:
            c.put(".attention.sliding_window_pattern", "u32", every)
    elif every == 0 or local != [i % every < every - 1 for i in range(c.layers)]:
        c.put(".attention.sliding_window_pattern", "[bool]", local)


def no_window(c: Config) -> None:
    """A family whose layers all see everything: ``sliding_window`` counts only where ``use_sliding_window`` says so, and only in layers
    from ``max_window_layers`` on."""
    local = layer_types(c)
    if local is None:
        first = c.number("max_window_layers", default=0)
        local = [c.flag("use_sliding_window", False) and i >= first for i in range(c.layers)]
    if any(local) and c.number("sliding_window", default=0):
        raise InputError("S11", f"{c.arch} with a sliding window is not supported (use_sliding_window false is)", CONFIG)
