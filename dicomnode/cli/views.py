"""Rows as the shapes of ``--json``.

Times are UTC with Z, units stand in the keys, what is unknown is null and no key is left out, but
for what names a patient when names are switched off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dicomnode.cli.output import utc
from dicomnode.cli.words import Reader
from dicomnode.rules.actions import Action, refusal_for_delivery, refusal_for_job, refusal_for_study
from dicomnode.rules.outcome import StudyStanding
from dicomnode.rules.reasons import Reason
from dicomnode.worklist.attempts import Attempt
from dicomnode.worklist.events import Event
from dicomnode.worklist.peers import Peer
from dicomnode.worklist.pipelines import Pipeline
from dicomnode.worklist.processes import Process
from dicomnode.worklist.quarantine import Quarantined
from dicomnode.worklist.results import Result
from dicomnode.worklist.series import Series
from dicomnode.worklist.story import DeliveryStory, JobStory, Story
from dicomnode.worklist.studies import Study

View = dict[str, Any]

# Parameters that say when something happens by itself, the most telling first.
_NEXT = ("next_at", "until_at")


def reason_view(reason: Reason | None, reader: Reader, can: Sequence[str] = ()) -> View | None:
    """Give a reason with its sentence, when something happens next, and what one can do."""
    if reason is None:
        return None
    moments = (reason.parameters.get(name) for name in _NEXT)
    next_at = next((int(at) for at in moments if isinstance(at, int | float)), None)
    return {
        "code": reason.code,
        "parameters": dict(reason.parameters),
        "sentence": reader.sentence(reason),
        "next_at": utc(next_at),
        "can": list(can),
    }


def study_actions(study: Study, standing: StudyStanding | None) -> list[str]:
    """Give the words of the command line that fit a study as it is."""
    if standing is None:
        return []
    is_held, are_kept = study.hold, study.purged_at is None
    return [
        str(action)
        for action in Action
        if action is not Action.RELEASE
        and refusal_for_study(action, standing, is_held=is_held, are_images_kept=are_kept) is None
    ]


def study_view(study: Study, reader: Reader, story: Story, standing: StudyStanding | None) -> View:
    """Give a study with its jobs and deliveries."""
    view: View = {
        "id": study.id,
        "study_instance_uid": study.study_instance_uid,
        "state": str(study.state),
        "outcome": str(study.outcome),
        "role": str(study.role),
        "reason": reason_view(study.reason, reader, study_actions(study, standing)),
        "images": {"received": study.image_count, "expected": study.expected_count},
        "modalities": study.modalities.split(),
        "study_description": study.study_description,
        "study_date": study.study_date,
        "peer": study.peer,
        "priority": study.priority,
        "held": study.hold,
        "received_at": utc(study.last_received_at),
        "completed_at": utc(study.completed_at),
        "completed_by": study.completed_by,
        "purged_at": utc(study.purged_at),
        "jobs": [
            job_view(one, reader, are_images_kept=study.purged_at is None) for one in story.jobs
        ],
        "deliveries": [delivery_view(one, reader) for one in story.deliveries],
    }
    if reader.with_names:
        view["patient"] = {"name": study.patient_name, "id": study.patient_id}
        view["accession_number"] = study.accession_number
    return view


def story_view(story: Story, reader: Reader, standing: StudyStanding | None) -> View:
    """Give everything that is known about a study."""
    return {
        **study_view(story.study, reader, story, standing),
        "reasons": [reason_view(reason, reader) for reason in story.reasons],
        "pending_count": story.pending_count,
        "series": [series_view(one) for one in story.series],
        "routes": [
            {
                "pipeline": route.pipeline,
                "version": route.version,
                "decision": str(route.decision),
                "series_id": route.series_id,
                "job_id": route.job_id,
                "due_at": utc(route.due_at),
                "reason": reason_view(route.reason, reader),
                "conditions": [dict(condition) for condition in route.trace],
            }
            for route in story.routes
        ],
        "events": [event_view(event, reader) for event in story.events],
    }


def series_view(series: Series) -> View:
    """Give one series."""
    return {
        "id": series.id,
        "series_instance_uid": series.series_instance_uid,
        "series_number": series.series_number,
        "modality": series.modality,
        "role": str(series.role),
        "series_description": series.series_description,
        "body_part_examined": series.body_part_examined,
        "image_count": series.image_count,
        "instance_count": series.instance_count,
        "facts": dict(series.facts),
    }


def job_view(told: JobStory, reader: Reader, *, are_images_kept: bool) -> View:
    """Give a job with its tries and results."""
    job = told.job
    can = [
        str(action)
        for action in (Action.RETRY, Action.CANCEL, Action.PRIORITY)
        if refusal_for_job(action, job.state, are_images_kept=are_images_kept) is None
    ]
    return {
        "id": job.id,
        "pipeline": job.pipeline,
        "version": job.version,
        "mode": str(job.mode),
        "state": str(job.state),
        "priority": job.priority,
        "device": job.device,
        "stage": job.stage,
        "progress_percent": job.progress,
        "reason": reason_view(job.reason, reader, can),
        "summary": job.summary,
        "findings": job.finding_count,
        "segments": job.segment_count,
        "urgency": job.urgency,
        "superseded_by": job.superseded_by,
        "created_at": utc(job.created_at),
        "finished_at": utc(job.finished_at),
        "stages_s": None if job.stage_times is None else dict(job.stage_times),
        "attempts": [attempt_view(one, reader) for one in told.attempts],
        "results": [result_view(one) for one in told.results],
    }


def attempt_view(attempt: Attempt, reader: Reader) -> View:
    """Give one try."""
    return {
        "n": attempt.number,
        "start": utc(attempt.started_at),
        "end": utc(attempt.ended_at),
        "owner": attempt.owner,
        "device": attempt.device,
        "outcome": attempt.outcome,
        "stages_s": None if attempt.stage_times is None else dict(attempt.stage_times),
        "reason": reason_view(attempt.reason, reader),
    }


def result_view(result: Result) -> View:
    """Give one object that a job made."""
    return {
        "id": result.id,
        "kind": result.kind,
        "sop_class_uid": result.sop_class_uid,
        "sop_instance_uid": result.sop_instance_uid,
        "series_instance_uid": result.series_instance_uid,
        "series_number": result.series_number,
        "byte_count": result.byte_count,
        "purged_at": utc(result.purged_at),
        "checks": {
            "passed": result.checks.get("passed"),
            "failed": result.checks.get("failed"),
        },
    }


def delivery_view(told: DeliveryStory, reader: Reader) -> View:
    """Give a delivery with what the peer said about each object."""
    delivery = told.delivery
    can = ["resend"] if refusal_for_delivery(Action.RESEND, delivery.state) is None else []
    return {
        "id": delivery.id,
        "job_id": delivery.job_id,
        "peer": delivery.peer,
        "state": str(delivery.state),
        "reason": reason_view(delivery.reason, reader, can),
        "tries": delivery.tries,
        "sent_at": utc(delivery.sent_at),
        "objects": [
            {
                "kind": one.kind,
                "sop_instance_uid": one.sop_instance_uid,
                "status": one.status,
                "words": one.words,
                "comment": one.comment,
                "stored_at": utc(one.stored_at),
                "confirmed_at": utc(one.confirmed_at),
            }
            for one in delivery.statuses
        ],
        "attempts": [attempt_view(one, reader) for one in told.attempts],
    }


def event_view(event: Event, reader: Reader) -> View:
    """Give one thing that happened."""
    return {
        "id": event.id,
        "at": utc(event.at),
        "what": event.what,
        "study_id": event.study_id,
        "job_id": event.job_id,
        "delivery_id": event.delivery_id,
        "actor": event.actor,
        "reason": reason_view(event.reason, reader),
    }


def quarantine_view(found: Quarantined, reader: Reader) -> View:
    """Give one thing set aside; who the patient is only where names may be shown."""
    arrival = found.arrival or {}
    view: View = {
        "id": found.id,
        "at": utc(found.at),
        "state": found.state,
        "reason": reason_view(found.reason, reader),
        "peer": found.peer,
        "calling_ae_title": found.calling_ae_title,
        "byte_count": found.byte_count,
        "modality": arrival.get("modality"),
        "sop_class_uid": arrival.get("sop_class_uid"),
        "sop_instance_uid": found.sop_instance_uid,
        "study_instance_uid": found.study_instance_uid,
        "study_id": found.study_id,
        "settled_at": utc(found.settled_at),
    }
    if reader.with_names:
        patient = {"name": arrival.get("patient_name"), "id": arrival.get("patient_id")}
        view["patient"] = patient if found.arrival is not None else None
    return view


def peer_view(peer: Peer, reader: Reader, waiting: int | None = None) -> View:
    """Give a peer: what an admin switched and what it last said."""
    return {
        "peer": peer.name,
        "suspended": peer.suspended,
        "suspended_by": peer.suspended_by,
        "down": peer.down,
        "reason": reason_view(peer.reason, reader),
        "waiting": waiting,
        "next_try_at": utc(peer.next_try_at),
        "echoed_at": utc(peer.echoed_at),
        "last_in_at": utc(peer.last_in_at),
        "last_out_at": utc(peer.last_out_at),
        "accepts": None if peer.accepts is None else dict(peer.accepts),
    }


def pipeline_view(pipeline: Pipeline) -> View:
    """Give an installed pipeline with what an admin switched; null where the TOML holds."""
    return {
        "pipeline": pipeline.name,
        "version": pipeline.version,
        "broken": pipeline.broken,
        "takes": pipeline.takes,
        "match": dict(pipeline.match),
        "select": dict(pipeline.select),
        "settings": dict(pipeline.settings),
        "suspended": bool(pipeline.suspended),
        "suspended_by": pipeline.suspended_by,
        "mode": None if pipeline.mode is None else str(pipeline.mode),
        "priority": None if pipeline.priority is None else str(pipeline.priority),
    }


def process_view(process: Process, *, is_up: bool) -> View:
    """Give one process with its last sign of life."""
    return {
        "process": process.name,
        "state": "up" if is_up else "silent",
        "host": process.host,
        "pid": process.pid,
        "device": process.device,
        "version": process.version,
        "started_at": utc(process.started_at),
        "heartbeat_at": utc(process.heartbeat_at),
        "now": process.now,
    }
