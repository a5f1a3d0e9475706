"""``worklist retry|cancel|resend|complete|reprocess|priority|delete``: what a person may do.

What fits and what is refused, in which words, stands in `dicomnode.rules.actions`; everything that
is done writes its event with the machine's user as who did it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated

import typer
from sqlalchemy import Connection

from dicomnode.cli.asking import agree, agree_by_count
from dicomnode.cli.output import FAILED
from dicomnode.cli.session import Session, command, refuse
from dicomnode.cli.studies import found_study
from dicomnode.cli.words import images_words
from dicomnode.rules.actions import (
    Action,
    asks_before_resend,
    refusal_for_delivery,
    refusal_for_job,
    refusal_for_study,
)
from dicomnode.rules.sentences import counted
from dicomnode.rules.states import JobState, Priority
from dicomnode.worklist import deliveries, jobs, retention, story, studies
from dicomnode.worklist import results as result_rows
from dicomnode.worklist.deliveries import Delivery
from dicomnode.worklist.events import Act
from dicomnode.worklist.jobs import Job
from dicomnode.worklist.studies import Study

StudyArgument = Annotated[str, typer.Argument(help="Number or Study Instance UID.")]
StudiesArgument = Annotated[list[str], typer.Argument(help="Numbers or Study Instance UIDs.")]
PipelineOption = Annotated[str | None, typer.Option(help="Only the jobs of this one.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

_MOVED_ON = "This study moved on while you read; look again."


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an action on one study."""

    study_id: int
    done: bool
    sentence: str


def register(app: typer.Typer) -> None:
    """Add the commands to the group ``worklist``."""
    for function in (retry, cancel, resend, complete, reprocess, priority, delete):
        command(app)(function)


def _each(
    session: Session, given: Iterable[str], do: Callable[[Connection, Study, Act], Answer]
) -> None:
    """Act on studies, each in its own transaction; exit 1 where one was refused."""
    with session.worklist() as worklist:
        act = session.act(worklist)
        answers = []
        for name in given:
            with worklist.write() as tx:
                answers.append(do(tx, found_study(session, tx, name), act))
    _tell(session, answers)


def _tell(session: Session, answers: list[Answer]) -> None:
    if session.output.as_json:
        session.output.items(
            [
                {"study_id": one.study_id, "done": one.done, "sentence": one.sentence}
                for one in answers
            ]
        )
    for one in answers:
        if not session.output.as_json:
            session.output.say(f"{one.study_id}  {one.sentence}")
    if not all(one.done for one in answers):
        raise typer.Exit(FAILED)


def _on_jobs(
    tx: Connection,
    study: Study,
    action: Action,
    pipeline: str | None,
    do: Callable[[Job], bool],
) -> Answer:
    """Do something to every job of a study that it fits, or say why it fits none."""
    found = [
        job for job in jobs.of_study(tx, study.id) if pipeline is None or job.pipeline == pipeline
    ]
    refusals = [
        refusal_for_job(action, job.state, are_images_kept=jobs.keeps_images(tx, job))
        for job in found
    ]
    fitting = [job for job, refusal in zip(found, refusals, strict=True) if refusal is None]
    if not fitting:
        of_it = f" of {pipeline}" if pipeline else ""
        why = next((one for one in reversed(refusals) if one), f"The study has no job{of_it} yet.")
        return Answer(study.id, False, why)
    done = [job for job in fitting if do(job)]
    names = ", ".join(f"{job.pipeline} (job {job.id})" for job in done)
    return Answer(study.id, bool(done), f"{action}: {names}" if done else _MOVED_ON)


def retry(session: Session, study: StudiesArgument, pipeline: PipelineOption = None) -> None:
    """Run jobs again that failed, were declined or cancelled, or wait for their next try."""

    def do(tx: Connection, found: Study, act: Act) -> Answer:
        return _on_jobs(tx, found, Action.RETRY, pipeline, lambda job: jobs.retry(tx, job.id, act))

    _each(session, study, do)


def cancel(session: Session, study: StudiesArgument, pipeline: PipelineOption = None) -> None:
    """Cancel jobs that wait or run; a running one stops within seconds."""

    def do(tx: Connection, found: Study, act: Act) -> Answer:
        return _on_jobs(
            tx, found, Action.CANCEL, pipeline, lambda job: jobs.cancel(tx, job.id, act)
        )

    _each(session, study, do)


def priority(
    session: Session,
    study: StudyArgument,
    level: Annotated[Priority, typer.Argument(help="urgent, normal or later.")],
    pipeline: PipelineOption = None,
) -> None:
    """Set how urgent a study is, with all that waits in it, or only one pipeline's jobs."""

    def do(tx: Connection, found: Study, act: Act) -> Answer:
        if pipeline is not None:
            return _on_jobs(
                tx,
                found,
                Action.PRIORITY,
                pipeline,
                lambda job: jobs.set_priority(tx, job.id, level, act),
            )
        done = studies.set_priority(tx, found.id, level, act)
        return Answer(found.id, done, f"The study is {level} now." if done else _MOVED_ON)

    _each(session, [study], do)


