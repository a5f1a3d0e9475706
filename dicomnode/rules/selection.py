"""Which of the matching series of a study a pipeline gets: order by preference, then limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dicomnode.rules.keys import Input
from dicomnode.rules.matching import Attributes, Tried
from dicomnode.rules.reasons import Parameter, Reason
from dicomnode.rules.states import Role
from dicomnode.sdk.match import Preference, Select

# Radiographs have no slices and no distance between them: limits on both do not speak of them.
PROJECTION_MODALITIES = frozenset({"CR", "DX", "IO", "MG", "PX", "RG"})


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """One instance of a series: its row and what makes it an input."""

    id: int
    sop_instance_uid: str
    digest: str

    @property
    def input(self) -> Input:
        """Give the instance as a part of a job's key."""
        return self.sop_instance_uid, self.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFacts:
    """One series of a study as routing sees it.

    Parameters
    ----------
    attributes
        Values by DICOM keyword, those of the study and ``CallingAETitle`` among them.
    slice_count
        Slices, frames of multi-frame objects counted one by one.
    spacing_mm
        Distance between slices, None where it is not known.
    has_images
        Whether its objects hold pixels that are images (a SEG or SR does not).
    facts
        What pipelines found out about the series, by name; rules match on them like on attributes.
    """

    id: int
    series_instance_uid: str
    modality: str
    instances: tuple[InstanceFacts, ...]
    attributes: Attributes
    slice_count: int
    spacing_mm: float | None = None
    kernel: str = ""
    role: Role = Role.SOURCE
    has_images: bool = True
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_candidate(self) -> bool:
        """False for what no pipeline ever takes: our own objects, priors, what holds no image."""
        return self.role is Role.SOURCE and self.has_images and bool(self.instances)

    @property
    def matched_on(self) -> Attributes:
        """Give what rules are asked about: attributes, Modality, and facts by name."""
        facts = {name: (value,) for name, value in self.facts.items()}
        return {"Modality": (self.modality,), **self.attributes, **facts}


@dataclass(frozen=True, slots=True)
class Chosen:
    """Series that a job gets, in order; ``declined`` where a limit stands against them."""

    series: tuple[SeriesFacts, ...]
    declined: Reason | None = None


def choose(select: Select, candidates: Sequence[SeriesFacts], pipeline: str) -> list[Chosen]:
    """Give the jobs that `Select` makes of the matching series, without its ``require``.

    With ``one_series`` the best of those within the limits is taken; only where none is, the best
    of all is declined. Else each series is a job of its own.
    """
    ordered = sorted(candidates, key=lambda series: order_key(select, series))
    each = [Chosen((series,), outside_limits(select, series, pipeline)) for series in ordered]
    if not select.one_series or not each:
        return each
    return [next((chosen for chosen in each if chosen.declined is None), each[0])]


def order_key(select: Select, series: SeriesFacts) -> tuple[object, ...]:
    """Give what sorts series, best first: preferences, then most images, then the UID."""
    preferred = [_preference_key(preference, series) for preference in select.prefer]
    return (*preferred, -series.slice_count, series.series_instance_uid)


def outside_limits(select: Select, series: SeriesFacts, pipeline: str) -> Reason | None:
    """Give the reason to decline a series, or None where it is within the limits."""
    if series.modality in PROJECTION_MODALITIES:
        return None
    minimum, maximum = select.minimum_slices, select.maximum_spacing_mm
    if minimum is not None and series.slice_count < minimum:
        told: dict[str, Parameter] = {"n": series.slice_count, "min": minimum, "pipeline": pipeline}
        return Reason("declined.too_few", told)
    if maximum is not None and series.spacing_mm is not None and series.spacing_mm > maximum:
        found, wanted = f"{series.spacing_mm:.4g} mm", f"at most {maximum:g} mm"
        limit = {"keyword": "spacing", "found": found, "wanted": wanted, "pipeline": pipeline}
        return Reason("declined.outside_limits", limit)
    return None


def tried_limits(select: Select, series: SeriesFacts) -> list[Tried]:
    """Give the limits as conditions of the trace."""
    if series.modality in PROJECTION_MODALITIES:
        return []
    tried = []
    minimum, maximum = select.minimum_slices, select.maximum_spacing_mm
    if minimum is not None:
        count = series.slice_count
        tried.append(Tried("slices", str(count), f"at least {minimum}", count >= minimum))
    if maximum is not None:
        spacing = series.spacing_mm
        found = "not known" if spacing is None else f"{spacing:.4g} mm"
        is_within = spacing is None or spacing <= maximum
        tried.append(Tried("spacing", found, f"at most {maximum:g} mm", is_within))
    return tried


def assign(
    select: Select, candidates: Sequence[SeriesFacts], wanting: Sequence[Sequence[SeriesFacts]]
) -> list[SeriesFacts | None]:
    """Give each required place a series of its own, as many places as can be filled.

    ``wanting`` are the candidates that each place accepts. Augmenting paths (Kuhn): a place gives
    its series to another one only where it finds a next one itself.
    """
    ordered = sorted(candidates, key=lambda series: order_key(select, series))
    accepts = [{series.id for series in place} for place in wanting]
    holder: dict[int, int] = {}

    def find(place: int, seen: set[int]) -> bool:
        for series in ordered:
            if series.id not in accepts[place] or series.id in seen:
                continue
            seen.add(series.id)
            if series.id not in holder or find(holder[series.id], seen):
                holder[series.id] = place
                return True
        return False

    for place in range(len(wanting)):
        find(place, set())
    by_place = {place: series_id for series_id, place in holder.items()}
    by_id = {series.id: series for series in ordered}
    return [by_id.get(by_place.get(place, -1)) for place in range(len(wanting))]


def _preference_key(preference: Preference, series: SeriesFacts) -> tuple[int, float]:
    """Sort key of one preference; what is not known comes after what is."""
    if preference.by == "kernel":
        return _kernel_rank(preference.wanted, series.kernel), 0.0
    value = series.spacing_mm if preference.by == "spacing" else float(series.slice_count)
    if value is None:
        return 1, 0.0
    # Distances are told apart to 0.01 mm: scanners write 0.625 and 0.6250001 for one protocol.
    return 0, round(-value if preference.descending else value, 2)


def _kernel_rank(wanted: Sequence[str], kernel: str) -> int:
    """0 for a wanted kernel, 1 where none is told, 2 for another."""
    names = [name for name in kernel.casefold().replace("\\", " ").split() if name]
    if not names:
        return 1
    # A fragment of one letter is a whole kernel of its vendor, never the start of a longer name.
    is_wanted = any(
        name == fragment or (len(fragment) > 1 and name.startswith(fragment))
        for name in names
        for fragment in (part.casefold() for part in wanted)
    )
    return 0 if is_wanted else 2
