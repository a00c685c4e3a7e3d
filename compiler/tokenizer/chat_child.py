"""Render a chat template for a list of conversations, in a process of its own that can run away safely.

Started by ``chat_render.py`` with the request as JSON on stdin; the answer is JSON on stdout. The first thing it does is to
give up memory, processor time, files and children: jinja2's sandbox stops attribute escapes, but not a large product.
The environment is the one HF ``transformers`` renders templates in. ``strftime_now`` says the date of the request, or, for
"marks", what format it was asked for between two private characters (``dates.py``).
"""

from __future__ import annotations

import datetime
import json
import resource
import sys
from typing import Any

MEMORY_BYTES = 512 << 20
CPU_SECONDS = 3
_RENDER_BYTES = 1 << 20
_TOTAL_BYTES = 16 << 20


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _environment(date: str) -> Any:
    from jinja2 import nodes
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}`` marks what a model wrote, for training; here its body is plain."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(
        x: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    if date == "marks":
        environment.globals["strftime_now"] = lambda form: f"\ue000{form}\ue001"
    else:
        environment.globals["strftime_now"] = datetime.datetime.fromisoformat(date).strftime
    return environment


def _reason(e: BaseException) -> str:
    if isinstance(e, MemoryError):
        return f"it needs more than {MEMORY_BYTES >> 20} MiB of memory"
    if isinstance(e, RecursionError):
        return "it is nested or calls itself too deep"
    kind = type(e).__name__
    line = getattr(e, "lineno", None)
    return f"{kind}{f' in line {line}' if line else ''}: {e!s:.160}"


def _render(template: Any, case: dict[str, Any], names: dict[str, str]) -> dict[str, str]:
    messages = [{"role": role, "content": content} for role, content in case["messages"]]
    try:
        text = template.render(messages=messages, tools=None, documents=None, add_generation_prompt=case["generate"], **names)
    except (MemoryError, RecursionError):
        raise  # costs too much to try with every conversation
    except Exception as e:
        return {"error": _reason(e)}
    if len(text.encode("utf-8", "surrogatepass")) > _RENDER_BYTES:
        return {"error": f"it renders a conversation to more than {_RENDER_BYTES} bytes"}
    return {"text": text}


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    sys.path[:] = request["path"]
    environment = _environment(request["date"])
    try:
        template = environment.from_string(request["template"])
    except Exception as e:
        return {"error": _reason(e)}
    renders: list[dict[str, str]] = []
    left = _TOTAL_BYTES
    for case in request["cases"]:
        try:
            renders.append(_render(template, case, request["names"]))
        except (MemoryError, RecursionError) as e:
            return {"error": _reason(e)}
        left -= len(renders[-1].get("text", ""))
        if left < 0:
            return {"error": f"it renders conversations to more than {_TOTAL_BYTES} bytes"}
    return {"renders": renders}


def main() -> None:
    """One request, one answer. Whatever else happens is for the parent to see in the exit status."""
    _limit()
    request = json.loads(sys.stdin.buffer.read())
    answer = json.dumps(_answer(request)).encode("ascii")
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
