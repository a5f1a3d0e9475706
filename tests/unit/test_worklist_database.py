"""The database: durable, of the right version, shared by threads and processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, String, inspect, select, text

from dicomnode.errors import (
    ConfigurationError,
    DatabaseNewerError,
    DatabaseOlderError,
    DatabaseUnavailableError,
    DatabaseUnsafeError,
)
from dicomnode.worklist import schema, versions
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.keys import prefix_end, search_key, storable
from dicomnode.worklist.signals import Channel
from tests.postgres import Cluster


def test_an_empty_database_is_older_until_it_is_upgraded_once(database_url: str) -> None:
    with Worklist.open(database_url) as worklist:
        with pytest.raises(DatabaseOlderError, match="dicomnode db upgrade"):
            worklist.check()
        assert worklist.upgrade()
        assert not worklist.upgrade()
        worklist.check()
        assert len(worklist.node_id) == 36


def test_the_migrations_lead_to_the_tables_of_the_schema(database_url: str) -> None:
    with Worklist.open(database_url) as worklist:
        worklist.upgrade()
        with worklist.read() as tx:
            context = MigrationContext.configure(tx, opts={"compare_type": True})
            found = compare_metadata(context, schema.metadata)
            names = set(inspect(tx).get_table_names())
    assert found == []
    assert names == {*schema.metadata.tables, "alembic_version"}


def test_the_migrations_can_be_taken_back(database_url: str) -> None:
    with Worklist.open(database_url) as worklist:
        worklist.upgrade()
        with worklist._writer.begin() as connection:
            versions.downgrade(connection)
            assert inspect(connection).get_table_names() == ["alembic_version"]
        assert worklist.upgrade()


def test_indexes_and_collations_are_those_of_create_all(database_url: str) -> None:
    with Worklist.open(database_url) as worklist:
        worklist.upgrade()
        with worklist._writer.begin() as connection:
            migrated = _structure(connection)
            versions.downgrade(connection)
            schema.metadata.create_all(connection)
        with worklist._writer.begin() as connection:
            assert _structure(connection) == migrated


def _structure(connection: Connection) -> list[tuple[str, ...]]:
    found = inspect(connection)
    lines: list[tuple[str, ...]] = []
    for table in sorted(schema.metadata.tables):
        lines += [(table, _told(column)) for column in found.get_columns(table)]
        lines += sorted((table, _told(index)) for index in found.get_indexes(table))
        lines += sorted((table, _told(key)) for key in found.get_foreign_keys(table))
        lines += sorted((table, _told(key)) for key in found.get_unique_constraints(table))
    return lines


def _told(part: object) -> str:
    """Give a part of a table as text: of a condition its words, not its address."""
    if isinstance(part, dict):
        return str({name: _told(value) for name, value in part.items()})
    if isinstance(part, String):
        return f"{part} {part.collation}"
    return str(part)


def test_a_database_of_a_newer_program_is_refused(worklist_url: str) -> None:
    with Worklist.open(worklist_url) as worklist, worklist.write() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with Worklist.open(worklist_url) as worklist:
        with pytest.raises(DatabaseNewerError, match="9999"):
            worklist.check()
        with pytest.raises(DatabaseNewerError):
            worklist.upgrade()


def test_several_processes_may_upgrade_at_once(database_url: str) -> None:
    faults: list[BaseException] = []

    def upgrade() -> None:
        try:
            with Worklist.open(database_url) as worklist:
                worklist.upgrade()
        except Exception as fault:  # noqa: BLE001  shown below
            faults.append(fault)

    threads = [threading.Thread(target=upgrade) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []
    with Worklist.open(database_url) as worklist, worklist.read() as tx:
        assert len(tx.execute(select(schema.node)).all()) == 1


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:", "nonsense"])
def test_only_sqlite_in_a_file_and_postgresql_are_taken(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Worklist.open(url)


def test_sqlite_keeps_what_it_acknowledged(worklist: Worklist) -> None:
    if not worklist.is_sqlite:
        pytest.skip("these settings are SQLite's")
    for connect in (worklist.write, worklist.read):
        with connect() as tx:
            found = {
                name: tx.execute(text(f"PRAGMA {name}")).scalar_one()
                for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
            }
        wanted = {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 10_000}
        assert found == {**wanted, "foreign_keys": 1}


@pytest.mark.peer
@pytest.mark.parametrize("setting", ["synchronous_commit"])
def test_postgresql_that_would_lose_rows_is_refused(cluster: Cluster, setting: str) -> None:
    name = cluster.create()
    cluster.admin(f"ALTER DATABASE {name} SET {setting} = off")
    try:
        with pytest.raises(DatabaseUnsafeError, match=setting):
            Worklist.open(cluster.url(name))
    finally:
        cluster.drop(name)


@pytest.mark.peer
def test_a_restart_of_postgresql_is_waited_out(cluster: Cluster, upgraded_template: str) -> None:
    name = cluster.create(upgraded_template)
    with Worklist.open(cluster.url(name)) as worklist:
        with worklist.read() as tx:
            tx.execute(select(schema.node.c.id)).all()
        cluster.restart("immediate")
        found = worklist.transact(lambda tx: tx.execute(select(schema.node.c.id)).scalar_one())
        assert found == 1
    cluster.drop(name)


def test_a_database_that_is_away_says_so_without_values(tmp_path: object) -> None:
    with pytest.raises(DatabaseUnavailableError, match="does not answer"):
        Worklist.open("postgresql+psycopg://nobody@127.0.0.1:1/none")


def test_a_locked_database_is_unavailable_and_work_is_tried_again(worklist_url: str) -> None:
    if not worklist_url.startswith("sqlite"):
        pytest.skip("PostgreSQL locks rows, not files")
    with Worklist.open(worklist_url) as first, Worklist.open(worklist_url) as second:
        second._writer.dispose()
        started = threading.Event()

        def hold() -> None:
            with first.write():
                started.set()
                time.sleep(0.5)

        holder = threading.Thread(target=hold)
        holder.start()
        started.wait(10)
        rows = second.transact(lambda tx: tx.execute(select(schema.node.c.id)).all())
        holder.join(10)
        assert len(rows) == 1


def test_the_read_engine_cannot_write(worklist: Worklist) -> None:
    with pytest.raises(DatabaseUnavailableError), worklist.read() as tx:
        tx.execute(text("UPDATE node SET created_at = 5"))


def test_an_error_undoes_the_transaction(worklist: Worklist) -> None:
    def stop_half_way(tx: Connection) -> None:
        tx.execute(text("UPDATE node SET created_at = 5"))
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        worklist.transact(stop_half_way)
    with worklist.read() as tx:
        assert tx.execute(select(schema.node.c.created_at)).scalar_one() != 5


def test_postgresql_tells_its_own_time(worklist_url: str) -> None:
    with Worklist.open(worklist_url) as worklist:
        assert abs(worklist.now() - time.time() * 1000) < 5_000


def test_a_wait_ends_when_another_process_commits(
    open_worklist: Callable[[], Worklist],
) -> None:
    waiting, writing = open_worklist(), open_worklist()
    waiting.wait(0.5, Channel.JOBS)
    while waiting.wait(0.05, Channel.JOBS):
        pass
    woken: list[bool] = []
    waiter = threading.Thread(target=lambda: woken.append(waiting.wait(20, Channel.JOBS)))
    waiter.start()
    with writing.write() as tx:
        tx.execute(text("UPDATE node SET created_at = 1"))
        writing.wake(tx, Channel.JOBS)
    waiter.join(20)
    assert woken == [True]


def test_a_ring_between_two_waits_is_not_missed(worklist: Worklist) -> None:
    worklist.wait(0.01, Channel.JOBS)
    with worklist.write() as tx:
        worklist.wake(tx, Channel.JOBS)
    assert worklist.wait(0, Channel.JOBS)


def test_closing_ends_a_wait(worklist_url: str) -> None:
    worklist = Worklist.open(worklist_url)
    waiter = threading.Thread(target=lambda: worklist.wait(30))
    waiter.start()
    time.sleep(0.05)
    worklist.close()
    waiter.join(15)
    assert not waiter.is_alive()


@pytest.mark.parametrize(
    ("typed", "key"),
    [("Müller^Änne", "müller änne"), ("ＡＢＣ", "abc"), ("Yamada=山田^太郎", "yamada 山田 太郎")],
)
def test_names_are_searched_as_people_type_them(typed: str, key: str) -> None:
    assert search_key(typed) == key


@given(st.text(min_size=1).map(search_key).filter(bool), st.text())
def test_every_text_with_a_prefix_lies_before_its_end(prefix: str, rest: str) -> None:
    whole = storable(prefix + rest)
    assert prefix <= whole
    assert whole < prefix_end(prefix) or whole.startswith("\U0010ffff")


@given(st.text(alphabet=st.characters()))
def test_storable_text_can_be_encoded(given_text: str) -> None:
    kept = storable(given_text + "\0\ud800")
    assert "\0" not in kept
    kept.encode()


def test_planning_statistics_can_be_taken_at_any_time(worklist: Worklist) -> None:
    worklist.optimise()
    worklist.check()
