"""Result objects: what a pipeline found, as a segmentation and a structured report.

`encode` builds the set of a run that could look, `encode_status` the report of one that ended
without a result. Both are pure: the same request gives the same bytes. What cannot be built is an
`EncodingError` with a sentence; no other exception leaves this package for any header or finding.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from dicomnode.dicom.objects import seg, sr, statements
from dicomnode.dicom.objects.dress import dressed, headers, series
from dicomnode.dicom.objects.groups import Groups
from dicomnode.dicom.objects.items import items
from dicomnode.dicom.objects.request import (
    Algorithm,
    EncodedObject,
    EncodeRequest,
    Equipment,
    Form,
    PredecessorRef,
    SetRequest,
    StatusRequest,
)
from dicomnode.errors import EncodingError
from dicomnode.rules.states import ResultKind

__all__ = [
    "Algorithm",
    "EncodeRequest",
    "EncodedObject",
    "Equipment",
    "Form",
    "PredecessorRef",
    "SetRequest",
    "StatusRequest",
    "encode",
    "encode_status",
]


def encode(request: EncodeRequest) -> list[EncodedObject]:
    """Give the set of results, segmentation before report.

    Raises
    ------
    EncodingError
        The findings or the source headers do not allow a true and valid set; the message says
        what is wrong, and the job fails with it.
    """
    _check_form(request)
    with _building("results"):
        sources = headers(request)
        named = items(request)
        said = statements.report(request.findings, request.algorithm, named)
        result: list[EncodedObject] = []
        segmentation = None
        if "seg" in request.form.presents and any(item.segment is not None for item in named):
            place = series(request, ResultKind.SEG)
            segmentation = seg.segmentation(request, sources, named, place)
            result.append(dressed(segmentation, request, sources[0], place))
        groups = Groups(request, sources, segmentation)
        built = groups.placed(named) + groups.unplaced(said.groups)
        evidence = [*sources, segmentation] if segmentation is not None else list(sources)
        place = series(request, ResultKind.SR)
        report = sr.structured_report(request, evidence, said, built, place)
        result.append(dressed(report, request, sources[0], place))
    return result


def encode_status(request: StatusRequest) -> list[EncodedObject]:
    """Give the report of a run without a result (111245), nothing where the peer wants none.

    Raises
    ------
    EncodingError
        The source headers do not allow a valid report.
    """
    if "status" not in request.form.presents:
        return []
    _check_form(request)
    with _building("status report"):
        sources = headers(request)
        said = statements.status_report(request.algorithm, request.text, tuple(request.sought))
        groups = Groups(request, sources, None).unplaced(said.groups)
        place = series(request, ResultKind.SR)
        report = sr.structured_report(request, sources, said, groups, place)
        return [dressed(report, request, sources[0], place)]


def _check_form(request: SetRequest) -> None:
    if "sr" not in request.form.presents or request.form.sr not in ("3d", "2d"):
        raise EncodingError("Every set of results has a report: presents needs 'sr'.")


@contextmanager
def _building(what: str) -> Iterator[None]:
    """Turn what the library raises for odd input into a sentence."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError) as fault:
        raise EncodingError(f"The {what} cannot be built: {fault}") from fault
