"""A whole node as an admin starts it: ``dicomnode serve`` as a process, on a port of its own.

Its processes are found by their rows, killed, and waited for with a bound.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from dicomnode.errors import WorklistError
from dicomnode.rules.reasons import Reason, sentence
from dicomnode.rules.states import FINAL_JOB_STATES, DeliveryState, JobState, StudyState
from dicomnode.storage import Storage
from dicomnode.worklist import Worklist, deliveries, jobs, pipelines, processes, schema, studies
from dicomnode.worklist.deliveries import Delivery
from dicomnode.worklist.jobs import Job
from dicomnode.worklist.studies import Study
from tests.dcmtk import free_port, listens, wait_for

REPOSITORY = Path(__file__).resolve().parents[1]
TOYS = REPOSITORY / "tests" / "toy_pipelines"
KINDS = ("receive", "dispatch", "work", "deliver")
REAL_PIPELINES = ("lung-nodule", "organ-segmentation", "chest-triage")
# Of a machine that does other things meanwhile.
START_S = 120.0
_END_S = 60.0
_DELIVERED = (DeliveryState.SENT, DeliveryState.CONFIRMED)
_SETTLED = (*_DELIVERED, DeliveryState.FAILED, DeliveryState.WITHDRAWN)

Sections = Mapping[str, Any]


class Node:
    """One node below a folder.

    Parameters
    ----------
    folder
        Where its configuration, database and files are.
    sections
        What its TOML has beside the tests' own, as nested tables.
    url
        Address of its database; by default SQLite in the folder.
    """

    def __init__(self, folder: Path, sections: Sections, url: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.url = url or f"sqlite:///{folder / 'worklist.db'}"
        self.gate = folder / "gate"
        self.log = folder / "node.log"
        self.sections = sections
        self._process: subprocess.Popen[bytes] | None = None
        self._worklist: Worklist | None = None

    @property
    def worklist(self) -> Worklist:
        """The node's worklist, opened here."""
        if self._worklist is None:
            self._worklist = Worklist.open(self.url)
        return self._worklist

    @property
    def storage(self) -> Storage:
        """The node's storage folder, opened here."""
        return Storage.open(self.folder / "storage", self.worklist.node_id, adopt_empty=False)

    @property
    def configuration(self) -> Path:
        """The TOML file."""
        return self.folder / "dicomnode.toml"

    def configure(self, sections: Sections) -> None:
        """Write the configuration with these tables beside the tests' own."""
        self.sections = sections
        own: Sections = {
            "node": {"storage": "storage"},
            "listen": {"host": "127.0.0.1", "port": self.port},
            "complete": {"quiet": "1s"},
            "retention": {"free": "0%"},
            "worklist": {"url": self.url},
            "analyse": {"devices": ["cpu"], "lease": "3s", "threads": 1},
            "log": {"format": "text"},
            "peers": {
                "scanner": {"ae_title": "SCANNER", "receives_from": True},
                "other": {"ae_title": "OTHER", "receives_from": True},
            },
            "pipelines": {name: {"enabled": False} for name in REAL_PIPELINES},
        }
        self.configuration.write_text(as_toml(_merged(own, sections)), encoding="utf-8")

    def start(self) -> None:
        """Start it; `wait_up` says when it works."""
        self.configure(self.sections)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dicomnode", "serve", "--config", str(self.configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,
            )

    def _environment(self) -> Mapping[str, str]:
        path = os.pathsep.join((str(TOYS), str(REPOSITORY)))
        mine = {"PYTHONPATH": path, "TOY_GATE": str(self.gate), "OMP_NUM_THREADS": "1"}
        return {**os.environ, **mine}

    def wait_up(self, *kinds: str) -> None:
        """Wait until processes of these kinds (all by default) do their work."""
        for kind in kinds or KINDS:
            self.wait(lambda kind=kind: self._is_up(kind), START_S, f"{kind} being up")

    def _is_up(self, kind: str) -> bool:
        if self._process is not None and self._process.poll() is not None:
            pytest.fail(f"serve ended with status {self._process.returncode}:\n{self.last_lines()}")
        try:
            row = self.row(kind)
            if row is None:
                return False
            if kind == "receive":
                return listens(self.port)
            if kind == "work":
                with self.worklist.read() as tx:
                    described = [one.described_at for one in pipelines.all_of(tx)]
                return bool(described) and max(described) >= row.started_at
        except WorklistError:
            return False
        return True

    def row(self, kind: str) -> processes.Process | None:
        """Row of the process of a kind that lives now."""
        with self.worklist.read() as tx:
            found = processes.alive(tx, 0, kind)
        living = [one for one in found if is_alive(one.pid)]
        return living[-1] if living else None

    def pid(self, kind: str) -> int:
        """Process id of a kind; waits until there is one.

        ``child`` is the process in which pipelines run, ``serve`` the one that watches the others.
        """
        if kind == "serve":
            assert self._process is not None
            return self._process.pid
        if kind == "child":
            self.wait(lambda: children(self.pid("work")), START_S, "the analysing child")
            return children(self.pid("work"))[0]
        found: list[int] = []

        def is_there() -> bool:
            # Looked at once: it may be gone at the next look.
            row = self.row(kind)
            found[:] = [] if row is None else [row.pid]
            return bool(found)

        self.wait(is_there, START_S, f"a row of {kind}")
        return found[0]

    def has_child(self) -> bool:
        """Whether the analysing process lives."""
        row = self.row("work")
        return row is not None and bool(children(row.pid))

    def kill(self, kind: str) -> None:
        """``kill -9`` a process and wait until it is gone; of ``serve`` the whole node."""
        pid = self.pid(kind)
        if kind != "serve":
            self._kill(pid)
            return
        others = [self.row(one) for one in KINDS]
        self._kill(pid)
        assert self._process is not None
        self._process.wait(timeout=10)
        self._process = None
        for other in others:
            if other is not None:
                wait_for(lambda pid=other.pid: not is_alive(pid), what=f"the end of {other.kind}")

    def _kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        if self._process is None or pid != self._process.pid:
            wait_for(lambda: not is_alive(pid), what=f"the end of process {pid}")

    @contextmanager
    def frozen(self, kind: str) -> Iterator[int]:
        """Hold a process still, in no transaction; gives its id. It may be killed meanwhile."""
        pid = self.pid(kind)
        self.wait(lambda: self._is_frozen(pid), START_S, f"{kind} standing still")
        try:
            yield pid
        finally:
            if is_alive(pid):
                os.kill(pid, signal.SIGCONT)

    def _is_frozen(self, pid: int) -> bool:
        """Hold a process still, unless it holds the database's lock: nobody could write then."""
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: state_of(pid) == "T", what=f"process {pid} standing still")
        if self._may_write():
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    def _may_write(self) -> bool:
        if not self.worklist.is_sqlite:
            return True
        file = self.url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(file, timeout=1.0, isolation_level=None)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return False
        return True

    def ensure_running(self) -> None:
        """Start it again after `kill` of ``serve``."""
        if self._process is None or self._process.poll() is not None:
            self.start()

    def reload(self) -> None:
        """Have it read its configuration again."""
        os.kill(self.pid("serve"), signal.SIGHUP)

    def stop(self) -> int:
        """Drain it as systemd does; gives the exit status."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._process.wait(timeout=_END_S)
        finally:
            self.destroy()

    def destroy(self) -> None:
        """End everything at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(timeout=10)
        self._process = None
        if self._worklist is not None:
            self._worklist.close()
            self._worklist = None

    def wait(
        self, condition: Callable[[], object], timeout_s: float = 60.0, what: str = "the condition"
    ) -> None:
        """Wait with a bound; what the node said last is told when it passes."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"{what} did not come true in {timeout_s:g} s\n{self.last_lines()}")
            time.sleep(0.05)

    def last_lines(self, count: int = 40) -> str:
        """End of the node's log."""
        if not self.log.is_file():
            return "no log"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])

    def study(self, study_instance_uid: str) -> Study | None:
        """Row of a study."""
        with self.worklist.read() as tx:
            return studies.find(tx, study_instance_uid)

    def jobs(self, study_instance_uid: str) -> list[Job]:
        """Jobs of a study, the oldest first."""
        with self.worklist.read() as tx:
            study = studies.find(tx, study_instance_uid)
            return [] if study is None else jobs.of_study(tx, study.id)

    def deliveries(self, study_instance_uid: str) -> list[Delivery]:
        """Deliveries of a study, the oldest first."""
        with self.worklist.read() as tx:
            study = studies.find(tx, study_instance_uid)
            return [] if study is None else deliveries.of_study(tx, study.id)

    def is_settled(self, study_instance_uid: str) -> bool:
        """Whether everything about a study has ended, but for confirmations."""
        study = self.study(study_instance_uid)
        if study is None or study.state is not StudyState.COMPLETE:
            return False
        if study.routed_generation < study.generation:
            return False
        return all(job.state in FINAL_JOB_STATES for job in self.jobs(study_instance_uid)) and all(
            one.state in _SETTLED for one in self.deliveries(study_instance_uid)
        )

    def wait_settled(self, study_instance_uid: str, timeout_s: float = 90.0) -> None:
        """Wait until everything about a study has ended."""
        what = f"the end of everything of study {study_instance_uid}"
        self.wait(lambda: self.is_settled(study_instance_uid), timeout_s, what)

    def wait_job(self, study_instance_uid: str, *states: JobState) -> Job:
        """Wait until the newest job of a study is in one of some states."""

        def newest() -> Job | None:
            found = self.jobs(study_instance_uid)
            return found[-1] if found and found[-1].state in states else None

        self.wait(newest, 60.0, f"a job that is {' or '.join(states)}")
        return self.jobs(study_instance_uid)[-1]

    def let_time_pass(self, job_id: int) -> None:
        """Make a job due that waits for its next try, and that try its last."""
        with self.worklist.write() as tx:
            mine = schema.jobs.c.id == job_id
            tx.execute(update(schema.jobs).where(mine).values(due_at=0, tries=2))

    def words(self, reason: Reason | None) -> str:
        """What an admin reads."""
        assert reason is not None
        return sentence(reason, self.worklist.now())


