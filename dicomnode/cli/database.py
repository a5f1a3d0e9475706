"""``db upgrade|backup|restore|prune``: the worklist's database as a whole."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Annotated

import pysqlite3
import typer
from rich.progress import Progress
from sqlalchemy import URL

from dicomnode.cli.asking import agree
from dicomnode.cli.output import WRONG_USE
from dicomnode.cli.session import Session, command, database_file, refuse
from dicomnode.config import Settings
from dicomnode.errors import (
    DatabaseOlderError,
    DatabaseUnavailableError,
    StorageError,
    WorklistError,
)
from dicomnode.rules.sentences import counted, size
from dicomnode.serve.opening import open_worklist
from dicomnode.storage import Storage
from dicomnode.worklist import Worklist, processes, retention

app = typer.Typer(help="The worklist's database.")

YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_ALIVE_MS = 30_000
_PAGES = 1000


@command(app)
def upgrade(session: Session) -> None:
    """Bring the tables to this program's version; an empty database gets them all."""
    with open_worklist(session.settings) as worklist:
        changed = worklist.upgrade()
    sentence = "The worklist is up to date now." if changed else "The worklist was up to date."
    _tell(session, {"changed": changed}, sentence)


@command(app)
def backup(
    session: Session, file: Annotated[Path, typer.Argument(help="A file that is not there yet.")]
) -> None:
    """Write a copy of the database as it is now; the node may run meanwhile."""
    if file.exists():
        raise refuse(session, f"{file} is there already; nothing was written.")
    if not file.parent.is_dir():
        raise refuse(session, f"There is no folder {file.parent} to write into.", WRONG_USE)
    draft = file.with_name(f"{file.name}.draft")
    draft.unlink(missing_ok=True)
    with session.worklist() as worklist:
        if worklist.is_sqlite:
            with Progress(
                console=session.output.console,
                transient=True,
                disable=not session.output.is_terminal,
            ) as bar:
                _copy_sqlite(Path(str(worklist.url.database)), draft, bar)
        else:
            _postgresql(worklist.url, "pg_dump", "--format=custom", f"--file={draft}")
    with draft.open("rb") as written:
        os.fsync(written.fileno())
    draft.rename(file)
    byte_count = file.stat().st_size
    _tell(session, {"file": str(file), "byte_count": byte_count}, f"{file}: {size(byte_count)}.")


def _copy_sqlite(source: Path, target: Path, bar: Progress) -> None:
    task = bar.add_task("backup", total=None)

    def tell(_status: int, remaining: int, total: int) -> None:
        bar.update(task, total=total, completed=total - remaining)

    try:
        with (
            closing(pysqlite3.connect(source)) as read,
            closing(pysqlite3.connect(target)) as written,
        ):
            read.backup(written, pages=_PAGES, progress=tell)
    except pysqlite3.DatabaseError as fault:
        target.unlink(missing_ok=True)
        raise WorklistError(f"{target} cannot be written from {source}: {fault}") from fault


