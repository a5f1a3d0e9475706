"""Content rules: the report is TID 1500, says one thing, and never more than it may."""

from collections.abc import Iterator
from typing import Final

from dicomnode.dicom import codes
from dicomnode.dicom.checks.content import (
    ABSENT,
    LENGTHS,
    PRESENT,
    PROBABILITY,
    RESEARCH_WORDS,
    VOLUME,
    plain,
)
from dicomnode.dicom.checks.reading import children, first, name, text, value
from dicomnode.dicom.checks.results import ResultObject
from dicomnode.dicom.checks.rules import Rule
from dicomnode.dicom.checks.vocabulary import faults
from dicomnode.dicom.uids import is_valid_uid

Texts = Iterator[str]

_WITH: Final = frozenset({codes.ALL_WITH_FINDINGS.value, codes.SOME_WITH_FINDINGS.value})
_WITHOUT: Final = frozenset({codes.ALL_WITHOUT_FINDINGS.value, codes.SOME_WITHOUT_FINDINGS.value})
_FAILED: Final = codes.NONE_SUCCEEDED.value
_PARTIAL: Final = frozenset(
    {codes.SOME_WITH_FINDINGS.value, codes.SOME_WITHOUT_FINDINGS.value, _FAILED}
)
_TEMPLATES: Final = frozenset({"1410", "1411", "1501"})
_PAIRED: Final = frozenset(plain(site) for site in codes.PAIRED_SITES)
_SIDES: Final = frozenset(plain(side) for side in codes.SIDES.values())
_NOT_SIGNIFICANT: Final = ("371928007", "SCT")
_NAMELESS: Final = frozenset({"IMAGE", "CONTAINER", "SCOORD"})


def _template(o: ResultObject) -> Texts:
    template = first(o.data, "ContentTemplateSequence")
    if template is None or text(template, "TemplateIdentifier") != "1500":
        yield "the root does not say TID 1500"
    if name(o.data) != plain(codes.REPORT_TITLE):
        yield "the title is not Imaging Measurement Report"


def _context(o: ResultObject) -> Texts:
    for wanted in (codes.LANGUAGE, codes.PROCEDURE_REPORTED):
        if plain(wanted) not in o.content.top:
            yield f"{wanted.meaning} is missing"


def _tree(o: ResultObject) -> Texts:
    if not o.content.items:
        yield "the report is empty"
    for item in o.content.items:
        if not item.get("ValueType") or not item.get("RelationshipType"):
            yield "a content item has no value type or relationship"
        if item.get("ValueType") == "TEXT" and not text(item, "TextValue").strip():
            yield "a text item holds no text"


def _codes(o: ResultObject) -> Texts:
    for item in o.content.items:
        kind = text(item, "ValueType")
        concept = first(item, "ConceptNameCodeSequence")
        if concept is not None or kind not in _NAMELESS:
            yield from (f"concept name of a {kind} item: {fault}" for fault in faults(concept))
        if kind == "CODE":
            yield from faults(first(item, "ConceptCodeSequence"))
        measured = first(item, "MeasuredValueSequence")
        if kind == "NUM" and measured is not None:
            yield from faults(first(measured, "MeasurementUnitsCodeSequence"))


def _flags(o: ResultObject) -> Texts:
    completion, summary = text(o.data, "CompletionFlag"), o.content.summary
    if completion not in ("COMPLETE", "PARTIAL"):
        yield f"Completion Flag '{completion}'"
    elif (completion == "PARTIAL") != (summary in _PARTIAL):
        yield f"{completion} does not go with run summary {summary}"


def _unverified(o: ResultObject) -> Texts:
    if text(o.data, "VerificationFlag") != "UNVERIFIED" or o.data.get("VerifyingObserverSequence"):
        yield "is marked as verified"
    if text(o.data, "PreliminaryFlag") != "PRELIMINARY":
        yield "is not marked PRELIMINARY"


