"""What a report of ours says, read back from its file (TID 1500, measurement groups)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

# PS3.16, TID 1410 and 1411: the names of what a group holds.
_GROUP = "125007"
_TRACKING = "112039"
_FINDING = "121071"
_SITES = ("363698007", "G-C0E3")


@dataclass(frozen=True, slots=True)
class MeasuredFinding:
    """One measurement group; ``measured`` by the name of the measurement, with its unit."""

    label: str
    kind: str
    site: str
    measured: dict[str, tuple[float, str]] = field(default_factory=dict)

    @property
    def measured_words(self) -> str:
        """Everything measured in one line."""
        parts = (f"{name} {value:g} {unit}" for name, (value, unit) in self.measured.items())
        return ", ".join(parts)

    def to_data(self) -> dict[str, Any]:
        """Give it as JSON data."""
        return asdict(self)


def read_findings(path: Path) -> list[MeasuredFinding]:
    """Give what a structured report measured, in its order; groups of one finding as one."""
    found: dict[tuple[str, str], MeasuredFinding] = {}
    for item in _walk(dcmread(path)):
        if _name(item) == _GROUP:
            one = _group(item)
            first = found.setdefault((one.label, one.kind), one)
            first.measured.update(one.measured)
    return list(found.values())


def _walk(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _walk(child)


def _name(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return _value(names[0]) if names else ""


def _value(code: Dataset) -> str:
    """Value of an item of a code sequence; one over 16 characters is a Long Code Value."""
    return str(code.get("CodeValue") or code.get("LongCodeValue") or "")


def _meaning(item: Dataset, sequence: str) -> str:
    found = item.get(sequence)
    return str(found[0].get("CodeMeaning", "")) if found else ""


def _group(group: Dataset) -> MeasuredFinding:
    label = kind = site = ""
    measured: dict[str, tuple[float, str]] = {}
    for item in group.get("ContentSequence", ()):
        name = _name(item)
        if name == _TRACKING:
            label = str(item.get("TextValue", ""))
        elif name == _FINDING:
            kind = _meaning(item, "ConceptCodeSequence")
        elif name in _SITES:
            site = _meaning(item, "ConceptCodeSequence")
        elif item.get("ValueType") == "NUM" and item.get("MeasuredValueSequence"):
            value = item.MeasuredValueSequence[0]
            unit = _value(value.MeasurementUnitsCodeSequence[0])
            title = _meaning(item, "ConceptNameCodeSequence")
            measured.setdefault(title, (float(value.NumericValue), unit))
    return MeasuredFinding(label, kind, site, measured)