def _postgresql(url: URL, program: str, *arguments: str) -> None:
    """Run a program of PostgreSQL on the worklist's database.

    Raises
    ------
    WorklistError
        When it is not installed or fails, with what it said.
    """
    found = shutil.which(program)
    if found is None:
        raise WorklistError(
            f"{program} is not installed here; install PostgreSQL's client programs, or run it on "
            "the database's own machine."
        )
    address = url.set(drivername="postgresql", password=None).render_as_string()
    environment = {**os.environ}
    if url.password is not None:
        environment["PGPASSWORD"] = str(url.password)
    ended = subprocess.run(  # noqa: S603  a program found by its fixed name
        [found, *arguments, f"--dbname={address}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        said = (ended.stderr.strip().splitlines() or ["no words"])[-1]
        raise WorklistError(f"{program} failed: {said}")


@command(app)
def restore(
    session: Session,
    file: Annotated[Path, typer.Argument(exists=True, help="What backup wrote.")],
    yes: YesOption = False,
) -> None:
    """Put a backup in the place of the database; the node must be stopped."""
    _demand_stopped(session)
    with _nobody_receives(session):
        sentence = _restored(session, file, yes=yes)
    _tell(session, {"file": str(file), "restored": True}, sentence)


def _restored(session: Session, file: Path, *, yes: bool) -> str:
    """Ask, restore, and give what is to be said of it."""
    settings = session.settings
    database = database_file(settings)
    question = "Replace the worklist by this backup? What came after it is lost from the worklist."
    agree(session, question, yes=yes)
    if database is not None:
        kept = _restore_sqlite(file, database)
        sentence = (
            f"Restored. The database that was there is kept as {kept}." if kept else "Restored."
        )
    else:
        with open_worklist(settings) as worklist:
            url = worklist.url
        _postgresql(
            url,
            "pg_restore",
            "--clean",
            "--if-exists",
            "--no-owner",
            "--single-transaction",
            str(file),
        )
        sentence = "Restored."
    with open_worklist(settings) as worklist:
        try:
            worklist.check()
        except DatabaseOlderError:
            sentence += " It is older than this program: run dicomnode db upgrade."
    return sentence


def _demand_stopped(session: Session) -> None:
    """Refuse while a process of the node uses the database, where its rows can be read."""
    settings = session.settings
    try:
        alive = _alive(settings)
    except DatabaseUnavailableError:
        if database_file(settings) is None:
            raise
        return
    except WorklistError:
        # Damaged, or of another version: what is to be mended by this. The lock tells who runs.
        return
    if alive:
        names = ", ".join(f"{one.name} on {one.host}" for one in alive)
        raise refuse(session, f"The node runs ({names}); stop it first.")


def _alive(settings: Settings) -> list[processes.Process]:
    database = database_file(settings)
    if database is not None and not database.is_file():
        return []
    with open_worklist(settings) as worklist, worklist.read() as tx:
        return processes.alive(tx, worklist.now() - _ALIVE_MS)


@contextmanager
def _nobody_receives(session: Session) -> Iterator[None]:
    """Keep the node on this machine from running meanwhile; refuse where it does."""
    root = session.settings.node.storage
    with ExitStack() as held:
        # A folder without the lock was never received into; a lock that this made, as another
        # user, would only stand in the node's way.
        if (root / "receiver.lock").is_file():
            try:
                held.enter_context(Storage(root).claim_receiver())
            except StorageError as fault:
                raise refuse(session, f"The node may run: {fault}; stop it first.") from None
        yield


def _restore_sqlite(file: Path, database: Path) -> Path | None:
    """Check a backup and put a copy of it in place; give where the one before is kept."""
    draft = database.with_name(f"{database.name}.restoring")
    draft.unlink(missing_ok=True)
    database.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(pysqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as read:
            (said,) = read.execute("PRAGMA integrity_check").fetchone()
            if said != "ok":
                raise WorklistError(f"{file} is damaged: {said}")
            if read.execute("PRAGMA table_info(studies)").fetchone() is None:
                raise WorklistError(f"{file} holds no worklist.")
            with closing(pysqlite3.connect(draft)) as written:
                read.backup(written)
    except pysqlite3.DatabaseError as fault:
        draft.unlink(missing_ok=True)
        raise WorklistError(f"{file} is no backup of a worklist: {fault}") from fault
    _give_to_owner(draft, database)
    kept = None
    if database.is_file():
        kept = _free_name(database)
        # Its write-ahead log belongs to it: committed rows may stand only there.
        for suffix in ("", "-wal", "-shm"):
            part = database.with_name(database.name + suffix)
            if part.is_file():
                part.rename(kept.with_name(kept.name + suffix))
    draft.rename(database)
    return kept


def _give_to_owner(draft: Path, database: Path) -> None:
    """Give the new file the owner and mode of the old one, or those that suit its folder.

    An admin restores as root; the node's own user must be able to write the file.
    """
    is_there = database.is_file()
    model = (database if is_there else database.parent).stat()
    mine = draft.stat()
    if (mine.st_uid, mine.st_gid) != (model.st_uid, model.st_gid):
        try:
            os.chown(draft, model.st_uid, model.st_gid)
        except PermissionError as fault:
            draft.unlink()
            raise WorklistError(
                f"{database.parent} is another user's; restore as that one, or as root."
            ) from fault
    draft.chmod(stat.S_IMODE(model.st_mode) & 0o666)


def _free_name(database: Path) -> Path:
    names = (database.with_name(f"{database.name}.before-{n}") for n in range(1, 10_000))
    return next(name for name in names if not name.exists())


@command(app)
def prune(session: Session, yes: YesOption = False) -> None:
    """Purge now what the retention rules let go; finished studies only, their rows stay."""
    retention_rules = session.settings.retention
    with session.worklist() as worklist:
        storage = session.storage(worklist)
        now_ms = worklist.now()
        images_before = now_ms - round(retention_rules.images_s * 1000)
        results_before = now_ms - round(retention_rules.results_s * 1000)
        with worklist.read() as tx:
            there = bool(retention.purgeable(tx, older_than_ms=images_before, limit=1))
        if there:
            agree(session, "Purge the images of finished studies that are old enough?", yes=yes)
        images = _prune_images(session, worklist, storage, images_before)
        results = _prune_results(session, worklist, storage, results_before)
    said = f"Purged {counted(images, 'image')} and {counted(results, 'result')}."
    _tell(session, {"images": images, "results": results}, said)


def _prune_images(session: Session, worklist: Worklist, storage: Storage, before_ms: int) -> int:
    count = 0
    tried: set[int] = set()
    while True:
        with worklist.read() as tx:
            found = retention.purgeable(tx, older_than_ms=before_ms)
        fresh = [study_id for study_id in found if study_id not in tried]
        if not fresh:
            return count
        for study_id in fresh:
            tried.add(study_id)
            with worklist.write() as tx:
                gone = retention.purge_images(tx, study_id, session.act(worklist))
            for name in gone.images:
                storage.delete_kept(name)
            count += len(gone.images)


def _prune_results(session: Session, worklist: Worklist, storage: Storage, before_ms: int) -> int:
    count = 0
    while True:
        with worklist.write() as tx:
            gone = retention.purge_results(tx, session.act(worklist), older_than_ms=before_ms)
        if not gone.results:
            return count
        for name in gone.results:
            storage.delete_result(name)
        count += len(gone.results)


def _tell(session: Session, view: Mapping[str, object], sentence: str) -> None:
    if session.output.as_json:
        session.output.items([view])
    else:
        session.output.say(sentence)
