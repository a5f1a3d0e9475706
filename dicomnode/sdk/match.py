"""Which series a pipeline wants, and which of several it takes: declarative data, no code.

TOML and Python share one grammar. A condition on an attribute is

* text: equal, case-folded;
* a list: any of its members;
* None (in TOML ``{absent = true}``): the attribute is absent or empty;
* ``{"regex": "…"}``: found anywhere in the value, case ignored;
* ``{"not": …}``: none of the values fulfils the inner condition (an absent attribute passes);
* ``{"min": a, "max": b}``: a number within, either end optional; an age counts in years.

An attribute with several values fulfils text, list, regex and range when any value does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

Scalar = str | int | float | bool | None
Conditional = Scalar | Sequence["Conditional"] | Mapping[str, "Conditional"]

# Short names for the attributes that rules ask for most, and the DICOM keyword each stands for.
SHORT_NAMES = MappingProxyType(
    {
        "modality": "Modality",
        "body_part": "BodyPartExamined",
        "series_description": "SeriesDescription",
        "study_description": "StudyDescription",
        "image_type": "ImageType",
        "manufacturer": "Manufacturer",
        "station": "StationName",
        "peer": "CallingAETitle",
    }
)


# Fragments of Image Type (0008,0008) of slabs: each voxel is the highest, lowest or mean value of
# several slices. PS3.3 C.8.15 has MAXIMUM, MINIMUM and MEAN; vendors write MIP, CT_SOM5 MIP,
# MINIP, MIN_IP, AVERAGE. A density, a size or a nodule measured there is not the patient's.
SLABS = "mip|min[ _]?ip|maximum|minimum|average|mean"


class MatchError(ValueError):
    """A rule that is not of the grammar; the message names the key."""


@dataclass(frozen=True, slots=True)
class Equals:
    """The value equals ``text``, case-folded."""

    text: str


@dataclass(frozen=True, slots=True)
class Absent:
    """The attribute is absent or empty."""


@dataclass(frozen=True, slots=True)
class Regex:
    """``pattern`` is found anywhere in the value, case ignored."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Within:
    """The value is a number between both ends, ends included; None is open.

    An age (VR AS, ``006M``) counts in years.
    """

    minimum: float | None
    maximum: float | None


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of the conditions holds."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The inner condition does not hold."""

    condition: Condition


Condition = Equals | Absent | Regex | Within | AnyOf | Not


def parse_condition(key: str, value: object) -> Condition:
    """Read one condition of the grammar; raises `MatchError` naming ``key``."""
    if value is None:
        return Absent()
    if isinstance(value, str | int | float):
        return Equals(str(value))
    if isinstance(value, Mapping):
        return _parse_table(key, value)
    if isinstance(value, Sequence) and value:
        return AnyOf(tuple(parse_condition(key, member) for member in value))
    raise MatchError(f"{key}: {value!r} is not a condition")


def _parse_table(key: str, table: Mapping[str, object]) -> Condition:
    keys = set(table)
    if keys == {"absent"} and table["absent"] is True:
        return Absent()
    if keys == {"not"}:
        return Not(parse_condition(key, table["not"]))
    if keys == {"regex"} and isinstance(table["regex"], str):
        try:
            re.compile(table["regex"])
        except re.error as fault:
            raise MatchError(f"{key}: {table['regex']!r} is not a pattern: {fault}") from fault
        return Regex(table["regex"])
    if keys and keys <= {"min", "max"}:
        ends = [table.get("min"), table.get("max")]
        if all(end is None or isinstance(end, int | float) for end in ends):
            low, high = (None if end is None else float(str(end)) for end in ends)
            return Within(low, high)
    raise MatchError(f"{key}: {dict(table)!r} is none of absent, not, regex, min and max")


@dataclass(frozen=True, slots=True)
class Match:
    """Conditions that must all hold for a series; without any, every series matches.

    Keys are the short names of `SHORT_NAMES` or any DICOM keyword. ``data`` is the rule as it was
    written, so that it can travel as JSON and be shown again.
    """

    conditions: tuple[tuple[str, Condition], ...]
    data: Mapping[str, object] = field(compare=False)

    def __init__(self, **conditions: Conditional) -> None:
        parsed = tuple((key, parse_condition(key, value)) for key, value in conditions.items())
        object.__setattr__(self, "conditions", parsed)
        object.__setattr__(self, "data", MappingProxyType(dict(conditions)))

    def narrowed_by(self, other: Mapping[str, Conditional]) -> Match:
        """Give this match with the keys of ``other`` (a table of the TOML) in place of its own."""
        return Match(**{**dict(self.items()), **other})

    def items(self) -> Iterator[tuple[str, Conditional]]:
        """Give each key with its condition as written."""
        yield from self.data.items()  # type: ignore[misc]  # parsed by __init__, so it is of the grammar


@dataclass(frozen=True, slots=True)
class Preference:
    """One ordering of series by an attribute of theirs; earlier preferences decide first.

    ``by`` is ``"spacing"``, ``"slices"`` or ``"kernel"``; ``wanted`` the kernels that come first.
    """

    by: str
    descending: bool = False
    wanted: tuple[str, ...] = ()


def thinnest_slices() -> Preference:
    """Prefer the smallest distance between slices."""
    return Preference("spacing")


def most_slices() -> Preference:
    """Prefer the series with most slices."""
    return Preference("slices", descending=True)


# Fragments of Convolution Kernel (0018,1210) that vendors use for soft tissue.
SOFT_KERNELS = (
    "standard", "soft", "b20", "b30", "b31", "b35", "b40", "br3", "br4", "qr4", "i30", "i31",
    "fc0", "fc1", "fc2", "a", "b", "c",
)  # fmt: skip


def soft_kernel() -> Preference:
    """Prefer a soft-tissue reconstruction kernel."""
    return Preference("kernel", wanted=SOFT_KERNELS)


@dataclass(frozen=True, slots=True)
class Select:
    """Which of the matching series of a study are analysed.

    ``prefer`` only orders. Limits decline: a chosen series outside of them makes a declined job
    with the reason. ``one_series`` takes the best one; else each matching series is a job of its
    own. ``require`` names one match per series for a pipeline that takes several series at once:
    the job waits until each is there, ``deadline_s`` after the study was complete at most, then
    it goes ahead without (``"go"``) or is declined (``"decline"``).
    """

    one_series: bool = True
    prefer: tuple[Preference, ...] = ()
    minimum_slices: int | None = None
    maximum_spacing_mm: float | None = None
    require: tuple[Match, ...] = ()
    deadline_s: int = 1800
    at_deadline: str = "decline"
