"""The parent's side of ``chat_child.py``: conversations in, texts or reasons out, in bounded time and memory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

WALL_SECONDS = 60  # beside the limit of processor time: a machine may be busy, or stop us
MARKS = "marks"
DATE = "2024-07-26"  # the one that Llama 3's templates write where they are told none


@dataclass(frozen=True, slots=True)
class Conversation:
    """(role, content) in order; ``generate``: with the prompt for an answer at the end."""

    messages: tuple[tuple[str, str], ...]
    generate: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a template gives no text for a conversation."""

    reason: str


def render_all(
    template: str, names: Mapping[str, str], conversations: Sequence[Conversation], date: str = DATE
) -> list[str | Refused] | Refused:
    """What ``template`` makes of each conversation, in a child with limits; Refused if it gives nothing at all.

    ``names`` are the variables beside ``messages`` (``bos_token``, ``eos_token``). The template travels on stdin, never in
    an argument. ``date``: what ``strftime_now`` says; for MARKS, marks that name the format (``dates.py``).
    """
    request = {
        "template": template,
        "names": dict(names),
        "cases": [{"messages": c.messages, "generate": c.generate} for c in conversations],
        "date": date,
        "path": [p for p in sys.path if p],
    }
    # -P: this folder, whose modules have common names, is not put on the child's path.
    argv = [sys.executable, "-P", "-s", "-B", str(Path(__file__).with_name("chat_child.py"))]
    try:
        done = subprocess.run(
            argv,
            input=json.dumps(request).encode("ascii"),
            capture_output=True,
            timeout=WALL_SECONDS,
            cwd="/",
            env={"PYTHONHASHSEED": "0"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Refused(f"it took longer than {WALL_SECONDS} s")
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return Refused("it took too much processor time")
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        return Refused("its rendering ran out of memory" if b"MemoryError" in done.stderr else "its rendering crashed")
    if "error" in answer:
        return Refused(answer["error"])
    return [r["text"] if "text" in r else Refused(r["error"]) for r in answer["renders"]]
