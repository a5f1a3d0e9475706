"""Does a series fulfil a match, and which condition decided; `Match` and `Select` as JSON data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dicomnode.rules.sentences import is_shown
from dicomnode.sdk.match import (
    SHORT_NAMES,
    Absent,
    AnyOf,
    Condition,
    Equals,
    Match,
    Not,
    Preference,
    Regex,
    Select,
    Within,
)

Attributes = Mapping[str, Sequence[str]]

NOTHING = "nothing"
_LONGEST_FOUND = 120
# PS3.5 table 6.2-1, Age String
_AGE = re.compile(r"(\d{3})([DWMY])")
_AGES_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}


@dataclass(frozen=True, slots=True)
class Tried:
    """One condition with what was found; the words are for people."""

    keyword: str
    found: str
    wanted: str
    ok: bool

    def to_data(self) -> dict[str, str | bool]:
        """Give the trace as a row and ``--json`` hold it."""
        return {
            "keyword": self.keyword,
            "found": self.found,
            "wanted": self.wanted,
            "ok": self.ok,
        }


def evaluate(match: Match, attributes: Attributes) -> list[Tried]:
    """Give every condition of ``match`` with what ``attributes`` (by DICOM keyword) hold.

    The series matches when each is ``ok``. Blank values count as absent.
    """
    return [_tried(SHORT_NAMES.get(key, key), c, attributes) for key, c in match.conditions]


def _tried(keyword: str, condition: Condition, attributes: Attributes) -> Tried:
    values = [value.strip() for value in attributes.get(keyword, ()) if value.strip()]
    found = found_words(keyword, values)
    return Tried(keyword, found, wanted_words(condition), holds(condition, values))


def holds(condition: Condition, values: Sequence[str]) -> bool:
    """Tell whether the values of one attribute, none where it is absent, fulfil a condition."""
    match condition:
        case Absent():
            return not values
        case Equals(text):
            return any(value.casefold() == text.strip().casefold() for value in values)
        case Regex(pattern):
            return any(re.search(pattern, value, re.IGNORECASE) for value in values)
        case Within():
            return any(_is_within(condition, value) for value in values)
        case AnyOf(conditions):
            return any(holds(member, values) for member in conditions)
        case Not(inner):
            return not holds(inner, values)


def _is_within(condition: Within, value: str) -> bool:
    number = _number(value)
    if number is None:
        return False
    above = condition.minimum is None or number >= condition.minimum
    return above and (condition.maximum is None or number <= condition.maximum)


def _number(value: str) -> float | None:
    age = _AGE.fullmatch(value)
    if age is not None:
        return int(age[1]) / _AGES_PER_YEAR[age[2]]
    try:
        return float(value)
    except ValueError:
        return None


def wanted_words(condition: Condition) -> str:
    """Give a condition in words: ``CHEST, THORAX or nothing``, ``at most 3``, ``not LOCALIZER``."""
    match condition:
        case Absent():
            return NOTHING
        case Equals(text):
            return text
        case Regex(pattern):
            return f"text like “{pattern}”"
        case Within(minimum, maximum):
            return _range_words(minimum, maximum)
        case AnyOf(conditions):
            return _either([wanted_words(member) for member in conditions])
        case Not(inner):
            return _unwanted_words(inner)


def _unwanted_words(condition: Condition) -> str:
    match condition:
        case Absent():
            return "any value"
        case AnyOf(conditions):
            return "none of " + ", ".join(wanted_words(member) for member in conditions)
        case _:
            return f"not {wanted_words(condition)}"


def _range_words(minimum: float | None, maximum: float | None) -> str:
    if minimum is not None and maximum is not None:
        return f"{minimum:g} to {maximum:g}"
    if minimum is not None:
        return f"at least {minimum:g}"
    return "any number" if maximum is None else f"at most {maximum:g}"


def _either(words: list[str]) -> str:
    return " or ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def found_words(keyword: str, values: Sequence[str]) -> str:
    """Give what an attribute holds; "another value" for those that may name a person or place."""
    if not values:
        return NOTHING
    if not is_shown(keyword):
        return "another value"
    words = ", ".join(values)
    return words if len(words) <= _LONGEST_FOUND else words[: _LONGEST_FOUND - 1] + "…"


def match_to_data(match: Match) -> dict[str, object]:
    """Give a match as JSON data, as a ``pipelines`` row keeps it."""
    return {key: _plain(value) for key, value in match.items()}


def match_from_data(data: Mapping[str, Any]) -> Match:
    """Read a match from JSON or TOML data; raises `MatchError` for what is not of the grammar."""
    return Match(**dict(data))


def select_to_data(select: Select) -> dict[str, object]:
    """Give a select as JSON data, as a ``pipelines`` row keeps it."""
    return {
        "one_series": select.one_series,
        "prefer": [
            {"by": p.by, "descending": p.descending, "wanted": list(p.wanted)}
            for p in select.prefer
        ],
        "minimum_slices": select.minimum_slices,
        "maximum_spacing_mm": select.maximum_spacing_mm,
        "require": [match_to_data(match) for match in select.require],
        "deadline_s": select.deadline_s,
        "at_deadline": select.at_deadline,
    }


def select_from_data(data: Mapping[str, Any]) -> Select:
    """Read a select from JSON data; raises `MatchError` or TypeError for what is none."""
    given = dict(data)
    prefer = tuple(
        Preference(p["by"], p.get("descending", False), tuple(p.get("wanted", ())))
        for p in given.pop("prefer", ())
    )
    require = tuple(match_from_data(match) for match in given.pop("require", ()))
    return Select(prefer=prefer, require=require, **given)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(member) for key, member in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(member) for member in value]
    return value
