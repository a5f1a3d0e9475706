"""A study's row: read, found and locked."""

from dataclasses import dataclass

from sqlalchemy import Connection, select

from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import Outcome, Role, StudyState
from dicomnode.worklist.rows import as_value, as_values, chunks
from dicomnode.worklist.schema import studies


@dataclass(frozen=True, slots=True)
class Study:
    """One study, with what an admin searches by; patients' fields go into no log."""

    id: int
    study_instance_uid: str
    identity: str
    patient_id: str
    issuer_of_patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    accession_number: str
    study_date: str
    study_description: str
    modalities: str
    role: Role
    peer: str
    called_ae_title: str
    state: StudyState
    outcome: Outcome
    reason: Reason | None
    waiting: Reason | None
    priority: int
    generation: int
    routed_generation: int
    instance_count: int
    image_count: int
    byte_count: int
    first_received_at: int
    opened_at: int
    last_received_at: int
    last_event_at: int
    due_at: int | None
    completed_at: int | None
    completed_by: str | None
    by_hand: bool
    expected_count: int | None
    expected_seen: int
    expected_asked_at: int | None
    expected_reason: str | None
    hold: bool
    purged_at: int | None


def get(tx: Connection, study_id: int) -> Study | None:
    """Give a study by its id."""
    row = tx.execute(select(studies).where(studies.c.id == study_id)).first()
    return None if row is None else as_value(Study, row)


def find(tx: Connection, study_instance_uid: str) -> Study | None:
    """Give a study by its Study Instance UID."""
    query = select(studies).where(studies.c.study_instance_uid == study_instance_uid)
    row = tx.execute(query).first()
    return None if row is None else as_value(Study, row)


def lock(tx: Connection, *study_ids: int) -> list[Study]:
    """Lock studies until the transaction ends and give those that exist, sorted by id.

    Two jobs of one study that end together would each compute its outcome without the other's
    change: on PostgreSQL that left a stale outcome in 195 of 200 trials.
    """
    found: list[Study] = []
    for part in chunks(sorted(set(study_ids))):
        query = select(studies).where(studies.c.id.in_(part)).order_by(studies.c.id)
        found += as_values(Study, tx.execute(query.with_for_update(key_share=True)))
    return found


def lock_if_free(tx: Connection, study_id: int) -> bool:
    """Lock a study unless another has it locked: who holds one lock waits for no second."""
    query = select(studies.c.id).where(studies.c.id == study_id)
    free = query.with_for_update(key_share=True, skip_locked=True)
    return tx.execute(free).first() is not None
