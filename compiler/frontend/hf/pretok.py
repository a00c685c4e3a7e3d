"""A byte-level pre-tokenizer by what it does: the regular expressions in tokenizer.json, not a digest of its answers."""

from __future__ import annotations

from typing import Any

from infc.errors import InputError
from infc.frontend.hf.folder import TOKENIZER

# ByteLevel's own expression, and Digits one by one, as the tokenizer compiler spells them.
_BYTE_LEVEL = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGITS = r"\p{Numeric}"


def _refuse(what: object) -> InputError:
    return InputError("G76", f"a pre-tokenizer that is not supported: {str(what)[:120]}", TOKENIZER)


def splits_of(found: dict[str, Any]) -> tuple[str, ...]:
    """The nested splits of ``pre_tokenizer``, from the outermost. Raises InputError G76 for what is no such thing."""
    pre = found.get("pre_tokenizer")
    steps = pre.get("pretokenizers") if isinstance(pre, dict) and pre.get("type") == "Sequence" else [pre]
    splits: list[str] = []
    byte_level = False
    for step in steps if isinstance(steps, list) else []:
        kind = step.get("type") if isinstance(step, dict) else None
        if kind == "ByteLevel" and not step.get("add_prefix_space"):
            byte_level = True
            splits += [_BYTE_LEVEL] if step.get("use_regex", True) else []
        elif kind == "Digits" and step.get("individual_digits") is True:
            splits.append(_DIGITS)
        elif kind == "Split" and step.get("behavior") == "Isolated" and not step.get("invert"):
            pattern = step.get("pattern")
            regex = pattern.get("Regex") if isinstance(pattern, dict) else None
            if not isinstance(regex, str):
                raise _refuse(step)
            splits.append(regex)
        else:
            raise _refuse(step)
    if not byte_level or not splits:
        raise _refuse(pre)
    return tuple(splits)


def pre_name(found: dict[str, Any], ignore_merges: bool) -> str:
    """The name under which GGUF files have this pre-tokenizer. Raises InputError G76 if infc knows none."""
    from infc.tokenizer import PRETOKENIZERS

    splits = splits_of(found)
    for name, known in PRETOKENIZERS.items():
        if known.splits == splits and known.ignore_merges == ignore_merges:
            return name
    alike = [name for name, known in PRETOKENIZERS.items() if known.splits == splits]
    if alike:
        raise _refuse(f"{alike[0]} with ignore_merges {ignore_merges}")
    raise _refuse(" then ".join(splits))
