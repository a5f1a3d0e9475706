"""Messages leave for the log and for webhooks, on both engines; a real HTTP server listens."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import select

from dicomnode.config import Settings, Webhook
from dicomnode.network.webhook import SIGNATURE_HEADER, signature
from dicomnode.rules.reasons import Reason, sentence
from dicomnode.rules.states import JobState, NotificationState, Outcome
from dicomnode.stages.notices import JOB_FAILED, Announcer, Notice, body_of, notifications_of
from dicomnode.stages.notify import Notify
from dicomnode.worklist import Worklist, notifications, studies
from dicomnode.worklist.notifications import Notification
from dicomnode.worklist.rows import as_values
from dicomnode.worklist.schema import notifications as table
from tests import worklist_data
from tests.dcmtk import free_port
from tests.postgres import Clock
from tests.stages_data import settings

REASON = Reason("failed.error", {"pipeline": "lung-nodule", "error_class": "ValueError"})


@dataclass
class Receiver:
    """Answers each message with the next status, 200 when none is left."""

    statuses: list[int] = field(default_factory=list)
    messages: list[tuple[str | None, bytes]] = field(default_factory=list)

    @contextmanager
    def listening(self) -> Iterator[str]:
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.messages.append((self.headers[SIGNATURE_HEADER], body))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def told_by(url: str, secret: Path | None = None) -> Settings:
    hook = {"url": url, "events": ["job.failed", "study.done"], "secret_file": secret}
    return settings(notify={"ward": hook})


def queue(worklist: Worklist, given: Settings) -> None:
    notice = Notice(what=JOB_FAILED, at_ms=worklist.now(), reason=REASON, pipeline="lung-nodule")
    with worklist.write() as tx:
        Announcer(given.notify, given.node.ae_title).tell(tx, notice)


def drive(stage: Notify) -> int:
    count = 0
    while stage.step():
        count += 1
    return count


def rows(worklist: Worklist) -> list[Notification]:
    """Every message, of whatever study."""
    with worklist.read() as tx:
        return as_values(Notification, tx.execute(select(table).order_by(table.c.id)))


def test_a_failed_job_is_told_to_the_log_and_to_the_webhook_signed(
    worklist: Worklist, tmp_path: Path
) -> None:
    receiver, secret = Receiver(), tmp_path / "secret"
    secret.write_bytes(b"key\n")
    with receiver.listening() as url:
        given = told_by(url, secret)
        queue(worklist, given)
        assert drive(Notify(worklist, given, "n1")) == 2
    ((signed, body),) = receiver.messages
    assert signed == signature(b"key", body)
    message = json.loads(body)
    assert message["what"] == "job.failed"
    assert message["sentence"].startswith("Failed: lung-nodule")
    assert message["node"] == "DICOMNODE"


def test_a_receiver_that_fails_is_tried_by_the_ladder_and_given_up(
    worklist: Worklist, clock: Clock
) -> None:
    receiver = Receiver(statuses=[500] * 20)
    with receiver.listening() as url:
        given = told_by(url)
        queue(worklist, given)
        stage = Notify(worklist, given, "n1")
        drive(stage)
        assert len(receiver.messages) == 1
        for _ in range(10):
            clock.move(30_000)
            drive(stage)
    assert len(receiver.messages) == 6
    ended = [one for one in rows(worklist) if one.target == "ward"]
    assert [one.state for one in ended] == [NotificationState.FAILED]
    assert ended[0].reason is not None
    assert ended[0].reason.code == "notification.given_up"


def test_one_that_does_not_listen_gets_it_later(worklist: Worklist, clock: Clock) -> None:
    given = told_by(f"http://127.0.0.1:{free_port()}/")
    queue(worklist, given)
    drive(Notify(worklist, given, "n1"))
    (waiting,) = [one for one in rows(worklist) if one.target == "ward"]
    assert waiting.state is NotificationState.QUEUED
    assert waiting.reason is not None
    assert waiting.reason.code == "notification.no_answer"
    receiver = Receiver()
    clock.move(60)
    with receiver.listening() as url:
        drive(Notify(worklist, told_by(url), "n1"))
    assert len(receiver.messages) == 1


def test_a_webhook_that_left_the_settings_ends_its_messages(worklist: Worklist) -> None:
    given = told_by("http://127.0.0.1:9/")
    queue(worklist, given)
    drive(Notify(worklist, settings(), "n1"))
    (ended,) = [one for one in rows(worklist) if one.target == "ward"]
    assert ended.state is NotificationState.FAILED


@pytest.mark.parametrize(
    "url",
    ["ftp://host/", "http://[::1", "http://host:99999/", f"http://{'a' * 70}.example/"],
    ids=["scheme", "bracket", "port", "name"],
)
def test_an_address_that_is_none_ends_its_messages_with_words(worklist: Worklist, url: str) -> None:
    # As settings of a release hold it that did not look so closely.
    hook = Webhook.model_construct(url=url, events=("job.failed",), secret_file=None)
    given = settings().model_copy(update={"notify": {"ward": hook}})
    queue(worklist, given)
    assert drive(Notify(worklist, given, "n1")) == 2
    (ended,) = [one for one in rows(worklist) if one.target == "ward"]
    assert ended.state is NotificationState.FAILED
    assert ended.reason is not None
    assert ended.reason.code == "notification.given_up"
    assert "no web address" in sentence(ended.reason)


def test_an_event_goes_only_to_who_asked_for_it() -> None:
    hooks = {
        "all": Webhook(url="http://a/", events=("job.failed", "study.done")),
        "done": Webhook(url="http://b/", events=("study.done",)),
    }
    notice = Notice(what=JOB_FAILED, at_ms=0)
    targets = [new.target for new in notifications_of(notice, hooks, "NODE")]
    assert targets == ["log", "all"]


def test_a_message_names_a_study_by_its_row_alone() -> None:
    notice = Notice(what=JOB_FAILED, at_ms=0, reason=REASON, study_id=7, job_id=8)
    body = body_of(notice, "NODE")
    assert set(body) == {"what", "node", "at", "study", "job", "reason", "sentence"}
    assert body["at"] == "1970-01-01T00:00:00.000+00:00"


@pytest.mark.parametrize(
    ("state", "before", "expected"),
    [
        (JobState.DONE, Outcome.IN_PROGRESS, ["study.done"]),
        (JobState.DONE, Outcome.DONE, []),
    ],
)
def test_a_study_is_told_to_be_done_once(
    worklist: Worklist, state: JobState, before: Outcome, expected: list[str]
) -> None:
    study_id = worklist_data.whole_study(worklist)
    worklist_data.make_job(worklist, study_id)
    claimed = worklist_data.claim(worklist)
    worklist_data.finish(worklist, claimed, worklist_data.done(claimed))
    given = told_by("http://127.0.0.1:9/")
    with worklist.write() as tx:
        found = studies.get(tx, study_id)
        assert found is not None
        assert found.outcome is Outcome.DONE
        notice = Notice(what="", at_ms=worklist.now(), study_id=study_id)
        Announcer(given.notify, "NODE").ended(tx, notice, state, before)
        found_rows = notifications.of_study(tx, study_id)
    assert [one.what for one in found_rows if one.target == "ward"] == expected
