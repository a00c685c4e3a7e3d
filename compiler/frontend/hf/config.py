"""config.json: typed access to it, and the metadata that all families share under GGUF's keys."""

from __future__ import annotations

from typing import Any

import numpy as np

from infc.errors import InputError
from infc.frontend.hf.folder import CONFIG
from infc.frontend.model_file import Value

_MOST = 2**31 - 1


class Config:
    """The object of config.json; what is read of it must have its type (InputError S11)."""

    def __init__(self, values: dict[str, Any], arch: str) -> None:
        self.values = values
        self.arch = arch
        self.kv: dict[str, Value] = {}
        self.kv_types: dict[str, str] = {}
        self.notes: list[str] = []  # sentences that are worth showing

    def get(self, *names: str) -> Any:
        """The first of ``names`` that is there and not null; else None."""
        return next((self.values[n] for n in names if self.values.get(n) is not None), None)

    def number(self, *names: str, default: int | None = None) -> int:
        """A whole number; one of ``names`` must be there if there is no default."""
        value = self.get(*names)
        if value is None:
            if default is None:
                raise InputError("S11", f"{names[0]} is missing", CONFIG)
            return default
        if type(value) is not int or not 0 <= value <= _MOST:
            raise InputError("S11", f"{names[0]} must be a number from 0 to {_MOST}, not {str(value)[:40]}", CONFIG)
        return value

    def real(self, *names: str, default: float | None = None) -> float:
        """A finite number."""
        value = self.get(*names)
        if value is None:
            if default is None:
                raise InputError("S11", f"{names[0]} is missing", CONFIG)
            return default
        return real(value, names[0])

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.get(name)
        if value is not None and not isinstance(value, bool):
            raise InputError("S11", f"{name} must be true or false, not {str(value)[:40]}", CONFIG)
        return default if value is None else value

    def only(self, name: str, *allowed: object) -> None:
        """Refuse a setting whose value would need other arithmetic; missing and null mean the first of ``allowed``."""
        value = self.values.get(name)
        if value is not None and value not in allowed:
            raise InputError("S11", f"{name} {str(value)[:40]!r} is not supported (only {', '.join(map(str, allowed))})", CONFIG)

    def put(self, key: str, kind: str, value: Any) -> None:
        """Metadata; a key that starts with "." belongs to the architecture. Numbers are rounded as a GGUF file holds them."""
        key = self.arch + key if key.startswith(".") else key
        if kind == "f32":
            with np.errstate(over="ignore"):
                value = float(np.float32(value))
        self.kv[key], self.kv_types[key] = value, kind

    @property
    def heads(self) -> tuple[int, int, int]:
        """(query heads, key/value heads, width of a head)."""
        n = self.number("num_attention_heads", "n_head")
        kv = self.number("num_key_value_heads", default=n)
        dim = self.number("hidden_size", "n_embd")
        if not n or not kv:
            raise InputError("S11", "no attention heads", CONFIG)
        return n, kv, self.number("head_dim", default=dim // n)

    @property
    def layers(self) -> int:
        """The number of layers."""
        return self.number("num_hidden_layers", "n_layer")


def real(value: object, name: str) -> float:
    """A finite number, or InputError S11."""
    # A whole number may be too large for a float: that is not finite either.
    if type(value) not in (int, float) or not -1e308 < value < 1e308:  # type: ignore[operator]
        raise InputError("S11", f"{name} must be a finite number, not {str(value)[:40]}", CONFIG)
    return float(value)  # type: ignore[arg-type]


def common(c: Config, eps: str = "rms") -> None:
    """Widths, counts and the norms' epsilon; ``eps``: "rms" or "layer"."""
    n, kv, head_dim = c.heads
    dim = c.number("hidden_size", "n_embd")
    c.put(".block_count", "u32", c.layers)
    c.put(".context_length", "u32", c.number("max_position_embeddings", "n_positions", "n_ctx"))
    c.put(".embedding_length", "u32", dim)
    c.put(".feed_forward_length", "u32", c.number("intermediate_size", "n_inner", default=4 * dim))
    c.put(".attention.head_count", "u32", n)
    c.put(".attention.head_count_kv", "u32", kv)
    if n * head_dim != dim or c.get("head_dim") is not None:
        c.put(".attention.key_length", "u32", head_dim)
        c.put(".attention.value_length", "u32", head_dim)
    if eps == "rms":
        c.put(".attention.layer_norm_rms_epsilon", "f32", c.real("rms_norm_eps", default=1e-6))
    else:
        names = ("layer_norm_epsilon", "norm_epsilon", "layer_norm_eps", "norm_eps")
        c.put(".attention.layer_norm_epsilon", "f32", c.real(*names, default=1e-5))
