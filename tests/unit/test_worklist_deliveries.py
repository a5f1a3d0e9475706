"""Deliveries: one after another per line and peer, each object's answer kept."""

from __future__ import annotations

import dataclasses

import pytest

from dicomnode.errors import LeaseLostError
from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import (
    CommitmentState,
    DeliveryState,
    JobState,
    NotificationState,
    Outcome,
)
from dicomnode.worklist import (
    attempts,
    commitments,
    deliveries,
    jobs,
    notifications,
    peers,
    retention,
    sending,
    studies,
)
from dicomnode.worklist.commitments import NewCommitment
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.deliveries import Delivery, ObjectStatus
from dicomnode.worklist.ends import FinishedKind
from dicomnode.worklist.notifications import NewNotification
from dicomnode.worklist.sending import ClaimedDelivery, DeliveryEnd, DeliveryRetry
from tests.postgres import Clock
from tests.worklist_data import (
    LEASE_MS,
    act,
    arrival,
    claim,
    complete,
    done,
    done_job,
    finish,
    make_job,
    take,
    to,
    whole_study,
)


def take_delivery(worklist: Worklist, peer: str = "pacs") -> ClaimedDelivery | None:
    return sending.claim_next(worklist, peer, owner="d1", lease_ms=LEASE_MS)


def must_take(worklist: Worklist, peer: str = "pacs") -> ClaimedDelivery:
    found = take_delivery(worklist, peer)
    assert found is not None
    return found


def stored(worklist: Worklist, delivery: Delivery, count: int = 2) -> list[ObjectStatus]:
    """Give the objects of a delivery of which the peer stored some."""
    return [
        dataclasses.replace(one, status="0000", stored_at=worklist.now()) if n < count else one
        for n, one in enumerate(delivery.statuses)
    ]


def end(worklist: Worklist, claimed: ClaimedDelivery, confirm_at: int | None = None) -> None:
    """End a delivery as sent."""
    how = DeliveryEnd(
        state=DeliveryState.SENT,
        reason=Reason("delivery.sent", {"peer": "pacs", "n": 2}),
        objects=stored(worklist, claimed.delivery),
        confirm_at=confirm_at,
    )
    with worklist.write() as tx:
        sending.finish(tx, claimed.delivery.id, claimed.fence, how, worklist.now())


def delivery_of(worklist: Worklist, job_id: int) -> Delivery:
    with worklist.read() as tx:
        [found] = deliveries.of_job(tx, job_id)
    return found


def study_of(worklist: Worklist, study_id: int) -> studies.Study:
    with worklist.read() as tx:
        found = studies.get(tx, study_id)
    assert found is not None
    return found


def late_image(worklist: Worklist, study_id: int, number: int = 9) -> int:
    """Take in another image, close the study again, and give the id of its next job."""
    take(worklist, arrival(number))
    complete(worklist, study_id)
    return make_job(worklist, study_id)


