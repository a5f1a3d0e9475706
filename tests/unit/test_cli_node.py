"""The commands over the node itself: configuration, checks, database, peers, pipelines."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import tarfile
import tomllib
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicomnode import __version__
from dicomnode.cli.app import app
from dicomnode.cli.example import example
from dicomnode.cli.package import write_package
from dicomnode.cli.support import redacted
from dicomnode.config import Settings, load, parse
from dicomnode.errors import ConfigurationError
from dicomnode.serve import Supervisor
from dicomnode.serve.proof import prove
from dicomnode.storage import Storage
from dicomnode.worklist import Worklist, events, peers, pipelines, processes
from dicomnode.worklist.processes import NewProcess
from tests.cli_data import Node, failed_job, free_port, make_node
from tests.postgres import Cluster
from tests.stages_data import Series, install, send
from tests.worklist_data import arrival, take

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return make_node(tmp_path, free_port(), free_port())


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout.strip() == f"dicomnode {__version__}"


def test_the_example_holds_every_default_and_is_the_one_in_deploy() -> None:
    assert parse(example()) == Settings()
    shipped = REPOSITORY / "deploy" / "dicomnode.example.toml"
    assert shipped.read_text(encoding="utf-8") == example()


def test_what_the_example_shows_commented_out_may_be_used() -> None:
    named = example().split("# A system that sends to us")[1]
    tables = re.sub(r"(?m)^# (\[|\w+ = )", r"\1", "# " + named)
    assert set(parse(tables).peers) == {"pacs"}


def test_init_never_overwrites(tmp_path: Path) -> None:
    out = tmp_path / "dicomnode.toml"
    assert CliRunner().invoke(app, ["init", "--out", str(out)]).exit_code == 0
    out.write_text("# mine", encoding="utf-8")
    again = CliRunner().invoke(app, ["init", "--out", str(out)])
    assert again.exit_code == 1
    assert "is there already" in again.stderr
    assert out.read_text(encoding="utf-8") == "# mine"


def test_a_wrong_configuration_tells_every_fault_with_line_and_nearest_name(node: Node) -> None:
    node.config.write_text("[listen]\nprot = 11112\n[complete]\nquiet = 60\n", encoding="utf-8")
    called = node.call("worklist", "list")
    assert called.exit_code == 2
    assert "line 2: listen.prot is not a key; did you mean 'port'?" in called.stderr
    assert "line 4" in called.stderr
    document = node.json("health", exit_code=2)
    assert document["error"]["code"] == "node.configuration"
    assert len(document["error"]["sentences"]) == 2


def test_no_configuration_at_all_says_how_to_write_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DICOMNODE_CONFIG", raising=False)
    called = CliRunner().invoke(app, ["worklist", "list"])
    assert called.exit_code == 2
    assert "dicomnode init" in called.stderr


def test_the_environment_may_name_the_configuration(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with node.worklist():
        pass
    monkeypatch.setenv("DICOMNODE_CONFIG", str(node.config))
    assert CliRunner().invoke(app, ["worklist", "list"]).exit_code == 0


def test_an_older_and_a_newer_database_are_told_apart(node: Node) -> None:
    node.database.parent.mkdir(parents=True)
    sqlite3.connect(node.database).close()
    node.database.touch()
    older = node.call("worklist", "list")
    assert older.exit_code == 1
    assert "dicomnode db upgrade" in older.stderr
    assert node.call("db", "upgrade").exit_code == 0
    with sqlite3.connect(node.database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    for arguments in (("worklist", "list"), ("db", "upgrade"), ("serve",)):
        newer = node.call(*arguments)
        assert newer.exit_code == 1
        assert "a newer program wrote it" in newer.stderr


def test_serve_says_that_its_port_is_in_use_before_it_starts_anything(node: Node) -> None:
    port = tomllib.loads(node.config.read_text(encoding="utf-8"))["listen"]["port"]
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        called = node.call("serve")
    assert called.exit_code == 1
    assert f"Port {port} is in use" in called.stderr
    assert not node.database.exists()


WRONG_HOURS = '[pipelines.lung-nodule]\nhours = "mon-fry"\n'
WRONG_TLS = '[peers.spare]\nae_title = "SPARE"\nhost = "127.0.0.1"\nport = 104\n' + (
    'tls = { cert = "tls/node.pem", key = "tls/node.key", ca = "tls/ca.pem" }\n'
)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (WRONG_HOURS, "[pipelines.lung-nodule] hours: “mon-fry”: fry is not one of"),
        (WRONG_TLS, "[peers.spare] tls: {folder}/tls/node.pem cannot be read"),
    ],
)
@pytest.mark.parametrize("word", ["serve", "reload"])
def test_hours_and_certificates_are_proved_before_a_node_takes_them(
    node: Node, word: str, more: str, told: str
) -> None:
    text = node.config.read_text(encoding="utf-8")
    node.config.write_text(f"{text}\n{more}", encoding="utf-8")
    called = node.call(word)
    assert called.exit_code == 2
    assert told.format(folder=node.folder) in called.stderr
    assert not node.database.exists()


def test_every_fault_that_a_node_proves_is_told_at_once(node: Node) -> None:
    text = node.config.read_text(encoding="utf-8")
    node.config.write_text(f"{text}\n{WRONG_HOURS}{WRONG_TLS}", encoding="utf-8")
    with pytest.raises(ConfigurationError) as found:
        prove(load(node.config))
    assert len(found.value.faults) == 2


def test_a_running_node_keeps_its_settings_where_the_new_ones_cannot_work(node: Node) -> None:
    before = load(node.config)
    text = node.config.read_text(encoding="utf-8")
    node.config.write_text(f"{text}\n{WRONG_HOURS}{WRONG_TLS}", encoding="utf-8")
    with node.worklist() as worklist:
        supervisor = Supervisor(node.config, before, worklist)
        supervisor.reload()
        supervisor._look()
        with worklist.read() as tx:
            (told,) = events.after(tx, 0)
    assert told.what == "node.reload_refused"
    assert told.reason is not None
    assert told.reason.parameters["n"] == 2
    assert not (before.node.storage / "run" / "accepted.toml").exists()


def test_serve_refuses_a_storage_folder_of_another_node(node: Node) -> None:
    folder = node.folder / "var" / "storage"
    folder.mkdir(parents=True)
    (folder / "dicomnode.id").write_text("another\n", encoding="ascii")
    called = node.call("serve")
    assert called.exit_code == 1
    assert "belongs to another database" in called.stderr


def test_health_fails_until_every_process_is_up(node: Node) -> None:
    with node.worklist() as worklist:
        document = node.json("health", exit_code=1)
        assert {one["state"] for one in document["items"]} == {"down"}
        with worklist.write() as tx:
            for item in document["items"]:
                new = NewProcess(
                    kind=item["process"].split(":")[0],
                    name=item["process"],
                    host="here",
                    pid=1,
                    version="1",
                )
                processes.register(tx, new, worklist.now())
    assert "Every process is up." in node.call("health").stdout


def test_reload_without_a_running_node_is_not_reachable(node: Node) -> None:
    with node.worklist():
        pass
    called = node.call("reload")
    assert called.exit_code == 3
    assert "No dicomnode serve runs" in called.stderr


def test_a_backup_is_restored_and_what_was_there_is_kept(node: Node) -> None:
    study_id = failed_job(node)
    copy = node.folder / "copy.db"
    assert node.call("db", "backup", str(copy)).exit_code == 0
    assert node.call("db", "backup", str(copy)).exit_code == 1
    with node.worklist() as worklist:
        take(worklist, arrival(1, study="1.2.99"))
    restored = node.call("db", "restore", str(copy), "--yes")
    assert restored.exit_code == 0, restored.output
    items = node.json("worklist", "list", "--state", "all")["items"]
    assert [one["id"] for one in items] == [study_id]
    assert (node.database.parent / "worklist.db.before-1").is_file()


def test_what_is_no_backup_is_refused(node: Node) -> None:
    failed_job(node)
    junk = node.folder / "junk.db"
    junk.write_bytes(b"not a database" * 100)
    called = node.call("db", "restore", str(junk), "--yes")
    assert called.exit_code == 1
    assert "is no backup" in called.stderr
    assert node.json("worklist", "list")["items"]


def test_a_damaged_database_is_replaced_and_kept_aside(node: Node) -> None:
    study_id = failed_job(node)
    copy = node.folder / "copy.db"
    assert node.call("db", "backup", str(copy)).exit_code == 0
    for part in node.database.parent.glob("worklist.db*"):
        part.unlink()
    node.database.write_bytes(b"what a broken disk left" * 100)
    node.database.chmod(0o640)
    listed = node.call("worklist", "list")
    assert (listed.exit_code, "file is not a database" in listed.stderr) == (1, True)
    restored = node.call("db", "restore", str(copy), "--yes")
    assert restored.exit_code == 0, restored.output
    assert [one["id"] for one in node.json("worklist", "list")["items"]] == [study_id]
    kept = node.database.with_name("worklist.db.before-1")
    assert kept.read_bytes().startswith(b"what a broken disk left")
    assert stat.S_IMODE(node.database.stat().st_mode) == 0o640


def test_what_is_restored_belongs_to_whom_the_old_one_did(node: Node) -> None:
    if os.getuid() != 0:
        pytest.skip("only root gives files away")
    failed_job(node)
    copy = node.folder / "copy.db"
    assert node.call("db", "backup", str(copy)).exit_code == 0
    os.chown(node.database, 12345, 12346)
    assert node.call("db", "restore", str(copy), "--yes").exit_code == 0
    found = node.database.stat()
    assert (found.st_uid, found.st_gid) == (12345, 12346)
    node.database.unlink()
    os.chown(node.database.parent, 23456, 23457)
    node.database.parent.chmod(0o750)
    assert node.call("db", "restore", str(copy), "--yes").exit_code == 0
    found = node.database.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (23456, 23457, 0o640)


def test_a_database_of_another_version_is_not_replaced_under_a_running_receiver(
    node: Node,
) -> None:
    failed_job(node)
    copy = node.folder / "copy.db"
    assert node.call("db", "backup", str(copy)).exit_code == 0
    with closing(sqlite3.connect(node.database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    root = node.folder / "var" / "storage"
    root.mkdir()
    with Storage(root).claim_receiver():
        called = node.call("db", "restore", str(copy), "--yes")
    assert called.exit_code == 1
    assert "stop it first" in called.stderr
    assert not node.database.with_name("worklist.db.before-1").exists()
    assert node.call("db", "restore", str(copy), "--yes").exit_code == 0


def test_a_backup_into_no_folder_is_refused_in_words(node: Node) -> None:
    with node.worklist():
        pass
    called = node.call("db", "backup", str(node.folder / "no" / "such" / "copy.db"))
    assert called.exit_code == 2
    assert f"There is no folder {node.folder}/no/such" in called.stderr


def test_restore_is_refused_while_the_node_runs(node: Node) -> None:
    with node.worklist() as worklist, worklist.write() as tx:
        new = NewProcess(kind="serve", name="serve", host="here", pid=1, version="1")
        processes.register(tx, new, worklist.now())
    junk = node.folder / "junk.db"
    junk.touch()
    called = node.call("db", "restore", str(junk), "--yes")
    assert called.exit_code == 1
    assert "The node runs (serve on here)" in called.stderr


def test_a_peer_that_does_not_answer_is_exit_three(node: Node) -> None:
    with node.worklist():
        pass
    called = node.call("peer", "echo", "pacs")
    assert called.exit_code == 3
    assert "pacs (127.0.0.1:" in called.stderr
    assert node.call("peer", "echo", "xray").exit_code == 2
    assert node.call("peer", "echo", "ct2").exit_code == 2


def test_a_peer_is_suspended_and_resumed(node: Node) -> None:
    with node.worklist():
        pass
    assert node.json("peer", "suspend", "pacs")["items"][0]["suspended"] is True
    assert "suspended" in node.call("peer", "list").stdout
    assert node.call("peer", "resume", "pacs").exit_code == 0
    with node.worklist() as worklist, worklist.read() as tx:
        assert not peers.get(tx, "pacs").suspended


def test_a_pipeline_is_switched_and_listed(node: Node) -> None:
    with node.worklist() as worklist:
        install(worklist)
    for word in ("suspend", "shadow"):
        assert node.call("pipeline", word, "lung-nodule").exit_code == 0
    (item,) = node.json("pipeline", "list")["items"]
    assert (item["suspended"], item["mode"]) == (True, "shadow")
    for word in ("resume", "live"):
        assert node.call("pipeline", word, "lung-nodule").exit_code == 0
    with node.worklist() as worklist, worklist.read() as tx:
        found = pipelines.get(tx, "lung-nodule")
    assert found is not None
    assert str(found.mode) == "live"
    assert node.call("pipeline", "suspend", "lung").exit_code == 2


def test_route_explain_tells_each_condition(node: Node) -> None:
    with node.worklist() as worklist:
        install(worklist)
        study = send(worklist, Series(slices=3))
    (item,) = node.json("route", "explain", str(study.id))["items"]
    assert item["runs"] is True
    assert item["images"] == 3
    assert {"keyword", "found", "wanted", "ok"} == set(item["conditions"][0])
    said = node.call("route", "explain", str(study.id)).stdout
    assert "would run on series" in said


def test_check_fails_for_a_peer_that_is_not_there_and_says_what_to_do(node: Node) -> None:
    document = node.json("check", exit_code=1)
    lines = {line["name"]: line for line in document["items"]}
    assert lines["peer pacs"]["ok"] == "no"
    assert "host, port, ae_title" in lines["peer pacs"]["fix"]
    for name in ("configuration", "storage", "worklist", "receiver", "decoders"):
        assert lines[name]["ok"] == "yes", lines[name]
    assert not node.database.exists()


def test_check_tells_certificates_that_cannot_be_used(node: Node) -> None:
    text = node.config.read_text(encoding="utf-8")
    node.config.write_text(f"{text}\n{WRONG_TLS}", encoding="utf-8")
    lines = node.json("check", exit_code=1)["items"]
    (told,) = [line for line in lines if line["name"] == "certificates"]
    assert told["ok"] == "no"
    assert "tls/node.pem cannot be read" in told["sentence"]
    assert "[peers.spare] tls" in told["fix"]


def test_check_tells_wrong_hours_and_a_pipeline_that_is_not_installed(node: Node) -> None:
    text = node.config.read_text(encoding="utf-8")
    node.config.write_text(
        f'{text}\n[pipelines.lung-nodule]\nhours = "mon-fry"\n[pipelines.rib]\n', encoding="utf-8"
    )
    said = node.call("check").stdout
    assert "fry is not one of" in said
    assert "is configured and not installed" in said


def test_a_new_pipeline_is_short_formatted_and_passes_its_own_test(tmp_path: Path) -> None:
    folder = write_package("rib-fracture", tmp_path)
    sources = [folder / "rib_fracture" / "pipeline.py", folder / "tests" / "test_rib_fracture.py"]
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in sources)
    assert lines < 40
    ruff = [str(Path(sys.executable).with_name("ruff")), "format", "--check", "--line-length=100"]
    subprocess.run([*ruff, *map(str, sources)], check=True, capture_output=True)
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder / "tests")],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    entry = project["project"]["entry-points"]["dicomnode.pipelines"]
    assert entry == {"rib-fracture": "rib_fracture.pipeline:RibFracture"}


@pytest.mark.parametrize("name", ["Rib", "a/b", "../x", "", "rib_fracture", "a--b"])
def test_a_name_that_cannot_be_a_pipelines_is_refused(tmp_path: Path, name: str) -> None:
    called = CliRunner().invoke(app, ["pipeline", "new", "--out", str(tmp_path), "--", name])
    assert called.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_the_support_archive_holds_no_identity_and_no_secret(node: Node) -> None:
    failed_job(node)
    text = node.config.read_text(encoding="utf-8")
    node.config.write_text(
        f'{text}\n[notify.desk]\nurl = "https://example.org/hook/s3cret"\n', encoding="utf-8"
    )
    out = node.folder / "support.tar.gz"
    called = node.call("support", "--out", str(out))
    assert called.exit_code == 0, called.output
    with tarfile.open(out) as archive:
        parts = {
            Path(member.name).name: archive.extractfile(member).read().decode()  # type: ignore[union-attr]
            for member in archive.getmembers()
        }
    whole = "\n".join(parts.values())
    for secret in ("Anna", "P-0017", "A1002", "s3cret", "1.2.3.1"):
        assert secret not in whole
    assert json.loads(parts["events.json"])
    assert json.loads(parts["versions.json"])["dicomnode"] == __version__


def test_passwords_are_redacted() -> None:
    settings = Settings.model_validate(
        {"worklist": {"url": "postgresql+psycopg://node:hunter2@db/x?password=hunter2"}}
    )
    assert "hunter2" not in json.dumps(redacted(settings))


def test_every_command_tells_its_help() -> None:
    for arguments in ([], ["worklist"], ["db"], ["quarantine"], ["peer"], ["pipeline"], ["route"]):
        called = CliRunner().invoke(app, [*arguments, "--help"])
        assert called.exit_code == 0
    assert importlib.import_module("dicomnode.cli").main


@pytest.mark.peer
def test_a_postgresql_worklist_is_backed_up_and_restored(
    node: Node, cluster: Cluster, upgraded_template: str
) -> None:
    if shutil.which("pg_dump") is None:
        pytest.skip("pg_dump is not installed (make peers)")
    name = cluster.create(upgraded_template)
    text = node.config.read_text(encoding="utf-8")
    url = cluster.url(name)
    node.config.write_text(f'{text}\n[worklist]\nurl = "{url}"\n', encoding="utf-8")
    with Worklist.open(url) as worklist:
        take(worklist, arrival(1))
    copy = node.folder / "copy.dump"
    assert node.call("db", "backup", str(copy)).exit_code == 0
    with Worklist.open(url) as worklist:
        take(worklist, arrival(1, study="1.2.99"))
    restored = node.call("db", "restore", str(copy), "--yes")
    assert restored.exit_code == 0, restored.output
    assert len(node.json("worklist", "list", "--state", "all")["items"]) == 1
    cluster.drop(name)