def _observer(o: ResultObject) -> Texts:
    kinds = [value(i) for i in children(o.data) if name(i) == plain(codes.OBSERVER_TYPE)]
    if kinds != [plain(codes.DEVICE)]:
        yield "the observer is not one device"
    for wanted in (
        codes.DEVICE_UID,
        codes.DEVICE_NAME,
        codes.DEVICE_MANUFACTURER,
        codes.DEVICE_MODEL,
        codes.DEVICE_SERIAL_NUMBER,
    ):
        item = o.content.top.get(plain(wanted))
        if item is None or not (text(item, "TextValue") or text(item, "UID")):
            yield f"{wanted.meaning} is missing"


def _research_use(o: ResultObject) -> Texts:
    if RESEARCH_WORDS not in o.content.words:
        yield "does not say that it is for research use only"


def _run_summary(o: ResultObject) -> Texts:
    known = _WITH | _WITHOUT | {_FAILED}
    if len(o.content.summaries) != 1 or o.content.summary not in known:
        yield f"has not one run summary (111017): {o.content.summaries}"


def _has_findings(o: ResultObject) -> bool:
    present = any(v == PRESENT for g in o.content.groups for _, v in g.qualities)
    return present or any(group.is_placed for group in o.content.groups)


def _summary_agrees(o: ResultObject) -> Texts:
    present = any(v == PRESENT for _, v in o.content.statements)
    if o.content.summary in _WITHOUT and (_has_findings(o) or present):
        yield "the run summary says nothing found, the content has findings"
    if o.content.summary in _WITH and not _has_findings(o):
        yield "the run summary says findings, the content has none"


def _nothing_found(o: ResultObject) -> Texts:
    if o.content.summary in _WITHOUT and o.set.segmentations:
        yield "nothing was found, but the set has a segmentation"
    if o.content.summary == codes.ALL_WITHOUT_FINDINGS.value:
        stated = [v for _, v in o.content.statements]
        stated += [v for g in o.content.groups for _, v in g.qualities]
        if ABSENT not in stated:
            yield "nothing was found, but nothing is said to be absent"


def _failed(o: ResultObject) -> Texts:
    if o.content.summary == _FAILED:
        if any(group.numbers for group in o.content.groups):
            yield "no algorithm succeeded, but there are numbers"
        if o.set.segmentations:
            yield "no algorithm succeeded, but there is a segmentation"


def _consistent(o: ResultObject) -> Texts:
    seen: dict[object, object] = {}
    for concept, stated in o.content.statements:
        if stated in (PRESENT, ABSENT) and seen.setdefault(concept, stated) != stated:
            yield "says of one concept both present and absent"


def _rule_based(o: ResultObject) -> Texts:
    if not o.content.is_rule_based:
        return
    if any(group.number(PROBABILITY) for group in o.content.groups):
        yield "a rule-based report gives a probability"
    stated = [v for _, v in o.content.statements]
    stated += [v for group in o.content.groups for _, v in group.qualities]
    if ABSENT in stated or _NOT_SIGNIFICANT in stated:
        yield "a rule-based report reassures"
    if o.content.summary == codes.ALL_WITHOUT_FINDINGS.value:
        yield "a rule-based report says that all algorithms succeeded without findings"


def _group_template(o: ResultObject) -> Texts:
    if not o.content.groups:
        yield "has no measurement group"
    for group in o.content.groups:
        if group.template not in _TEMPLATES:
            yield f"{group.label}: template '{group.template}'"


def _group_tracking(o: ResultObject) -> Texts:
    for group in o.content.groups:
        if not group.tracking_id or not is_valid_uid(group.tracking_uid):
            yield f"{group.label}: no tracking identifier or no valid tracking UID"


def _group_finding(o: ResultObject) -> Texts:
    for group in o.content.groups:
        if group.finding is None:
            yield f"{group.label}: no finding"


def _group_algorithm(o: ResultObject) -> Texts:
    for group in o.content.groups:
        if not group.algorithm_name or not group.algorithm_version:
            yield f"{group.label}: no algorithm name and version"


def _group_site(o: ResultObject) -> Texts:
    for group in o.content.groups:
        if group.template in ("1410", "1411"):
            if group.site is None:
                yield f"{group.label}: no finding site"
            elif group.site in _PAIRED and group.laterality not in _SIDES:
                yield f"{group.label}: a paired site without a side"


