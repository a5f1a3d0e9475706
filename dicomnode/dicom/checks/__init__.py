"""The gate: reads result objects back from their files and holds back any set that is not right.

It shares no code with the encoder beyond tables of codes: masks are unpacked, counted and measured
anew, source pixels are decoded anew. Any violation holds the whole set back.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydicom.errors import InvalidDicomError

from dicomnode.dicom.checks import attributes, geometry, numbers, references, report
from dicomnode.dicom.checks.results import Predecessor, ResultSet
from dicomnode.dicom.checks.rules import UNREADABLE, Violation, broken
from dicomnode.dicom.checks.source import Source
from dicomnode.errors import DicomError

__all__ = ["RULE_COUNT", "STATEMENTS", "Predecessor", "Violation", "check"]

# Every rule's name and what it states, in the order in which they are asked.
STATEMENTS: Final[tuple[tuple[str, str], ...]] = (
    ("set.readable", "Source and results can be read"),
    *((rule.name, rule.statement) for rule in references.SET_RULES),
    *(
        (rule.name, rule.statement)
        for rule in (
            *attributes.RULES,
            *references.RULES,
            *geometry.RULES,
            *references.REPORT_RULES,
            *report.RULES,
            *numbers.RULES,
        )
    ),
)
RULE_COUNT: Final = len(STATEMENTS)


def check(
    objects: Sequence[Path], source: Sequence[Path], *, predecessors: Sequence[Predecessor] = ()
) -> list[Violation]:
    """Give everything that is wrong with a set of result files, an empty list when all is right.

    Parameters
    ----------
    objects
        The files of one set.
    source
        The files of exactly the images that were analysed.
    predecessors
        Reports that this set must say it replaces.
    """
    try:
        whole = ResultSet(objects, Source(source), predecessors)
        if not source or not objects:
            return [Violation("set.readable", "set", "there are no results or no source images")]
        found = broken(references.SET_RULES, whole, "set")
        for each in whole.objects:
            found += broken((*attributes.RULES, *references.RULES), each, each.where)
            if each.is_segmentation:
                found += broken(geometry.RULES, each, each.where)
            if each.is_report:
                rules = (*references.REPORT_RULES, *report.RULES, *numbers.RULES)
                found += broken(rules, each, each.where)
    except (*UNREADABLE, InvalidDicomError, DicomError, OSError) as fault:
        return [Violation("set.readable", "set", f"cannot be read: {type(fault).__name__}")]
    return found
