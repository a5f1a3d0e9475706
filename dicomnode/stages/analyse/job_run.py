"""One claimed job, from its files to its end in the worklist.

Works outside any transaction; what it came to is written in one, guarded by the job's fence.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import BaseModel
from sqlalchemy import Connection

from dicomnode.config import Settings
from dicomnode.errors import StorageError
from dicomnode.rules import priorities, retry
from dicomnode.rules.reasons import Reason, sentence
from dicomnode.rules.states import JobState
from dicomnode.sdk import Urgency
from dicomnode.stages.analyse import messages
from dicomnode.stages.analyse.child_process import ChildProcess, Died
from dicomnode.stages.analyse.hold import Hold
from dicomnode.stages.analyse.result_sets import Planned, SetPlanner
from dicomnode.stages.notices import Announcer, Notice
from dicomnode.storage import Storage
from dicomnode.telemetry import logger
from dicomnode.worklist import Worklist, ends, instances, results, studies, work
from dicomnode.worklist.ends import FinishedKind, JobEnd, NewResult
from dicomnode.worklist.work import ClaimedJob, JobRetry, Progress

_MOST_ENCODINGS = 5


@dataclass(frozen=True, slots=True)
class Lost:
    """The job is another's, or this worker is to stop: leave nothing behind."""


@dataclass(slots=True)
class _Taken:
    """Seconds by stage, over every answer of the child."""

    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, answer: BaseModel) -> None:
        for stage, taken in getattr(answer, "seconds", {}).items():
            self.seconds[stage] = taken

    def since(self, stage: str, started: float) -> None:
        self.seconds[stage] = round(time.monotonic() - started, 3)


