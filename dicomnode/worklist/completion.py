"""Is a study whole: what that is decided on, and the close that loses no late image."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, func, or_, select, text, update

from dicomnode.rules.completeness import StudyFacts, count_seen
from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import Role, StudyState
from dicomnode.worklist import events
from dicomnode.worklist.events import Act, Subject
from dicomnode.worklist.outcomes import refresh_outcome
from dicomnode.worklist.rows import as_values, chunks, reason_columns, touched
from dicomnode.worklist.schema import associations, instances, studies
from dicomnode.worklist.signals import Channel, wake
from dicomnode.worklist.study_rows import Study, get, lock

# Literal, as the partial indexes say it: with bound values SQLite does not use them.
_RECEIVING = text("studies.state = 'receiving'")
_PENDING = text("instances.state = 'pending'")
_OPEN_ASSOCIATION = text("associations.state = 'open'")


@dataclass(frozen=True, slots=True)
class Completeness:
    """What is known about whether a study is whole, as it was read.

    ``open_associations`` counts open ones that sent for it; ``last_closed_at`` is when the last of
    the others was closed.
    """

    study: Study
    open_associations: int
    last_closed_at: int | None
    pending_count: int

    @property
    def opened_at(self) -> int:
        """When its first image came since it was opened, or opened again."""
        return self.study.opened_at

    @property
    def facts(self) -> StudyFacts:
        """Give it as the rules take it."""
        study = self.study
        return StudyFacts(
            peer=study.peer,
            instance_count=study.instance_count,
            opened_at=study.opened_at,
            last_received_at=study.last_received_at,
            pending_count=self.pending_count,
            association_open=self.open_associations > 0,
            association_closed_at=self.last_closed_at,
            expected_count=study.expected_count,
            expected_seen=study.expected_seen,
            expected_asked_at=study.expected_asked_at,
            count_status=study.expected_reason,
            by_hand=study.by_hand,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many images a PACS says a study has, ours left out; None with the reason."""

    images: int | None
    asked_at: int
    reason: str | None = None


def due(tx: Connection, now_ms: int, limit: int = 100) -> list[Study]:
    """Give studies that are still receiving and are to be looked at now, the oldest first."""
    query = (
        select(studies)
        .where(_RECEIVING, studies.c.due_at <= now_ms, studies.c.role == Role.SOURCE)
        .order_by(studies.c.due_at)
        .limit(limit)
    )
    return as_values(Study, tx.execute(query))


def next_due_at(tx: Connection) -> int | None:
    """Give when the next receiving study is to be looked at."""
    query = select(func.min(studies.c.due_at)).where(_RECEIVING, studies.c.role == Role.SOURCE)
    found = tx.execute(query).scalar()
    return None if found is None else int(found)


def completeness(tx: Connection, study_id: int) -> Completeness | None:
    """Give what the decision whether a study is whole stands on; None where it is gone."""
    study = get(tx, study_id)
    if study is None:
        return None
    sent = select(instances.c.id).where(
        instances.c.association_id == associations.c.id, instances.c.study_id == study_id
    )
    still_open = select(func.count()).select_from(associations)
    senders = (
        select(instances.c.association_id)
        .where(instances.c.study_id == study_id, instances.c.association_id.is_not(None))
        .distinct()
    )
    last_closed = select(func.max(associations.c.closed_at)).where(associations.c.id.in_(senders))
    return Completeness(
        study,
        int(tx.execute(still_open.where(_OPEN_ASSOCIATION, sent.exists())).scalar_one()),
        tx.execute(last_closed).scalar(),
        pending_count(tx, study_id),
    )


def pending_count(tx: Connection, study_id: int) -> int:
    """Give how many arrivals of a study are not compared yet with what was there before."""
    query = select(func.count()).select_from(instances)
    return int(tx.execute(query.where(_PENDING, instances.c.study_id == study_id)).scalar_one())


def complete(tx: Connection, study_id: int, *, seen_generation: int, by: str, act: Act) -> bool:
    """Close a study that is whole, if nothing moved since it was looked at.

    Parameters
    ----------
    seen_generation
        The study's generation that the decision was made on; every image raises it.
    by
        What said so: quiet, count, limit, longest, hand.

    Returns
    -------
    Whether it is closed now; if not, something came: look again.
    """
    found = lock(tx, study_id)
    if not found or found[0].generation != seen_generation or pending_count(tx, study_id):
        return False
    closing = (
        update(studies)
        .where(studies.c.id == study_id, studies.c.state == StudyState.RECEIVING)
        .values(
            state=StudyState.COMPLETE,
            completed_at=act.now_ms,
            completed_by=by,
            by_hand=False,
            due_at=None,
            waiting_code=None,
            waiting_parameters=None,
        )
    )
    if not touched(tx, closing):
        return False
    code = "study.completed_by_hand" if by == "hand" else "study.completed"
    what = Reason(code, {"n": found[0].image_count, "by": by})
    events.add(tx, what, act, Subject(study_id=study_id))
    refresh_outcome(tx, study_id, act.now_ms)
    wake(tx, Channel.ROUTES)
    return True


def wait_for(
    tx: Connection, study_id: int, *, seen_generation: int, reason: Reason, until_ms: int
) -> bool:
    """Write down what a study waits for and when it is looked at again.

    Returns
    -------
    False where something came meanwhile: then nothing is written.
    """
    found = lock(tx, study_id)
    if not found or found[0].generation != seen_generation:
        return False
    values = {"due_at": until_ms, **reason_columns(reason, "waiting")}
    waiting = update(studies).where(studies.c.id == study_id, _RECEIVING).values(**values)
    if not touched(tx, waiting):
        return False
    refresh_outcome(tx, study_id)
    return True


def look_at(tx: Connection, study_ids: Iterable[int], at_ms: int) -> None:
    """Have receiving studies looked at no later than a time; locks them."""
    wanted = sorted(set(study_ids))
    lock(tx, *wanted)
    for part in chunks(wanted):
        later = or_(studies.c.due_at.is_(None), studies.c.due_at > at_ms)
        tx.execute(
            update(studies).where(studies.c.id.in_(part), _RECEIVING, later).values(due_at=at_ms)
        )
    if wanted:
        wake(tx, Channel.STUDIES)


def expect(tx: Connection, study_id: int, count: Count) -> bool:
    """Keep what a PACS says it has of a study, or why it does not say.

    Returns
    -------
    False where the study is gone or complete.
    """
    found = lock(tx, study_id)
    known = completeness(tx, study_id) if found else None
    if known is None or known.study.state is not StudyState.RECEIVING:
        return False
    values: dict[str, object] = {
        "expected_asked_at": count.asked_at,
        "expected_reason": count.reason,
    }
    if count.images is not None:
        values["expected_seen"] = count_seen(known.facts, count.images)
        values["expected_count"] = count.images
    tx.execute(update(studies).where(studies.c.id == study_id).values(**values))
    return True
