"""`serve` keeps its processes up, also while the database is away and for however long."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dicomnode.config import load
from dicomnode.errors import DatabaseUnavailableError
from dicomnode.serve import supervisor as serve
from dicomnode.serve.arrears import Arrears
from dicomnode.serve.presence import present
from dicomnode.serve.supervisor import Role, Supervisor, back_off_s
from dicomnode.worklist import Worklist, events, processes
from dicomnode.worklist.processes import NewProcess
from tests.dcmtk import wait_for
from tests.postgres import Clock

# A process of ours that ends at once.
ENDS = Role("ends", ("--help",))


class Outage(Clock):
    """The database's clock, which does not answer while the database is away."""

    away = False
    refused = 0

    def __call__(self) -> int:
        if self.away:
            self.refused += 1
            raise DatabaseUnavailableError("The database does not answer.")
        return super().__call__()


@pytest.fixture
def clock() -> Outage:
    return Outage()


@pytest.fixture
def supervisor(worklist: Worklist, tmp_path: Path) -> Supervisor:
    path = tmp_path / "dicomnode.toml"
    path.write_text("[node]\nstorage = 'storage'\n", encoding="utf-8")
    return Supervisor(path, load(path), worklist)


def told(worklist: Worklist, code: str) -> int:
    with worklist.read() as tx:
        return sum(event.what == code for event in events.after(tx, 0))


def test_a_process_that_always_dies_is_started_again_at_most_every_half_minute() -> None:
    assert [back_off_s(n) for n in range(8)] == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert back_off_s(10**6) == 30.0


def test_a_process_that_dies_while_the_database_is_away_ends_no_node(
    supervisor: Supervisor, worklist: Worklist, clock: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "roles_of", lambda _settings: (ENDS,))
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    wait_for(lambda: told(worklist, "node.process_down") > 0, timeout_s=60)
    clock.away = True
    wait_for(lambda: clock.refused > 0, timeout_s=60)
    assert thread.is_alive()
    before = told(worklist, "node.process_down")
    clock.away = False
    wait_for(lambda: told(worklist, "node.process_down") > before, timeout_s=60)
    supervisor.stop()
    thread.join(timeout=60)
    assert not thread.is_alive()


def test_what_is_owed_is_written_once_in_its_order_and_with_its_time(
    worklist: Worklist, clock: Outage
) -> None:
    written: list[tuple[str, int]] = []
    arrears = Arrears(worklist)
    clock.away = True
    arrears.add(lambda _tx, at_ms: written.append(("first", at_ms)))
    arrears.add(lambda _tx, at_ms: written.append(("second", at_ms)))
    arrears.settle(is_last=True)
    assert (written, len(arrears)) == ([], 2)
    clock.away = False
    clock.move(3600)
    arrears.settle(is_last=True)
    assert [name for name, _ in written] == ["first", "second"]
    assert all(0 <= clock.now_ms - at_ms < 60_000 for _, at_ms in written)
    arrears.settle(is_last=True)
    assert len(written) == 2


def test_a_role_that_a_reload_took_away_while_it_waited_is_not_started_once_more(
    supervisor: Supervisor,
) -> None:
    kept = serve._Kept(ENDS, wanted=False)
    supervisor._kept = {ENDS.name: kept}
    supervisor._look()
    assert (supervisor._kept, kept.process) == ({}, None)


def test_a_reload_that_cannot_be_written_changes_nothing(
    supervisor: Supervisor, worklist: Worklist, tmp_path: Path
) -> None:
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage" / "run").write_text("in the way", encoding="utf-8")
    supervisor.reload()
    supervisor._look()
    assert told(worklist, "node.reload_refused") == 1
    assert supervisor._kept == {}


def test_what_an_earlier_run_left_is_freed_whoever_buries_its_processes(
    supervisor: Supervisor, worklist: Worklist, clock: Outage
) -> None:
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        wait_for(lambda: " Z " in Path(f"/proc/{zombie.pid}/stat").read_text(encoding="ascii"))
        for pid in (zombie.pid, os.getpid(), living.pid):
            host = socket.gethostname()[:64]
            new = NewProcess(kind="deliver", name="deliver", host=host, pid=pid, version="1")
            with worklist.write() as tx:
                processes.register(tx, new, clock.now_ms)
        supervisor._bury_the_dead()
        with worklist.read() as tx:
            assert [one.pid for one in processes.alive(tx, 0)] == [living.pid]
    finally:
        living.communicate()
        zombie.wait()


def test_a_process_that_beats_again_after_a_long_silence_lives(
    worklist: Worklist, clock: Outage
) -> None:
    new = NewProcess(kind="work", name="work:cpu", host="h", pid=7, version="1")
    with worklist.write() as tx:
        number = processes.register(tx, new, clock.now_ms)
        assert processes.end(tx, number, clock.move(61))
        assert processes.of_host(tx, "h") == []
        assert processes.heartbeat(tx, number, clock.move(5))
        assert [one.id for one in processes.alive(tx, clock.now_ms)] == [number]
        assert [one.id for one in processes.of_host(tx, "h")] == [number]


def test_a_process_that_ended_by_itself_stays_ended_also_where_that_cannot_be_written(
    worklist: Worklist, clock: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicomnode.serve.presence._BEAT_S", 0.01)
    with present(worklist, "work", "work:cpu") as presence:
        wait_for(lambda: bool(_alive(worklist, clock)))
        clock.move(5)
        wait_for(lambda: bool(_alive(worklist, clock)))
    assert _alive(worklist, clock) == []
    assert not presence._thread.is_alive()
    monkeypatch.setattr("dicomnode.serve.presence._END_PATIENCE_S", 0.1)
    with present(worklist, "work", "work:cpu"):
        clock.away = True
    clock.away = False
    assert len(_alive(worklist, clock)) == 1, "left to be found silent"


def _alive(worklist: Worklist, clock: Clock) -> list[int]:
    with worklist.read() as tx:
        return [one.id for one in processes.alive(tx, clock.now_ms)]
