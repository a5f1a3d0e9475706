"""Are codes complete, of a known scheme, and do DCM codes mean what they say (PS3.16)."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final, cast

from pydicom.dataset import Dataset
from pydicom.sr._concepts_dict import concepts  # pydicom's only table by value

from dicomnode.dicom.checks.reading import Coded, coded, text

_Table = Mapping[str, Mapping[str, tuple[str, object]]]
_SCHEMES: Final = frozenset(
    {"SCT", "DCM", "UCUM", "LN", "RADLEX", "IBSI", "RFC5646", "NCIt", "UMLS", "99DICOMNODE"}
)


@cache
def _meanings(code: Coded) -> frozenset[str]:
    """Meanings of a code in the dictionary, lower case; empty for a code that it lacks."""
    table = cast("_Table", concepts.get(code.scheme, {}))
    found = (entries.get(code.value) for entries in table.values())
    return frozenset(entry[0].lower() for entry in found if entry)


def faults(item: Dataset | None) -> Iterator[str]:
    """Say what is wrong with one item of a code sequence."""
    code = coded(item)
    if item is None or code is None:
        yield "the code is missing"
        return
    meaning = text(item, "CodeMeaning")
    if not code.value or not code.scheme or not meaning:
        yield "a code without value, scheme or meaning"
    elif code.scheme not in _SCHEMES and not code.scheme.startswith("99"):
        yield f"scheme {code.scheme} is not used here ({code.value})"
    elif code.scheme == "DCM" and not _meanings(code):
        yield f"{code.value} is not a DCM code"
    elif code.scheme == "DCM" and meaning.lower() not in _meanings(code):
        yield f"{code.value} DCM does not mean '{meaning}'"