class JobRun:
    """Carries one claimed job through the child.

    Parameters
    ----------
    child
        The worker's child; started here when it is not alive.
    hold
        Says when the job is another's, or the worker is to stop: the run then leaves nothing.
    """

    def __init__(
        self,
        worklist: Worklist,
        storage: Storage,
        settings: Settings,
        child: ChildProcess,
        claimed: ClaimedJob,
        hold: Hold,
    ) -> None:
        self._worklist = worklist
        self._storage = storage
        self._settings = settings
        self._child = child
        self._claimed = claimed
        self._job = claimed.job
        self._hold = hold
        self._taken = _Taken()
        self._device: str | None = None
        self._planner = SetPlanner(worklist, settings, claimed.job)
        self._announcer = Announcer(settings.notify, settings.node.ae_title)
        self._log = logger("analyse").bind(job=self._job.id, study=self._job.study_id)

    def run(self, device: str) -> None:
        """Take the job to its end, or leave it for another try."""
        self._device = device
        answer = self._analysed(device)
        match answer:
            case Lost():
                self.discard()
            case Died():
                self._after_death(answer)
            case messages.Analysed():
                self._finish_found(answer)
            case messages.Declined():
                reason = Reason(answer.code, answer.parameters)
                self._finish_without(JobState.DECLINED, self._with_pipeline(reason))
            case messages.Failed():
                self._after_failure(Reason(answer.code, answer.parameters))
            case _:
                self._after_failure(Reason("failed.crashed", {"signal": "an unexpected answer"}))

    def _analysed(self, device: str) -> BaseModel | Died | Lost:
        """Order the analysis; where memory runs out, in smaller parts, then on the CPU."""
        answer = self._order(self._analyse_order())
        for reduction, on_cpu in ((2, False), (2, True)):
            if not (isinstance(answer, messages.Failed) and answer.code == "failed.memory"):
                break
            if on_cpu and device == "cpu":
                break
            self._log.info("job_in_smaller_parts", reduction=reduction, on_cpu=on_cpu)
            self._device = "cpu" if on_cpu else device
            answer = self._order(self._analyse_order(reduction, on_cpu=on_cpu))
        return answer

    def _analyse_order(self, reduction: int = 1, *, on_cpu: bool = False) -> messages.Analyse:
        return messages.Analyse(
            pipeline=self._job.pipeline,
            settings=self._job.settings,
            key=self._job.key,
            series=self._source(),
            reduction=reduction,
            on_cpu=on_cpu,
        )

    def _source(self) -> tuple[tuple[messages.SourceFile, ...], ...]:
        with self._worklist.read() as tx:
            return tuple(
                tuple(
                    messages.SourceFile(
                        path=str(self._storage.kept(found.path)), digest=found.digest
                    )
                    for found in instances.of_ids(tx, ids)
                )
                for ids in self._job.inputs
            )

    def _order(self, order: BaseModel) -> BaseModel | Died | Lost:
        """Give the child one order and wait for its answer; progress goes to the row."""
        died = self._child.start()
        if died is not None:
            return died
        self._child.order(order)
        deadline = time.monotonic() + self._settings.analyse.time_limit_s
        for answer in self._child.answers(deadline):
            if self._hold.lost.is_set():
                self._child.cancel()
                return Lost()
            if isinstance(answer, messages.Progress):
                percent = round(100 * answer.fraction)
                self._hold.tell(Progress(stage=answer.stage, percent=percent, device=self._device))
            elif answer is not None:
                if isinstance(answer, BaseModel):
                    self._taken.add(answer)
                return answer
        return Died("SIGKILL", "crashed")

    def _finish_found(self, found: messages.Analysed) -> None:
        """Encode, check and end the job; once more where a predecessor moved meanwhile."""
        for _ in range(_MOST_ENCODINGS):
            planned = self._planner.plan()
            order = messages.Encode(
                key=self._job.key,
                finished_at_ms=self._claimed.claimed_at,
                zone=self._settings.node.zone,
                device_serial_number=self._worklist.node_id,
                sets=planned.sets,
                target=self._target(),
            )
            answer = self._order(order)
            match answer:
                case messages.Encoded():
                    if self._end(self._done(found, answer, planned)):
                        return
                case messages.Held():
                    self._finish_held(answer)
                    return
                case Lost():
                    self.discard()
                    return
                case Died():
                    self._after_death(answer)
                    return
                case messages.Failed():
                    self._after_failure(Reason(answer.code, answer.parameters))
                    return
            self.discard()
        self._after_failure(Reason("failed.error", {"stage": "encode"}))

    def _target(self) -> str:
        """Where the child writes this fence's results: names that only this claim can have."""
        first = self._storage.result(
            self._storage.result_name(self._job.id, self._claimed.fence, 1)
        )
        return str(first.with_name(f"{self._job.id}.{self._claimed.fence}.{{number}}.dcm"))

    def _done(
        self, found: messages.Analysed, encoded: messages.Encoded, planned: Planned
    ) -> JobEnd:
        series_id = self._job.series_id
        urgency = Urgency(found.urgency) if found.urgency else None
        code = "job.done" if found.finding_count or found.segment_count else "job.nothing_found"
        told: dict[str, str | int | float | None] = {
            "n": found.finding_count,
            "m": found.segment_count,
            "pipeline": self._job.pipeline,
            "duration_s": round(sum(self._taken.seconds.values()), 1),
        }
        return JobEnd(
            state=JobState.DONE,
            reason=Reason(code, told),
            results=self._rows(encoded),
            deliveries=planned.deliveries,
            facts={series_id: found.facts} if series_id is not None and found.facts else {},
            urgency=found.urgency,
            raise_to=priorities.after_finding(urgency),
            summary=found.summary,
            finding_count=found.finding_count,
            segment_count=found.segment_count,
            stage_times=self._taken.seconds,
            device=self._device,
            checks={"passed": encoded.check_count, "failed": 0},
        )

    def _rows(self, encoded: messages.Encoded) -> tuple[NewResult, ...]:
        started = time.monotonic()
        rows = []
        for written in encoded.objects:
            name = Path(written.path).name
            self._storage.make_result_durable(name)
            rows.append(
                NewResult(
                    kind=written.kind,
                    form=written.form,
                    number=written.number,
                    sop_class_uid=written.sop_class_uid,
                    sop_instance_uid=written.sop_instance_uid,
                    series_instance_uid=written.series_instance_uid,
                    path=name,
                    byte_count=written.byte_count,
                    digest=written.digest,
                    checks={"passed": encoded.check_count, "failed": 0},
                )
            )
        self._taken.since("store", started)
        return tuple(rows)

    def _finish_held(self, held: messages.Held) -> None:
        """The gate found something wrong: nothing is sent, and everybody sees what."""
        first = held.violations[0]
        for rule, where, text in held.violations[:20]:
            self._log.error("gate_violation", rule=rule, where=where, text=text)
        broken = len({rule for rule, _, _ in held.violations})
        self.discard()
        reason = Reason("failed.gate", {"n": broken, "m": held.check_count, "rule": first[0]})
        checks = {
            "passed": held.check_count - broken,
            "failed": broken,
            "violations": [list(violation) for violation in held.violations[:100]],
        }
        self._finish_without(JobState.FAILED, reason, checks)

    def _finish_without(
        self, state: JobState, reason: Reason, checks: Mapping[str, object] | None = None
    ) -> None:
        """End a job that has no findings to send; peers that ask for it get a status report."""
        plain = JobEnd(
            state=state,
            reason=reason,
            stage_times=self._taken.seconds,
            device=self._device,
            checks=checks,
        )
        for _ in range(_MOST_ENCODINGS):
            planned, written = self._status_report(reason)
            told = planned.deliveries if written else ()
            if self._end(replace(plain, results=written, deliveries=told)):
                return
            self.discard()
        # The job ends, report or not: its row must not stay at running.
        self._end(plain)

    def _status_report(self, reason: Reason) -> tuple[Planned, tuple[NewResult, ...]]:
        planned = self._planner.plan(is_status=True)
        if not planned.sets:
            return planned, ()
        order = messages.EncodeStatus(
            pipeline=self._job.pipeline,
            sentence=sentence(reason),
            series=self._source(),
            finished_at_ms=self._claimed.claimed_at,
            zone=self._settings.node.zone,
            device_serial_number=self._worklist.node_id,
            sets=planned.sets,
            target=self._target(),
        )
        answer = self._order(order)
        if isinstance(answer, messages.Encoded):
            return planned, self._rows(answer)
        self._log.error("status_report_failed", answer=type(answer).__name__)
        self.discard()
        return planned, ()

    def _after_failure(self, reason: Reason) -> None:
        """Decide by the reason whether the job is tried again."""
        reason = self._with_pipeline(reason)
        self.discard()
        now_ms = self._worklist.now()
        decided = retry.next_job_try(self._job.tries, reason, now_ms)
        if isinstance(decided, retry.GiveUp):
            self._finish_without(JobState.FAILED, decided.reason)
            return
        self._retry(decided.at_ms, reason)

    def _after_death(self, died: Died) -> None:
        """The child is gone: time and memory are failures of a try, a kill counts apart."""
        analyse = self._settings.analyse
        if died.cause == "time_limit":
            self._after_failure(Reason("failed.time_limit", {"limit_s": analyse.time_limit_s}))
            return
        if died.cause == "memory":
            self._after_failure(Reason("failed.memory", {"limit_bytes": analyse.memory}))
            return
        killed = died.signal == "SIGKILL"
        reason = Reason("failed.killed" if killed else "failed.crashed", {"signal": died.signal})
        self.discard()
        now_ms = self._worklist.now()
        decided = retry.next_after_loss(self._job.lost_leases + 1, now_ms, reason)
        if isinstance(decided, retry.GiveUp):
            self._finish_without(JobState.FAILED, decided.reason)
            return
        self._retry(decided.at_ms, reason, counts=False)

    def _retry(self, at_ms: int, reason: Reason, *, counts: bool = True) -> None:
        again = JobRetry(
            at_ms=at_ms,
            reason=reason,
            counts=counts,
            stage_times=self._taken.seconds,
            device=self._device,
        )
        now_ms = self._worklist.now()
        self._worklist.transact(
            lambda tx: work.retry_later(tx, self._job.id, self._claimed.fence, again, now_ms)
        )

    def _end(self, end: JobEnd) -> bool:
        """Write the end; False where it must be encoded again."""
        finished = self._worklist.transact(lambda tx: self._write_end(tx, end))
        for name in finished.unused_paths:
            self._storage.delete_result(name)
        if finished.kind is FinishedKind.ENDED:
            self._log.info("job_ended", state=end.state.value, reason=end.reason.code)
        return finished.kind is FinishedKind.ENDED

    def _write_end(self, tx: Connection, end: JobEnd) -> ends.Finished:
        now_ms = self._worklist.now()
        (before,) = studies.lock(tx, self._job.study_id)
        # Not held where this runs again after a commit whose answer was lost: all is told then.
        held = work.is_held(tx, self._job.id, self._claimed.fence)
        finished = ends.finish(tx, self._job.id, self._claimed.fence, end, now_ms)
        if held and finished.kind is FinishedKind.ENDED:
            notice = Notice(
                what=end.reason.code,
                at_ms=now_ms,
                reason=end.reason,
                study_id=self._job.study_id,
                job_id=self._job.id,
                pipeline=self._job.pipeline,
                version=self._job.version,
            )
            self._announcer.ended(tx, notice, end.state, before.outcome)
        return finished

    def discard(self) -> None:
        """Delete what was written under this fence, but for what a row names already."""
        prefix = f"{self._job.id}.{self._claimed.fence}."
        try:
            names = [
                found.name
                for found in self._storage.result_names()
                if found.name.startswith(prefix)
            ]
            with self._worklist.read() as tx:
                known = results.known_paths(tx, names)
            for name in names:
                if name not in known:
                    self._storage.delete_result(name)
        except StorageError as fault:
            # `sweep` deletes what no row names.
            self._log.warning("results_left", cause=str(fault))

    def _with_pipeline(self, reason: Reason) -> Reason:
        return Reason(reason.code, {"pipeline": self._job.pipeline, **reason.parameters})
