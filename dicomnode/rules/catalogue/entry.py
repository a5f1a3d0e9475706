"""The form of one line of the catalogue of sentences.

A sentence is a template. ``{name}`` is a parameter; its kind follows from the name: ``at`` and
``…_at`` are points in time (epoch ms), ``…_s`` is a duration in seconds, ``…_bytes`` a size,
anything else a number or words. ``{last_at:ago}`` renders the age of a point in time, ``{n:image}``
a counted noun in its right form, ``{n:=is|are}`` a word that follows the number. A part in ``[…]``
is left out where one of its parameters is missing. Of several templates the first whose parameters
are all given is taken, else the last.
"""

from dataclasses import dataclass
from enum import StrEnum


class Group(StrEnum):
    """The colour group of a sentence; the worst comes first in `ORDER`."""

    ATTENTION = "a"
    HELD = "h"
    WAITING = "w"
    RUNNING = "r"
    DECLINED = "n"
    OFF = "o"
    DONE = "d"


# Which of several things in a study is told first.
ORDER: tuple[Group, ...] = tuple(Group)


class Again(StrEnum):
    """Whether the node tries by itself once more."""

    LATER = "later"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Entry:
    """One code of the catalogue.

    ``by_itself`` is a template too: what happens without anybody acting. ``actions`` are words of
    the command line. ``short`` stands for the whole sentence inside another one.
    """

    code: str
    group: Group
    sentences: tuple[str, ...]
    by_itself: str = ""
    actions: tuple[str, ...] = ()
    retry: Again = Again.NEVER
    short: str = ""


def later(
    code: str,
    group: Group,
    *sentences: str,
    by_itself: str = "",
    actions: tuple[str, ...] = (),
    short: str = "",
) -> Entry:
    """Give the entry of something that goes on by itself."""
    return Entry(code, group, sentences, by_itself, actions, Again.LATER, short)


def never(
    code: str,
    group: Group,
    *sentences: str,
    by_itself: str = "",
    actions: tuple[str, ...] = (),
    short: str = "",
) -> Entry:
    """Give the entry of something that stays as it is until somebody acts or more comes."""
    return Entry(code, group, sentences, by_itself, actions, Again.NEVER, short)
