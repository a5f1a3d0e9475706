"""What a report says as a whole: which concepts are present or absent, and how the run went.

A rule-based pipeline may raise a suspicion and never reassure: what it sought and did not find is
undetermined, never absent, and such a run does not count as all algorithms having succeeded.
"""

from dataclasses import dataclass
from typing import Final

from dicomnode.dicom import codes
from dicomnode.dicom.objects.items import Item
from dicomnode.dicom.objects.request import Algorithm
from dicomnode.errors import EncodingError
from dicomnode.sdk import Code, Findings, Measurement, Sign, Urgency

RESEARCH_USE: Final = "Research use only; not a medical device. Not reviewed by a physician."
_LIKELY: Final = 0.5


@dataclass(frozen=True, slots=True)
class ImageGroup:
    """A measurement group without a place: it names one image and says something of the whole."""

    label: str
    finding: Code
    status: Code | None
    probability: float | None = None
    measurements: tuple[Measurement, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """The statements of one report beside its placed items.

    ``coded`` are concept and value for the root container, ``texts`` concept and words;
    ``groups`` are those without a place, which only a report without outlines may have: one of
    them blanks the whole report in common viewers.
    """

    summary: Code
    is_complete: bool
    coded: tuple[tuple[Code, Code], ...]
    texts: tuple[tuple[Code, str], ...]
    groups: tuple[ImageGroup, ...]


def report(findings: Findings, algorithm: Algorithm, items: tuple[Item, ...]) -> Report:
    """Say what was found, what was sought and not found, and how sure that is.

    Raises
    ------
    EncodingError
        The findings contradict themselves, reassure without a trained bundle, or say nothing.
    """
    _check(findings, algorithm)
    unplaced = tuple(item for item in items if not item.is_placed)
    reasons = findings.assessment.reasons if findings.assessment else ()
    raised = findings.assessment is not None and findings.assessment.urgency is not None
    status = codes.PRESENT if raised else codes.UNDETERMINED
    found = [(item.type, likelihood(item.probability)) for item in unplaced]
    found += [(sign.code, status) for sign in reasons]
    sought = _not_found(findings, {item.type for item in items} | {code for code, _ in found})
    likely = [item.is_placed or likelihood(item.probability) == codes.PRESENT for item in items]
    anything = any(likely) or (raised and bool(reasons))
    summary, is_complete = _summary(findings, sought, anything=anything)
    groups = () if any(item.is_placed for item in items) else _groups(unplaced, reasons, status)
    if not groups and not any(item.is_placed for item in items):
        groups = tuple(ImageGroup(f"{code.meaning} search", code, value) for code, value in sought)
        if not groups:
            raise EncodingError("Nothing was found, and the pipeline does not say what it sought.")
    coded = (*dict.fromkeys(found), *sought, *_significance(findings))
    return Report(summary, is_complete, coded, _texts(findings, algorithm, unplaced), groups)


def status_report(algorithm: Algorithm, text: str, sought: tuple[Code, ...]) -> Report:
    """Say that no analysis succeeded, and why, without any number."""
    return Report(
        summary=codes.NONE_SUCCEEDED,
        is_complete=False,
        coded=(),
        texts=((codes.SUMMARY_TEXT, text), *_notices(algorithm)),
        groups=tuple(
            ImageGroup(f"{code.meaning} search", code, None)
            for code in sought or (codes.UNSPECIFIED_FINDING,)
        ),
    )


def likelihood(probability: float | None) -> Code:
    """Present, or undetermined where a network itself thinks that less likely than not."""
    return codes.PRESENT if probability is None or probability >= _LIKELY else codes.UNDETERMINED


def _check(findings: Findings, algorithm: Algorithm) -> None:
    urgency = findings.assessment.urgency if findings.assessment else None
    if algorithm.rule_based and urgency is Urgency.NOT_SIGNIFICANT:
        raise EncodingError(f"{algorithm.name} has no trained bundle and must not reassure.")
    if algorithm.rule_based and findings.absent:
        names = ", ".join(code.meaning for code in findings.absent)
        raise EncodingError(
            f"{algorithm.name} has no trained bundle and must not rule out {names}."
        )
    raised = urgency in (Urgency.HIGHLY_SIGNIFICANT, Urgency.SIGNIFICANT)
    if raised and not (findings.findings or (findings.assessment and findings.assessment.reasons)):
        raise EncodingError(f"{algorithm.name} raises an urgency and gives no reason for it.")
    found = {finding.type for finding in findings.findings}
    if contradicted := found & set(findings.absent):
        names = ", ".join(sorted(code.meaning for code in contradicted))
        raise EncodingError(f"{algorithm.name} says of {names} both found and absent.")


def _not_found(findings: Findings, found: set[Code]) -> tuple[tuple[Code, Code], ...]:
    wanted = dict.fromkeys((*findings.sought, *findings.absent))
    return tuple(
        (code, codes.ABSENT if code in findings.absent else codes.UNDETERMINED)
        for code in wanted
        if code not in found
    )


def _summary(
    findings: Findings, sought: tuple[tuple[Code, Code], ...], *, anything: bool
) -> tuple[Code, bool]:
    """Give the run summary (111017, DCM) and whether the report is complete."""
    if anything:
        return codes.ALL_WITH_FINDINGS, True
    undecided = findings.assessment is not None and findings.assessment.urgency is None
    if not undecided and sought and all(value == codes.ABSENT for _, value in sought):
        return codes.ALL_WITHOUT_FINDINGS, True
    return codes.SOME_WITHOUT_FINDINGS, False


def _groups(
    unplaced: tuple[Item, ...], reasons: tuple[Sign, ...], status: Code
) -> tuple[ImageGroup, ...]:
    signs = [
        ImageGroup(item.label, item.type, likelihood(item.probability), item.probability,
                   item.measurements)
        for item in unplaced
    ]  # fmt: skip
    signs += [
        ImageGroup(f"{sign.code.meaning} sign {n}", sign.code, status, None, sign.measurements)
        for n, sign in enumerate(reasons, 1)
    ]
    return tuple(signs)


def _significance(findings: Findings) -> tuple[tuple[Code, Code], ...]:
    if findings.assessment is None:
        return ()
    urgency = findings.assessment.urgency
    level = codes.UNDETERMINED if urgency is None else codes.SIGNIFICANCE[urgency]
    return ((codes.LEVEL_OF_SIGNIFICANCE, level),)


def _texts(
    findings: Findings, algorithm: Algorithm, unplaced: tuple[Item, ...]
) -> tuple[tuple[Code, str], ...]:
    texts = [(codes.SUMMARY_TEXT, findings.summary)]
    for item in unplaced:
        chance = f"probability {item.probability:.2f}" if item.probability is not None else ""
        figures = ", ".join(filter(None, (chance, _figures(item.measurements))))
        if figures:
            texts.append((item.type, f"{item.label}: {figures}"))
    for sign in findings.assessment.reasons if findings.assessment else ():
        figures = _figures(sign.measurements)
        texts.append((sign.code, f"{sign.text} ({figures})" if figures else sign.text))
    texts += _notices(algorithm)
    return tuple((concept, words.strip() or concept.meaning) for concept, words in texts)


def _notices(algorithm: Algorithm) -> tuple[tuple[Code, str], ...]:
    research = (codes.COMMENT, RESEARCH_USE)
    if not algorithm.rule_based:
        return (research,)
    words = (
        f"{algorithm.name} {algorithm.version} is rule-based, no probability: it can raise a "
        "suspicion, and it never rules anything out."
    )
    return research, (codes.COMMENT, words)


def _figures(measurements: tuple[Measurement, ...]) -> str:
    return ", ".join(f"{m.name.meaning} {m.value:.4g} {m.unit}" for m in measurements)
