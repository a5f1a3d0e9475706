"""What becomes of an arrival: new, the same, compared, set aside; and what its study does."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import func, select

from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import AssociationState, InstanceState, Outcome, Role, StudyState
from dicomnode.worklist import (
    associations,
    events,
    instances,
    quarantine,
    reconciliation,
    release,
    revisions,
    series,
    studies,
)
from dicomnode.worklist import schema as rows
from dicomnode.worklist.arrivals import Arrival, TakenKind
from dicomnode.worklist.associations import NewAssociation
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.revisions import SettledKind
from tests.worklist_data import (
    STUDY,
    act,
    arrival,
    claim,
    complete,
    done,
    finish,
    make_job,
    take,
    to,
    whole_study,
)


def study_of(worklist: Worklist, uid: str = STUDY) -> studies.Study:
    with worklist.read() as tx:
        found = studies.find(tx, uid)
    assert found is not None
    return found


def codes(worklist: Worklist, study_id: int) -> list[str]:
    with worklist.read() as tx:
        return [event.what for event in reversed(events.of_study(tx, study_id))]


def settle(worklist: Worklist, *, equal: bool) -> revisions.Settled:
    """Settle the oldest pending arrival as the comparison would."""
    with worklist.write() as tx:
        pending = revisions.next_pending(tx)
        assert pending is not None
        return revisions.settle_pending(
            tx,
            pending.arrival.id,
            equal=equal,
            compared_with=pending.current.id,
            act=act(worklist, "node"),
        )


def test_the_first_image_opens_its_study(worklist: Worklist) -> None:
    [taken] = take(worklist, arrival(1))
    study = study_of(worklist)
    assert taken.kind is TakenKind.NEW
    assert taken.keeps_file
    assert (study.state, study.outcome) == (StudyState.RECEIVING, Outcome.WAITING)
    assert (study.instance_count, study.image_count, study.byte_count) == (1, 1, 1000)
    assert (study.generation, study.routed_generation) == (1, 0)
    assert study.reason is not None
    assert study.reason.code == "study.receiving"
    assert codes(worklist, study.id) == ["study.opened"]


def test_the_sentence_keeps_up_with_the_count(worklist: Worklist) -> None:
    take(worklist, *(arrival(number) for number in range(1, 5)))
    study = study_of(worklist)
    assert study.reason is not None
    assert study.reason.parameters["n"] == study.image_count == study.instance_count == 4
    assert study.reason.parameters["last_at"] == study.last_received_at


def test_the_same_bytes_again_change_nothing(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    before = study_of(worklist)
    [again] = take(worklist, arrival(1, path="elsewhere.dcm", peer="other"))
    assert (again.kind, again.keeps_file, again.study_id) == (TakenKind.SAME, False, study_id)
    assert study_of(worklist) == before


def test_an_arrival_taken_in_twice_keeps_its_file(worklist: Worklist) -> None:
    """A commit whose answer was lost is run again: the file is that of the row."""
    first, second = take(worklist, arrival(1), arrival(1))
    assert (first.kind, second.kind) == (TakenKind.NEW, TakenKind.NEW)
    assert second.keeps_file
    assert second.instance_id == first.instance_id
    assert study_of(worklist).instance_count == 1


def test_a_pending_arrival_taken_in_twice_keeps_its_file(worklist: Worklist) -> None:
    take(worklist, arrival(1))
    first, second = take(worklist, arrival(1, content="b"), arrival(1, content="b"))
    assert (first.kind, second.kind) == (TakenKind.PENDING, TakenKind.PENDING)
    assert second.keeps_file
    assert second.instance_id == first.instance_id


def test_a_late_image_opens_its_study_again(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    take(worklist, arrival(9))
    study = study_of(worklist)
    assert study.state is StudyState.RECEIVING
    assert study.completed_at is None
    assert study.due_at == worklist.now()
    assert study.generation == 4
    assert "study.reopened" in codes(worklist, study_id)


def test_other_bytes_open_no_study_but_let_it_not_complete(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    before = study_of(worklist)
    [taken] = take(worklist, arrival(1, content="second"))
    after = study_of(worklist)
    assert taken.kind is TakenKind.PENDING
    assert (after.state, after.generation) == (StudyState.COMPLETE, before.generation)
    assert after.outcome is Outcome.WAITING
    assert after.reason is not None
    assert after.reason.code == "study.pending"
    take(worklist, arrival(9))
    with worklist.write() as tx:
        seen = studies.get(tx, study_id)
        assert seen is not None
        closed = studies.complete(
            tx, study_id, seen_generation=seen.generation, by="quiet", act=act(worklist)
        )
    assert not closed


def test_equal_content_is_dropped_and_its_file_named(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    second = arrival(1, content="other transfer syntax")
    take(worklist, second)
    settled = settle(worklist, equal=True)
    assert (settled.kind, settled.delete_path) == (SettledKind.EQUAL, second.path)
    study = study_of(worklist)
    assert (study.state, study.generation, study.instance_count) == (StudyState.COMPLETE, 3, 3)
    with worklist.read() as tx:
        assert len(instances.of_study(tx, study_id, only_current=False)) == 3


def test_other_content_becomes_a_revision(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    second = arrival(1, content="second")
    take(worklist, second)
    assert settle(worklist, equal=False).kind is SettledKind.REVISED
    study = study_of(worklist)
    assert (study.state, study.generation, study.image_count) == (StudyState.RECEIVING, 4, 3)
    with worklist.read() as tx:
        known = instances.of_study(tx, study_id, only_current=False)
    of_number = [one for one in known if one.sop_instance_uid == second.sop_instance_uid]
    assert [(one.revision, one.state) for one in of_number] == [
        (1, InstanceState.SUPERSEDED),
        (2, InstanceState.CURRENT),
    ]
    assert {"study.revision", "study.reopened"} <= set(codes(worklist, study_id))


def test_several_pending_ones_are_compared_in_order(worklist: Worklist) -> None:
    take(worklist, arrival(1), arrival(1, content="b"), arrival(1, content="c"))
    with worklist.read() as tx:
        first = revisions.next_pending(tx)
        assert first is not None
        assert revisions.next_pending(tx, after_id=first.arrival.id) is None
    assert settle(worklist, equal=False).kind is SettledKind.REVISED
    with worklist.read() as tx:
        second = revisions.next_pending(tx)
    assert second is not None
    assert second.current.id == first.arrival.id
    assert settle(worklist, equal=False).kind is SettledKind.REVISED
    assert study_of(worklist).instance_count == 1


def test_a_comparison_with_what_was_replaced_meanwhile_is_void(worklist: Worklist) -> None:
    take(worklist, arrival(1), arrival(1, content="b"), arrival(1, content="c"))
    with worklist.read() as tx:
        first = revisions.next_pending(tx)
    assert first is not None
    settle(worklist, equal=False)
    with worklist.write() as tx:
        last = instances.of_study(tx, first.arrival.study_id, only_current=False)[-1]
        settled = revisions.settle_pending(
            tx, last.id, equal=True, compared_with=first.current.id, act=act(worklist)
        )
        gone = revisions.settle_pending(
            tx, first.arrival.id, equal=True, compared_with=0, act=act(worklist)
        )
    assert settled.kind is SettledKind.AGAIN
    assert gone.kind is SettledKind.GONE


def test_the_first_content_after_another_is_a_change_too(worklist: Worklist) -> None:
    """A, B, A: the sender's last word counts, not the first."""
    take(worklist, arrival(1), arrival(1, content="b"))
    [third] = take(worklist, arrival(1, path="again.dcm"))
    assert third.kind is TakenKind.PENDING
    settle(worklist, equal=False)
    settle(worklist, equal=False)
    with worklist.read() as tx:
        [current] = instances.of_study(tx, third.study_id or 0)
    assert (current.path, current.revision) == ("again.dcm", 3)


