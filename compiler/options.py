"""What a user may ask of one compile: one frozen object, unknown keys are errors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from infc.dates import parse_date
from infc.errors import InputError
from infc.formats import FORMATS
from infc.limits import Limits

TARGETS = ("scalar", "avx2", "avx512", "amx")  # ascending: a fat program tries the last one first
STAGES = ("ir", "passes", "plan", "emit")
DEFAULT_CTX = 4096
_LATER_TARGETS = ("neon",)
KV_TYPES = ("q16", "f16")
_LATER_KV = ("q8_0", "q4_0")
_MAX_POSITIONS = 1 << 30
# What --quantize takes: types for every matrix, and llama.cpp's mixes of them.
QUANTIZERS = tuple(
    t
    for t in (
        "q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0", "iq4_nl", "iq4_xs", "mxfp4", "q3_k", "q2_k", "tq2_0", "tq1_0",
        "f16", "bf16",
    )
    if t.upper() in FORMATS
)  # fmt: skip
QUANTIZE_MIXES = ("q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_l", "q3_k_m", "q3_k_s")
_RESERVED = ("src", "manifest.json", "weights.blob", "plan.txt")  # other names in an artifact's folder
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}")


def refuse(what: str, where: str = "") -> InputError:
    """The error of a bad option: exit status 2."""
    return InputError("opt", what, where)


@dataclass(frozen=True)
class CompileOptions:
    """Every choice that changes a compile. ``None`` means: decided from the model (see ``resolved``).

    quantize: the type or mix that matrices of floats get, quantize_embedding: the type of the embedding and the head.
    date: that a chat template writes every day, YYYY-MM-DD; None: that of the day, if the program can write it.
    ctx, kv_tokens: positions; max_rows: rows of one forward chunk; cache_gb: bound of the artifact cache in GB.
    """

    target: tuple[str, ...] = ("native",)
    ctx: int | None = None
    kv: str = "q16"
    name: str | None = None
    out: Path | None = None
    pgo: bool = True
    lto: bool = True
    cc: str | None = None
    max_seqs: int = 64
    max_rows: int = 512
    kv_tokens: int | None = None
    quantize: str | None = None
    quantize_embedding: str | None = None
    date: str | None = None
    stop_after: str | None = None
    dump: bool = False
    jobs: int = 2
    cache: bool = True
    cache_gb: int = 8
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def create(cls, **given: Any) -> CompileOptions:
        """Build from keywords. ``target`` may be "a,b" or a list; ``draft`` and later features are refused in one sentence.

        Raises InputError for an unknown key or a value out of range.
        """
        if given.pop("draft", None) is not None:
            raise refuse("draft models are not available in this version; leave --draft out")
        known = {f.name for f in fields(cls)}
        for key in given:
            if key not in known:
                raise refuse(f"unknown option {key!r}", f"known: {', '.join(sorted(known))}")
        if "target" in given:
            given["target"] = parse_targets(given["target"])
        for key in ("quantize", "quantize_embedding"):  # llama.cpp writes Q4_K
            if isinstance(given.get(key), str):
                given[key] = given[key].lower()
        if given.get("out") is not None:
            given["out"] = Path(given["out"])
        options = cls(**given)
        options._check()
        return options

    def _check(self) -> None:
        if self.kv in _LATER_KV:
            raise refuse(f"a {self.kv} KV cache is not available in this version; use --kv {' or '.join(KV_TYPES)}")
        if self.kv not in KV_TYPES:
            raise refuse(f"unknown KV cache type {self.kv!r}", f"known: {', '.join(KV_TYPES)}")
        for kind, known in ((self.quantize, QUANTIZERS + QUANTIZE_MIXES), (self.quantize_embedding, QUANTIZERS)):
            if kind is not None and kind not in known:
                raise refuse(f"cannot quantize to {kind[:40]!r}", f"known: {', '.join(known)}")
        if self.quantize_embedding is not None and self.quantize is None:
            raise refuse("--quantize-embedding goes with --quantize")
        if self.date is not None:
            parse_date(self.date)
        if self.stop_after is not None and self.stop_after not in STAGES:
            raise refuse(f"unknown stage {self.stop_after!r}", f"known: {', '.join(STAGES)}")
        if self.name is not None and not _NAME.fullmatch(self.name):
            raise refuse("the name must be 1 to 100 letters, digits, '.', '_', '+' or '-'", repr(self.name))
        if self.name in _RESERVED:
            raise refuse("the name is one of an artifact's own files", repr(self.name))
        for key, low, high in (
            ("ctx", 1, _MAX_POSITIONS), ("kv_tokens", 1, _MAX_POSITIONS), ("max_seqs", 1, 65536),
            ("max_rows", 1, 4096), ("jobs", 1, 1024), ("cache_gb", 0, 1 << 20),
        ):  # fmt: skip
            value = getattr(self, key)
            if value is not None and not (isinstance(value, int) and low <= value <= high):
                raise refuse(f"{key} must be a number from {low} to {high}", repr(value))

    def resolved(self, n_ctx_train: int) -> CompileOptions:
        """The same options with ``ctx`` and ``kv_tokens`` decided for a model trained on ``n_ctx_train`` positions."""
        ctx = self.ctx if self.ctx is not None else min(n_ctx_train, DEFAULT_CTX)
        kv_tokens = self.kv_tokens if self.kv_tokens is not None else 4 * ctx
        if kv_tokens < ctx:
            raise refuse(f"--kv-tokens {kv_tokens} cannot hold one sequence of --ctx {ctx} positions")
        return replace(self, ctx=ctx, kv_tokens=kv_tokens)

    @property
    def target_label(self) -> str:
        """The targets as they stand in a directory name: "native", "avx2", "avx2+avx512"."""
        return "+".join(self.target)


def parse_targets(given: str | Iterable[str]) -> tuple[str, ...]:
    """("native",) or a subset of TARGETS in ascending order. Raises InputError for anything else."""
    names = [n.strip() for n in given.split(",")] if isinstance(given, str) else list(given)
    if names == ["native"]:
        return ("native",)
    for name in names:
        if name in _LATER_TARGETS:
            raise refuse(f"target {name} is not available in this version", f"available: native, {', '.join(TARGETS)}")
        if name == "native":
            raise refuse("native stands alone: name the targets of a fat program one by one")
        if name not in TARGETS:
            raise refuse(f"unknown target {name!r}", f"available: native, {', '.join(TARGETS)}")
    if not names or len(set(names)) != len(names):
        raise refuse("name each target once")
    return tuple(t for t in TARGETS if t in names)


def default_name(model: Path) -> str:
    """A file name made into an artifact's name; never anything from inside the model file."""
    file = model.name or model.absolute().name  # "." is a folder with a name too
    stem = re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", file, flags=re.IGNORECASE)
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", stem).lstrip(".+-")[:100]
    return name + "_" if name in _RESERVED else name or "model"
