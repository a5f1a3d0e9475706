"""Lists and searches: right rows in order, page by page, by an index."""

from __future__ import annotations

from sqlalchemy import insert, select, tuple_, update

from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import Decision, JobState, Outcome, StudyState
from dicomnode.worklist import (
    accounts,
    associations,
    events,
    routes,
    schema,
    search,
    studies,
)
from dicomnode.worklist.accounts import NewToken
from dicomnode.worklist.associations import NewAssociation
from dicomnode.worklist.claims import Condition
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.keys import prefix_end
from dicomnode.worklist.routes import NewRoute
from dicomnode.worklist.search import Filters, Order
from tests.postgres import Clock
from tests.worklist_data import act, arrival, make_job, plan, take, whole_study


def fill(worklist: Worklist, clock: Clock, count: int = 23) -> list[int]:
    """Take in studies of one image, two at each second, and give their ids."""
    ids = []
    for number in range(count):
        modality = ("CT", "MR", "CR")[number % 3]
        changes = {
            "patient_id": f"P-{number:03}",
            "patient_name": f"Test^{chr(65 + number)}",
            "accession_number": f"A{number}",
            "modality": modality,
            "peer": ("ct1", "ct2")[number % 2],
        }
        [taken] = take(worklist, arrival(1, study=f"3.{number}", **changes))
        ids.append(taken.study_id or 0)
        clock.move(number % 2)
    return ids


def pages(worklist: Worklist, filters: Filters, order: Order = Order.RECEIVED) -> list[int]:
    """Read a list to its end in pages of four, and give the ids in order."""
    found: list[int] = []
    key = None
    with worklist.read() as tx:
        while True:
            page = search.list_studies(tx, filters, order=order, after=key, limit=4)
            assert len(page.studies) <= 4
            found += [study.id for study in page.studies]
            key = page.next_key
            if key is None:
                return found


def test_every_study_stands_on_one_page(worklist: Worklist, clock: Clock) -> None:
    ids = fill(worklist, clock)
    assert pages(worklist, Filters()) == ids[::-1]
    assert pages(worklist, Filters(), Order.OLDEST) == ids
    assert pages(worklist, Filters(), Order.EVENT) == ids[::-1]


def test_filters_all_hold(worklist: Worklist, clock: Clock) -> None:
    ids = fill(worklist, clock)
    take(worklist, arrival(1, study="3.0", series="3.0.2", modality="PT"))
    clock.move(1)
    of_ct = pages(worklist, Filters(modality="CT"))
    assert sorted(of_ct) == ids[0::3]
    assert of_ct[0] == ids[0], "the newest image of all came to it"
    assert pages(worklist, Filters(modality="PT")) == [ids[0]]
    assert pages(worklist, Filters(modality="US")) == []
    both = pages(worklist, Filters(modality="MR", peer="ct2"))
    assert sorted(both) == [one for n, one in enumerate(ids) if n % 3 == 1 and n % 2 == 1]
    make = ids[4]
    with worklist.write() as tx:
        study = studies.get(tx, make)
        assert study is not None
        studies.complete(tx, make, seen_generation=1, by="quiet", act=act(worklist))
        studies.mark_routed(tx, make, 1)
        none = NewRoute(
            pipeline="lung-nodule",
            version="1",
            decision=Decision.NO_ROUTE,
            reason=Reason("study.no_route", {"pipeline": "lung-nodule"}),
            trace=[{"keyword": "Modality", "found": "MR", "wanted": "CT", "ok": False}],
        )
        routes.replace(tx, make, 1, [none], clock())
    assert pages(worklist, Filters(outcomes=(Outcome.NO_ROUTE,))) == [make]
    assert pages(worklist, Filters(reason="study.no_route")) == [make]
    assert pages(worklist, Filters(state=StudyState.COMPLETE)) == [make]
    assert make not in pages(worklist, Filters(outcomes=search.OPEN_OUTCOMES))
    assert make not in pages(worklist, Filters(open_since_ms=clock() - 500))
    shown = pages(worklist, Filters(open_since_ms=0))
    assert sorted(shown) == ids
    assert len(shown) == len(set(shown))
    with worklist.read() as tx:
        [route] = routes.of_study(tx, make)
        counted = search.counts(tx)
        assert search.finished_since(tx, 0) == {"waiting": 22, "no route": 1}
    assert route.trace[0]["wanted"] == "CT"
    assert (counted.receiving, counted.waiting, counted.needs_attention) == (22, 22, 0)


