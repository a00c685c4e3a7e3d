"""What ``infc inspect`` shows on a terminal: its facts as tables, drawn by rich."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

Facts = dict[str, Any]
_LAYER = re.compile(r"((?:.*\.)?(?:blk|layers|h)\.)(\d{1,6})(\..*)")
_EXPERT = re.compile(r"(.*\.experts\.)(\d{1,6})(\..*)")


def _visible(text: object, most: int = 100) -> str:
    """A model's string as one harmless line."""
    return "".join(c if c.isprintable() else "?" for c in str(text))[:most]


def _number(x: object) -> str:
    """Floats as short as they are: those of a file were f32."""
    return f"{x:.6g}" if isinstance(x, float) else str(x)


def _size(n: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n < 10240:
            return f"{n} {unit}"
        n = round(n / 1024)
    return f"{n / 1024:.1f} GiB"


def _rope(r: Facts) -> str:
    text = f"{r['dim']} dimensions of a head, base {_number(r['base'])}"
    if r["yarn"] is not None:
        text += f", YaRN {_number(r['factor'])} times from {r['orig_ctx']} positions"
    elif r["factor"] != 1:
        text += f", positions divided by {_number(r['factor'])}"
    names = " and ".join(str(f) for f in (r["factors"], r["long_factors"]) if f)
    return text + (f", factors {names}" if names else "")


def _layers(layers: Sequence[Facts]) -> str:
    kinds = Counter((layer["window"], layer["rope"]) for layer in layers)
    several = len({rope for _, rope in kinds}) > 1
    parts = []
    for (window, rope), n in kinds.items():
        text = f"{n} with a window of {window}" if window else f"{n} see everything"
        parts.append(text + ((" (no rotation)" if rope < 0 else f" (rotation {rope})") if several else ""))
    return ", ".join(parts)


# Settings that change nothing are left out.
_NEUTRAL = {
    "embedding_scale": 1.0, "residual_scale": 1.0, "logit_scale": 1.0, "attention_scale": 0.0, "attention_softcap": 0.0,
    "logit_softcap": 0.0, "experts": None,
}  # fmt: skip


def _settings(found: Facts) -> Iterator[tuple[str, str]]:
    """(name, value): a checked configuration in words, or the file's own keys."""
    for name, value in found.items():
        if name in _NEUTRAL and value == _NEUTRAL[name]:
            continue
        if name == "ropes" and isinstance(value, tuple):
            several = len(value) > 1
            yield from ((f"rotation {i}" if several else "rotation", _rope(r)) for i, r in enumerate(value))
        elif name == "layers" and isinstance(value, tuple):
            yield "layers", _layers(value)
        elif name == "experts" and isinstance(value, dict):
            shared = f", and one of width {value['shared_dim']} for all rows" if value["shared_dim"] else ""
            yield "experts", f"{value['used']} of {value['count']}, width {value['hidden_dim']}{shared}"
        else:
            yield name, _number(value)


def _tensors(tensors: Sequence[Facts]) -> list[tuple[str, str, str, str, str]]:
    """Those that differ in nothing but the layer (and the expert) in one row: name, how many, type, shape, bytes of all."""
    groups: dict[tuple[str, str, tuple[int, ...]], list[int]] = {}
    for t in tensors:
        name = t["name"]
        for pattern in (_EXPERT, _LAYER):
            found = pattern.fullmatch(name)
            name = f"{found[1]}*{found[3]}" if found else name
        groups.setdefault((name, t["type"], tuple(t["shape"])), []).append(t["bytes"])
    return [(name, str(len(n)), kind, " x ".join(map(str, shape)), f"{sum(n):,}") for (name, kind, shape), n in groups.items()]


def _kernels(targets: Sequence[Facts]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """(title, rows) of targets that choose alike."""
    groups: list[tuple[list[str], list[Facts]]] = []
    for t in targets:
        lacks = f" (this CPU lacks {', '.join(t['missing_here'])})" if t["missing_here"] else ""
        for titles, kernels in groups:
            if kernels == t["kernels"]:
                titles.append(t["target"] + lacks)
                break
        else:
            groups.append(([t["target"] + lacks], t["kernels"]))
    for titles, kernels in groups:
        rows: list[tuple[str, ...]] = [
            (k["role"], k["type"], f"{k['n']} x {k['k']}", " ".join(dict.fromkeys(k["kernels"])) or "rows are looked up") for k in kernels
        ]
        yield f"target{'s' if len(titles) > 1 else ''} {', '.join(titles)}", rows


def show(facts: Facts) -> None:
    """Tables on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()

    def table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[object, ...]], left: int = 1) -> None:
        t = Table()
        for i, name in enumerate(columns):
            t.add_column(name, justify="left" if i < left else "right", overflow="fold")
        for row in rows:
            t.add_row(*(Text(_visible(cell)) for cell in row))
        console.print(Text(title, style="bold"))  # a title of the table would be folded to its width
        console.print(t)

    what = "supported" if facts["supported"] else "NOT supported"
    size = _size(sum(f["bytes"] for f in facts["formats"]))
    console.print(Text(f"{_visible(facts['file'])}: {_visible(facts['architecture'])}, {facts['parameters']:,} parameters, {size}, {what}"))
    for sentence in facts["unsupported"]:
        console.print(Text(f"  {_visible(sentence, 300)}", style="red"))
    for note in facts.get("notes", []):
        console.print(Text(f"  note: {_visible(note, 300)}", style="yellow"))
    tokenizer = [(f"tokenizer {k}".replace("_", " "), str(v)) for k, v in facts.get("tokenizer", {}).items()]
    table("settings", ("", "value"), [*_settings(facts["hyperparameters"]), *tokenizer], left=2)
    formats = [(f["type"], f["tensors"], f"{f['bytes']:,}", "yes" if f["supported"] else "no") for f in facts["formats"]]
    table("formats", ("type", "tensors", "bytes", "supported"), formats)
    if "memory" in facts:
        m = facts["memory"]
        title = f"memory for {m['sequences']} x {m['context']} positions, {m['threads']} threads"
        table(title, ("part", "bytes", ""), [(k, f"{v:,}", _size(v)) for k, v in m["bytes"].items()])
    for title, rows in _kernels(facts.get("targets", [])):
        table(title, ("role", "type", "rows x k", "kernels for 1, few, many rows"), rows, left=4)
    table("tensors", ("name", "count", "type", "shape", "bytes"), _tensors(facts["tensors"]))
