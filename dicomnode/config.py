"""The configuration: one TOML file, checked whole before anything starts.

Only `cli`, `serve` and `demo` read it; everything else is given its part. Every key has a default
that is safe on a laptop, and a description from which the commented example is written. Secrets
never stand in the file: it names the file that holds them.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    StringConstraints,
    ValidationError,
    model_validator,
)

from dicomnode.errors import ConfigurationError
from dicomnode.sdk.match import Match, MatchError

_DURATION_UNITS = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}
_LONGEST_S = 36525 * 86400.0
_SIZE_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def _with_unit(value: object, units: Mapping[str, float], example: str) -> float:
    found = (
        re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", value) if isinstance(value, str) else None
    )
    if found is None or found[2] not in units:
        raise ValueError(f"wants a text with a unit, such as {example!r} ({', '.join(units)})")
    return float(found[1]) * units[found[2]]


# No number passes without its unit: 14.0 meant as days would delete images after 14 seconds.
def _duration(value: object) -> float:
    seconds = _with_unit(value, _DURATION_UNITS, "60s")
    if seconds > _LONGEST_S:
        raise ValueError("is longer than a hundred years")
    return seconds


def _size(value: object) -> int:
    return int(_with_unit(value, _SIZE_UNITS, "6GB"))


def _share(value: object) -> float:
    found = re.fullmatch(r"(\d{1,2}(?:\.\d+)?)\s*%", value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("wants a percentage, such as '10%'")
    return float(found[1]) / 100


def _network(value: object) -> str:
    return str(ipaddress.ip_network(str(value), strict=False))


def _zone(value: object) -> object:
    if value and value not in available_timezones():
        raise ValueError(f"{value!r} is not a time zone such as 'Europe/Berlin'")
    return value


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _match(value: object) -> object:
    if isinstance(value, Mapping):
        try:
            Match(**value)
        except MatchError as fault:
            raise ValueError(str(fault)) from fault
    return value


def _address(value: str) -> str:
    """Refuse what `network.webhook` could not even try to call."""
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("holds what no address does; write other letters as xn--… or %XX")
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError as fault:
        raise ValueError(f"is no web address ({fault})") from fault
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ValueError("wants an address such as 'https://example.org/hook'")
    return value


Seconds = Annotated[float, BeforeValidator(_duration)]
Bytes = Annotated[int, BeforeValidator(_size)]
Share = Annotated[float, BeforeValidator(_share)]
# PS3.5 6.2, AE: at most 16 characters of the default repertoire, no backslash, not all spaces.
AeTitle = Annotated[
    StrictStr, StringConstraints(pattern=r"^[ -\[\]-~]{1,16}$", strip_whitespace=True, min_length=1)
]
AeTitlePattern = Annotated[
    StrictStr, StringConstraints(pattern=r"^[ -\[\]-~]{1,16}$", min_length=1)
]
Network = Annotated[
    StrictStr, BeforeValidator(lambda v: str(ipaddress.ip_network(v, strict=False)))
]
Port = Annotated[StrictInt, Field(ge=1, le=65535)]
Rules = Annotated[Mapping[str, Any], BeforeValidator(_match)]
Text = StrictStr
PriorityName = Literal["urgent", "normal", "later"]
EventName = Literal["job.failed", "delivery.failed", "study.done"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Node(_Section):
    """Who this node is and where it keeps its files."""

    ae_title: AeTitle = Field("DICOMNODE", description="AE title that we answer to and call with")
    storage: Path = Field(Path("var/storage"), description="folder of images and results")
    zone: Annotated[Text, BeforeValidator(_zone)] = Field(
        "", description="time zone of hours and pages; empty: this machine's"
    )


class Tls(_Section):
    """Certificate files of one side of DICOM over TLS (PS3.15 B.12)."""

    cert: Path = Field(description="our certificate, PEM")
    key: Path = Field(description="its private key, PEM")
    ca: Path = Field(description="authorities whose certificates we accept, PEM")


class CalledAeTitle(_Section):
    """A further AE title of ours, with a use of its own."""

    title: AeTitle = Field(description="AE title that a sender calls")
    pipelines: tuple[Text, ...] = Field((), description="only these run; empty: all")
    mode: Literal["live", "shadow"] = Field("live", description="shadow delivers nothing")
    priority: PriorityName | None = Field(None, description="of its jobs, if not the pipeline's")


class Listen(_Section):
    """The DICOM door."""

    host: Text = Field("0.0.0.0", description="address to listen on")  # noqa: S104  a scanner must reach us; admission is closed by default
    port: Port = Field(11112, description="TCP port")
    ae_titles: tuple[CalledAeTitle, ...] = Field((), description="more AE titles of ours")
    sop_classes: tuple[Text, ...] = Field((), description="storage classes beyond the standard's")
    store_only: tuple[Text, ...] = Field(
        (), description="transfer syntaxes to keep although they cannot be decoded here"
    )
    maximum_pdu: Annotated[StrictInt, Field(ge=4096, le=1048576)] = Field(
        131072, description="largest PDU that we take, bytes"
    )
    maximum_associations: Annotated[StrictInt, Field(ge=1)] = Field(
        300, description="open at a time"
    )
    associations_per_address: Annotated[StrictInt, Field(ge=1)] = Field(
        50, description="open at a time from one address"
    )
    silence_s: Seconds = Field(5.0, alias="silence", description="longest pause inside a PDU")
    idle_s: Seconds = Field(60.0, alias="idle", description="longest pause between messages")
    maximum_object: Bytes = Field(4 * 10**9, description="largest object that we take")
    tls: Tls | None = Field(None, description="TLS with client certificates; absent: plain DICOM")


class Complete(_Section):
    """When a study counts as whole."""

    quiet_s: Seconds = Field(60.0, alias="quiet", description="no image for so long")
    limit_s: Seconds = Field(
        1800.0, alias="limit", description="from the last image: ends every other wait"
    )
    longest_s: Seconds = Field(14400.0, alias="longest", description="from the first image")
    count_every_s: Seconds = Field(
        30.0, alias="count_every", description="between two questions for the PACS's own count"
    )


class Retention(_Section):
    """What is purged, and when: only what is final and, where it was to be sent, confirmed."""

    images_s: Seconds = Field(14 * 86400.0, alias="images", description="keep images so long")
    results_s: Seconds = Field(90 * 86400.0, alias="results", description="keep results so long")
    free: Share = Field(0.10, description="share of the disk that stays free")


class WorklistDatabase(_Section):
    """Where the worklist is kept."""

    url: Text = Field(
        "sqlite:///var/worklist.db", description="sqlite:///file or postgresql+psycopg://…"
    )
    password_file: Path | None = Field(None, description="file with the database's password")


class Analyse(_Section):
    """How pipelines run."""

    devices: Literal["auto"] | tuple[Text, ...] = Field(
        "auto", description='"auto", or a list such as ["cuda:0", "cpu"]'
    )
    engine: Literal["local"] = Field("local", description="where pipelines run")
    memory: Bytes = Field(6 * 10**9, description="most that one analysis may take")
    time_limit_s: Seconds = Field(900.0, alias="time_limit", description="of one try")
    lease_s: Seconds = Field(
        120.0, alias="lease", description="a silent worker loses its job after so long"
    )
    threads: Annotated[StrictInt, Field(ge=0)] = Field(
        0, description="threads of one analysis on CPU; 0: all cores shared out"
    )


class Peer(_Section):
    """A system that sends to us, that we send to, or both."""

    ae_title: Annotated[tuple[AeTitlePattern, ...], BeforeValidator(_one_or_more)] = Field(
        description="its AE title; a list, or patterns with * and ?"
    )
    host: Text = Field("", description="where it listens")
    port: Port | None = Field(None, description="its DICOM port")
    addresses: Annotated[tuple[Network, ...], BeforeValidator(_one_or_more)] = Field(
        (), description="networks that it may call from; empty: any"
    )
    receives_from: StrictBool = Field(False, description="we take images from it")
    sends_to: StrictBool = Field(False, description="results may be sent to it")
    presents: tuple[Literal["seg", "sr", "status"], ...] = Field(
        ("seg", "sr"), description="what it is sent"
    )
    sr: Literal["3d", "2d"] = Field(
        "3d", description="Comprehensive 3D SR, or Comprehensive SR for an older PACS"
    )
    confirm: Literal["auto", "find", "none"] = Field(
        "auto", description="how we learn that it keeps results: C-FIND, or not at all"
    )
    counts: StrictBool = Field(False, description="ask it how many images a study has")
    timeout_s: Seconds = Field(30.0, alias="timeout", description="longest wait for an answer")
    tls: Tls | None = Field(None, description="TLS towards it; absent: plain DICOM")

    @model_validator(mode="after")
    def _is_reachable(self) -> Peer:
        if (self.sends_to or self.counts) and not (self.host and self.port):
            raise ValueError("sends_to and counts need host and port")
        if self.sends_to and any(mark in self.ae_title[0] for mark in "*?"):
            raise ValueError("sends_to needs a plain first ae_title, not a pattern")
        if "sr" not in self.presents:
            raise ValueError('presents needs "sr": a segmentation never goes alone')
        return self


class PipelineRules(_Section):
    """What this site wants of one installed pipeline."""

    enabled: StrictBool = Field(True, description="false: never runs")
    match: Rules = Field({}, description="keys that replace those of the pipeline's own match")
    deliver_to: tuple[Text, ...] = Field(
        (), description="names of peers; empty: every peer with sends_to"
    )
    priority: PriorityName = Field("normal", description="urgent, normal or later")
    hours: Text = Field("", description='when it may start, as "mon-fri 18:00-06:00"')
    mode: Literal["live", "shadow"] = Field("live", description="shadow delivers nothing")
    settings: Mapping[str, Any] = Field({}, description="the pipeline's own settings")


class Log(_Section):
    """What is written to standard error."""

    format: Literal["json", "text"] = Field("json", description="json or text")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level")


class Webhook(_Section):
    """An address that is told of events, as signed JSON without identities."""

    url: Annotated[StrictStr, AfterValidator(_address)] = Field(description="where to POST")
    secret_file: Path | None = Field(None, description="file with the key of the signature")
    events: tuple[EventName, ...] = Field(
        ("job.failed", "delivery.failed", "study.done"), description="which events"
    )


class Settings(_Section):
    """The whole file."""

    node: Node = Node()
    listen: Listen = Listen()
    complete: Complete = Complete()
    retention: Retention = Retention()
    worklist: WorklistDatabase = WorklistDatabase()
    analyse: Analyse = Analyse()
    peers: Mapping[str, Peer] = {}
    pipelines: Mapping[str, PipelineRules] = {}
    log: Log = Log()
    notify: Mapping[str, Webhook] = {}

    @model_validator(mode="after")
    def _names_agree(self) -> Settings:
        unknown = [
            f"pipelines.{name}.deliver_to names {peer!r}, which is no peer with sends_to"
            for name, rules in self.pipelines.items()
            for peer in rules.deliver_to
            if peer not in self.peers or not self.peers[peer].sends_to
        ]
        titles = [self.node.ae_title, *(extra.title for extra in self.listen.ae_titles)]
        unknown += [
            f"listen.ae_titles: {title!r} is there twice"
            for title in sorted({title for title in titles if titles.count(title) > 1})
        ]
        if unknown:
            raise ValueError("; ".join(unknown))
        return self

    def targets(self, pipeline: str) -> tuple[str, ...]:
        """Names of the peers that get the results of ``pipeline``."""
        senders = tuple(name for name, peer in self.peers.items() if peer.sends_to)
        rules = self.pipelines.get(pipeline)
        return rules.deliver_to or senders if rules else senders


def load(path: Path, anchor: Path | None = None) -> Settings:
    """Read and check the file at ``path``; its relative paths start at ``anchor``, else its folder.

    Raises
    ------
    ConfigurationError
        With every fault of the file: its line, its key and the nearest right name.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise ConfigurationError(f"{path} cannot be read: {fault}") from fault
    settings = parse(text, source=str(path))
    return _anchored(settings, (anchor or path.parent).resolve())


