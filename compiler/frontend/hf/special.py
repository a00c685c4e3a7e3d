"""Special tokens and the chat template: which tokens begin and end a text, from whichever of a folder's files says so."""

from __future__ import annotations

from typing import Any

import numpy as np

from infc.errors import InputError
from infc.frontend.hf.config import Config
from infc.frontend.hf.folder import TOKENIZER, Folder
from infc.tokenizer.vocabulary import CONTROL, END_OF_GENERATION, USER_DEFINED

_P = "tokenizer.ggml."
SETTINGS = "tokenizer_config.json"
_TEMPLATE, _TEMPLATE_JSON, _GENERATION = "chat_template.jinja", "chat_template.json", "generation_config.json"
# name in tokenizer_config.json -> in GGUF
_SPECIAL = {
    "bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding", "cls": "cls", "mask": "mask",
}  # fmt: skip


def content(entry: object) -> str | None:
    """A special token's text: a string, or an object with one."""
    text = entry.get("content") if isinstance(entry, dict) else entry
    return text if isinstance(text, str) else None


def special(
    c: Config,
    settings: dict[str, Any],
    added: dict[str, int],
    template: tuple[str | None, str | None],
    around: tuple[tuple[str, str], tuple[str, str]] = (("bos", "bos"), ("eos", "eos")),
) -> None:
    """Ids of the special tokens, and whether text starts or ends with one; ``template``: those that every text gets; ``around``: which
    they should be, and what GGUF's keys call them."""
    ids: dict[str, int] = {}
    for name, key in _SPECIAL.items():
        text = content(settings.get(f"{name}_token"))
        i = added.get(text) if text is not None else None
        if i is None:
            value = c.values.get(f"{name}_token_id")
            value = value[0] if isinstance(value, list) and value else value
            i = value if type(value) is int and 0 <= value < len(_list(c)) else None
        if i is not None:
            ids[name] = i
            c.put(f"{_P}{key}_token_id", "u32", i)
    for (name, key), text in zip(around, template, strict=True):
        stated = settings.get(f"add_{name}_token")
        adds = stated if isinstance(stated, bool) else text is not None and ids.get(name) == added.get(text)
        if text is not None and not isinstance(stated, bool) and not adds:
            raise InputError("S13", f"every text gets {text[:40]!r}, which is not the {name} token", TOKENIZER)
        c.put(f"{_P}add_{key}_token", "bool", adds)


def ends(c: Config, folder: Folder) -> None:
    """generation_config.json may name several tokens that end a text. Those that nothing else marks become ``eot`` and ``eom``."""
    stated = folder.json(_GENERATION, "S11").get("eos_token_id", c.values.get("eos_token_id"))
    tokens, types = _list(c), np.asarray(c.kv[_P + "token_type"])
    known = {c.kv.get(_P + "eos_token_id")}
    free = ["eot", "eom"]
    for i in stated if isinstance(stated, list) else [stated]:
        if type(i) is not int or not 0 <= i < len(tokens) or i in known:
            continue
        known.add(i)
        if tokens[i] in END_OF_GENERATION and int(types[i]) in (CONTROL, USER_DEFINED):
            continue
        if _P + "eos_token_id" not in c.kv:
            c.put(_P + "eos_token_id", "u32", i)
        elif free:
            c.put(f"{_P}{free.pop(0)}_token_id", "u32", i)
        else:
            raise InputError("S11", f"{len(known)} tokens that end a text: only three that have no usual name are supported", _GENERATION)


def _list(c: Config) -> list[str]:
    tokens = c.kv[_P + "tokens"]
    assert isinstance(tokens, list)
    return tokens


def template_ends(found: dict[str, Any]) -> tuple[str | None, str | None]:
    """The special tokens that the post-processor puts before and after one text."""
    post = found.get("post_processor")
    steps = (post.get("processors") or [post]) if isinstance(post, dict) else []
    for step in steps if isinstance(steps, list) else []:
        if isinstance(step, dict) and step.get("type") == "BertProcessing":
            return _pair_text(step.get("cls")), _pair_text(step.get("sep"))
        if isinstance(step, dict) and step.get("type") == "TemplateProcessing":
            single = step.get("single")
            parts = [p for p in single if isinstance(p, dict)] if isinstance(single, list) else []
            names = [p["SpecialToken"].get("id") if isinstance(p.get("SpecialToken"), dict) else None for p in parts]
            text = next((i for i, p in enumerate(parts) if "Sequence" in p), 0)
            if len(names) > 3 or any(n is not None and not isinstance(n, str) for n in names):
                raise InputError("S13", "a post-processor with more than one token at an end", TOKENIZER)
            return (names[0] if text == 1 else None), (names[-1] if len(names) == text + 2 else None)
    return None, None


def _pair_text(pair: object) -> str | None:
    """The text of [text, id]."""
    return pair[0] if isinstance(pair, list) and pair and isinstance(pair[0], str) else None


def chat_template(folder: Folder, settings: dict[str, Any]) -> str | None:
    """From a file of its own, as transformers looks, else tokenizer_config.json; of several the one named default."""
    template: object = folder.text(_TEMPLATE, "S13") if folder.has(_TEMPLATE) else settings.get("chat_template")
    if template is None:
        template = folder.json(_TEMPLATE_JSON, "S13").get("chat_template")
    if isinstance(template, list):
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise InputError("S13", "the chat template is not a string", SETTINGS)
    return template
