"""The tokenizer's keys: present, of their types, consistent. Building the tables from them is ``infc.tokenizer``'s work."""

from __future__ import annotations

import re

import numpy as np

from infc.errors import InputError
from infc.frontend.gguf import ModelFile
from infc.frontend.keys import Keys
from infc.limits import Limits

_P = "tokenizer.ggml."
_BYTE_TYPE = 6
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_IDS: tuple[str, ...] = ("bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "mask", "cls")
_IDS += ("prefix", "suffix", "middle", "fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep")


def check(model: ModelFile, arch: str, limits: Limits, warnings: list[str]) -> None:
    """Raise InputError G67 to G77 or G87 for the first key that is wrong."""
    keys = Keys(model, arch)
    kind, pre = _check_kind(keys)
    tokens = _check_tokens(keys, limits)
    _check_arrays(keys, tokens)
    if kind == "gpt2":
        _check_bytes(keys, tokens, warnings)
    if kind in ("gpt2", "gemma4"):
        _check_merges(keys, tokens)
    elif kind in ("llama", "t5") and not keys.has(_P + "scores"):
        raise InputError("G68", "the tokenizer needs scores and has none", f"key {_P}scores")
    _check_special(keys, len(tokens), kind, pre)
    if keys.has("tokenizer.chat_template"):
        n = len(keys.string("tokenizer.chat_template").encode())
        if n > limits.template_bytes:
            raise InputError(
                "G87",
                f"a template of {n} bytes, {limits.over('template_bytes')}",
                "key tokenizer.chat_template",
            )


def _check_kind(keys: Keys) -> tuple[str, str]:
    """The tokenizer's model and its pre-tokenizer's name. One that is unknown would split text wrongly without a sign, so it is refused."""
    from infc.tokenizer import MODELS, patterns  # here, as inspecting a file's layout must not load the tokenizer compiler

    kind = keys.string(_P + "model")
    if kind not in MODELS:
        raise InputError("G76", f"tokenizer {kind[:40]!r} is not supported (supported: {', '.join(MODELS)})", f"key {_P}model")
    pre = keys.string(_P + "pre", "")
    if kind != "gpt2":  # the others cut text in one way
        return kind, pre
    if pre in patterns.AS_GEMMA4:
        return "gemma4", pre
    if not pre and keys.has(patterns.SPLITS):  # a folder's, without a name: compiled when it was read
        keys.strings(patterns.SPLITS)
        return kind, pre
    if pre not in patterns.PRETOKENIZERS:
        what = f"pre-tokenizer {pre[:40]!r} is not supported" if pre else "no pre-tokenizer is named"
        raise InputError("G76", f"{what} (supported: {patterns.known()})", f"key {_P}pre")
    return kind, pre


def _check_tokens(keys: Keys, limits: Limits) -> dict[str, int]:
    """token -> id; all distinct, none empty, without NUL."""
    key = _P + "tokens"
    tokens = keys.strings(key)
    ids = dict(zip(tokens, range(len(tokens)), strict=True))
    if len(ids) != len(tokens):
        i, t = next((i, t) for i, t in enumerate(tokens) if ids[t] != i)
        raise InputError("G70", f"tokens {i} and {ids[t]} are both {t[:40]!r}", f"key {key}")
    for i, t in enumerate(tokens):
        if not t or "\0" in t or len(t) > limits.token_bytes or len(t.encode()) > limits.token_bytes:
            what = f"over {limits.token_bytes} bytes ({limits.flag('token_bytes')})" if t and "\0" not in t else "empty or with NUL"
            raise InputError("G71", f"token {i} is {what}", f"key {key}")
    return ids


def _check_arrays(keys: Keys, tokens: dict[str, int]) -> None:
    """Scores and token types: element types as llama.cpp reads them, one element a token."""
    for key, kinds in ((_P + "scores", ("[f32]", "[i32]")), (_P + "token_type", ("[i32]",))):
        if not keys.has(key):
            continue
        found = keys.model.kv_types[key]
        if found not in kinds:
            raise InputError("G68", f"must be of type {' or '.join(kinds)}, not {found}", f"key {key}")
        values = np.asarray(keys.model.kv[key])
        if len(values) != len(tokens):
            raise InputError("G69", f"{len(values)} elements for {len(tokens)} tokens", f"key {key}")
        if key.endswith("token_type") and (int(values.min()) < 0 or int(values.max()) > _BYTE_TYPE):
            raise InputError("G68", f"a token type outside 0 to {_BYTE_TYPE}", f"key {key}")
        if found == "[f32]" and not bool(np.isfinite(values).all()):
            raise InputError("G68", "a score that is NaN or infinite", f"key {key}")


def byte_alphabet() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary (GPT-2's table): printable ones are themselves,
    the others follow from U+0100 in order."""
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(b) if b in plain else chr(next(others)) for b in range(256)]


def _check_bytes(keys: Keys, tokens: dict[str, int], warnings: list[str]) -> None:
    """Bytes of ordinary text must have a token. Real vocabularies lack some control and never-used bytes: a warning."""
    if keys.has(_P + "token_type"):
        types = np.asarray(keys.model.kv[_P + "token_type"])
        names = list(tokens)
        for i in np.flatnonzero(types == _BYTE_TYPE):
            if _BYTE.fullmatch(names[i]) is None:
                raise InputError("G73", f"byte token {i} is {names[i][:40]!r}, not <0xHH>", f"key {_P}tokens")
    missing = [b for b, c in enumerate(byte_alphabet()) if c not in tokens]
    needed = {9, 10, 13, *range(0x20, 0x7F), *range(0x80, 0xC0), *range(0xC2, 0xF1)}
    bad = needed.intersection(missing)
    if bad:
        raise InputError("G73", f"{len(bad)} bytes of ordinary text have no token, as 0x{min(bad):02x}", f"key {_P}tokens")
    if missing:
        warnings.append(f"{len(missing)} bytes have no token, as 0x{missing[0]:02x}: text with them cannot be represented")


def _check_merges(keys: Keys, tokens: dict[str, int]) -> None:
    """A merge is two tokens with one space between them, and its result is a token."""
    key = _P + "merges"
    if keys.model.kv_types.get(key) != "[str]":
        raise InputError("G74", "the merges are missing or not strings", f"key {key}")
    for i, merge in enumerate(keys.strings(key)):
        left, space, right = merge.partition(" ")
        if not (left and space and right) or " " in right:
            raise InputError("G74", f"merge {i} is not two tokens and a space: {merge[:40]!r}", f"key {key}")
        if left not in tokens or right not in tokens or left + right not in tokens:
            raise InputError("G74", f"merge {i} has a part or a result that is no token: {merge[:40]!r}", f"key {key}")


def _check_special(keys: Keys, n_tokens: int, kind: str, pre: str) -> None:
    for name in _IDS:
        key = f"{_P}{name}_token_id"
        if keys.has(key):
            keys.u32(key, "G72", 0, n_tokens - 1)
    if kind != "gpt2":
        return  # these have begin tokens of their own where none is named
    # llama.cpp adds a begin token for llama-bpe unless told otherwise
    for name, default in (("bos", pre == "llama-bpe"), ("eos", False)):
        if keys.boolean(f"{_P}add_{name}_token", default) and not keys.has(f"{_P}{name}_token_id"):
            raise InputError("G77", f"a {name} token is to be added but none is named", f"key {_P}{name}_token_id")
