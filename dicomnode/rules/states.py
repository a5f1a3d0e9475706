"""The states of each row and every move between them that is allowed.

The picture in `docs/architecture.md` and the test of allowed moves are made from `MOVES`. The
database stores the values of these enums. Job states map to those of UPS (PS3.4 CC.1.1) by
`UPS_STATES`.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class StudyState(StrEnum):
    """Are images still coming?"""

    RECEIVING = "receiving"
    COMPLETE = "complete"


class Outcome(StrEnum):
    """What became of a study, for the admin; computed by `dicomnode.rules.outcome`."""

    WAITING = "waiting"
    IN_PROGRESS = "in progress"
    DONE = "done"
    NO_ROUTE = "no route"
    NEEDS_ATTENTION = "needs attention"


class InstanceState(StrEnum):
    """Which bytes count for a SOP Instance UID."""

    CURRENT = "current"
    PENDING = "pending"
    SUPERSEDED = "superseded"


class Role(StrEnum):
    """Why a study, a series or an instance is here."""

    SOURCE = "source"
    OWN = "own"
    PRIOR = "prior"


class JobState(StrEnum):
    """One pipeline over one set of inputs."""

    HELD = "held"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    DECLINED = "declined"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class DeliveryState(StrEnum):
    """A job's results for one peer."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


class CommitmentState(StrEnum):
    """A Storage Commitment asked or answered."""

    OPEN = "open"
    COMMITTED = "committed"
    PARTLY = "partly"
    FAILED = "failed"
    OVERDUE = "overdue"


class NotificationState(StrEnum):
    """A message to leave the node."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


class AssociationState(StrEnum):
    """How a peer's association stands or ended."""

    OPEN = "open"
    CLOSED = "closed"
    ABORTED = "aborted"
    LOST = "lost"


class Decision(StrEnum):
    """What route decided about one study (or series) and one pipeline."""

    JOB = "job"
    WAITING = "waiting"
    NO_ROUTE = "no route"
    SAME_AGAIN = "same again"


class ResultKind(StrEnum):
    """What a result is: a segmentation, or the report that names it."""

    SEG = "SEG"
    SR = "SR"


class Mode(StrEnum):
    """Whether a pipeline's results leave the node."""

    LIVE = "live"
    SHADOW = "shadow"


class Priority(StrEnum):
    """How urgent a job or delivery is; `PRIORITY_RANK` orders them."""

    URGENT = "urgent"
    NORMAL = "normal"
    LATER = "later"


PRIORITY_RANK: Mapping[Priority, int] = MappingProxyType(
    {Priority.URGENT: 0, Priority.NORMAL: 1, Priority.LATER: 2}
)

_S, _J, _D = StudyState, JobState, DeliveryState
_C, _N, _A, _I = CommitmentState, NotificationState, AssociationState, InstanceState

# From each state, the states that may follow it.
MOVES: Mapping[type[StrEnum], Mapping[StrEnum, frozenset[StrEnum]]] = MappingProxyType(
    {
        StudyState: {
            _S.RECEIVING: frozenset({_S.COMPLETE}),
            _S.COMPLETE: frozenset({_S.RECEIVING}),
        },
        InstanceState: {
            _I.PENDING: frozenset({_I.CURRENT}),
            _I.CURRENT: frozenset({_I.SUPERSEDED}),
            _I.SUPERSEDED: frozenset(),
        },
        JobState: {
            _J.HELD: frozenset({_J.QUEUED, _J.CANCELLED, _J.SUPERSEDED}),
            _J.QUEUED: frozenset({_J.RUNNING, _J.HELD, _J.CANCELLED, _J.SUPERSEDED}),
            _J.RUNNING: frozenset(
                {
                    _J.DONE,
                    _J.DECLINED,
                    _J.FAILED,
                    _J.HELD,
                    _J.QUEUED,
                    _J.CANCELLED,
                    _J.SUPERSEDED,
                }
            ),
            _J.DONE: frozenset({_J.SUPERSEDED}),
            _J.DECLINED: frozenset({_J.QUEUED, _J.SUPERSEDED}),
            _J.FAILED: frozenset({_J.QUEUED, _J.SUPERSEDED}),
            _J.CANCELLED: frozenset({_J.QUEUED, _J.SUPERSEDED}),
            _J.SUPERSEDED: frozenset(),
        },
        DeliveryState: {
            _D.QUEUED: frozenset({_D.SENDING, _D.FAILED, _D.WITHDRAWN}),
            _D.SENDING: frozenset({_D.QUEUED, _D.SENT, _D.FAILED, _D.WITHDRAWN}),
            _D.SENT: frozenset({_D.CONFIRMED, _D.QUEUED, _D.FAILED}),
            _D.CONFIRMED: frozenset({_D.QUEUED}),
            _D.FAILED: frozenset({_D.QUEUED, _D.WITHDRAWN}),
            _D.WITHDRAWN: frozenset(),
        },
        CommitmentState: {
            _C.OPEN: frozenset({_C.COMMITTED, _C.PARTLY, _C.FAILED, _C.OVERDUE}),
            _C.OVERDUE: frozenset({_C.COMMITTED, _C.PARTLY, _C.FAILED}),
            _C.COMMITTED: frozenset(),
            _C.PARTLY: frozenset(),
            _C.FAILED: frozenset(),
        },
        NotificationState: {
            _N.QUEUED: frozenset({_N.SENDING}),
            _N.SENDING: frozenset({_N.QUEUED, _N.SENT, _N.FAILED}),
            _N.SENT: frozenset(),
            _N.FAILED: frozenset({_N.QUEUED}),
        },
        AssociationState: {
            _A.OPEN: frozenset({_A.CLOSED, _A.ABORTED, _A.LOST}),
            _A.CLOSED: frozenset(),
            _A.ABORTED: frozenset(),
            _A.LOST: frozenset(),
        },
    }
)

OPEN_JOB_STATES = frozenset({JobState.HELD, JobState.QUEUED, JobState.RUNNING})
FINAL_JOB_STATES = frozenset(JobState) - OPEN_JOB_STATES
OPEN_DELIVERY_STATES = frozenset({DeliveryState.QUEUED, DeliveryState.SENDING})

# UPS Procedure Step State (0074,1000) of each job state, for a standard worklist service.
UPS_STATES: Mapping[JobState, str] = MappingProxyType(
    {
        JobState.HELD: "SCHEDULED",
        JobState.QUEUED: "SCHEDULED",
        JobState.RUNNING: "IN PROGRESS",
        JobState.DONE: "COMPLETED",
        JobState.DECLINED: "COMPLETED",
        JobState.FAILED: "CANCELED",
        JobState.CANCELLED: "CANCELED",
        JobState.SUPERSEDED: "CANCELED",
    }
)


def may_move(old: StrEnum, new: StrEnum) -> bool:
    """Tell whether a row in ``old`` may go to ``new``; both of one kind."""
    return new in MOVES[type(old)][old]


def sources_of(new: StrEnum) -> frozenset[StrEnum]:
    """Give every state from which ``new`` may be reached, for the guard of an UPDATE."""
    return frozenset(old for old, following in MOVES[type(new)].items() if new in following)
