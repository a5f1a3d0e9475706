"""``run PIPELINE FOLDER --out FOLDER``: files in, checked result objects out, no server.

The very same child, loader, encoder and gate as in the node; routing's rules choose the series.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from dicomnode.cli.files import StudyFiles, read_folder
from dicomnode.cli.findings import read_findings
from dicomnode.cli.installed import ask, child_of, describe, rules_of
from dicomnode.cli.output import FAILED, Column
from dicomnode.cli.session import Session, command, refuse
from dicomnode.cli.views import (
    reason_view,
)
from dicomnode.cli.words import (
    Reader,
)
from dicomnode.config import Settings
from dicomnode.dicom.files import data_set_digest
from dicomnode.errors import PipelineError
from dicomnode.rules.reasons import Reason
from dicomnode.rules.routing import PipelineRule, PlannedJob
from dicomnode.rules.states import JobState
from dicomnode.serve.supervisor import devices_of
from dicomnode.stages.analyse import messages
from dicomnode.stages.analyse.child_process import ChildProcess, Died
from dicomnode.stages.route import decide_files, zone_of
from dicomnode.worklist.database import utc_ms

_PRESENTS = ("seg", "sr")
_FORM = "files"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app)(run)


@dataclass(frozen=True, slots=True)
class Run:
    """What to run, on which files, and where its results go."""

    rule: PipelineRule
    planned: PlannedJob
    series: tuple[tuple[messages.SourceFile, ...], ...]
    target: str

    @property
    def key(self) -> str:
        """The key that a node's job over the same bytes has, so that UIDs repeat."""
        inputs = zip(
            (one for found in self.planned.series for one in found.instances),
            (file for files in self.series for file in files),
            strict=True,
        )
        given = tuple((one.sop_instance_uid, file.digest) for one, file in inputs)
        return replace(self.planned.key_parts, inputs=given).key()


def run(
    session: Session,
    pipeline: Annotated[str, typer.Argument(help="Its name in: dicomnode pipeline list")],
    folder: Annotated[Path, typer.Argument(exists=True, help="DICOM files of one study.")],
    out: Annotated[Path, typer.Option(help="Folder for the result objects.")],
    device: Annotated[str, typer.Option(help="cpu, cuda:0 …; else the first there is.")] = "",
) -> None:
    """Run one pipeline over files, and keep the checked objects that it makes."""
    settings = session.settings_or_defaults
    rule = _rule(session, pipeline, settings)
    reader = Reader(utc_ms(), zone_of(settings), session.with_names)
    out.mkdir(parents=True, exist_ok=True)
    runs = _planned(session, rule, read_folder(folder).studies, settings, out)
    child = child_of(settings, device or devices_of(settings)[0])
    views: list[dict[str, Any]] = []
    try:
        for one in runs:
            views.append(_carry_out(session, child, one, settings, reader))
    finally:
        child.stop()
    if session.output.as_json:
        session.output.items(views)
    if any(view["state"] != "done" for view in views):
        raise typer.Exit(FAILED)


def _rule(session: Session, pipeline: str, settings: Settings) -> PipelineRule:
    rules = {rule.name: rule for rule in rules_of(describe(settings), settings)}
    rule = rules.get(pipeline)
    if rule is None:
        raise refuse(
            session, f"No pipeline {pipeline!r} is installed; there are: {', '.join(rules)}.", 2
        )
    if rule.broken is not None:
        raise PipelineError(f"{pipeline} cannot run: {rule.broken}")
    # Hours and switches are for a node; who types this wants it now.
    return replace(rule, enabled=True, suspended=False, hours=type(rule.hours)())


def _planned(
    session: Session,
    rule: PipelineRule,
    studies: Sequence[StudyFiles],
    settings: Settings,
    out: Path,
) -> list[Run]:
    """Give what is to be run, or end the command with the reason why nothing is."""
    runs: list[Run] = []
    reasons: list[Reason] = []
    for study in studies:
        for decision in decide_files(study.headers, [rule], settings, utc_ms()):
            if not isinstance(decision, PlannedJob) or decision.state is JobState.DECLINED:
                reasons += [decision.reason] if decision.reason else []
                continue
            files = tuple(
                tuple(_source_file(study.series[found.id - 1][one.id]) for one in found.instances)
                for found in decision.series
            )
            target = str(out / f"{rule.name}.{len(runs) + 1}.{{number}}.dcm")
            runs.append(Run(rule, decision, files, target))
    if not runs:
        reader = Reader(utc_ms(), zone_of(settings))
        sentences = [reader.sentence(reason) for reason in reasons]
        raise refuse(session, " ".join(sentences) or "Nothing here suits the pipeline.")
    return runs


