"""Messages about what happened, without anything that names a patient.

Whoever ends a job or a delivery writes them in its own transaction; `dicomnode.stages.notify`
sends them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection

from dicomnode.config import Webhook
from dicomnode.rules.reasons import Reason, sentence
from dicomnode.rules.states import DeliveryState, JobState, Outcome
from dicomnode.worklist import notifications, studies
from dicomnode.worklist.notifications import NewNotification
from dicomnode.worklist.work import Parked

JOB_FAILED, DELIVERY_FAILED, STUDY_DONE = "job.failed", "delivery.failed", "study.done"
LOG, WEBHOOK = "log", "webhook"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What happened to what; ``reason`` is its sentence, ids are the worklist's own."""

    what: str
    at_ms: int
    reason: Reason | None = None
    study_id: int | None = None
    job_id: int | None = None
    pipeline: str | None = None
    version: str | None = None
    peer: str | None = None


def body_of(notice: Notice, node: str) -> dict[str, object]:
    """Give the message as JSON data; a study is named by the worklist's id alone.

    A reason's parameters are of fixed kinds, none of which is a patient's name or ID.
    """
    told: dict[str, object | None] = {
        "what": notice.what,
        "node": node,
        "at": datetime.fromtimestamp(notice.at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "study": notice.study_id,
        "job": notice.job_id,
        "pipeline": notice.pipeline,
        "version": notice.version,
        "peer": notice.peer,
    }
    if notice.reason is not None:
        told["reason"] = notice.reason.code
        told["sentence"] = sentence(notice.reason)
    return {key: value for key, value in told.items() if value is not None}


def notifications_of(
    notice: Notice, webhooks: Mapping[str, Webhook], node: str
) -> list[NewNotification]:
    """Give one message for the log, and one for each webhook that asked for this event."""
    targets = [(LOG, LOG)]
    targets += [(WEBHOOK, name) for name, hook in webhooks.items() if notice.what in hook.events]
    return [
        NewNotification(
            channel=channel,
            target=target,
            what=notice.what,
            body=body_of(notice, node),
            study_id=notice.study_id,
            job_id=notice.job_id,
        )
        for channel, target in targets
    ]


@dataclass(frozen=True, slots=True)
class Announcer:
    """Writes the messages of what ends, in the transaction that ends it."""

    webhooks: Mapping[str, Webhook]
    node: str

    def tell(self, tx: Connection, notice: Notice) -> None:
        """Queue the messages of a notice."""
        for new in notifications_of(notice, self.webhooks, self.node):
            notifications.create(tx, new, notice.at_ms)

    def ended(
        self, tx: Connection, notice: Notice, state: JobState | DeliveryState, before: Outcome
    ) -> None:
        """Queue what the end of a job or delivery gives to tell; the study's lock is held.

        Parameters
        ----------
        notice
            About the job or delivery; its ``what`` is set here.
        before
            The study's outcome before this transaction: becoming done is told once.
        """
        kind = JOB_FAILED if isinstance(state, JobState) else DELIVERY_FAILED
        if state in (JobState.FAILED, DeliveryState.FAILED):
            self.tell(tx, _named(notice, kind))
        if notice.study_id is None or before is Outcome.DONE:
            return
        study = studies.get(tx, notice.study_id)
        if study is not None and study.outcome is Outcome.DONE:
            self.tell(tx, Notice(what=STUDY_DONE, at_ms=notice.at_ms, study_id=study.id))

    def parked(self, tx: Connection, parked: Parked) -> None:
        """Queue what the loss of a job's last worker gives to tell; the study's lock is held."""
        notice = Notice(
            what=JOB_FAILED,
            at_ms=parked.at_ms,
            reason=parked.reason,
            study_id=parked.job.study_id,
            job_id=parked.job.id,
            pipeline=parked.job.pipeline,
            version=parked.job.version,
        )
        self.ended(tx, notice, JobState.FAILED, parked.before)


def _named(notice: Notice, what: str) -> Notice:
    return Notice(
        what=what,
        at_ms=notice.at_ms,
        reason=notice.reason,
        study_id=notice.study_id,
        job_id=notice.job_id,
        pipeline=notice.pipeline,
        version=notice.version,
        peer=notice.peer,
    )
