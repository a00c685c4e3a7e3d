"""Which type each matrix gets when a model is quantized: what llama.cpp's ``llama-quantize`` chooses without an importance matrix.

A plain type is for all matrices but the head; a mix (``q4_k_m``) gives more bits to those that cost most accuracy.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from infc.formats import FORMATS

_LAYER = re.compile(r"blk\.(\d{1,9})\.(\w+)\.weight")
# Blocks of 256 where rows do not divide by that: the type of 32 that is nearest, never smaller.
_FALLBACK = {
    "Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL", "TQ1_0": "Q4_0", "TQ2_0": "Q4_0",
}  # fmt: skip
_BASE = {"q3_k_s": "Q3_K", "q3_k_m": "Q3_K", "q3_k_l": "Q3_K", "q4_k_s": "Q4_K", "q4_k_m": "Q4_K", "q5_k_s": "Q5_K", "q5_k_m": "Q5_K"}
MIXES = tuple(_BASE)


def _more_bits(i: int, n: int) -> bool:
    """The first and the last eighth of the layers, and every third between."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def _value(mix: str, i: int, n: int) -> str | None:
    """Of v, or of q, k and v in one."""
    if mix == "q3_k_m":
        return "Q5_K" if i < 2 else "Q4_K"
    if mix == "q4_k_s":
        return "Q5_K" if i < 4 else None
    if mix == "q3_k_l":
        return "Q5_K"
    return "Q6_K" if mix.endswith("_m") and _more_bits(i, n) else None


def _down(mix: str, i: int, n: int) -> str | None:
    """Of the projection that ends the feed-forward part, the experts' too."""
    if mix == "q3_k_m":
        return "Q5_K" if i < n // 16 else "Q4_K"
    if mix == "q4_k_s":
        return "Q5_K" if i < n // 8 else None
    if mix == "q3_k_l":
        return "Q5_K"
    return "Q6_K" if mix.endswith("_m") and _more_bits(i, n) else None


def _output(mix: str, i: int, n: int) -> str | None:
    return {"q3_k_m": "Q4_K", "q3_k_l": "Q5_K"}.get(mix)


_ROLES: dict[str, Callable[[str, int, int], str | None]] = {
    "attn_v": _value, "attn_qkv": _value, "attn_output": _output, "ffn_down": _down, "ffn_down_exps": _down, "ffn_down_shexp": _down,
}  # fmt: skip
# With eight experts attention is a small part of the model.
_EIGHT_EXPERTS = {"attn_v": "Q8_0", "attn_qkv": "Q8_0", "attn_k": "Q8_0"}


class Types:
    """The choice for one model. ``kind``: a mix or a type, in lower case; ``embedding``: the type of embedding and head, if stated."""

    def __init__(self, kind: str, embedding: str | None, *, n_layers: int, n_experts: int, tied: bool) -> None:
        self.kind = kind
        self.base = _BASE.get(kind, kind.upper())
        self._embedding = embedding.upper() if embedding else None
        self._n_layers, self._n_experts = n_layers, n_experts
        self._head = "token_embd.weight" if tied else "output.weight"

    def of(self, name: str, k: int) -> str | None:
        """The type of tensor ``name`` with rows of ``k``; None if no block divides them."""
        wanted = self._wanted(name)
        for kind in (wanted, _FALLBACK.get(wanted)):
            if kind is not None and k % FORMATS[kind].block_size == 0:
                return kind
        return None

    def _wanted(self, name: str) -> str:
        if name in ("token_embd.weight", "output.weight") and self._embedding:
            return self._embedding
        if FORMATS[self.base].block_size == 1:
            return self.base
        if name == self._head:
            return "Q8_0" if self.base in ("Q8_0", "MXFP4") else "Q6_K"
        if name == "token_embd.weight" and self.base in ("TQ1_0", "TQ2_0"):
            return "Q4_K"
        found = _LAYER.fullmatch(name)
        if found is None:
            return "Q8_0" if self.base == "MXFP4" and self._n_experts else self.base
        layer, role = int(found[1]), found[2]
        if self.base == "MXFP4" and self._n_experts and not role.endswith("_exps"):
            return "Q8_0"
        if self._n_experts == 8:
            if role in _EIGHT_EXPERTS:
                return _EIGHT_EXPERTS[role]
            if role == "attn_output" and self.kind in ("q3_k_s", "q3_k_m", "q4_k_s", "q4_k_m"):
                return "Q5_K"
        rule = _ROLES.get(role)
        return (rule(self.kind, layer, self._n_layers) if rule and self.kind in _BASE else None) or self.base
