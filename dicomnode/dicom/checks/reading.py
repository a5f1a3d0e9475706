"""Reading DICOM for the gate: code sequences and content trees as plain values."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

SEGMENTATION: Final = "1.2.840.10008.5.1.4.1.1.66.4"
COMPREHENSIVE_3D_SR: Final = "1.2.840.10008.5.1.4.1.1.88.34"
COMPREHENSIVE_SR: Final = "1.2.840.10008.5.1.4.1.1.88.33"
REPORTS: Final = (COMPREHENSIVE_3D_SR, COMPREHENSIVE_SR)


class Coded(NamedTuple):
    """Value and scheme of a code, comparable; the meaning is read where it matters."""

    value: str
    scheme: str


def first(data_set: Dataset | None, keyword: str) -> Dataset | None:
    """Give the first item of a sequence, None where there is none."""
    sequence = data_set.get(keyword) if data_set is not None else None
    return sequence[0] if sequence else None


def text(data_set: Dataset, keyword: str) -> str:
    """Give the first value of an element as text, empty where it is absent or empty."""
    value = data_set.get(keyword)
    if isinstance(value, MultiValue | list):
        return str(value[0]) if len(value) else ""
    return "" if value is None else str(value)


def coded(item: Dataset | None) -> Coded | None:
    """Give the code of one item of a code sequence."""
    if item is None:
        return None
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
    return Coded(str(value or ""), str(item.get("CodingSchemeDesignator") or ""))


def name(item: Dataset) -> Coded | None:
    """Give the concept name of a content item."""
    return coded(first(item, "ConceptNameCodeSequence"))


def value(item: Dataset) -> Coded | None:
    """Give the value of a CODE content item."""
    return coded(first(item, "ConceptCodeSequence"))


def children(item: Dataset) -> list[Dataset]:
    """Give the content items directly below one."""
    return list(item.get("ContentSequence") or [])


def walk(item: Dataset) -> Iterator[Dataset]:
    """Give every content item below one, depth first."""
    for child in children(item):
        yield child
        yield from walk(child)
