"""Rendering of the catalogue's templates: counted nouns, ages, times, sizes and durations.

A missing or unusable parameter becomes words; no brace is ever left. Foreign text is shortened and
loses control characters here; how a page or a terminal escapes it is theirs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cache
from types import MappingProxyType

from dicomnode.rules.catalogue import CATALOGUE

Parameter = str | int | float | None

_LONGEST_TEXT = 240

# What stands where a parameter is missing; other names read "not known".
# Numbers that name a thing count nothing: no separator between thousands.
_NUMBERS_THAT_NAME = frozenset({"port", "series", "job", "study"})
_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "peer": "the peer",
        "pipeline": "a pipeline",
        "device": "this machine",
        "user": "somebody",
        "calling": "a caller",
        "called": "another name",
        "address": "an address",
        "worker": "a worker",
        "process": "a process",
        "target": "the receiver",
        "keyword": "an attribute",
        "found": "another value",
        "wanted": "something else",
        "status": "no status",
        "status_words": "no known answer",
        "sop_class": "this type of object",
        "transfer_syntax": "this transfer syntax",
        "series": "the series",
        "model": "a model",
        "missing": "some",
        "kind": "other",
        "change": "changed it",
        "cause": "cause not known",
        "priority": "another value",
        "mode": "another mode",
        "account": "a user",
        "unit": "a known unit",
        "at_deadline": "goes on or declines",
    }
)

# A value that was found is told for these keywords only: others may name a person or a place.
SHOWN_KEYWORDS = frozenset(
    {
        "Modality", "BodyPartExamined", "ImageType", "SliceThickness", "SpacingBetweenSlices",
        "ConvolutionKernel", "Manufacturer", "ManufacturerModelName", "ViewPosition",
        "PatientPosition", "PhotometricInterpretation", "Rows", "Columns", "NumberOfFrames",
        "BitsStored", "PixelSpacing", "LossyImageCompression", "ScanningSequence",
        "SequenceVariant", "MRAcquisitionType", "MagneticFieldStrength", "KVP",
        "ContrastBolusAgent", "ImageOrientationPatient", "SOPClassUID", "Laterality",
        "ImageLaterality", "PresentationIntentType", "RescaleSlope", "RescaleIntercept",
        "slices", "spacing",
    }
)  # fmt: skip


def is_shown(keyword: str) -> bool:
    """Tell whether the value that was found for a keyword may be told."""
    return keyword in SHOWN_KEYWORDS


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    form: str


@dataclass(frozen=True, slots=True)
class _Optional:
    parts: tuple[_Part, ...]


_Part = str | _Field | _Optional

_TOKEN = re.compile(r"\[|\]|\{(\w+)(?::([^}]*))?\}|[^\[\]{]+")


@cache
def _parse(template: str) -> tuple[_Part, ...]:
    return _parse_parts(_TOKEN.finditer(template))


def _parse_parts(tokens: Iterator[re.Match[str]]) -> tuple[_Part, ...]:
    parts: list[_Part] = []
    for token in tokens:
        text = token.group()
        if text == "]":
            break
        if text == "[":
            parts.append(_Optional(_parse_parts(tokens)))
        elif token.group(1):
            parts.append(_Field(token.group(1), token.group(2) or ""))
        else:
            parts.append(text)
    return tuple(parts)


def parameter_names(template: str) -> frozenset[str]:
    """Give the names of every parameter that a template may use."""
    return frozenset(match[1] for match in _TOKEN.finditer(template) if match[1])


@dataclass(frozen=True, slots=True)
class _Reader:
    """Whose present and zone a sentence is rendered for, and with which parameters."""

    parameters: Mapping[str, Parameter]
    now_ms: int | None
    zone: tzinfo

    def has(self, part: _Part) -> bool:
        return not isinstance(part, _Field) or self.value(part) is not None

    def value(self, part: _Field) -> str | None:
        """Give the parameter in words, or None where it is missing or of a wrong kind."""
        given = self.parameters.get(part.name)
        if part.name == "found":
            given = self._found(given)
        if given is None or isinstance(given, bool):
            return None
        if _is_time(part.name):
            return self._time(given, part.form)
        if part.name.endswith(("_s", "_bytes")):
            render_number = duration if part.name.endswith("_s") else size
            number = _number(given)
            return None if number is None else render_number(number)
        if part.name in _NUMBERS_THAT_NAME:
            return str(given)
        if part.form:
            return _counted(given, part.form)
        return _plain(given)

    def _found(self, given: Parameter) -> Parameter:
        keyword = self.parameters.get("keyword")
        return given if given is None or keyword in SHOWN_KEYWORDS else _WORDS["found"]

    def _time(self, given: str | int | float, form: str) -> str | None:
        moment_ms = _number(given)
        if moment_ms is None:
            return None
        if form != "ago":
            return clock_time(int(moment_ms), self.now_ms, self.zone)
        return None if self.now_ms is None else age((self.now_ms - moment_ms) / 1000)

    def text(self, parts: Sequence[_Part]) -> str:
        return "".join(self._part(part) for part in parts)

    def _part(self, part: _Part) -> str:
        if isinstance(part, str):
            return part
        if isinstance(part, _Optional):
            return self.text(part.parts) if all(map(self.has, part.parts)) else ""
        value = self.value(part)
        return _fallback(part) if value is None else value


def render(
    templates: Sequence[str],
    parameters: Mapping[str, Parameter],
    now_ms: int | None,
    zone: tzinfo = UTC,
) -> str:
    """Fill the first template whose parameters outside of brackets are all given, else the last."""
    reader = _Reader(parameters, now_ms, zone)
    parsed = [_parse(template) for template in templates]
    chosen = next((parts for parts in parsed if all(map(reader.has, parts))), parsed[-1])
    text = reader.text(chosen)
    # A name keeps its own first letter; words that stand for a missing one begin the sentence.
    return text if reader.has(chosen[0]) else text[:1].upper() + text[1:]


def fill(
    template: str, parameters: Mapping[str, Parameter], now_ms: int | None, zone: tzinfo = UTC
) -> str:
    """Fill one template that is not a whole sentence."""
    return _Reader(parameters, now_ms, zone).text(_parse(template))


def counted(number: int, noun: str) -> str:
    """Give a number and its noun in the right form: ``1 image``, ``1,284 images``."""
    return f"{number:,} {noun if number == 1 else _plural(noun)}"


def age(seconds: float) -> str:
    """Give an age by its largest unit, rounded down: ``14 s``, ``4 min``, ``3 h``, ``9 d``."""
    whole = max(int(seconds), 0)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if whole >= length:
            return f"{whole // length} {unit}"
    return f"{whole} s"


def duration(seconds: float) -> str:
    """Give a length of time by its two largest units: ``4.1 s``, ``47 s``, ``2 min 5 s``."""
    if 0 < seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = max(round(seconds), 0)
    for unit, length, smaller, step in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= length:
            rest = whole % length // step
            return f"{whole // length} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def size(byte_count: float) -> str:
    """Give a number of bytes by powers of 1000: ``24 kB``, ``3.1 MB``, ``412 GB``."""
    amount = max(byte_count, 0.0)
    if amount < 999.5:
        return f"{amount:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        amount /= 1000
        if amount < 9.95:
            return f"{amount:.1f} {unit}"
        if amount < 999.5:
            return f"{amount:.0f} {unit}"
    return f"{amount / 1000:.1f} PB"


def clock_time(moment_ms: int, now_ms: int | None, zone: tzinfo = UTC) -> str:
    """Give a time of today as ``10:42:06``, of another day as ``21 Nov 10:42``, of another year
    with it; without a present, date, time and zone in full.
    """  # fmt: skip
    try:
        moment = datetime.fromtimestamp(moment_ms / 1000, zone)
        now = None if now_ms is None else datetime.fromtimestamp(now_ms / 1000, zone)
    except (OverflowError, ValueError, OSError):
        return "a time that is not known"
    if now is None:
        return f"{moment:%Y-%m-%d %H:%M:%S %Z}"
    if moment.date() == now.date():
        return f"{moment:%H:%M:%S}"
    day = f"{moment.day} {_MONTHS[moment.month - 1]}"
    return f"{day} {moment:%H:%M}" if moment.year == now.year else f"{day} {moment:%Y %H:%M}"


# Not by strftime: its names follow the process's locale.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _is_time(name: str) -> bool:
    return name == "at" or name.endswith("_at")


def _number(given: str | int | float) -> float | None:
    if isinstance(given, str) or given != given or abs(given) == float("inf"):  # noqa: PLR0124  NaN
        return None
    return float(given)


def _counted(given: str | int | float, form: str) -> str | None:
    number = _number(given)
    if number is None:
        return None
    if form.startswith("="):
        one, _, many = form[1:].partition("|")
        return one if number == 1 else many
    return counted(int(number), form)


def _plain(given: str | int | float) -> str | None:
    if isinstance(given, str):
        return _clean(_short_words(given)) or None
    number = _number(given)
    if number is None:
        return None
    return f"{number:,.0f}" if number == int(number) else f"{number:,.1f}"


def _short_words(given: str) -> str:
    """Give the short words of a code of the catalogue; other text is itself."""
    entry = CATALOGUE.get(given)
    if entry is None:
        return given
    return entry.short or entry.code.partition(".")[2].replace("_", " ")


def _clean(text: str) -> str:
    """Take out what could forge a line or a template; cut what is too long."""
    kept = "".join(" " if unicodedata.category(sign) in _FORGING else sign for sign in text)
    kept = kept.replace("{", "(").replace("}", ")").strip()
    return kept if len(kept) <= _LONGEST_TEXT else kept[: _LONGEST_TEXT - 1].rstrip() + "…"


# Control, format (bidi among them), surrogate, line and paragraph separators.
_FORGING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def _plural(noun: str) -> str:
    if noun.endswith("series"):
        return noun
    if noun.endswith("y"):
        return noun[:-1] + "ies"
    return noun + "s"


def _fallback(part: _Field) -> str:
    if part.form.startswith("="):
        return part.form.partition("|")[2]
    if part.form and part.form != "ago":
        return f"some {_plural(part.form)}"
    if _is_time(part.name):
        return "some time" if part.form == "ago" else "a time that is not known"
    if part.name.endswith("_s"):
        return "some time"
    if part.name.endswith("_bytes"):
        return "an amount that is not known"
    return _WORDS.get(part.name, "some" if len(part.name) == 1 else "not known")