def test_a_list_of_a_pipeline_and_of_jobs(worklist: Worklist, clock: Clock) -> None:
    first = whole_study(worklist, 1, study="4.1")
    whole_study(worklist, 1, study="4.2")
    job_id = make_job(worklist, first, "chest-triage")
    assert pages(worklist, Filters(pipeline="chest-triage")) == [first]
    with worklist.read() as tx:
        [job] = search.list_jobs(tx, JobState.QUEUED)
        assert search.list_jobs(tx, JobState.QUEUED, after=(job.created_at, job.id)) == []
    assert job.id == job_id


def test_people_find_a_study_as_they_type(worklist: Worklist, clock: Clock) -> None:
    ids = fill(worklist, clock)
    with worklist.read() as tx:
        for typed, wanted in (
            ("p-00", ids[9::-1]),
            ("TEST, b".replace(",", ""), [ids[1]]),
            ("Test^C", [ids[2]]),
            ("a1", [*ids[19:9:-1], ids[1]]),
            ("3.7", [ids[7]]),
            ("nobody", []),
            ("  ", []),
            ("\0", []),
        ):
            assert [study.id for study in search.find_studies(tx, typed)] == wanted, typed
        part = search.find_studies(tx, "p-00", after_id=ids[5], limit=2)
        assert [study.id for study in part] == [ids[4], ids[3]]


def test_a_waiting_decision_is_due_once(worklist: Worklist, clock: Clock) -> None:
    study_id = whole_study(worklist)
    wait = NewRoute(
        pipeline="p",
        version="1",
        decision=Decision.WAITING,
        reason=Reason("study.waiting_series", {"pipeline": "p", "n": 1}),
        due_at=clock() + 1_000,
    )
    with worklist.write() as tx:
        routes.replace(tx, study_id, 3, [wait], clock())
        assert routes.due(tx, clock()) == []
        assert routes.next_due_at(tx) == clock() + 1_000
        assert routes.due(tx, clock() + 1_000) == [study_id]
        assert studies.complete_by_hand(tx, study_id, act(worklist))
        [found] = studies.unrouted(tx)
    assert (found.id, found.completed_by) == (study_id, "hand")


def test_completing_by_hand_closes_what_still_receives(worklist: Worklist) -> None:
    [taken] = take(worklist, arrival(1))
    study_id = taken.study_id or 0
    with worklist.write() as tx:
        assert studies.complete_by_hand(tx, study_id, act(worklist))
        assert not studies.complete_by_hand(tx, study_id, act(worklist))
        found = studies.get(tx, study_id)
    assert found is not None
    assert (found.state, found.completed_by) == (StudyState.COMPLETE, "hand")


def test_a_count_is_reached_only_twice_in_a_row(worklist: Worklist, clock: Clock) -> None:
    [taken] = take(worklist, arrival(1))
    study_id = taken.study_id or 0
    seen = []
    with worklist.write() as tx:
        for images in (1, 1, 2, 1):
            assert studies.expect(tx, study_id, studies.Count(images=images, asked_at=clock()))
            found = studies.get(tx, study_id)
            assert found is not None
            seen.append((found.expected_count, found.expected_seen))
        why = studies.Count(images=None, asked_at=clock(), reason="it does not answer")
        assert studies.expect(tx, study_id, why)
        known = studies.completeness(tx, study_id)
    assert seen == [(1, 1), (1, 2), (2, 0), (1, 1)]
    assert known is not None
    assert known.facts.count_status == "it does not answer"


