"""What a long compile tells whoever started it: stages as they begin, and sentences worth reading."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Hears a compile's progress. Every method returns at once."""

    def stage(self, name: str) -> None:
        """A stage begins; the one before has ended."""

    def note(self, text: str) -> None:
        """A sentence for the user: a warning of the reader, something left out."""


class Silent:
    """Says nothing, keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def stage(self, name: str) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Kept in ``notes``."""
        self.notes.append(text)
