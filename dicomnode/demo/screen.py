"""What the demonstration tells, and whom: people by lines, scripts by one JSON document."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from rich.console import Console
from rich.status import Status
from rich.text import Text

from dicomnode.errors import DicomNodeError

STEPS = 6
_PLAIN_EVERY_S = 10.0


class DemoError(DicomNodeError):
    """The demonstration cannot go on; the message says why and where to look."""


class Screen(Protocol):
    """The part of the command line's `Output` that the demonstration needs."""

    as_json: bool

    def say(self, text: str | Text) -> None:
        """Show one line."""

    def document(self, content: Mapping[str, Any]) -> None:
        """Write one JSON document."""


@dataclass(frozen=True, slots=True)
class Step:
    """One of the demonstration's steps as it ended."""

    step: int
    ok: bool
    sentence: str
    seconds: float

    def as_data(self) -> dict[str, Any]:
        """Give it as JSON data."""
        return asdict(self)


class Told:
    """Tells steps, progress and tables; keeps the steps for the JSON document."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._console = Console(stderr=True)
        self._status: Status | None = None
        self._said = ""
        self._said_at = 0.0
        self.steps: list[Step] = []

    def step(self, ok: bool, sentence: str, seconds: float) -> None:
        """Tell how the next step ended."""
        step = Step(len(self.steps) + 1, ok, sentence, round(seconds, 2))
        self.steps.append(step)
        mark, colour = ("✓", "green") if ok else ("✕", "red")
        self.line(Text(f"{step.step}/{STEPS} {mark} {sentence:<72} {seconds:6.1f} s", style=colour))

    def line(self, text: str | Text = "") -> None:
        """Tell people one line; scripts get the document."""
        if not self._screen.as_json:
            self._screen.say(text)

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Tell people a table, its last column as long as it likes."""
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        for n, row in enumerate((heads, *rows)):
            cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
            self.line(Text("  ".join(cells).rstrip(), style="" if n else "dim"))

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Show what `progress` tells, in one line that moves, while the block runs."""
        if self._screen.as_json or not self._console.is_terminal:
            yield
            return
        with self._console.status("") as status:
            self._status = status
            try:
                yield
            finally:
                self._status = None

    def progress(self, sentence: str) -> None:
        """Tell what goes on: at once on a terminal, else a plain line every few seconds."""
        if self._status is not None:
            self._status.update(Text(sentence))
        elif sentence != self._said and time.monotonic() - self._said_at > _PLAIN_EVERY_S:
            self._said, self._said_at = sentence, time.monotonic()
            self.line(f"      {sentence}")

    def document(self, content: Mapping[str, Any]) -> None:
        """Give scripts everything."""
        if self._screen.as_json:
            self._screen.document(content)