def test_a_delivery_is_sent_and_that_is_final_without_confirmation(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    job_id = done_job(worklist, study_id)
    assert study_of(worklist, study_id).outcome is Outcome.WAITING
    assert take_delivery(worklist, "other") is None
    claimed = must_take(worklist)
    assert claimed.delivery.tries == 1
    assert study_of(worklist, study_id).outcome is Outcome.IN_PROGRESS
    end(worklist, claimed)
    end(worklist, claimed)
    delivery = delivery_of(worklist, job_id)
    assert (delivery.state, delivery.confirm_at) == (DeliveryState.SENT, None)
    assert delivery.finished_at == worklist.now()
    assert study_of(worklist, study_id).outcome is Outcome.DONE
    with worklist.read() as tx:
        assert deliveries.stored_count(tx, study_id, "pacs") == 2
        [tried] = attempts.of_deliveries(tx, [delivery.id])
    assert tried.outcome == "sent"


def test_a_peer_that_is_down_uses_up_no_try_and_keeps_all_back(
    worklist: Worklist, clock: Clock
) -> None:
    study_id = whole_study(worklist)
    job_id = done_job(worklist, study_id)
    down = Reason("delivery.peer_down", {"peer": "pacs", "host": "h", "port": 104, "n": 1})
    for failures in (1, 2, 3):
        claimed = must_take(worklist)
        with worklist.write() as tx:
            next_at = peers.failed(tx, "pacs", down, clock())
            again = DeliveryRetry(
                at_ms=clock(), reason=down, objects=claimed.delivery.statuses, counts=False
            )
            sending.retry_later(tx, claimed.delivery.id, claimed.fence, again, clock())
        assert next_at == clock() + 5_000 * 2 ** (failures - 1)
        assert take_delivery(worklist) is None
        reason = study_of(worklist, study_id).reason
        assert reason is not None
        assert (reason.code, reason.parameters["next_at"]) == ("delivery.peer_down", next_at)
        clock.move((next_at - clock()) / 1000)
    delivery = delivery_of(worklist, job_id)
    assert (delivery.tries, delivery.begun) == (0, False)
    with worklist.write() as tx:
        assert peers.answered(tx, "pacs", clock())
        assert not peers.answered(tx, "pacs", clock())
        assert studies.waiting_on(tx, peer="pacs") == [study_id]
        assert deliveries.open_peers(tx) == ["pacs"]
        assert deliveries.waiting_count(tx, "pacs") == 1
        assert not peers.get(tx, "pacs").down
        assert peers.get(tx, "never seen").back_off == 0


def test_only_what_is_missing_goes_again(worklist: Worklist, clock: Clock) -> None:
    job_id = done_job(worklist, whole_study(worklist))
    claimed = must_take(worklist)
    half = stored(worklist, claimed.delivery, 1)
    with worklist.write() as tx:
        sending.heartbeat(tx, claimed.delivery.id, claimed.fence, clock() + LEASE_MS)
        sending.record(tx, claimed.delivery.id, claimed.fence, half)
    clock.move(LEASE_MS / 1000 + 1)
    again = must_take(worklist)
    assert [one.stored_at is None for one in again.delivery.statuses] == [False, True]
    assert (again.delivery.tries, again.delivery.lost_leases, again.attempt) == (1, 1, 2)
    with worklist.write() as tx, pytest.raises(LeaseLostError):
        sending.record(tx, claimed.delivery.id, claimed.fence, half)
    with pytest.raises(LeaseLostError):
        end(worklist, claimed)
    with worklist.write() as tx:
        sending.release(tx, again.delivery.id, again.fence, half, clock())
    assert delivery_of(worklist, job_id).begun


def test_a_suspended_peer_gets_nothing_until_it_is_resumed(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    done_job(worklist, study_id)
    with worklist.write() as tx:
        peers.suspend(tx, "pacs", act(worklist))
        studies.refresh_waiting(tx, studies.waiting_on(tx, peer="pacs"))
    assert take_delivery(worklist) is None
    reason = study_of(worklist, study_id).reason
    assert reason is not None
    assert reason.code == "delivery.suspended"
    with worklist.write() as tx:
        peers.resume(tx, "pacs", act(worklist))
    assert take_delivery(worklist) is not None


def test_a_new_set_follows_the_one_that_the_peer_has(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    first = done_job(worklist, study_id)
    claimed = must_take(worklist)
    job_id = late_image(worklist, study_id)
    running = claim(worklist)
    with worklist.read() as tx:
        before = deliveries.predecessors(tx, running.job.line, ["pacs", "b"], job_id=job_id)
    assert set(before) == {"pacs"}
    assert before["pacs"].job_id == first
    assert [one.number for one in before["pacs"].results] == [1, 2]
    assert before["pacs"].delivery_id == claimed.delivery.id
    end_of_job = done(running, to(predecessor_id=claimed.delivery.id))
    assert finish(worklist, running, end_of_job).kind is FinishedKind.ENDED
    assert take_delivery(worklist) is None, "the one before is still being sent"
    end(worklist, claimed)
    following = must_take(worklist)
    assert following.delivery.after_id == claimed.delivery.id
    assert delivery_of(worklist, first).state is DeliveryState.SENT


def test_what_was_not_sent_is_withdrawn_when_the_newer_set_is_there(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    first = done_job(worklist, study_id)
    late_image(worklist, study_id)
    assert delivery_of(worklist, first).state is DeliveryState.QUEUED
    running = claim(worklist)
    finish(worklist, running, done(running, to()))
    withdrawn = delivery_of(worklist, first)
    assert withdrawn.state is DeliveryState.WITHDRAWN
    with worklist.write() as tx:
        assert not deliveries.resend(tx, withdrawn.id, act(worklist))
    with worklist.read() as tx:
        old, new = jobs.get(tx, first), jobs.get(tx, running.job.id)
    assert old is not None
    assert new is not None
    assert (old.state, old.is_current, new.is_current) == (JobState.SUPERSEDED, False, True)
    assert must_take(worklist).delivery.job_id == running.job.id


def failed(worklist: Worklist, claimed: ClaimedDelivery, count: int) -> None:
    """End a delivery as failed, some of its objects stored."""
    how = DeliveryEnd(
        state=DeliveryState.FAILED,
        reason=Reason("delivery.A900", {"peer": "pacs"}),
        objects=stored(worklist, claimed.delivery, count),
    )
    with worklist.write() as tx:
        sending.finish(tx, claimed.delivery.id, claimed.fence, how, worklist.now())


def test_what_failed_unsent_is_withdrawn_when_the_newer_set_is_there(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    first = done_job(worklist, study_id)
    failed(worklist, must_take(worklist), 0)
    late_image(worklist, study_id)
    running = claim(worklist)
    finish(worklist, running, done(running, to()))
    assert delivery_of(worklist, first).state is DeliveryState.WITHDRAWN
    end(worklist, must_take(worklist))
    assert study_of(worklist, study_id).outcome is Outcome.DONE


def test_what_failed_in_part_counts_until_a_newer_set_arrives(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    first = done_job(worklist, study_id)
    claimed = must_take(worklist)
    failed(worklist, claimed, 1)
    late_image(worklist, study_id)
    running = claim(worklist)
    finish(worklist, running, done(running, to(predecessor_id=claimed.delivery.id)))
    newer = must_take(worklist)
    assert study_of(worklist, study_id).outcome is Outcome.NEEDS_ATTENTION
    with worklist.write() as tx:
        assert not deliveries.resend(tx, claimed.delivery.id, act(worklist)), (
            "the newer is on its way"
        )
    end(worklist, newer)
    outdated = delivery_of(worklist, first)
    assert outdated.state is DeliveryState.WITHDRAWN
    assert outdated.reason == Reason("delivery.outdated", {"peer": "pacs"})
    assert study_of(worklist, study_id).outcome is Outcome.DONE
    with worklist.read() as tx:
        assert retention.purgeable(tx, older_than_ms=None) == [study_id]


def test_an_old_set_that_turns_out_lost_after_the_newer_arrived_asks_for_nobody(
    worklist: Worklist,
) -> None:
    study_id = whole_study(worklist)
    first = done_job(worklist, study_id)
    claimed = must_take(worklist)
    end(worklist, claimed, confirm_at=worklist.now())
    late_image(worklist, study_id)
    running = claim(worklist)
    finish(worklist, running, done(running, to(predecessor_id=claimed.delivery.id)))
    end(worklist, must_take(worklist))
    asked = sending.claim_confirmation(worklist, "pacs", owner="d1", lease_ms=LEASE_MS)
    assert asked is not None
    lost = DeliveryEnd(
        state=DeliveryState.FAILED,
        reason=Reason("delivery.not_kept", {"peer": "pacs", "n": 2, "m": 0}),
        objects=stored(worklist, asked.delivery, 0),
    )
    with worklist.write() as tx:
        sending.confirm(tx, asked.delivery.id, asked.fence, lost, worklist.now())
    assert delivery_of(worklist, first).state is DeliveryState.WITHDRAWN
    assert study_of(worklist, study_id).outcome is Outcome.DONE


def test_an_old_report_is_not_sent_again_after_the_new_one(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    done_job(worklist, study_id)
    old = must_take(worklist)
    end(worklist, old)
    late_image(worklist, study_id)
    running = claim(worklist)
    finish(worklist, running, done(running, to(predecessor_id=old.delivery.id)))
    new = must_take(worklist)
    end(worklist, new)
    with worklist.write() as tx:
        assert not deliveries.resend(tx, old.delivery.id, act(worklist), only_missing=False)
        assert deliveries.resend(tx, new.delivery.id, act(worklist), only_missing=False)


def test_a_set_of_which_the_peer_has_a_part_is_sent_to_its_end(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    first = done_job(worklist, study_id)
    claimed = must_take(worklist)
    again = DeliveryRetry(
        at_ms=worklist.now(),
        reason=Reason("delivery.partial", {"peer": "pacs", "n": 1, "m": 2, "k": 1}),
        objects=stored(worklist, claimed.delivery, 1),
    )
    with worklist.write() as tx:
        sending.retry_later(tx, claimed.delivery.id, claimed.fence, again, worklist.now())
    late_image(worklist, study_id)
    running = claim(worklist)
    end_of_job = done(running, to(predecessor_id=claimed.delivery.id))
    assert finish(worklist, running, end_of_job).kind is FinishedKind.ENDED
    assert delivery_of(worklist, first).state is DeliveryState.QUEUED
    following = must_take(worklist)
    assert following.delivery.id == claimed.delivery.id


def test_a_set_that_moved_meanwhile_has_the_new_one_encoded_again(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    done_job(worklist, study_id)
    job_id = late_image(worklist, study_id)
    running = claim(worklist)
    encoded = done(running, to())
    claimed = must_take(worklist)
    again = finish(worklist, running, encoded)
    assert again.kind is FinishedKind.ENCODE_AGAIN
    with worklist.read() as tx:
        found = jobs.get(tx, job_id)
        assert deliveries.of_job(tx, job_id) == []
    assert found is not None
    assert found.state is JobState.RUNNING
    followed = done(running, to(predecessor_id=claimed.delivery.id))
    assert finish(worklist, running, followed).kind is FinishedKind.ENDED


@pytest.mark.parametrize("only_missing", [True, False])
def test_resend_sends_what_is_missing_or_all(worklist: Worklist, only_missing: bool) -> None:
    study_id = whole_study(worklist)
    job_id = done_job(worklist, study_id)
    claimed = must_take(worklist)
    how = DeliveryEnd(
        state=DeliveryState.FAILED,
        reason=Reason("delivery.given_up", {"peer": "pacs", "n": 6, "status_words": "no"}),
        objects=stored(worklist, claimed.delivery, 1),
    )
    with worklist.write() as tx:
        assert not deliveries.resend(tx, claimed.delivery.id, act(worklist))
        sending.finish(tx, claimed.delivery.id, claimed.fence, how, worklist.now())
    assert study_of(worklist, study_id).outcome is Outcome.NEEDS_ATTENTION
    with worklist.write() as tx:
        assert deliveries.resend(tx, claimed.delivery.id, act(worklist), only_missing=only_missing)
    delivery = delivery_of(worklist, job_id)
    assert (delivery.state, delivery.tries) == (DeliveryState.QUEUED, 0)
    missing = [one.stored_at is None for one in delivery.statuses]
    assert missing == ([False, True] if only_missing else [True, True])
    end(worklist, must_take(worklist))
    with worklist.write() as tx:
        assert not deliveries.resend(tx, claimed.delivery.id, act(worklist))


def test_a_peer_is_asked_whether_it_keeps_the_objects(worklist: Worklist, clock: Clock) -> None:
    study_id = whole_study(worklist)
    job_id = done_job(worklist, study_id)
    end(worklist, must_take(worklist), confirm_at=clock() + 5_000)
    ask = {"owner": "d1", "lease_ms": LEASE_MS}
    assert sending.claim_confirmation(worklist, "pacs", **ask) is None  # type: ignore[arg-type]
    with worklist.read() as tx:
        assert sending.next_due_at(tx, "pacs") == clock() + 5_000
        assert retention.purgeable(tx, older_than_ms=None) == []
    clock.move(5)
    asked = sending.claim_confirmation(worklist, "pacs", owner="d1", lease_ms=LEASE_MS)
    assert asked is not None
    assert sending.claim_confirmation(worklist, "pacs", **ask) is None  # type: ignore[arg-type]
    later = DeliveryEnd(
        state=DeliveryState.SENT,
        reason=Reason("commitment.outstanding", {"peer": "pacs", "n": 2}),
        objects=asked.delivery.statuses,
        confirm_at=clock() + 5_000,
    )
    with worklist.write() as tx:
        sending.confirm(tx, asked.delivery.id, asked.fence, later, clock())
    clock.move(5)
    with worklist.write() as tx:
        assert sending.release_owner(tx, "nobody", clock()) == 0
    asked = sending.claim_confirmation(worklist, "pacs", owner="d1", lease_ms=LEASE_MS)
    assert asked is not None
    confirmed = DeliveryEnd(
        state=DeliveryState.CONFIRMED,
        reason=Reason("delivery.confirmed", {"peer": "pacs", "at": clock(), "n": 2}),
        objects=[dataclasses.replace(one, confirmed_at=clock()) for one in asked.delivery.statuses],
    )
    with worklist.write() as tx:
        sending.confirm(tx, asked.delivery.id, asked.fence, confirmed, clock())
        sending.confirm(tx, asked.delivery.id, asked.fence, confirmed, clock())
        assert retention.purgeable(tx, older_than_ms=None) == [study_id]
    delivery = delivery_of(worklist, job_id)
    assert (delivery.state, delivery.confirm_at) == (DeliveryState.CONFIRMED, None)
    assert study_of(worklist, study_id).outcome is Outcome.DONE


def test_what_a_peer_does_not_keep_goes_again(worklist: Worklist, clock: Clock) -> None:
    done_job(worklist, whole_study(worklist))
    end(worklist, must_take(worklist), confirm_at=clock())
    asked = sending.claim_confirmation(worklist, "pacs", owner="dead", lease_ms=LEASE_MS)
    assert asked is not None
    with worklist.write() as tx:
        sending.release_owner(tx, "dead", clock())
    asked = sending.claim_confirmation(worklist, "pacs", owner="d1", lease_ms=LEASE_MS)
    assert asked is not None
    again = DeliveryEnd(
        state=DeliveryState.QUEUED,
        reason=Reason("commitment.partial", {"peer": "pacs", "n": 1, "m": 2, "k": 1}),
        objects=[
            asked.delivery.statuses[0],
            dataclasses.replace(asked.delivery.statuses[1], stored_at=None),
        ],
        confirm_at=clock() + 1_000,
    )
    with worklist.write() as tx:
        sending.confirm(tx, asked.delivery.id, asked.fence, again, clock())
    assert take_delivery(worklist) is None
    clock.move(1)
    assert must_take(worklist).delivery.begun


def test_retention_touches_only_what_is_final_and_old(worklist: Worklist, clock: Clock) -> None:
    study_id = whole_study(worklist)
    job_id = done_job(worklist, study_id)
    open_id = whole_study(worklist, 1, study="7.7")
    make_job(worklist, open_id)
    with worklist.write() as tx:
        assert retention.purge_images(tx, study_id, act(worklist)).images == ()
    end(worklist, must_take(worklist))
    clock.move(86_400)
    with worklist.write() as tx:
        assert retention.purgeable(tx, older_than_ms=clock() - 2 * 86_400_000) == []
        assert retention.purgeable(tx, older_than_ms=clock() - 1_000) == [study_id]
        assert studies.hold(tx, study_id, True, act(worklist))
        assert retention.purgeable(tx, older_than_ms=None) == []
        assert retention.purge_results(tx, act(worklist), older_than_ms=clock()).results == ()
        assert studies.hold(tx, study_id, False, act(worklist))
        gone = retention.purge_images(tx, study_id, act(worklist))
        made = retention.purge_results(tx, act(worklist), older_than_ms=clock())
        assert not deliveries.resend(
            tx, delivery_of(worklist, job_id).id, act(worklist), only_missing=False
        )
    assert (len(gone.images), len(made.results)) == (3, 2)
    assert study_of(worklist, study_id).purged_at == clock()
    [back] = take(worklist, arrival(1, path="back.dcm"))
    assert (back.kind, back.keeps_file) == ("same", True)


def test_a_message_leaves_once(worklist: Worklist, clock: Clock) -> None:
    with worklist.write() as tx:
        new = NewNotification(channel="webhook", target="his", what="job.done", body={"a": 1})
        notifications.create(tx, new, clock())
    first = notifications.claim_next(worklist, owner="n1", lease_ms=LEASE_MS)
    assert first is not None
    assert notifications.claim_next(worklist, owner="n2", lease_ms=LEASE_MS) is None
    no = Reason("notification.refused", {"target": "his", "status": "500"})
    with worklist.write() as tx:
        notifications.retry_later(tx, first.id, first.fence, at_ms=clock() + 1_000, reason=no)
    clock.move(1)
    second = notifications.claim_next(worklist, owner="n1", lease_ms=LEASE_MS)
    assert second is not None
    assert (second.tries, second.body) == (2, {"a": 1})
    clock.move(LEASE_MS / 1000)
    third = notifications.claim_next(worklist, owner="n2", lease_ms=LEASE_MS)
    assert third is not None
    assert third.tries == 2
    with worklist.write() as tx:
        assert notifications.release_owner(tx, "n2") == 1
    fourth = notifications.claim_next(worklist, owner="n3", lease_ms=LEASE_MS)
    assert fourth is not None
    sent = NotificationState.SENT
    with worklist.write() as tx:
        notifications.finish(tx, fourth.id, fourth.fence, sent, clock())
    with worklist.write() as tx, pytest.raises(LeaseLostError):
        notifications.finish(tx, third.id, third.fence, sent, clock())


def test_a_commitment_is_answered_once(worklist: Worklist, clock: Clock) -> None:
    new = NewCommitment(
        transaction_uid="2.25.1", peer="pacs", asked_by_us=True, objects=[], due_at=clock() + 10
    )
    with worklist.write() as tx:
        number = commitments.ask(tx, new, clock())
        assert commitments.overdue(tx, clock()) == []
        [late] = commitments.overdue(tx, clock() + 10)
        assert commitments.settle(tx, number, CommitmentState.OVERDUE, [], clock())
        assert commitments.settle(tx, number, CommitmentState.COMMITTED, [], clock())
        assert not commitments.settle(tx, number, CommitmentState.FAILED, [], clock())
        found = commitments.find(tx, "2.25.1")
    assert late.id == number
    assert found is not None
    assert found.state is CommitmentState.COMMITTED