def resend(
    session: Session,
    study: StudyArgument,
    peer: Annotated[str | None, typer.Option(help="Only to this peer.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every object, not only what is missing there.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """Send results again: what the peer has not, or all of it."""
    with session.worklist() as worklist:
        with worklist.read() as tx:
            found = found_study(session, tx, study)
            wanted = _deliveries(tx, found, peer)
        confirmed = [one for one in wanted if asks_before_resend(one.state)]
        if everything and confirmed:
            names = ", ".join(sorted({one.peer for one in confirmed}))
            n = sum(len(one.statuses) for one in confirmed)
            agree(session, f"{names} confirmed {counted(n, 'object')}. Send anyway?", yes=yes)
    _each(session, [study], lambda tx, one, act: _resend(tx, one, act, peer, everything))


def _deliveries(tx: Connection, study: Study, peer: str | None) -> list[Delivery]:
    found = deliveries.of_study(tx, study.id)
    return [one for one in found if peer is None or one.peer == peer]


def _resend(tx: Connection, study: Study, act: Act, peer: str | None, everything: bool) -> Answer:
    found = _deliveries(tx, study, peer)
    refusals = [refusal_for_delivery(Action.RESEND, one.state) for one in found]
    fitting = [one for one, refusal in zip(found, refusals, strict=True) if refusal is None]
    if not fitting:
        to = f" for {peer}" if peer else ""
        why = next((one for one in reversed(refusals) if one), None)
        return Answer(study.id, False, why or f"The study has no result{to} yet.")
    sent = [
        one for one in fitting if deliveries.resend(tx, one.id, act, only_missing=not everything)
    ]
    if sent:
        names = ", ".join(sorted({one.peer for one in sent}))
        return Answer(study.id, True, f"resend: to {names}")
    kept = result_rows.of_study(tx, study.id)
    if kept and all(one.purged_at is not None for one in kept):
        return Answer(study.id, False, "The results are not kept here any more.")
    return Answer(study.id, False, "Nothing is missing there; --all sends every object again.")


def complete(session: Session, study: StudyArgument, yes: YesOption = False) -> None:
    """Start with what is here instead of waiting for more images."""
    with session.worklist() as worklist, worklist.read() as tx:
        found = found_study(session, tx, study)
        _demand(session, tx, found, Action.COMPLETE)
    question = f"Start with {images_words(found)}?"
    agree(session, f"{question} Images that come later make a second report.", yes=yes)

    def do(tx: Connection, found: Study, act: Act) -> Answer:
        done = studies.complete_by_hand(tx, found.id, act)
        return Answer(found.id, done, "The study is complete now." if done else _MOVED_ON)

    _each(session, [study], do)


def _demand(
    session: Session, tx: Connection, study: Study, action: Action, *, are_images_kept: bool = True
) -> None:
    """End the command with the sentence why an action does not fit a study."""
    standing = story.standing(tx, study.id)
    assert standing is not None, "the study was found in the same transaction"
    refusal = refusal_for_study(
        action, standing, is_held=study.hold, are_images_kept=are_images_kept
    )
    if refusal is not None:
        raise refuse(session, refusal)


def reprocess(
    session: Session,
    study: StudyArgument,
    why: Annotated[str, typer.Option(help="Why; kept with the event. No names.")],
    pipeline: PipelineOption = None,
    yes: YesOption = False,
) -> None:
    """Run pipelines, as they are installed now, once more on the same images."""
    with session.worklist() as worklist:
        with worklist.read() as tx:
            found = found_study(session, tx, study)
            current = _current_jobs(tx, found, pipeline)
            wanted = [job for job in current if jobs.keeps_images(tx, job)]
            are_kept = bool(wanted) or not current
            _demand(session, tx, found, Action.REPROCESS, are_images_kept=are_kept)
        if not wanted:
            raise refuse(session, "The study has no job that could be run again.")
        names = ", ".join(sorted({job.pipeline for job in wanted}))
        question = f"Run {names} again on the same images? Reports are superseded by new ones."
        agree(session, question, yes=yes)
        act = session.act(worklist, why)
        made = []
        with worklist.write() as tx:
            for job in wanted:
                created = jobs.reprocess(tx, job.id, act)
                if created is not None:
                    made.append(f"{job.pipeline} (job {created.job_id})")
    said = f"reprocess: {', '.join(made)}" if made else _MOVED_ON
    _tell(session, [Answer(found.id, bool(made), said)])


def _current_jobs(tx: Connection, study: Study, pipeline: str | None) -> list[Job]:
    unfit = {JobState.SUPERSEDED, JobState.HELD, JobState.QUEUED}
    return [
        job
        for job in jobs.of_study(tx, study.id)
        if job.state not in unfit and (pipeline is None or job.pipeline == pipeline)
    ]


def delete(session: Session, study: StudyArgument, yes: YesOption = False) -> None:
    """Delete a finished study here, with its images and results; what peers keep stays."""
    with session.worklist() as worklist:
        with worklist.read() as tx:
            found = found_study(session, tx, study)
            _demand(session, tx, found, Action.DELETE)
            made = [one for one in result_rows.of_study(tx, found.id) if one.purged_at is None]
        storage = session.storage(worklist)
        images = counted(found.instance_count, "image")
        question = f"Delete {images} and {counted(len(made), 'result')} here? There is no undo."
        agree_by_count(session, question, found.instance_count, yes=yes)
        act = session.act(worklist)
        with worklist.write() as tx:
            gone = retention.delete_study(tx, found.id, act)
        if gone is None:
            raise refuse(session, _MOVED_ON)
        for name in gone.images:
            storage.delete_kept(name)
        for name in gone.results:
            storage.delete_result(name)
    said = f"Deleted {counted(len(gone.images), 'image')}, {counted(len(gone.results), 'result')}."
    _tell(session, [Answer(found.id, True, said)])
