"""What an arrival does to its study and series: rows opened, counted, and opened again."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select, update

from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import InstanceState, Outcome, Role, StudyState
from dicomnode.worklist import events
from dicomnode.worklist.arrivals import Arrival
from dicomnode.worklist.events import Act, Subject
from dicomnode.worklist.keys import search_key
from dicomnode.worklist.outcomes import refresh_outcome
from dicomnode.worklist.rows import as_value, insert_or_ignore
from dicomnode.worklist.schema import instances, series, studies
from dicomnode.worklist.signals import Channel, wake


@dataclass(frozen=True, slots=True)
class OpenStudy:
    """A locked study, as far as an arrival asks."""

    id: int
    identity: str
    role: Role
    state: StudyState
    modalities: str
    reason_code: str | None
    waiting_code: str | None
    image_count: int
    completed_at: int | None


@dataclass(frozen=True, slots=True)
class OpenSeries:
    """A series, as far as an arrival asks."""

    id: int
    study_id: int
    role: Role
    image_count: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where an arrival belongs and in which role it comes."""

    study: OpenStudy
    series: OpenSeries
    role: Role


def open_study(tx: Connection, arrival: Arrival, role: Role, now_ms: int) -> OpenStudy:
    """Give the arrival's study, locked; it is made where it is not there."""
    query = (
        select(studies)
        .where(studies.c.study_instance_uid == arrival.study_instance_uid)
        .with_for_update(key_share=True)
    )
    row = tx.execute(query).first()
    if row is None:
        insert_or_ignore(tx, studies, _study_values(arrival, role, now_ms))
        row = tx.execute(query).one()
    return as_value(OpenStudy, row)


def _study_values(arrival: Arrival, role: Role, now_ms: int) -> dict[str, Any]:
    is_source = role is Role.SOURCE
    return {
        "study_instance_uid": arrival.study_instance_uid,
        "identity": arrival.identity[:400],
        "patient_id": arrival.patient_id,
        "issuer_of_patient_id": arrival.issuer_of_patient_id,
        "patient_name": arrival.patient_name,
        "patient_birth_date": arrival.patient_birth_date[:16],
        "patient_sex": arrival.patient_sex[:16],
        "patient_id_key": search_key(arrival.patient_id, 64),
        "patient_name_key": search_key(arrival.patient_name, 200),
        "accession_number": arrival.accession_number,
        "accession_key": search_key(arrival.accession_number, 64),
        "study_date": arrival.study_date[:16],
        "study_description": arrival.study_description,
        "modalities": "",
        "role": role,
        "peer": arrival.peer,
        "called_ae_title": arrival.called_ae_title,
        # What starts no work is complete from the first: nothing waits for more of it.
        "state": StudyState.RECEIVING if is_source else StudyState.COMPLETE,
        "outcome": Outcome.WAITING if is_source else Outcome.DONE,
        "generation": 0,
        "instance_count": 0,
        "image_count": 0,
        "byte_count": 0,
        "first_received_at": now_ms,
        "opened_at": now_ms,
        "last_received_at": now_ms,
        "last_event_at": now_ms,
        "due_at": now_ms if is_source else None,
    }


def open_series(
    tx: Connection, study_id: int, arrival: Arrival, role: Role, now_ms: int
) -> OpenSeries:
    """Give the arrival's series, made where it is not there; it may stand in another study."""
    query = select(series).where(series.c.series_instance_uid == arrival.series_instance_uid)
    row = tx.execute(query).first()
    if row is None:
        values = {
            "study_id": study_id,
            "series_instance_uid": arrival.series_instance_uid,
            "modality": arrival.modality[:16],
            "role": role,
            "series_number": arrival.series_number,
            "series_description": arrival.series_description,
            "body_part_examined": arrival.body_part_examined[:64],
            "instance_count": 0,
            "image_count": 0,
            "attributes": {name: list(found) for name, found in arrival.attributes.items()},
            "facts": {},
            "first_received_at": now_ms,
            "last_received_at": now_ms,
        }
        insert_or_ignore(tx, series, values)
        row = tx.execute(query).one()
    return as_value(OpenSeries, row)


def insert_instance(
    tx: Connection,
    arrival: Arrival,
    place: Place,
    state: InstanceState,
    revision: int,
    now_ms: int,
) -> int | None:
    """Insert the instance's row; None where its number is taken."""
    values = {
        "study_id": place.study.id,
        "series_id": place.series.id,
        "sop_instance_uid": arrival.sop_instance_uid,
        "revision": revision,
        "state": state,
        "role": place.role,
        "study_instance_uid": arrival.study_instance_uid,
        "series_instance_uid": arrival.series_instance_uid,
        "sop_class_uid": arrival.sop_class_uid,
        "transfer_syntax_uid": arrival.transfer_syntax_uid,
        "path": arrival.path,
        "byte_count": arrival.byte_count,
        "digest": arrival.digest,
        "is_image": arrival.is_image,
        "peer": arrival.peer,
        "calling_ae_title": arrival.calling_ae_title,
        "called_ae_title": arrival.called_ae_title,
        "association_id": arrival.association_id,
        "received_at": now_ms,
        "header": dict(arrival.header),
    }
    return insert_or_ignore(tx, instances, values)