@contextmanager
def running_node(node: Node, sections: Sections) -> Iterator[Node]:
    """Run a node for as long as the block runs; all of it is up."""
    node.sections = sections
    try:
        node.start()
        node.wait_up()
        yield node
    finally:
        node.destroy()


def is_alive(pid: int) -> bool:
    """Whether a process lives; one that only waits to be buried does not."""
    return state_of(pid) not in "ZX"


def state_of(pid: int) -> str:
    """State of a process as proc(5) has it, X where there is none."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return "X"
    return status.rpartition(")")[2].split()[0]


def children(pid: int) -> list[int]:
    """Living children of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text(encoding="ascii").split())
        except OSError:
            continue
    return [one for one in found if is_alive(one)]


def as_toml(sections: Sections, path: tuple[str, ...] = ()) -> str:
    """Write nested tables as TOML; texts, numbers, booleans and lists are those of JSON."""
    values = {key: one for key, one in sections.items() if not isinstance(one, Mapping)}
    lines = [f"[{'.'.join(path)}]"] if path and values else []
    lines += [f"{key} = {json.dumps(one)}" for key, one in values.items()]
    text = "".join(f"{line}\n" for line in lines)
    tables = ((key, one) for key, one in sections.items() if isinstance(one, Mapping))
    return text + "".join(as_toml(one, (*path, key)) for key, one in tables)


def _merged(first: Sections, second: Sections) -> Sections:
    merged = dict(first)
    for key, value in second.items():
        before = merged.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(before, value) if both else value  # type: ignore[arg-type]
    return merged