@pytest.mark.parametrize(
    ("changes", "code", "keyword"),
    [
        ({"identity": "P-0099", "content": "x"}, "quarantine.identity_conflict", None),
        ({"identity": "P-0099"}, "quarantine.identity_conflict", None),
        (
            {"series": f"{STUDY}.2", "sop_instance_uid": f"{STUDY}.1.1"},
            "quarantine.uid_conflict",
            "SeriesInstanceUID",
        ),
        (
            {"study": "9.9", "series": "9.9.1", "sop_instance_uid": f"{STUDY}.1.1"},
            "quarantine.uid_conflict",
            "StudyInstanceUID",
        ),
        (
            {"study": "9.9", "series": f"{STUDY}.1", "sop_instance_uid": "9.9.1.7"},
            "quarantine.uid_conflict",
            "StudyInstanceUID",
        ),
    ],
)
def test_a_number_under_another_patient_study_or_series_is_set_aside(
    worklist: Worklist, changes: dict[str, str], code: str, keyword: str | None
) -> None:
    study_id = whole_study(worklist)
    before = study_of(worklist)
    [taken] = take(worklist, arrival(1, **changes, path="aside.dcm"))
    assert taken.kind is TakenKind.QUARANTINED
    assert taken.keeps_file
    assert taken.reason is not None
    assert (taken.reason.code, taken.reason.parameters.get("keyword")) == (code, keyword)
    assert study_of(worklist) == before
    with worklist.read() as tx:
        [aside] = quarantine.listed(tx)
        assert studies.find(tx, "9.9") is None
        assert tx.execute(select(func.count()).select_from(rows.series)).scalar_one() == 1
    assert (aside.study_id, aside.path) == (study_id, "aside.dcm")


