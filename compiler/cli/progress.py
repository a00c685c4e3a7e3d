"""Progress on stderr: a bar per stage on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import TaskID

CHECKING = ("read", "passes", "plan", "tokenizer")  # stages that may still refuse the model
_ESCAPED = {c: f"\\x{c:02x}" for c in (*range(32), 127)}


class Plain:
    """One line a stage, with its seconds. Until the model is accepted lines wait: a refused one prints its error and nothing else."""

    def __init__(self) -> None:
        self._name = ""
        self._since = 0.0
        self._waiting: list[str] | None = []

    def _say(self, text: str) -> None:
        if self._waiting is not None:
            self._waiting.append(text)
        else:
            print(f"infc: {text}", file=sys.stderr, flush=True)

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, None
        for text in waiting or ():
            self._say(text)

    def _end(self) -> None:
        if self._name:
            self._say(f"{self._name} {time.monotonic() - self._since:.1f} s")
        self._name = ""

    def stage(self, name: str) -> None:
        """The stage before is printed when the next begins: then its time is known."""
        self._end()
        if name not in CHECKING:
            self._release()
        self._name, self._since = name, time.monotonic()

    def note(self, text: str) -> None:
        """A line of its own."""
        self._say(f"note: {text.translate(_ESCAPED)}")

    def close(self, failed: bool) -> None:
        """Print the last stage, if it ended well."""
        if not failed:
            self._end()
            self._release()


class Bars:
    """A spinner and a clock per stage, drawn by rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description:<12}"), TimeElapsedColumn(), console=self._console
        )
        self._task: TaskID | None = None
        self._progress.start()

    def stage(self, name: str) -> None:
        """Tick the stage before, start this one."""
        self._finish()
        self._task = self._progress.add_task(name, total=1)

    def _finish(self) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=1)

    def note(self, text: str) -> None:
        """A line above the bars."""
        from rich.markup import escape

        self._console.print(f"[yellow]note:[/] {escape(text.translate(_ESCAPED))}", highlight=False)

    def close(self, failed: bool) -> None:
        """Tick the last stage unless it failed, leave the terminal as it was."""
        if not failed:
            self._finish()
        self._progress.stop()


class Progress:
    """Context manager around the reporter that fits this stderr."""

    def __init__(self) -> None:
        self.reporter: Plain | Bars = Bars() if sys.stderr.isatty() else Plain()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.reporter.close(error is not None)