def parse(text: str, source: str = "configuration") -> Settings:
    """Check a configuration's text; see `load`."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise ConfigurationError(f"{source}: not TOML: {fault}") from fault
    try:
        return Settings.model_validate(data)
    except ValidationError as found:
        lines = _lines_of_keys(text)
        raise ConfigurationError(
            *(_fault_in_words(fault, lines, source) for fault in found.errors())
        ) from None


def _anchored(settings: Settings, folder: Path) -> Settings:
    """Make every path and a SQLite file absolute, so that the current folder does not matter."""
    placed: Settings = _placed(settings, folder)
    url = placed.worklist.url
    file = url.removeprefix("sqlite:///")
    if file != url and not file.startswith("/") and file not in ("", ":memory:"):
        url = f"sqlite:///{folder / file}"
    worklist = placed.worklist.model_copy(update={"url": url})
    return placed.model_copy(update={"worklist": worklist})


def _placed(value: Any, folder: Path) -> Any:
    """Give a value of the settings with each path in it made absolute."""
    match value:
        case Path():
            return folder / value
        case _Section():
            parts = {
                name: _placed(getattr(value, name), folder) for name in type(value).model_fields
            }
            return value.model_copy(update=parts)
        case Mapping():
            return {name: _placed(part, folder) for name, part in value.items()}
        case _:
            return value


def _lines_of_keys(text: str) -> Mapping[tuple[str, ...], int]:
    """Line number of each table and key; good enough to point an admin at the right place."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[+([^\[\]]+)\]+", line):
            table = tuple(part.strip().strip("\"'") for part in header[1].split("."))
            lines.setdefault(table, number)
        elif key := re.match(r"\s*([\w\-.\"']+)\s*=", line):
            name = tuple(part.strip("\"'") for part in key[1].split("."))
            lines.setdefault((*table, *name), number)
    return lines


