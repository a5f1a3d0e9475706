"""The hours in which a pipeline may start jobs: ``mon-fri 18:00-06:00, sat-sun``.

A part is days, times or both: without days it holds each day, without times all day. A span over
midnight belongs to the day on which it starts. Times are the wall clock's of the node's zone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MIDNIGHT = 24 * 60

_PART = re.compile(
    r"(?:(?P<first>[a-z]{3})(?:\s*-\s*(?P<last>[a-z]{3}))?)?\s*"
    r"(?:(?P<start>\d{1,2}:\d{2})\s*-\s*(?P<end>\d{1,2}:\d{2}))?"
)


class HoursError(ValueError):
    """Text that names no hours; the message says which part."""


@dataclass(frozen=True, slots=True)
class Span:
    """From ``start`` to ``end`` on ``days`` (0 is Monday), in minutes after the day's midnight.

    ``end`` is over 24 hours where the span ends on the next day.
    """

    days: frozenset[int]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Hours:
    """When jobs may start; without spans always."""

    spans: tuple[Span, ...] = ()

    def next_open(self, now_ms: int, zone: tzinfo) -> int:
        """Give ``now_ms`` within the hours, else the epoch ms at which they begin next."""
        if not self.spans:
            return now_ms
        today = datetime.fromtimestamp(now_ms / 1000, zone).date()
        begins = []
        # From yesterday, whose span may reach over midnight, to the same weekday next week.
        for day in (today + timedelta(days=offset) for offset in range(-1, 9)):
            for span in self.spans:
                if day.weekday() not in span.days:
                    continue
                if _moment_ms(day, span.end, zone) > now_ms:
                    begins.append(max(_moment_ms(day, span.start, zone), now_ms))
        return min(begins)


def parse(text: str) -> Hours:
    """Read hours; empty text means always. Raises `HoursError` naming the part that is wrong."""
    if not text.strip():
        return Hours()
    return Hours(tuple(_parse_part(part.strip().lower()) for part in text.split(",")))


def _parse_part(part: str) -> Span:
    found = _PART.fullmatch(part)
    if not part or found is None:
        raise HoursError(f"“{part}” is not like mon-fri 18:00-06:00")
    days = _days(part, found["first"], found["last"])
    if found["start"] is None:
        return Span(days, 0, _MIDNIGHT)
    start, end = _minutes(part, found["start"]), _minutes(part, found["end"])
    if start == _MIDNIGHT:
        raise HoursError(f"“{part}” starts at 24:00; 00:00 of the next day is meant")
    return Span(days, start, end if end > start else end + _MIDNIGHT)


def _days(part: str, first: str | None, last: str | None) -> frozenset[int]:
    if first is None:
        return frozenset(range(7))
    for name in (first, last or first):
        if name not in _DAYS:
            raise HoursError(f"“{part}”: {name} is not one of {', '.join(_DAYS)}")
    start, end = _DAYS.index(first), _DAYS.index(last or first)
    return frozenset((start + step) % 7 for step in range((end - start) % 7 + 1))


def _minutes(part: str, clock: str) -> int:
    hour, minute = map(int, clock.split(":"))
    total = hour * 60 + minute
    if minute > 59 or total > _MIDNIGHT:
        raise HoursError(f"“{part}”: {clock} is no time of day")
    return total


def _moment_ms(day: date, minutes: int, zone: tzinfo) -> int:
    """Give the epoch ms of a wall-clock time; where clocks change, by the offset before it."""
    days, rest = divmod(minutes, _MIDNIGHT)
    wall = datetime.combine(day + timedelta(days=days), time(rest // 60, rest % 60), zone)
    return round(wall.astimezone(UTC).timestamp() * 1000)
