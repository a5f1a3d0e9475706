"""What the server and whoever stands behind it tell each other: values, and two protocols."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context of an A-ASSOCIATE-RQ, and what becomes of it (PS3.8 9.3.2.2).

    ``accepted`` is the transfer syntax chosen, ``cause`` the words of a refusal; the other is
    empty.
    """

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    accepted: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """What a caller asks; AE titles as it wrote them, without their padding, unproved."""

    calling_ae_title: str
    called_ae_title: str
    address: str
    is_tls: bool
    contexts: tuple[ProposedContext, ...]


class Rejection(Enum):
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

    CALLING_NOT_RECOGNISED = (1, 1, 3)
    CALLED_NOT_RECOGNISED = (1, 1, 7)
    NO_REASON = (1, 1, 1)
    CONGESTION = (2, 3, 1)
    LIMIT_EXCEEDED = (2, 3, 2)


@dataclass(frozen=True, slots=True)
class Refuse:
    """The caller is turned away."""

    rejection: Rejection


@dataclass(frozen=True, slots=True)
class StoreCommand:
    """A C-STORE-RQ before its first data byte; UIDs as the peer wrote them, unproved."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the bytes of a data set go: a file that does not exist yet, and what stands before."""

    path: Path
    header: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """Status of a C-STORE-RSP (PS3.4 B.2.3) and its Error Comment."""

    status: int
    comment: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the sender may forget the object."""
        return self.status == 0x0000


@dataclass(frozen=True, slots=True)
class Arrived:
    """A data set that is whole: its file, and what was counted while it was written.

    ``byte_count`` and ``digest`` (SHA-256, hexadecimal) are those of the data set's bytes as they
    came, without the header. ``fault`` tells why the file could not be written; it is gone then.
    """

    command: StoreCommand
    path: Path
    byte_count: int
    digest: str
    fault: OSError | None = None


class Cut(StrEnum):
    """Why the server ended a connection by itself."""

    SILENT = "silent"  # in the middle of a PDU, or never said anything
    IDLE = "idle"  # between two messages
    OVERSIZED = "oversized"
    MALFORMED = "malformed"
    TLS = "tls"
    LIMIT = "limit"
    LIMIT_ADDRESS = "limit of the address"
    DRAINING = "draining"
    FAILED = "failed"  # a fault of ours


@dataclass(frozen=True, slots=True)
class CutOff:
    """A connection that was ended by the server.

    ``size`` is what was found and ``limit`` what is allowed: bytes of a PDU or object, connections,
    or, as limit alone, seconds of silence.
    """

    cut: Cut
    size: int = 0
    limit: float = 0
    words: str = ""


@dataclass(frozen=True, slots=True)
class AssociationEnd:
    """How an association ended; neither released nor cut: the peer aborted or vanished."""

    is_released: bool
    cut_off: CutOff | None


class AssociationHandler(Protocol):
    """What an accepted association is told; called by its two threads, never at the same time."""

    def arriving(self, command: StoreCommand) -> Destination | Answer:
        """Say where an object goes, or how it will be answered; its bytes are dropped then."""

    def refused(self, answer: Answer) -> None:
        """Take note of an object that the server refused by itself, asking nobody or in vain."""

    def stored(self, arrived: Arrived) -> Answer:
        """Take in a whole object and answer; a file still there afterwards is deleted."""

    def ended(self, end: AssociationEnd) -> None:
        """Take note of the end; called once, last."""


class Door(Protocol):
    """Who decides about callers."""

    def requested(self, request: AssociationRequest) -> AssociationHandler | Refuse:
        """Let a caller in, or not."""

    def turned_away(self, address: str, cut_off: CutOff) -> None:
        """Take note of a connection that was closed before it asked for an association."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How the server listens.

    ``contexts`` are pairs of an abstract syntax and its transfer syntaxes, the preferred first.
    ``tls`` gives the context for each new connection, so that renewed certificates are used.
    """

    ae_title: str
    host: str
    port: int
    contexts: tuple[tuple[str, tuple[str, ...]], ...]
    maximum_pdu: int = 131072
    maximum_associations: int = 300
    associations_per_address: int = 50
    silence_s: float = 5.0
    idle_s: float = 60.0
    request_s: float = 15.0
    maximum_object_bytes: int = 4 * 10**9
    tls: Callable[[], ssl.SSLContext] | None = None
