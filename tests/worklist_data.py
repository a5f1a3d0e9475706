"""Rows as tests want them: arrivals, studies that are complete, jobs and their ends."""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Select, text

from dicomnode.rules.keys import KeyParts, line
from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import JobState, Mode, Priority, ResultKind
from dicomnode.worklist import deliveries, ends, instances, jobs, studies, work
from dicomnode.worklist.arrivals import Arrival, Taken
from dicomnode.worklist.claims import Lease
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.events import Act

STUDY = "1.2.3"
LEASE_MS = 10_000


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def arrival(number: int = 1, **changes: Any) -> Arrival:
    """Give image ``number`` of a CT study; ``bytes_`` stands for other content."""
    study = changes.pop("study", STUDY)
    series = changes.pop("series", f"{study}.1")
    content = changes.pop("content", "first")
    given: dict[str, Any] = {
        "study_instance_uid": study,
        "series_instance_uid": series,
        "sop_instance_uid": f"{series}.{number}",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "path": f"2026-11-21/{digest(f'{series}.{number}.{content}')[:32]}.dcm",
        "byte_count": 1000,
        "digest": digest(f"{series}.{number}.{content}"),
        "identity": "P-0017",
        "patient_id": "P-0017",
        "patient_name": "Test^Anna",
        "accession_number": "A1002",
        "modality": "CT",
        "peer": "ct2",
        "calling_ae_title": "CT2",
        "called_ae_title": "DICOMNODE",
        # As a door gives them: read-only.
        "attributes": MappingProxyType({"Modality": ["CT"]}),
        "header": {"rows": 512},
    }
    return Arrival(**{**given, **changes})


def take(worklist: Worklist, *given: Arrival) -> list[Taken]:
    """Take arrivals in, each in its own transaction."""
    taken = []
    for one in given:
        with worklist.write() as tx:
            taken.append(instances.take_in(tx, one, worklist.now()))
    return taken


def act(worklist: Worklist, actor: str = "anna", why: str | None = None) -> Act:
    return Act(now_ms=worklist.now(), actor=actor, why=why)


def complete(worklist: Worklist, study_id: int) -> None:
    """Close a study as the stage does."""
    with worklist.write() as tx:
        study = studies.get(tx, study_id)
        assert study is not None
        seen = study.generation
        assert studies.complete(
            tx, study_id, seen_generation=seen, by="quiet", act=Act(now_ms=worklist.now())
        )
        assert studies.mark_routed(tx, study_id, seen)
        studies.refresh_outcome(tx, study_id)


def whole_study(worklist: Worklist, images: int = 3, study: str = STUDY) -> int:
    """Take in a study of some images, close it, and give its id."""
    taken = take(worklist, *(arrival(number, study=study) for number in range(1, images + 1)))
    study_id = taken[0].study_id
    assert study_id is not None
    complete(worklist, study_id)
    return study_id


def new_job(
    tx: Connection,
    study_id: int,
    pipeline: str = "lung-nodule",
    mode: Mode = Mode.LIVE,
    **changes: Any,
) -> jobs.NewJob:
    """Plan a job over every current image of a study."""
    study = studies.get(tx, study_id)
    assert study is not None
    given = instances.of_study(tx, study_id)
    parts = KeyParts(
        pipeline=pipeline,
        version=changes.pop("version", "1.0.0"),
        settings={},
        weights={},
        inputs=tuple((one.sop_instance_uid, one.digest) for one in given),
    )
    planned: dict[str, Any] = {
        "study_id": study_id,
        "series_id": given[0].series_id,
        "line": line(study.study_instance_uid, pipeline, mode),
        "mode": mode,
        "parts": parts,
        "inputs": (tuple(one.id for one in given),),
        "generation": study.generation,
        "priority": Priority.NORMAL,
    }
    return jobs.NewJob(**{**planned, **changes})


def make_job(worklist: Worklist, study_id: int, pipeline: str = "lung-nodule", **kw: Any) -> int:
    """Make a job and give its id."""
    with worklist.write() as tx:
        planned = new_job(tx, study_id, pipeline, **kw)
        return jobs.create(tx, planned, Act(now_ms=worklist.now())).job_id


def claim(worklist: Worklist, owner: str = "w1") -> work.ClaimedJob:
    """Claim the best job, which must be there."""
    with worklist.write() as tx:
        lease = Lease(owner=owner, now_ms=worklist.now(), lease_ms=LEASE_MS)
        claimed = work.claim(tx, lease)
    assert claimed is not None
    return claimed


def result(job: jobs.Job, fence: int, number: int = 1, form: str = "f" * 64) -> ends.NewResult:
    """Give a result whose UID derives from the job's key."""
    return ends.NewResult(
        kind=ResultKind.SEG if number == 1 else ResultKind.SR,
        form=form,
        number=number,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
        sop_instance_uid=f"2.25.{int(digest(f'{job.key}{form}{number}')[:20], 16)}",
        series_instance_uid=f"2.25.{int(digest(f'{job.key}{form}s{number}')[:20], 16)}",
        path=f"{job.id}.{fence}.{number}.dcm",
        byte_count=10,
        digest=digest("result"),
        checks={"passed": 62, "failed": 0},
    )


def done(claimed: work.ClaimedJob, *peers: deliveries.NewDelivery, **changes: Any) -> ends.JobEnd:
    """Give the end of a job that found something: two results, and what goes to which peer."""
    forms = sorted({peer.form for peer in peers} or {"f" * 64})
    made = [result(claimed.job, claimed.fence, number, form) for form in forms for number in (1, 2)]
    given: dict[str, Any] = {
        "state": JobState.DONE,
        "reason": Reason("job.done", {"n": 2, "m": 2}),
        "results": made,
        "deliveries": peers,
    }
    return ends.JobEnd(**{**given, **changes})


def to(peer: str = "pacs", predecessor_id: int | None = None) -> deliveries.NewDelivery:
    form = "f" * 64 if predecessor_id is None else digest(str(predecessor_id))
    return deliveries.NewDelivery(peer=peer, form=form, predecessor_id=predecessor_id)


def finish(worklist: Worklist, claimed: work.ClaimedJob, end: ends.JobEnd) -> ends.Finished:
    with worklist.write() as tx:
        return ends.finish(tx, claimed.job.id, claimed.fence, end, worklist.now())


def done_job(worklist: Worklist, study_id: int, pipeline: str = "lung-nodule") -> int:
    """Make a job, run it and end it with a delivery to one peer; give its id."""
    job_id = make_job(worklist, study_id, pipeline)
    claimed = claim(worklist)
    assert claimed.job.id == job_id
    finish(worklist, claimed, done(claimed, to()))
    return job_id


def plan(worklist: Worklist, query: Select[Any]) -> str:
    """Give how the engine would run a query, were its tables large."""
    with worklist.write() as tx:
        compiled = query.compile(dialect=tx.dialect, compile_kwargs={"render_postcompile": True})
        given: Any = compiled.params
        if worklist.is_sqlite:
            given = tuple(given[name] for name in getattr(compiled, "positiontup", None) or ())
            found = tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", given)
        else:
            for costly in ("seqscan", "bitmapscan", "sort"):
                tx.execute(text(f"SET LOCAL enable_{costly} = off"))
            found = tx.exec_driver_sql(f"EXPLAIN {compiled}", given)
        return "\n".join(str(row) for row in found)
