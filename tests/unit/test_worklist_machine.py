"""Any order of what workers, admins and clocks do to the jobs of one line keeps its promises."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import select

from dicomnode.errors import LeaseLostError
from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import (
    MOVES,
    OPEN_JOB_STATES,
    JobState,
    Outcome,
)
from dicomnode.worklist import jobs, schema, studies, work
from dicomnode.worklist.claims import Lease
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.ends import JobEnd
from dicomnode.worklist.events import Act
from tests.postgres import Clock
from tests.worklist_data import LEASE_MS, done, finish, new_job, whole_study

JOBS = st.integers(min_value=0, max_value=5)


class Line(RuleBasedStateMachine):
    """Jobs of one line, two workers that never forget what they once claimed."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.worklist = Worklist.open(
            f"sqlite:///{Path(self.folder.name) / 'w.db'}", now=self.clock
        )
        self.worklist.upgrade()
        self.claimed: list[work.ClaimedJob] = []
        self.before: dict[int, tuple[str, int]] = {}

    def teardown(self) -> None:
        self.worklist.close()
        self.folder.cleanup()

    @initialize()
    def study(self) -> None:
        self.study_id = whole_study(self.worklist)

    def act(self) -> Act:
        return Act(now_ms=self.clock(), actor="anna")

    def job(self, number: int) -> int | None:
        with self.worklist.read() as tx:
            known = jobs.of_study(tx, self.study_id)
        return known[number % len(known)].id if known else None

    @rule(version=st.sampled_from(["1", "2", "3"]))
    def plan(self, version: str) -> None:
        with self.worklist.write() as tx:
            planned = new_job(tx, self.study_id)
            parts = dataclasses.replace(planned.parts, version=version)
            jobs.create(tx, dataclasses.replace(planned, parts=parts), self.act())

    @rule(owner=st.sampled_from(["w1", "w2"]))
    def claim(self, owner: str) -> None:
        lease = Lease(owner=owner, now_ms=self.clock(), lease_ms=LEASE_MS)
        with self.worklist.write() as tx:
            found = work.claim(tx, lease)
        if found is not None:
            self.claimed.append(found)

    @rule(number=JOBS, end=st.sampled_from(["done", "declined", "failed", "again", "release"]))
    def end(self, number: int, end: str) -> None:
        if not self.claimed:
            return
        one = self.claimed[number % len(self.claimed)]
        with self.worklist.read() as tx:
            found = jobs.get(tx, one.job.id)
            mine = work.is_held(tx, one.job.id, one.fence)
        assert found is not None
        repeated = found.fence == one.fence and found.state == end
        try:
            self.end_one(one, end)
        except LeaseLostError:
            assert not mine
        else:
            assert mine or repeated

    def end_one(self, one: work.ClaimedJob, end: str) -> None:
        if end == "done":
            finish(self.worklist, one, done(one))
        elif end in {"declined", "failed"}:
            reason = Reason("declined.gap" if end == "declined" else "failed.error")
            finish(self.worklist, one, JobEnd(state=JobState(end), reason=reason))
        else:
            with self.worklist.write() as tx:
                if end == "release":
                    work.release(tx, one.job.id, one.fence, self.clock())
                else:
                    again = work.JobRetry(
                        at_ms=self.clock() + 30_000, reason=Reason("job.retry_later")
                    )
                    work.retry_later(tx, one.job.id, one.fence, again, self.clock())

    @rule(number=JOBS, action=st.sampled_from([jobs.cancel, jobs.retry, jobs.reprocess]))
    def by_hand(self, number: int, action: Any) -> None:
        job_id = self.job(number)
        if job_id is not None:
            with self.worklist.write() as tx:
                action(tx, job_id, self.act())

    @rule(seconds=st.sampled_from([1, 11, 31, -3600]))
    def time_passes(self, seconds: int) -> None:
        self.clock.move(seconds)

    @rule()
    def tend(self) -> None:
        with self.worklist.write() as tx:
            work.tend(tx, self.clock())

    @invariant()
    def promises_hold(self) -> None:
        if not hasattr(self, "study_id"):
            return
        with self.worklist.read() as tx:
            known = jobs.of_study(tx, self.study_id)
            study = studies.get(tx, self.study_id)
            made = tx.execute(select(schema.results.c.job_id, schema.results.c.path)).all()
        assert study is not None
        standing = [job for job in known if job.state is not JobState.SUPERSEDED]
        assert len(standing) <= 1
        assert sum(job.is_current for job in known) <= 1
        for job in known:
            self.moved_as_allowed(job)
            assert (job.lease_owner is not None) is (job.state is JobState.RUNNING)
            assert job.tries >= 0
        assert len({path for _, path in made}) == len(made)
        is_open = any(job.state in OPEN_JOB_STATES for job in known)
        assert is_open is (study.outcome in {Outcome.WAITING, Outcome.IN_PROGRESS})
        failed = any(job.state is JobState.FAILED for job in standing)
        assert failed is (study.outcome is Outcome.NEEDS_ATTENTION)

    def moved_as_allowed(self, job: jobs.Job) -> None:
        state, fence = self.before.get(job.id, (job.state, job.fence))
        assert job.fence >= fence
        reached = {JobState(state)}
        # One rule may make two moves: a lease that ran out is freed and queued by one tick.
        for _ in range(2):
            reached |= {JobState(after) for old in reached for after in MOVES[JobState][old]}
        assert job.state in reached
        self.before[job.id] = (job.state, job.fence)


TestLine = Line.TestCase
TestLine.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