def _source_file(path: Path) -> messages.SourceFile:
    return messages.SourceFile(path=str(path.resolve()), digest=data_set_digest(path))


def _carry_out(
    session: Session, child: ChildProcess, one: Run, settings: Settings, reader: Reader
) -> dict[str, Any]:
    limit_s = settings.analyse.time_limit_s
    analyse = messages.Analyse(
        pipeline=one.rule.name, settings=dict(one.rule.settings), key=one.key, series=one.series
    )
    with _progress(session, one.rule.name) as tell:
        found = ask(child, analyse, limit_s, tell)
        if not isinstance(found, messages.Analysed):
            return _not_done(session, one, found, reader)
        result_set = messages.ResultSet(
            key=f"{one.key}|{_FORM}", form=_FORM, presents=_PRESENTS, sr="3d"
        )
        encode = messages.Encode(
            key=one.key,
            finished_at_ms=utc_ms(),
            device_serial_number="dicomnode run",
            sets=(result_set,),
            target=one.target,
        )
        encoded = ask(child, encode, limit_s, tell)
    if not isinstance(encoded, messages.Encoded):
        return _not_done(session, one, encoded, reader)
    return _done(session, one, found, encoded)


@contextmanager
def _progress(session: Session, name: str) -> Iterator[Any]:
    """Show a bar on a terminal, nothing elsewhere."""
    if not session.output.is_terminal:
        yield lambda _told: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=session.output.console, transient=True) as bar:
        task = bar.add_task(name, total=1.0)

        def tell(told: messages.Progress) -> None:
            bar.update(task, completed=told.fraction, description=f"{name}: {told.stage}")

        yield tell


def _not_done(
    session: Session, one: Run, answer: BaseModel | Died, reader: Reader
) -> dict[str, Any]:
    state, reason, violations = _why(one, answer)
    view = {
        "pipeline": one.rule.name,
        "version": one.rule.version,
        "state": state,
        "reason": reason_view(reason, reader),
        "violations": [list(violation) for violation in violations],
        "objects": [],
        "findings": [],
    }
    if not session.output.as_json:
        session.output.say(reader.sentence(reason))
        for rule, where, text in violations:
            session.output.say(f"  {rule} at {where}: {text}")
    return view


def _why(
    one: Run, answer: BaseModel | Died
) -> tuple[str, Reason, tuple[tuple[str, str, str], ...]]:
    match answer:
        case messages.Declined():
            told = {"pipeline": one.rule.name, **answer.parameters}
            return "declined", Reason(answer.code, told), ()
        case messages.Held():
            for path in Path(one.target).parent.glob(Path(one.target).name.format(number="*")):
                path.unlink()
            rule = answer.violations[0][0]
            told = {"n": len(answer.violations), "m": answer.check_count, "rule": rule}
            return "failed", Reason("failed.gate", told), answer.violations
        case messages.Failed():
            told = {"pipeline": one.rule.name, **answer.parameters}
            return "failed", Reason(answer.code, told), ()
        case Died(signal=name, cause=cause):
            codes = {"time_limit": "failed.time_limit", "memory": "failed.memory"}
            return "failed", Reason(codes.get(cause, "failed.crashed"), {"signal": name}), ()
        case _:
            return "failed", Reason("failed.crashed"), ()


def _done(
    session: Session, one: Run, found: messages.Analysed, encoded: messages.Encoded
) -> dict[str, Any]:
    reports = [Path(written.path) for written in encoded.objects if written.kind == "SR"]
    findings = [finding for path in reports for finding in read_findings(path)]
    view = {
        "pipeline": one.rule.name,
        "version": one.rule.version,
        "state": "done",
        "reason": None,
        "violations": [],
        "summary": found.summary,
        "urgency": found.urgency,
        "checks": encoded.check_count,
        "stages_s": {**found.seconds, **encoded.seconds},
        "objects": [
            {"kind": each.kind, "sop_instance_uid": each.sop_instance_uid, "path": each.path}
            for each in encoded.objects
        ],
        "findings": [finding.to_data() for finding in findings],
    }
    if session.output.as_json:
        return view
    session.output.say(found.summary)
    if findings:
        columns = (
            Column("FINDING"),
            Column("KIND"),
            Column("SITE", drop_below=80),
            Column("MEASURED"),
        )
        rows = [[one.label, one.kind, one.site, one.measured_words] for one in findings]
        session.output.table(columns, rows)
    for each in encoded.objects:
        session.output.say(f"{each.kind:<4} {each.path}")
    session.output.hint(f"{encoded.check_count} checks passed. Research use only.")
    return view