def _fault_in_words(
    fault: Mapping[str, Any], lines: Mapping[tuple[str, ...], int], source: str
) -> str:
    location = tuple(str(part) for part in fault["loc"])
    line = next(
        (lines[location[:n]] for n in range(len(location), 0, -1) if location[:n] in lines), None
    )
    place = f"{source} line {line}: " if line else f"{source}: "
    key = ".".join(location)
    if fault["type"] == "extra_forbidden":
        return f"{place}{key} is not a key{_nearest(location)}"
    if fault["type"] == "missing":
        return f"{place}{key} is missing"
    message = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    wanted = message if fault["type"] == "value_error" else f"should be {message}"
    if not location:
        return f"{place}{wanted}"
    return f"{place}{key} = {fault.get('input')!r}: {wanted}"


def _nearest(location: tuple[str, ...]) -> str:
    """Name the right key that looks most like the wrong one."""
    model: Any = Settings
    for part in location[:-1]:
        fields = {f.alias or name: f for name, f in model.model_fields.items()} if model else {}
        model = _model_within(fields[part].annotation) if part in fields else model
    names = [f.alias or name for name, f in model.model_fields.items()]
    close = difflib.get_close_matches(location[-1], names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(names)}"


def _model_within(annotation: Any) -> type[BaseModel] | None:
    """Find the section's model inside an annotation such as ``Mapping[str, Peer]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_model_within(part) for part in getattr(annotation, "__args__", ()))
    return next((model for model in inner if model is not None), None)