def test_what_stands_in_quarantine_is_not_kept_twice(worklist: Worklist) -> None:
    whole_study(worklist)
    first, second, again = take(
        worklist,
        arrival(1, identity="P-2", path="a.dcm"),
        arrival(1, identity="P-2", path="b.dcm"),
        arrival(1, identity="P-2", path="a.dcm"),
    )
    assert (first.keeps_file, second.keeps_file, again.keeps_file) == (True, False, True)
    with worklist.read() as tx:
        assert quarantine.count(tx) == 1


def test_a_released_image_joins_its_study(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    [taken] = take(worklist, arrival(8, identity="P-2"))
    with worklist.write() as tx:
        became = release.release(tx, taken.quarantine_id or 0, act(worklist, why="typing error"))
        assert isinstance(became, instances.Taken)
        assert release.release(tx, taken.quarantine_id or 0, act(worklist)) is None
        assert quarantine.delete(tx, taken.quarantine_id or 0, act(worklist)) is None
    assert (became.kind, became.study_id) == (TakenKind.NEW, study_id)
    assert study_of(worklist).instance_count == 4
    assert "quarantine.released" in codes(worklist, study_id)


def test_what_cannot_be_read_is_deleted_only(worklist: Worklist) -> None:
    new = quarantine.NewQuarantine(
        reason=Reason("quarantine.unreadable", {"offset": 132, "status": "C000"}),
        byte_count=12,
        path="broken.dcm",
        calling_ae_title="X" * 30 + "\0",
    )
    with worklist.write() as tx:
        number = quarantine.put(tx, new, act(worklist, "node"))
        assert quarantine.put(tx, new, act(worklist, "node")) == number
        refused = release.release(tx, number, act(worklist))
        assert isinstance(refused, Reason)
        deleted = quarantine.delete(tx, number, act(worklist))
    assert deleted is not None
    assert deleted.path == "broken.dcm"
    assert refused.code == "quarantine.unreadable"


def test_our_own_objects_start_no_work_and_open_nothing(worklist: Worklist) -> None:
    study_id = whole_study(worklist)
    make_job(worklist, study_id)
    claimed = claim(worklist)
    end = done(claimed, to())
    finish(worklist, claimed, end)
    before = study_of(worklist)
    back = arrival(
        1,
        series="2.25.9",
        sop_instance_uid=end.results[0].sop_instance_uid,
        identity="coerced by the PACS",
        modality="SEG",
    )
    [taken] = take(worklist, back)
    after = study_of(worklist)
    assert taken.kind is TakenKind.NEW
    assert taken.keeps_file
    assert (after.state, after.generation) == (before.state, before.generation)
    assert (after.instance_count, after.image_count) == (3, 3)
    [again] = take(worklist, arrival(1, **{**_changes(back), "content": "coerced again"}))
    assert (again.kind, again.keeps_file) == (TakenKind.SAME, False)
    with worklist.read() as tx:
        kept = instances.get(tx, taken.instance_id or 0)
    assert kept is not None
    assert kept.role is Role.OWN


def _changes(one: Arrival) -> dict[str, str]:
    return {
        "series": one.series_instance_uid,
        "sop_instance_uid": one.sop_instance_uid,
        "path": "other.dcm",
    }


def test_a_study_of_own_objects_only_waits_for_nothing(worklist: Worklist) -> None:
    take(worklist, arrival(1, is_own=True))
    study = study_of(worklist)
    assert (study.state, study.outcome, study.role) == (
        StudyState.COMPLETE,
        Outcome.DONE,
        Role.OWN,
    )
    assert study.reason is not None
    assert study.reason.code == "study.own_objects"
    with worklist.read() as tx:
        assert studies.unrouted(tx) == []
        assert studies.due(tx, worklist.now() + 10**9) == []
    take(worklist, arrival(2))
    opened = study_of(worklist)
    assert (opened.state, opened.role, opened.instance_count) == (
        StudyState.RECEIVING,
        Role.SOURCE,
        1,
    )


def test_a_prior_that_comes_from_its_scanner_is_a_source_then(worklist: Worklist) -> None:
    take(worklist, arrival(1, role=Role.PRIOR))
    assert study_of(worklist).outcome is Outcome.DONE
    [taken] = take(worklist, arrival(1, path="again.dcm"))
    study = study_of(worklist)
    assert (taken.kind, taken.keeps_file) == (TakenKind.SAME, False)
    assert (study.role, study.instance_count) == (Role.SOURCE, 1)
    assert study.state is StudyState.RECEIVING


def test_text_that_no_database_stores_is_replaced(worklist: Worklist) -> None:
    odd = arrival(1, patient_name="A\0B\ud800", calling_ae_title="T" * 40)
    take(worklist, odd)
    study = study_of(worklist)
    assert study.patient_name == "A\ufffdB\ufffd"


def test_rules_match_on_an_image_not_on_what_came_before_it(worklist: Worklist) -> None:
    report = arrival(1, is_image=False, attributes={"Modality": ["PR"]})
    [taken, _] = take(worklist, report, arrival(2))
    with worklist.read() as tx:
        [found] = series.of_study(tx, taken.study_id or 0)
    assert found.attributes == {"Modality": ["CT"]}
    assert (found.instance_count, found.image_count) == (2, 1)


def test_an_open_association_that_sent_is_known(worklist: Worklist) -> None:
    new = NewAssociation(calling_ae_title="CT2", called_ae_title="NODE", address="10.0.0.1")
    with worklist.write() as tx:
        association_id = associations.open_one(tx, new, worklist.now())
        other_id = associations.open_one(tx, new, worklist.now())
    [taken] = take(worklist, arrival(1, association_id=association_id))
    study_id = taken.study_id or 0
    with worklist.read() as tx:
        known = studies.completeness(tx, study_id)
    assert known is not None
    assert (known.open_associations, known.last_closed_at) == (1, None)
    with worklist.write() as tx:
        now_ms = worklist.now()
        assert associations.close(tx, association_id, AssociationState.CLOSED, now_ms)
        assert not associations.close(tx, association_id, AssociationState.ABORTED, now_ms)
        associations.progress(tx, other_id, objects=3, refused=1, byte_count=99, now_ms=now_ms)
        assert associations.lose_open(tx, now_ms) == 1
    with worklist.read() as tx:
        known = studies.completeness(tx, study_id)
        lost = associations.get(tx, other_id)
    assert known is not None
    assert lost is not None
    assert (known.open_associations, known.facts.association_closed_at) == (0, now_ms)
    assert (lost.state, lost.object_count) == (AssociationState.LOST, 3)


def test_eight_threads_with_one_number_have_one_winner(worklist: Worklist) -> None:
    found = _at_once(worklist, [arrival(1, path=f"{n}.dcm") for n in range(8)])
    assert sorted(taken.kind for taken in found) == ["new", *["same"] * 7]
    assert study_of(worklist).instance_count == 1


def test_eight_threads_with_one_number_in_eight_studies_have_one_winner(
    worklist: Worklist,
) -> None:
    same = [arrival(1, study=f"1.{n}", sop_instance_uid="7.7", path=f"{n}.dcm") for n in range(8)]
    found = _at_once(worklist, same)
    assert sorted(taken.kind for taken in found) == ["new", *["quarantined"] * 7]
    with worklist.read() as tx:
        assert tx.execute(select(func.count()).select_from(rows.studies)).scalar_one() == 1
        assert tx.execute(select(func.count()).select_from(rows.series)).scalar_one() == 1


def test_eight_threads_of_one_study_lose_no_count(worklist: Worklist) -> None:
    _at_once(worklist, [arrival(n) for n in range(1, 41)], workers=8)
    study = study_of(worklist)
    assert (study.instance_count, study.generation, study.byte_count) == (40, 40, 40_000)


def _at_once(
    worklist: Worklist, given: list[Arrival], workers: int | None = None
) -> list[instances.Taken]:
    found: list[instances.Taken] = []
    faults: list[BaseException] = []
    workers = workers or len(given)
    gate = threading.Barrier(workers)

    def work(mine: list[Arrival]) -> None:
        gate.wait(10)
        try:
            found.extend(take(worklist, *mine))
        except Exception as fault:  # noqa: BLE001  shown below
            faults.append(fault)

    threads = [
        threading.Thread(target=work, args=(given[start::workers],)) for start in range(workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []
    return found


def test_an_image_that_comes_while_its_study_is_closed_is_never_left_out(
    worklist: Worklist,
) -> None:
    """The closing race: read, decide, and meanwhile something comes."""
    for round_number in range(10):
        uid = f"4.{round_number}"
        [taken] = take(worklist, arrival(1, study=uid))
        study_id = taken.study_id or 0
        seen = study_of(worklist, uid).generation
        gate = threading.Barrier(2)

        def close(study_id: int = study_id, seen: int = seen, gate=gate) -> None:  # type: ignore[no-untyped-def]
            gate.wait(10)
            with worklist.write() as tx:
                studies.complete(tx, study_id, seen_generation=seen, by="quiet", act=act(worklist))

        closer = threading.Thread(target=close)
        closer.start()
        gate.wait(10)
        take(worklist, arrival(2, study=uid))
        closer.join(30)
        assert study_of(worklist, uid).state is StudyState.RECEIVING


def test_files_and_rows_are_made_to_agree(worklist: Worklist) -> None:
    study_id = whole_study(worklist, 2)
    before = study_of(worklist)
    with worklist.read() as tx:
        named = reconciliation.named_files(tx)
        known = reconciliation.known_names(tx, [named[0].path, "orphan.dcm"])
    assert known.kept == {named[0].path}
    assert not known.purged
    for _ in range(2):
        with worklist.write() as tx:
            ids = [one.instance_id for one in named]
            reconciliation.report_missing(tx, ids, act(worklist, "node"))
    assert study_of(worklist) == before
    assert codes(worklist, study_id).count("node.file_missing") == 2


def test_a_resend_gives_a_row_its_file_back_once(worklist: Worklist) -> None:
    """Running it again after a lost answer of the commit keeps the file that it placed."""
    study_id = whole_study(worklist, 1)
    [taken] = take(worklist, arrival(1, path="again.dcm"))
    assert taken.standing == arrival(1).path
    done_before = study_of(worklist)
    for path, keeps in (("again.dcm", True), ("again.dcm", True), ("late.dcm", False)):
        with worklist.write() as tx:
            restored = reconciliation.restore(
                tx, arrival(1, path=path), taken.standing, act(worklist, "node")
            )
        assert restored is keeps
    with worklist.read() as tx:
        [kept] = instances.of_study(tx, study_id)
    assert kept.path == "again.dcm"
    assert study_of(worklist) == done_before
    assert codes(worklist, study_id).count("node.file_restored") == 1


def test_what_other_content_was_asked_for_restores_nothing(worklist: Worklist) -> None:
    whole_study(worklist, 1)
    with worklist.write() as tx:
        assert not reconciliation.restore(
            tx, arrival(1, content="other"), arrival(1).path, act(worklist, "node")
        )


def test_a_released_file_is_its_instances_and_never_called_purged(worklist: Worklist) -> None:
    whole_study(worklist)
    [taken] = take(worklist, arrival(8, identity="P-2", path="a.dcm"))
    with worklist.write() as tx:
        quarantine.settle(tx, taken.quarantine_id or 0, quarantine.RELEASED, act(worklist))
        known = reconciliation.known_names(tx, ["a.dcm"])
    assert not known.kept | known.purged
    with worklist.write() as tx:
        instances.take_in(tx, arrival(8, path="a.dcm"), worklist.now())
        assert reconciliation.known_names(tx, ["a.dcm"]).kept == {"a.dcm"}


def test_what_a_person_deleted_from_quarantine_is_purged(worklist: Worklist) -> None:
    whole_study(worklist)
    [taken] = take(worklist, arrival(8, identity="P-2", path="a.dcm"))
    with worklist.write() as tx:
        assert quarantine.delete(tx, taken.quarantine_id or 0, act(worklist)) is not None
        assert reconciliation.known_names(tx, ["a.dcm"]).purged == {"a.dcm"}


def test_a_complete_study_is_looked_at_no_more(worklist: Worklist) -> None:
    [taken] = take(worklist, arrival(1))
    with worklist.read() as tx:
        assert [study.id for study in studies.due(tx, worklist.now())] == [taken.study_id]
        assert studies.next_due_at(tx) == worklist.now()
    complete(worklist, taken.study_id or 0)
    with worklist.read() as tx:
        assert studies.due(tx, worklist.now() + 10**9) == []
        assert studies.next_due_at(tx) is None
