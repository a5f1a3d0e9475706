"""The content tree of a report as plain values: groups, statements, words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicomnode.dicom import codes
from dicomnode.dicom.checks.reading import Coded, children, coded, first, name, text, value, walk
from dicomnode.sdk import Code

RULE_BASED_WORDS: Final = "rule-based, no probability"
RESEARCH_WORDS: Final = "research use only"


def plain(code: Code) -> Coded:
    """Give a code of the node's tables as one that was read."""
    return Coded(code.value, code.scheme)


VOLUME, LONG_AXIS, SHORT_AXIS, DIAMETER, ATTENUATION, PROBABILITY, MEAN = map(
    plain,
    (codes.VOLUME, codes.LONG_AXIS, codes.SHORT_AXIS, codes.DIAMETER, codes.ATTENUATION,
     codes.PROBABILITY, codes.MEAN),
)  # fmt: skip
PRESENT, ABSENT = plain(codes.PRESENT), plain(codes.ABSENT)
LENGTHS: Final = frozenset({LONG_AXIS, SHORT_AXIS, DIAMETER})


@dataclass(frozen=True, slots=True)
class Number:
    """One measurement; ``value`` is NaN where it cannot be read."""

    name: Coded | None
    value: float
    unit: str
    derivation: Coded | None


@dataclass(frozen=True, slots=True)
class Region:
    """A spatial coordinate item: its points ``(n, 2)`` and the image that it lies on."""

    kind: str
    graphic: str
    points: NDArray[np.float64]
    image: tuple[str, int | None]


@dataclass(slots=True)
class Group:
    """One measurement group (125007, DCM)."""

    template: str
    tracking_id: str = ""
    tracking_uid: str = ""
    finding: Coded | None = None
    category: Coded | None = None
    site: Coded | None = None
    laterality: Coded | None = None
    algorithm_name: str = ""
    algorithm_version: str = ""
    segment: tuple[str, tuple[int, ...]] | None = None
    images: list[str] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    numbers: list[Number] = field(default_factory=list)
    qualities: list[tuple[Coded | None, Coded | None]] = field(default_factory=list)

    @property
    def label(self) -> str:
        """What to call the group in a violation."""
        return f"group {self.tracking_id or self.tracking_uid or '?'}"

    def number(self, wanted: Coded) -> Number | None:
        """Give the first measurement of that name."""
        return next((n for n in self.numbers if n.name == wanted), None)

    @property
    def is_placed(self) -> bool:
        """True for a group that ties itself to a place or a size."""
        sized = any(n.name in LENGTHS or n.name == VOLUME for n in self.numbers)
        return self.segment is not None or bool(self.regions) or sized


class Content:
    """The content of one report."""

    def __init__(self, data: Dataset) -> None:
        self.data = data

    @cached_property
    def items(self) -> list[Dataset]:
        """Every content item below the root."""
        return list(walk(self.data))

    @cached_property
    def top(self) -> dict[Coded | None, Dataset]:
        """The items directly below the root by concept name, the last of each."""
        return {name(item): item for item in children(self.data)}

    @cached_property
    def groups(self) -> list[Group]:
        """All measurement groups."""
        wanted = plain(codes.MEASUREMENT_GROUP)
        return [
            _group(item)
            for box in children(self.data)
            if name(box) == plain(codes.IMAGING_MEASUREMENTS)
            for item in children(box)
            if name(item) == wanted
        ]

    @cached_property
    def statements(self) -> list[tuple[Coded | None, Coded | None]]:
        """Coded statements on the whole, in the root container."""
        box = self.top.get(plain(codes.QUALITATIVE_EVALUATIONS))
        items = children(box) if box is not None else []
        return [(name(item), value(item)) for item in items if item.get("ValueType") == "CODE"]

    @cached_property
    def summaries(self) -> list[str]:
        """Values of the run summary (111017, DCM); there should be one."""
        wanted = plain(codes.RUN_SUMMARY)
        found = (value(item) for item in self.items if name(item) == wanted)
        return [code.value if code else "" for code in found]

    @property
    def summary(self) -> str:
        """The run summary's value, empty where there is none."""
        return self.summaries[0] if self.summaries else ""

    @cached_property
    def words(self) -> str:
        """All text of the report in lower case."""
        return " ".join(str(item.get("TextValue") or "") for item in self.items).lower()

    @property
    def is_rule_based(self) -> bool:
        """True when the report says that its pipeline has no trained bundle."""
        return RULE_BASED_WORDS in self.words


