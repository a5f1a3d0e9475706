"""A reason: a stable code of the catalogue with its parameters, and the sentence made of both.

Parameters are of fixed kinds, told by their names: ``…_at`` a point in time (epoch ms), ``…_s``
seconds, ``…_bytes`` a size; counts and words otherwise. No patient's name or ID is ever one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo

from dicomnode.rules.catalogue import CATALOGUE, ORDER, Again, Entry, Group
from dicomnode.rules.sentences import Parameter, fill, render

__all__ = [
    "CATALOGUE",
    "Again",
    "Entry",
    "Group",
    "Parameter",
    "Reason",
    "by_itself",
    "entry_of",
    "sentence",
    "worst",
]

# What a code that a newer program wrote is shown as by an older one.
_UNKNOWN_GROUP = Group.ATTENTION


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is as it is; stored as ``reason_code`` and ``reason_parameters`` of a row."""

    code: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A plain dict of its own: JSON columns and json.dumps take no other mapping.
        object.__setattr__(self, "parameters", dict(self.parameters))

    def __hash__(self) -> int:
        return hash((self.code, frozenset(self.parameters.items())))

    def to_data(self) -> dict[str, object]:
        """Give the reason as JSON data."""
        return {"code": self.code, "parameters": dict(self.parameters)}

    @classmethod
    def of_row(cls, code: str | None, parameters: Mapping[str, Parameter] | None) -> Reason | None:
        """Give the reason that two columns hold, or None where the row has none."""
        return None if code is None else cls(code, parameters or {})


def entry_of(reason: Reason) -> Entry:
    """Give the reason's line of the catalogue, or one that only shows an unknown code."""
    found = CATALOGUE.get(reason.code)
    if found is not None:
        return found
    return Entry(reason.code, _UNKNOWN_GROUP, ("This program has no words for {code}.",))


def sentence(reason: Reason, now_ms: int | None = None, zone: tzinfo = UTC) -> str:
    """Give the reason as one sentence for an admin.

    Parameters
    ----------
    now_ms
        The reader's present; without it ages are left out and times carry date and zone.
    zone
        The reader's time zone.
    """
    entry = entry_of(reason)
    parameters = {"code": reason.code, **reason.parameters}
    return render(entry.sentences, parameters, now_ms, zone)


def by_itself(reason: Reason, now_ms: int | None = None, zone: tzinfo = UTC) -> str:
    """Give what happens without anybody acting, or empty text where nothing does."""
    return fill(entry_of(reason).by_itself, reason.parameters, now_ms, zone)


def worst(reasons: Iterable[Reason]) -> tuple[Reason, int]:
    """Give the worst of some reasons and how many others there are.

    The order of groups is a h w r n o d; among equals the first given stands.

    Raises
    ------
    ValueError
        If there is none.
    """
    given = list(reasons)
    if not given:
        raise ValueError("there is no worst of no reasons")
    return min(given, key=lambda reason: ORDER.index(entry_of(reason).group)), len(given) - 1
