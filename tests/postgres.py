"""A PostgreSQL cluster of the tests' own, and a worklist on either engine.

The cluster is made once per session in a temporary folder and answers on a Unix socket only. Each
test gets a database of its own, copied from one that was upgraded once.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from dicomnode.worklist.database import Worklist

_PORT = 54329
_START_S = 60


class Clock:
    """A clock that a test moves; epoch ms."""

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def move(self, seconds: float) -> int:
        """Let time pass and give the new one."""
        self.now_ms += round(seconds * 1000)
        return self.now_ms


@dataclass(frozen=True)
class Cluster:
    """A running cluster; ``url`` gives the address of one of its databases."""

    folder: Path
    programs: Path

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}&port={_PORT}"

    def admin(self, statement: str) -> None:
        """Run a statement outside of any transaction, such as CREATE DATABASE."""
        address = f"host={self.folder} port={_PORT} user=postgres dbname=postgres"
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(statement)

    def create(self, template: str = "template1") -> str:
        """Make a database and give its name."""
        name = f"t{uuid.uuid4().hex}"
        self.admin(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        self.admin(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def run(self, program: str, *arguments: str) -> None:
        """Run a program of PostgreSQL as the user that owns the cluster."""
        command = [str(self.programs / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder)

    def restart(self, mode: str = "fast") -> None:
        """Stop the cluster in a mode of pg_ctl and start it again."""
        data = str(self.folder / "data")
        self.run("pg_ctl", "-D", data, "-w", "-m", mode, "stop")
        self.start()

    def start(self) -> None:
        data, log = str(self.folder / "data"), str(self.folder / "log")
        options = f"-c listen_addresses='' -k {self.folder} -p {_PORT} -c max_connections=200"
        arguments = ("-D", data, "-l", log, "-w", "-t", str(_START_S), "-o", options, "start")
        self.run("pg_ctl", *arguments)


def _programs() -> Path | None:
    """Give the folder of the newest PostgreSQL that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return None if on_path is None else Path(on_path).resolve().parent


def _missing() -> str | None:
    """Tell why no cluster can be started here."""
    if _programs() is None:
        return "PostgreSQL is not installed (make peers)"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            return "there is no user postgres, and initdb refuses to run as root"
    return None


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    missing = _missing()
    if missing is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with running_cluster() as made:
        yield made


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Make a cluster in a temporary folder and run it for as long as the block runs."""
    programs = _programs()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        made = Cluster(folder, programs)
        flags = ("--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8")
        made.run("initdb", "-D", str(folder / "data"), *flags)
        made.start()
        try:
            yield made
        finally:
            made.run("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def upgraded_template(cluster: Cluster) -> str:
    """Name of a database that holds every table and the row of a node."""
    name = cluster.create()
    with Worklist.open(cluster.url(name)) as worklist:
        worklist.upgrade()
    return name


@pytest.fixture
def clock() -> Clock:
    return Clock()


ENGINES = ("sqlite", pytest.param("postgresql", marks=pytest.mark.peer))


@pytest.fixture(params=ENGINES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Address of an empty database, on each engine in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'worklist.db'}"
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    name = cluster.create()
    try:
        yield cluster.url(name)
    finally:
        cluster.drop(name)


@pytest.fixture(params=ENGINES)
def worklist_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Address of a database that is up to date, on each engine in turn."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'worklist.db'}"
        with Worklist.open(url) as made:
            made.upgrade()
        yield url
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    name = cluster.create(request.getfixturevalue("upgraded_template"))
    try:
        yield cluster.url(name)
    finally:
        cluster.drop(name)


@pytest.fixture
def worklist(worklist_url: str, clock: Clock) -> Iterator[Worklist]:
    """A worklist on each engine in turn, whose clock the test moves."""
    with Worklist.open(worklist_url, now=clock) as made:
        yield made


@pytest.fixture
def open_worklist(worklist_url: str, clock: Clock) -> Iterator[Callable[[], Worklist]]:
    """Opens further worklists on the same database, as other processes would."""
    opened: list[Worklist] = []

    def open_one() -> Worklist:
        opened.append(Worklist.open(worklist_url, now=clock))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()