def count(tx: Connection, arrival: Arrival, place: Place, now_ms: int) -> None:
    """Count a new instance in its series and study, which receives again where it is to."""
    of_series: dict[str, Any] = {
        "instance_count": series.c.instance_count + 1,
        "image_count": series.c.image_count + int(arrival.is_image),
        "last_received_at": now_ms,
    }
    if place.series.role is not Role.SOURCE and place.role is Role.SOURCE:
        of_series["role"] = Role.SOURCE
    if arrival.is_image and not place.series.image_count:
        # What rules match on is an image's, also where something else came before it.
        of_series["attributes"] = {name: list(v) for name, v in arrival.attributes.items()}
    tx.execute(update(series).where(series.c.id == place.series.id).values(**of_series))
    if place.role is Role.SOURCE:
        _count_source(tx, arrival, place.study, now_ms)
    else:
        _count_other(tx, arrival, place.study, now_ms)


def _count_other(tx: Connection, arrival: Arrival, study: OpenStudy, now_ms: int) -> None:
    """Count what starts no work: our own objects that came back, and priors."""
    values: dict[str, Any] = {"byte_count": studies.c.byte_count + arrival.byte_count}
    if study.role is not Role.SOURCE:
        values["last_received_at"] = now_ms
        values["modalities"] = _with_modality(study.modalities, arrival.modality)
    tx.execute(update(studies).where(studies.c.id == study.id).values(**values))
    if study.reason_code is None:
        refresh_outcome(tx, study.id, now_ms)


def _count_source(tx: Connection, arrival: Arrival, study: OpenStudy, now_ms: int) -> None:
    images = study.image_count + int(arrival.is_image)
    values: dict[str, Any] = {
        "instance_count": studies.c.instance_count + 1,
        "image_count": images,
        "byte_count": studies.c.byte_count + arrival.byte_count,
        "last_received_at": now_ms,
        "generation": studies.c.generation + 1,
        "modalities": _with_modality(study.modalities, arrival.modality),
        "role": Role.SOURCE,
        "peer": arrival.peer,
        "called_ae_title": arrival.called_ae_title,
        "waiting_code": None,
        "waiting_parameters": None,
        "expected_seen": 0,
        "purged_at": None,
    }
    if study.reason_code == "study.receiving":
        # Nothing else to say: the sentence keeps up with the count without reading the study's
        # jobs for each image.
        parameters = {"peer": arrival.peer, "n": images, "last_at": now_ms}
        values["reason_parameters"] = parameters
    tx.execute(update(studies).where(studies.c.id == study.id).values(**values))
    if study.state is StudyState.COMPLETE:
        reopen(tx, study.id, now_ms, since_ms=study.completed_at, changed=0)
    elif study.reason_code is None:
        opened = Reason("study.opened", {"peer": arrival.peer})
        events.add(tx, opened, Act(now_ms=now_ms), Subject(study_id=study.id))
        refresh_outcome(tx, study.id, now_ms)
        wake(tx, Channel.STUDIES)
    elif study.waiting_code is not None:
        refresh_outcome(tx, study.id)


def reopen(
    tx: Connection, study_id: int, now_ms: int, *, since_ms: int | None, changed: int
) -> None:
    """Have a complete study, which is locked, receive again."""
    values = {
        "state": StudyState.RECEIVING,
        "opened_at": now_ms,
        "due_at": now_ms,
        "completed_at": None,
        "completed_by": None,
        "purged_at": None,
    }
    tx.execute(update(studies).where(studies.c.id == study_id).values(**values))
    # Without a time it never was whole: only what starts no work had come.
    if since_ms is not None:
        parameters = {"n": 1, "age_s": (now_ms - since_ms) // 1000, "changed": changed or None}
        events.add(
            tx, Reason("study.reopened", parameters), Act(now_ms=now_ms), Subject(study_id=study_id)
        )
    refresh_outcome(tx, study_id, now_ms)
    wake(tx, Channel.STUDIES)


def forget_empty_study(tx: Connection, study_id: int) -> None:
    """Delete those series of a study that hold nothing, and the study where it then has none."""
    empty_series = ~select(instances.c.id).where(instances.c.series_id == series.c.id).exists()
    tx.execute(delete(series).where(series.c.study_id == study_id, empty_series))
    empty = ~select(series.c.id).where(series.c.study_id == studies.c.id).exists()
    tx.execute(delete(studies).where(studies.c.id == study_id, empty))


def _with_modality(modalities: str, modality: str) -> str:
    found = {*modalities.split(), modality.strip()} - {""}
    return " ".join(sorted(found))[:64]
