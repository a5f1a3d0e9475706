"""What each process of a node does between its start and its end; also run alone, by command.

SIGTERM and SIGINT stop it: what is under way is finished where that takes seconds, else given
back. SIGHUP lets the receiver read its settings again, and every other process end once its unit
of work is done, so that `serve` starts it with the new settings.
"""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicomnode.config import Settings, load
from dicomnode.errors import ConfigurationError
from dicomnode.serve.opening import open_storage, open_worklist
from dicomnode.serve.presence import Presence, present
from dicomnode.stages.analyse.worker import Worker
from dicomnode.stages.complete import Complete
from dicomnode.stages.deliver import Deliver
from dicomnode.stages.kernel import die_with_parent
from dicomnode.stages.notify import Notify
from dicomnode.stages.receive.dimse import Receiver
from dicomnode.stages.receive.listening import ReceiverSettings
from dicomnode.stages.route import Route
from dicomnode.stages.sweep import Sweep
from dicomnode.storage import Storage
from dicomnode.telemetry import configure_logging, logger
from dicomnode.worklist import Worklist


@dataclass(frozen=True, slots=True)
class Launch:
    """How a process was started: the file, what relative paths in it start at, and by whom."""

    config: Path
    anchor: Path | None = None
    parent_pid: int | None = None

    def settings(self) -> Settings:
        """Read and check the configuration; raises ConfigurationError."""
        return load(self.config, self.anchor)


@dataclass(frozen=True, slots=True)
class Running:
    """One process at work: its settings, its doors to rows and files, and how it is stopped."""

    launch: Launch
    settings: Settings
    worklist: Worklist
    storage: Storage
    presence: Presence
    stop: threading.Event


def receive(launch: Launch) -> None:
    """Take in what peers send, until stopped."""
    # Each association holds a socket and a file: take all descriptors that the system allows.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with _running(launch, "receive", "receive") as running:
        receiver = Receiver(
            running.worklist,
            running.storage,
            ReceiverSettings.of(running.settings),
            process_id=running.presence.row_id,
        )
        _on_hangup(lambda: _reload(receiver, launch))
        receiver.run(running.stop)


def dispatch(launch: Launch) -> None:
    """Complete, route, notify and sweep, until stopped."""
    with _running(launch, "dispatch", "dispatch") as running:
        _on_hangup(running.stop.set)
        worklist, settings = running.worklist, running.settings
        _run_together(
            running,
            Complete(worklist, settings).run,
            Route(worklist, settings).run,
            Notify(worklist, settings, running.presence.owner).run,
            Sweep(worklist, running.storage, settings).run,
        )


def work(launch: Launch, device: str, workers: int = 1) -> None:
    """Run pipelines on one device, until stopped."""
    with _running(launch, "work", f"work:{device}", device) as running:
        worker = Worker(
            running.worklist,
            running.storage,
            running.settings,
            device=device,
            owner=running.presence.owner,
            workers=workers,
        )
        done = threading.Event()

        def abandon() -> None:
            # A running job may take minutes: it is given back, not waited for.
            running.stop.wait()
            if not finishing.is_set() and not done.is_set():
                worker.abandon()

        finishing = threading.Event()

        def finish() -> None:
            finishing.set()
            running.stop.set()

        _on_hangup(finish)
        threading.Thread(target=abandon, name="abandon", daemon=True).start()
        worker.run(running.stop)
        done.set()


def deliver(launch: Launch) -> None:
    """Send results to peers, until stopped."""
    with _running(launch, "deliver", "deliver") as running:
        _on_hangup(running.stop.set)
        stage = Deliver(running.worklist, running.storage, running.settings, running.presence.owner)
        stage.run(running.stop)


@contextmanager
def _running(launch: Launch, kind: str, name: str, device: str | None = None) -> Iterator[Running]:
    """Open what a process needs, register it, and close all in the end."""
    if launch.parent_pid is not None:
        die_with_parent(launch.parent_pid)
    settings = launch.settings()
    configure_logging(name, as_json=settings.log.format == "json", level=settings.log.level)
    stop = threading.Event()
    with open_worklist(settings) as worklist:
        _on_stop(stop, worklist)
        storage = open_storage(settings, worklist)
        with present(worklist, kind, name, device) as presence:
            logger("serve").info("process_running", pid=os.getpid())
            yield Running(launch, settings, worklist, storage, presence, stop)
    logger("serve").info("process_ended", pid=os.getpid())


def _on_stop(stop: threading.Event, worklist: Worklist) -> None:
    def heard(_number: int, _frame: object) -> None:
        stop.set()
        # A thread of its own: a handler may interrupt whoever holds the bell's lock.
        threading.Thread(target=worklist.ring, name="ring", daemon=True).start()

    signal.signal(signal.SIGTERM, heard)
    signal.signal(signal.SIGINT, heard)


def _on_hangup(act: Callable[[], None]) -> None:
    signal.signal(
        signal.SIGHUP,
        lambda _number, _frame: threading.Thread(target=act, name="hangup", daemon=True).start(),
    )


def _reload(receiver: Receiver, launch: Launch) -> None:
    """Give the receiver its settings anew; a fault in them changes nothing."""
    try:
        receiver.reload(ReceiverSettings.of(launch.settings()))
    except ConfigurationError as fault:
        logger("receive").error("reload_refused", faults=list(fault.faults))
        return
    logger("receive").info("reload_done")


def _run_together(running: Running, *stages: Callable[[threading.Event], None]) -> None:
    """Run stages in threads; one that ends by a fault ends the process, which `serve` restarts."""
    failed = threading.Event()
    log = logger("serve")

    def run(stage: Callable[[threading.Event], None]) -> None:
        try:
            stage(running.stop)
        except Exception:
            log.exception("stage_died")
            failed.set()
            running.stop.set()

    threads = [threading.Thread(target=run, args=(stage,)) for stage in stages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed.is_set():
        raise SystemExit(1)
