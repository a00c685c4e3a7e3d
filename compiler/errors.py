"""Errors that a user sees: one line, a code, a place, and the exit status that goes with them."""

from __future__ import annotations

_MAX_BYTES = 300


def _printable(text: str) -> str:
    """Escape control and non-printable characters so that a hostile name cannot drive a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


class InfcError(Exception):
    """Base class. ``exit_code`` is the process's status; ``code`` names the class of the error."""

    exit_code = 70

    def __init__(self, code: str, what: str, where: str = "") -> None:
        self.code = code
        self.what = what
        self.where = where
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"error[{self.code}]: {self.what}" + (f", {self.where}" if self.where else "")
        raw = _printable(text).encode("utf-8", "backslashreplace")
        limit = _MAX_BYTES - len("infc: ")
        return raw.decode() if len(raw) <= limit else raw[: limit - 3].decode("utf-8", "ignore") + "..."


class InputError(InfcError):
    """The model file, an argument or a text is bad."""

    exit_code = 2


class LimitError(InfcError):
    """A limit was reached; the message names the flag that raises it."""

    exit_code = 3


class HostError(InfcError):
    """This machine cannot do what was asked."""

    exit_code = 3


class ToolchainError(InfcError):
    """The C compiler, linker or profile run failed."""

    exit_code = 4