Reader = Callable[[Group, Dataset], None]


def _group(item: Dataset) -> Group:
    template = first(item, "ContentTemplateSequence")
    group = Group(text(template, "TemplateIdentifier") if template is not None else "")
    for child in children(item):
        concept, kind = name(child), str(child.get("ValueType") or "")
        reader = _BY_NAME.get(concept) if concept is not None else None
        if reader is not None:
            reader(group, child)
        elif kind in _BY_KIND:
            _BY_KIND[kind](group, child)
    return group


def _read_site(group: Group, item: Dataset) -> None:
    group.site = value(item)
    wanted = plain(codes.LATERALITY)
    group.laterality = next((value(c) for c in children(item) if name(c) == wanted), None)


def _read_segment(group: Group, item: Dataset) -> None:
    reference = item.ReferencedSOPSequence[0]
    numbers = reference.get("ReferencedSegmentNumber")
    several = numbers if isinstance(numbers, MultiValue | list) else [numbers]
    group.segment = (
        text(reference, "ReferencedSOPInstanceUID"),
        tuple(int(n) for n in several if n is not None),
    )


def _read_number(group: Group, item: Dataset) -> None:
    measured = first(item, "MeasuredValueSequence")
    unit = coded(first(measured, "MeasurementUnitsCodeSequence"))
    wanted = plain(codes.DERIVATION)
    derivation = next((value(c) for c in children(item) if name(c) == wanted), None)
    try:
        number = float(measured.NumericValue) if measured is not None else float("nan")
    except (AttributeError, TypeError, ValueError):
        number = float("nan")
    group.numbers.append(Number(name(item), number, unit.value if unit else "", derivation))


def _read_region(group: Group, item: Dataset) -> None:
    kind = str(item.ValueType)
    values = np.array([float(v) for v in item.GraphicData], dtype=np.float64)
    image: tuple[str, int | None] = ("", None)
    for child in children(item):
        reference = first(child, "ReferencedSOPSequence")
        if reference is not None:
            frame = reference.get("ReferencedFrameNumber")
            image = (text(reference, "ReferencedSOPInstanceUID"), int(frame) if frame else None)
    points = values.reshape(-1, 3 if kind == "SCOORD3D" else 2)
    group.regions.append(Region(kind, text(item, "GraphicType"), points, image))


def _read_image(group: Group, item: Dataset) -> None:
    group.images.append(text(item.ReferencedSOPSequence[0], "ReferencedSOPInstanceUID"))


def _setter(attribute: str, read: Callable[[Dataset], object]) -> Reader:
    return lambda group, item: setattr(group, attribute, read(item))


def _words(item: Dataset) -> str:
    return text(item, "TextValue")


_BY_NAME: Final[Mapping[Coded, Reader]] = MappingProxyType(
    {
        plain(codes.TRACKING_IDENTIFIER): _setter("tracking_id", _words),
        plain(codes.TRACKING_UID): _setter("tracking_uid", lambda item: text(item, "UID")),
        plain(codes.FINDING): _setter("finding", value),
        plain(codes.FINDING_CATEGORY): _setter("category", value),
        plain(codes.FINDING_SITE): _read_site,
        plain(codes.ALGORITHM_NAME): _setter("algorithm_name", _words),
        plain(codes.ALGORITHM_VERSION): _setter("algorithm_version", _words),
        plain(codes.REFERENCED_SEGMENT): _read_segment,
    }
)
_BY_KIND: Final[Mapping[str, Reader]] = MappingProxyType(
    {
        "NUM": _read_number,
        "CODE": lambda group, item: group.qualities.append((name(item), value(item))),
        "SCOORD": _read_region,
        "SCOORD3D": _read_region,
        "IMAGE": _read_image,
    }
)
