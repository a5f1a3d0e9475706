"""Log and metrics: event names that never change, with fields; never who a patient is.

A log line is one event with its fields, as one line of JSON (or of text). Studies are named by the
row's id. Fields whose name could carry an identity are dropped here as a second net, and the
loggers of pynetdicom and pydicom, which print data sets, are capped.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
import warnings
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, cast

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram

from dicomnode.errors import DicomNodeError

# Fields that may not be logged whatever their value: identities in the words of the standard.
_FORBIDDEN = re.compile(
    r"patient|birth|accession|physician|operator|identity|_name_key|study_description",
    re.IGNORECASE,
)
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_LONGEST_FIELD = 500
_LONGEST_FAULT = 4000


def printable(text: str, longest: int = _LONGEST_FIELD) -> str:
    """Give text from a peer in a form that is safe in a log line, a terminal and a page.

    Control characters, line separators, bidirectional controls and lone surrogates become U+FFFD;
    a run of more than three combining marks is cut; over-long text ends in an ellipsis.
    """
    clean = _UNPRINTABLE.sub("\ufffd", text)
    clean = re.sub(r"([\u0300-\u036f]{3})[\u0300-\u036f]+", r"\1", clean)
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def fault_in_frames(fault: BaseException) -> str:
    """Give where a fault came from, without what it says.

    The message of a library's error may quote a header's or a row's values, a patient's name among
    them; our own errors and those of the system are told in full.
    """
    frames = traceback.extract_tb(fault.__traceback__)[-20:]
    where = " ← ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames))
    words = f" ({fault})" if isinstance(fault, DicomNodeError | OSError) else ""
    return f"{type(fault).__name__}{words} at {where}"


def _fault_without_values(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    given = event.pop("exc_info", None)
    fault = sys.exc_info()[1] if given is True else given
    if isinstance(fault, tuple):
        fault = fault[1]
    if isinstance(fault, BaseException):
        event["fault"] = fault_in_frames(fault)
    return event


def _without_identities(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    return {
        key: printable(value, _LONGEST_FAULT if key == "fault" else _LONGEST_FIELD)
        if isinstance(value, str)
        else value
        for key, value in event.items()
        if not _FORBIDDEN.search(key)
    }


def configure_logging(process: str, *, as_json: bool = True, level: str = "info") -> None:
    """Send events of this process to standard error; called once, where the process starts."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _fault_without_values,
        _without_identities,
    ]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(process=process)
    for library in ("pynetdicom", "pydicom", "highdicom", "apscheduler", "alembic"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    # They quote what they complain about, and that may be a patient's name.
    warnings.simplefilter("ignore")


def logger(room: str) -> structlog.stdlib.BoundLogger:
    """Give the logger of one room; events are written as ``logger.info("name", field=…)``."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(room=room))


class Metrics:
    """The counters of one process; those that derive from rows are read from the database."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.instances = Counter(
            "dicomnode_instances_total",
            "Objects by answer",
            ["peer", "answer"],
            registry=self.registry,
        )
        self.received_bytes = Counter(
            "dicomnode_received_bytes_total", "Bytes kept", ["peer"], registry=self.registry
        )
        self.stage_seconds = Histogram(
            "dicomnode_stage_seconds",
            "Seconds by stage of an analysis",
            ["pipeline", "stage"],
            registry=self.registry,
            buckets=(0.1, 0.3, 1, 3, 10, 30, 100, 300, 900),
        )
