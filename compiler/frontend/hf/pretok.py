"""A byte-level pre-tokenizer by what it does: the regular expressions in tokenizer.json, not a digest of its answers."""

from __future__ import annotations

from typing import Any

from infc.frontend.hf.config import Config

_PRE = "tokenizer.ggml.pre"


def fill(c: Config, found: dict[str, Any], ignore_merges: bool) -> None:
    """Put the name under which GGUF files have this pre-tokenizer, or where they have none its expressions. Raises InputError G76, G79."""
    from infc.tokenizer import IGNORE_MERGES, PRETOKENIZERS, SPLITS, compile_splits, patterns_of

    splits = patterns_of(found.get("pre_tokenizer"))
    name = next((n for n, known in PRETOKENIZERS.items() if (known.splits, known.ignore_merges) == (splits, ignore_merges)), None)
    if name is not None:
        c.put(_PRE, "str", name)
        return
    compile_splits(splits)  # refused here, where the folder is read, if at all
    c.put(SPLITS, "[str]", list(splits))
    c.put(IGNORE_MERGES, "bool", ignore_merges)