def _group_image(o: ResultObject) -> Texts:
    for group in o.content.groups:
        if not (group.regions or group.images or group.segment):
            yield f"{group.label}: names no image"


def _twins(o: ResultObject) -> Texts:
    """Groups of one tracking UID speak of one thing."""
    said: dict[str, tuple[object, ...]] = {}
    for group in o.content.groups:
        same = (group.tracking_id, group.finding, group.site, group.laterality)
        if said.setdefault(group.tracking_uid, same) != same:
            yield f"{group.label}: differs from its twin in name, finding, site or side"


def _drawable(o: ResultObject) -> Texts:
    drawn = {group.tracking_uid for group in o.content.groups if group.regions}
    for group in o.content.groups:
        if drawn and group.tracking_uid not in drawn:
            yield f"{group.label}: no outline and no twin with one; viewers then draw nothing"


def _radiograph_numbers(o: ResultObject) -> Texts:
    calibrated = any(header.get("PixelSpacing") for header in o.source.headers)
    for group in o.content.groups if o.source.is_radiograph else ():
        if group.template == "1411" or group.segment or group.number(VOLUME):
            yield f"{group.label}: volume or segment on a radiograph"
        if not calibrated and any(number.name in LENGTHS for number in group.numbers):
            yield f"{group.label}: millimetres without Pixel Spacing"


def _radiograph_probability(o: ResultObject) -> Texts:
    if not o.source.is_radiograph or o.content.is_rule_based:
        return
    for group in o.content.groups:
        chance = group.number(PROBABILITY)
        if chance is None:
            if group.template == "1410":
                yield f"{group.label}: no probability"
            continue
        stated = next((v for n, v in group.qualities if n == group.finding), None)
        if stated in (PRESENT, ABSENT) and (chance.value >= 0.5) != (stated == PRESENT):
            yield f"{group.label}: probability {chance.value:.2f} against what is stated"


RULES: Final[tuple[Rule[ResultObject], ...]] = (
    Rule("sr.template", "TID 1500, Imaging Measurement Report", _template),
    Rule("sr.context", "Language and procedure are there", _context),
    Rule("sr.tree", "Every content item has value type and relationship", _tree),
    Rule("sr.codes", "Codes are complete and mean what they say", _codes),
    Rule("sr.completion", "Completion flag and run summary agree", _flags),
    Rule("sr.unverified", "UNVERIFIED and PRELIMINARY", _unverified),
    Rule("sr.observer", "The observer is this device", _observer),
    Rule("sr.research_use", "The report says research use only", _research_use),
    Rule("sr.run_summary", "There is one run summary", _run_summary),
    Rule("sr.summary_agrees", "The run summary agrees with the content", _summary_agrees),
    Rule("sr.nothing_found", "Nothing found: absent, and no segmentation", _nothing_found),
    Rule("sr.failed", "No algorithm succeeded: no number, no segmentation", _failed),
    Rule("sr.consistent", "Nothing is both present and absent", _consistent),
    Rule("sr.rule_based", "A rule-based report has no probability and never reassures",
         _rule_based),
    Rule("sr.group_template", "Groups are TID 1410, 1411 or 1501", _group_template),
    Rule("sr.group_tracking", "Groups have tracking identifier and UID", _group_tracking),
    Rule("sr.group_finding", "Groups have a finding", _group_finding),
    Rule("sr.group_algorithm", "Groups name their algorithm", _group_algorithm),
    Rule("sr.group_site", "Located groups have a site, paired ones a side", _group_site),
    Rule("sr.group_image", "Groups name an image, a region or a segment", _group_image),
    Rule("sr.twins", "Groups of one tracking UID agree", _twins),
    Rule("sr.drawable", "No group blanks the viewer", _drawable),
    Rule("sr.radiograph_numbers", "No volume, and no millimetres without Pixel Spacing, on a "
         "radiograph", _radiograph_numbers),
    Rule("sr.radiograph_probability", "A trained network's probability is there and agrees",
         _radiograph_probability),
)  # fmt: skip
