"""How commands speak: tables and sentences for people, one JSON document for scripts.

Colour only on a terminal and never alone; text that came from outside is cleaned before it is
shown. ``--json`` gives ``{"version": 1, "at": …, "items": […], "next": null}``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dicomnode.rules.reasons import Group
from dicomnode.telemetry import printable

FINE, FAILED, WRONG_USE, NOT_REACHABLE = 0, 1, 2, 3

# A pipe has no width; nothing is folded there that a terminal would show in one line.
_PIPE_WIDTH = 240
_WIDEST_CELL = 40

# Icon and terminal colour of each group of reasons; the word always stands beside them.
_LOOKS: Mapping[Group, tuple[str, str]] = {
    Group.WAITING: ("◔", "yellow"),
    Group.RUNNING: ("▶", "blue"),
    Group.DONE: ("✓", "green"),
    Group.DECLINED: ("∅", "magenta"),
    Group.HELD: ("❚❚", "bright_yellow"),
    Group.ATTENTION: ("▲", "red"),
    Group.OFF: ("○", "dim"),
}
_CHECK_LOOKS = {"yes": ("✓", "green"), "warn": ("◔", "yellow"), "no": ("✕", "red")}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its head, and whether a narrow terminal may drop it."""

    head: str
    drop_below: int = 0
    right: bool = False


class Output:
    """Where a command writes: people read standard output as text, scripts as JSON."""

    def __init__(
        self,
        *,
        as_json: bool = False,
        colour: bool = True,
        wide: bool = False,
        width: int | None = None,
    ) -> None:
        self.as_json = as_json
        self._wide = wide
        self._console = Console(
            file=sys.stdout,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=True,
            no_color=None if colour else True,
            width=width or (None if sys.stdout.isatty() else _PIPE_WIDTH),
        )
        self._unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks on: then long work has a progress bar."""
        return self._console.is_terminal and not self.as_json

    @property
    def console(self) -> Console:
        """The console, for what moves: progress bars and the watched screen."""
        return self._console

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str | Text]]) -> None:
        """Show rows; on a narrow terminal the columns that may be dropped are."""
        self._console.print(self.made_table(columns, rows), soft_wrap=False)

    def made_table(self, columns: Sequence[Column], rows: Iterable[Sequence[str | Text]]) -> Table:
        """Give rows as a table; on a narrow terminal without the columns that may be dropped."""
        width = self._console.width
        kept = [n for n, column in enumerate(columns) if self._wide or width >= column.drop_below]
        shown = Table(box=None, pad_edge=False, header_style="dim")
        for n in kept:
            column = columns[n]
            shown.add_column(
                Text(column.head), justify="right" if column.right else "left", overflow="fold"
            )
        for row in rows:
            shown.add_row(*(self._text(row[n]) for n in kept))
        return shown

    def study_table(
        self,
        columns: Sequence[Column],
        rows: Sequence[Sequence[str | Text]],
        sentences: Sequence[str],
    ) -> None:
        """Show rows of one line each, and below each its sentence."""
        width = self._console.width
        kept = [n for n, column in enumerate(columns) if self._wide or width >= column.drop_below]
        lines = [[self._text(row[n]) for n in kept] for row in rows]
        heads = [Text(columns[n].head, "dim") for n in kept]
        widths = [
            min(_WIDEST_CELL, max(cell.cell_len for cell in column))
            for column in zip(heads, *lines, strict=True)
        ]
        for line, sentence in zip([heads, *lines], ["", *sentences], strict=True):
            shown = Text()
            for cell, n, size in zip(line, kept, widths, strict=True):
                cell.truncate(size, overflow="ellipsis")
                cell.align("right" if columns[n].right else "left", size)
                shown.append_text(cell).append("  ")
            shown.rstrip()
            self._console.print(shown)
            if sentence:
                self.say(f"  {sentence}")

    def fault(self, code: str, sentences: Sequence[str]) -> None:
        """Say on standard error why a command is not done; with ``--json`` as a document too."""
        if self.as_json:
            self.document({"error": {"code": code, "sentences": list(sentences)}})
        errors = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
        encoding = sys.stderr.encoding or "ascii"
        for sentence in sentences:
            clean = printable(sentence, 2000).encode(encoding, "replace").decode(encoding)
            errors.print(Text(clean))

    def say(self, text: str | Text) -> None:
        """Show one sentence."""
        self._console.print(self._text(text))

    def state(self, word: str, group: Group) -> Text:
        """Give a state with its icon, in its group's colour."""
        icon, colour = _LOOKS[group]
        return self._text(Text(f"{icon} {printable(word)}" if self._unicode else word, colour))

    def check(self, name: str, ok: str, sentence: str, fix: str | None = None) -> None:
        """Show the line of one check, and below it what to do."""
        icon, colour = _CHECK_LOOKS[ok]
        line = Text().append(f"{icon if self._unicode else ok:<5}", style=colour)
        line.append(f"{printable(name):<18} ", style="bold").append(printable(sentence))
        self._console.print(self._text(line))
        if fix:
            self._console.print(self._text(Text(f"      {printable(fix)}", style="dim")))

    def hint(self, text: str) -> None:
        """Show a sentence that only helps on, dim."""
        self._console.print(self._text(Text(printable(text), style="dim")))

    def items(self, items: Sequence[Mapping[str, Any]], following: str | None = None) -> None:
        """Write the JSON document of a list."""
        self.document({"items": list(items), "next": following})

    def document(self, content: Mapping[str, Any]) -> None:
        """Write one JSON document on one line."""
        at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        whole = {"version": 1, "at": at, **content}
        sys.stdout.write(json.dumps(whole, ensure_ascii=not self._unicode, default=str) + "\n")
        sys.stdout.flush()

    def _text(self, text: str | Text) -> Text:
        made = text if isinstance(text, Text) else Text(printable(text))
        if self._unicode:
            return made
        encoding = sys.stdout.encoding or "ascii"
        plain = made.plain.encode(encoding, "replace").decode(encoding)
        return Text(plain, style=made.style)


def utc(ms: int | None) -> str | None:
    """Give a row's time as ISO 8601 in UTC, with Z; None stays None."""
    if ms is None:
        return None
    return (
        datetime.fromtimestamp(ms / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
