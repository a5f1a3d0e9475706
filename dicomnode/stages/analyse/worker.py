"""The stage ``analyse``: claims jobs and pending revisions, and has the child work on them."""

from __future__ import annotations

import os
import threading
import time

from dicomnode.config import Settings
from dicomnode.errors import LeaseLostError, PipelineError
from dicomnode.stages.analyse import messages
from dicomnode.stages.analyse.child_process import ChildProcess, Died, Limits
from dicomnode.stages.analyse.hold import Hold
from dicomnode.stages.analyse.job_run import JobRun
from dicomnode.stages.loop import run_steps
from dicomnode.stages.notices import Announcer
from dicomnode.storage import Storage
from dicomnode.telemetry import logger
from dicomnode.worklist import Worklist, pipelines, revisions, work
from dicomnode.worklist.events import Act
from dicomnode.worklist.revisions import Pending, SettledKind
from dicomnode.worklist.signals import Channel
from dicomnode.worklist.work import ClaimedJob

_WAIT_S = 2.0
_DESCRIBE_LIMIT_S = 180.0
_COMPARE_LIMIT_S = 300.0


class Worker:
    """One device's worker: one job computing in one child.

    Parameters
    ----------
    device
        ``cpu`` or ``cuda:N``.
    owner
        Name under which it claims.
    workers
        How many workers share this machine's cores.
    """

    def __init__(
        self,
        worklist: Worklist,
        storage: Storage,
        settings: Settings,
        *,
        device: str,
        owner: str,
        workers: int = 1,
    ) -> None:
        self._worklist = worklist
        self._storage = storage
        self._settings = settings
        self._device = device
        self._owner = owner
        analyse = settings.analyse
        # Two computing children with all threads each slow each other six-fold (measured).
        threads = analyse.threads or max(1, (os.cpu_count() or 1) // workers)
        limits = Limits(analyse.memory, analyse.time_limit_s, threads)
        self._child = ChildProcess(device, limits)
        self._announcer = Announcer(settings.notify, settings.node.ae_title)
        self._holding: Hold | None = None
        self._stopping = threading.Event()
        self._log = logger("analyse")

    def describe(self) -> None:
        """Have the child describe the installed pipelines and keep that as rows.

        Raises
        ------
        PipelineError
            When the child cannot even do that.
        """
        given = {name: rules.settings for name, rules in self._settings.pipelines.items()}
        answer = self._ask(messages.Describe(settings=given), _DESCRIBE_LIMIT_S)
        if not isinstance(answer, messages.Described):
            raise PipelineError(f"the installed pipelines could not be described: {answer}")
        found = [pipelines.Description(**one.model_dump()) for one in answer.pipelines]
        now_ms = self._worklist.now()
        self._worklist.transact(lambda tx: pipelines.describe(tx, found, now_ms))
        for one in found:
            if one.broken:
                self._log.error("pipeline_broken", pipeline=one.name, cause=one.broken)

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; a job that runs then is finished first unless `abandon`."""
        self.describe()
        channels = (Channel.JOBS, Channel.PENDING, Channel.SWITCHES)
        run_steps(self.step, lambda: self._worklist.wait(_WAIT_S, *channels), stop, self._log)
        self._child.stop()

    def abandon(self) -> None:
        """Give the running job back as it was, soon; safe in a signal handler's thread."""
        self._stopping.set()
        if self._holding is not None:
            self._holding.lost.set()

    def step(self) -> bool:
        """Settle one pending revision or carry one job to its end; tell whether there was one."""
        if self._stopping.is_set():
            return False
        with self._worklist.read() as tx:
            pending = revisions.next_pending(tx)
        if pending is not None:
            self._settle(pending)
            return True
        claimed = work.claim_next(
            self._worklist,
            owner=self._owner,
            lease_ms=round(self._settings.analyse.lease_s * 1000),
            tell=self._announcer.parked,
        )
        if claimed is None:
            return False
        self._carry_out(claimed)
        return True

    def _carry_out(self, claimed: ClaimedJob) -> None:
        lease_ms = round(self._settings.analyse.lease_s * 1000)
        with Hold(self._worklist, claimed, lease_ms) as hold:
            self._holding = hold
            if self._stopping.is_set():
                hold.lost.set()
            run = JobRun(self._worklist, self._storage, self._settings, self._child, claimed, hold)
            try:
                run.run(self._device)
            except LeaseLostError:
                run.discard()
                self._log.info("job_lost", job=claimed.job.id)
            finally:
                self._holding = None
        if self._stopping.is_set():
            self._give_back(claimed)

    def _give_back(self, claimed: ClaimedJob) -> None:
        now_ms = self._worklist.now()
        try:
            self._worklist.transact(
                lambda tx: work.release(tx, claimed.job.id, claimed.fence, now_ms)
            )
        except LeaseLostError:
            # It ended, or is another's already.
            return
        self._log.info("job_given_back", job=claimed.job.id)

    def _settle(self, pending: Pending) -> None:
        """Compare an arrival under a known number with what counts now; unreadable is other."""
        order = messages.Compare(
            first=str(self._storage.kept(pending.current.path)),
            second=str(self._storage.kept(pending.arrival.path)),
        )
        answer = self._ask(order, _COMPARE_LIMIT_S)
        equal = isinstance(answer, messages.Compared) and answer.equal
        act = Act(now_ms=self._worklist.now())
        settled = self._worklist.transact(
            lambda tx: revisions.settle_pending(
                tx, pending.arrival.id, equal=equal, compared_with=pending.current.id, act=act
            )
        )
        if settled.kind is SettledKind.EQUAL and settled.delete_path:
            self._storage.delete_kept(settled.delete_path)

    def _ask(self, order: messages.Describe | messages.Compare, limit_s: float) -> object:
        """Give the child one order outside a job; `Died` where it did not live to answer."""
        died = self._child.start()
        if died is not None:
            return died
        self._child.order(order)
        for answer in self._child.answers(time.monotonic() + limit_s):
            if answer is not None and not isinstance(answer, messages.Progress):
                return answer
        return Died("SIGKILL", "crashed")