def test_changes_are_seen_by_their_events(worklist: Worklist) -> None:
    with worklist.read() as tx:
        before = events.newest(tx)
    study_id = whole_study(worklist)
    with worklist.read() as tx:
        assert search.changed_since(tx, before) == [study_id]
        assert [event.what for event in events.after(tx, before)] == [
            "study.opened",
            "study.completed",
        ]
        assert search.changed_since(tx, events.newest(tx)) == []


def test_who_asked_for_an_association_is_listed(worklist: Worklist, clock: Clock) -> None:
    no = Reason("association.refused_calling", {"calling": "X", "address": "10.0.0.9"})
    new = NewAssociation(
        calling_ae_title="X", called_ae_title="NODE", address="10.0.0.9", refused=no
    )
    with worklist.write() as tx:
        first = associations.open_one(tx, new, clock())
        second = associations.open_one(tx, new, clock())
        found = associations.recent(tx)
        rest = associations.recent(tx, after=(found[0].opened_at, found[0].id))
    assert [one.id for one in found] == [second, first]
    assert [one.id for one in rest] == [first]
    assert (found[0].accepted, found[0].reason) == (False, no)


def test_accounts_tokens_and_looks(worklist: Worklist, clock: Clock) -> None:
    study_id = whole_study(worklist)
    with worklist.write() as tx:
        user_id = accounts.create(tx, "anna", "operator", act(worklist))
        token = NewToken(
            user_id=user_id, digest="d" * 64, purpose="session", expires_at=clock() + 10
        )
        accounts.add_token(tx, token, clock())
        found = accounts.user_of_token(tx, "d" * 64, "session", clock())
        assert found is not None
        assert found.name == "anna"
        assert accounts.user_of_token(tx, "d" * 64, "session", clock() + 10) is None
        assert accounts.change(tx, "anna", {"enabled": False}, act(worklist))
        assert accounts.user_of_token(tx, "d" * 64, "session", clock()) is None
        assert accounts.forget_tokens(tx, clock() + 10) == 1
        assert accounts.looked(tx, user_id, study_id, clock(), every_ms=900_000)
        assert not accounts.looked(tx, user_id, study_id, clock() + 1, every_ms=900_000)
        assert [user.name for user in accounts.all_of(tx)] == ["anna"]


def test_lists_and_searches_read_their_index(worklist: Worklist, clock: Clock) -> None:
    fill(worklist, clock, 2)
    rows = schema.studies
    newest = (rows.c.last_received_at.desc(), rows.c.id.desc())
    key = tuple_(rows.c.last_received_at, rows.c.id) < (clock(), 5)

    def page(*where: Condition) -> object:
        return select(rows).where(*where, key).order_by(*newest).limit(50)

    for query, index in (
        (page(), "ix_studies_received"),
        (page(rows.c.outcome == "waiting"), "ix_studies_outcome"),
        (page(rows.c.reason_code == "x"), "ix_studies_reason"),
        (page(rows.c.modalities == "CT"), "ix_studies_modalities"),
        (
            select(rows).where(
                rows.c.patient_name_key >= "te", rows.c.patient_name_key < prefix_end("te")
            ),
            "ix_studies_patient_name",
        ),
    ):
        assert index in plan(worklist, query)  # type: ignore[arg-type]


def test_a_page_far_down_costs_no_more_than_the_first(worklist: Worklist, clock: Clock) -> None:
    fill(worklist, clock, 1)
    with worklist.write() as tx:
        [row] = tx.execute(select(schema.studies)).mappings().all()
        copies = [
            {
                **{name: value for name, value in row.items() if name != "id"},
                "study_instance_uid": f"9.{number}",
                "last_received_at": number,
            }
            for number in range(3_000)
        ]
        tx.execute(insert(schema.studies), copies)
        tx.execute(update(schema.studies).values(outcome=Outcome.DONE))
    assert len(pages(worklist, Filters(outcomes=(Outcome.DONE,), since_ms=2_900))) == 101
