"""One analysis, from files to checked result files: load, run, encode, gate.

Without a worklist, so that the worker's child, the command ``run`` and an evaluation all do the
very same. What was found is kept between `Analysis.run` and `Analysis.encode`, because the
predecessors of a set are known only when it is about to be finished, and may change once more.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from dicomnode import __version__
from dicomnode.dicom import checks, files, objects, volumes
from dicomnode.dicom.compare import same_content
from dicomnode.dicom.sources import SourceSeries
from dicomnode.errors import FileDamagedError, PipelineError
from dicomnode.rules.reasons import Reason
from dicomnode.sdk import Context, Declined, Findings, Images, Pipeline, Volume
from dicomnode.stages.analyse import installed, messages


@dataclass(slots=True)
class Running:
    """Where a run stands, and how it is told to stop."""

    stage: str = "load"
    seconds: dict[str, float] = field(default_factory=dict)
    report: Callable[[str, float, str], None] = lambda _stage, _fraction, _text: None
    is_cancelled: Callable[[], bool] = lambda: False

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Name the stage that runs and add what it took."""
        self.stage = stage
        self.report(stage, 0.0, stage)
        started = time.monotonic()
        try:
            yield
        finally:
            taken = time.monotonic() - started
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + taken, 3)


class Analysis:
    """One pipeline over one set of series.

    Parameters
    ----------
    order
        What to analyse.
    device
        Torch's name of the device, ``cpu`` or ``cuda:0``.
    threads
        Of one analysis on CPU; 0 leaves torch's own number.
    running
        Told of each stage; asked whether to stop.
    """

    def __init__(
        self, order: messages.Analyse, device: str, threads: int, running: Running
    ) -> None:
        self.order = order
        self._device = device
        self._threads = threads
        self._running = running
        self._pipeline: type[Pipeline[Any]] | None = None
        self._input: Volume | Images | None = None
        self._source: SourceSeries | None = None
        self._findings: Findings | None = None

    def run(self) -> messages.Analysed | messages.Declined:
        """Load the series and run the pipeline.

        Raises
        ------
        FileDamagedError
            When a file's bytes are not those that were received.
        PipelineError
            When the pipeline is not installed or returned something else than it may.
        """
        self._pipeline = installed.load(self.order.pipeline)
        installed.require_bundles(self._pipeline)
        with self._running.timed("load"):
            loaded = self._load(installed.takes(self._pipeline))
        if isinstance(loaded, Reason):
            return self._declined(loaded)
        with self._running.timed("analyse"):
            found = self._run_pipeline(self._pipeline, loaded)
        if isinstance(found, Declined):
            return self._declined(Reason("declined.pipeline", {"text": found.text}))
        if not isinstance(found, Findings):
            raise PipelineError(
                f"{self.order.pipeline} returned {type(found).__name__}, not Findings or Declined"
            )
        self._findings = found
        urgency = found.assessment.urgency if found.assessment else None
        return messages.Analysed(
            summary=found.summary,
            finding_count=len(found.findings)
            + (len(found.assessment.reasons) if found.assessment else 0),
            segment_count=len(found.segments) + sum(f.segment is not None for f in found.findings),
            urgency=urgency.value if urgency else None,
            facts=found.facts,
            seconds=self._running.seconds,
        )

    def encode(
        self, order: messages.Encode, running: Running | None = None
    ) -> messages.Encoded | messages.Held:
        """Build, write and check every set; may be called again with other predecessors.

        Raises
        ------
        EncodingError
            When what was found cannot be told in DICOM.
        """
        running = running or self._running
        if self._findings is None or self._input is None or self._source is None:
            raise PipelineError("nothing was analysed that could be encoded")
        pipeline = self._pipeline
        assert pipeline is not None
        written: list[tuple[messages.ResultSet, objects.EncodedObject, Path]] = []
        for wanted in order.sets:
            request = objects.EncodeRequest(
                source=self._source,
                algorithm=_algorithm(pipeline),
                equipment=_equipment(order.device_serial_number),
                key=wanted.key,
                finished_at=_local(order.finished_at_ms, order.zone),
                form=objects.Form(frozenset(wanted.presents), wanted.sr),
                predecessors=_predecessors(wanted),
                findings=self._findings,
                volume=self._input,
            )
            with running.timed("encode"):
                built = objects.encode(request)
                written += _write(wanted, built, order.target, start=len(written) + 1)
        return _gate(written, self._source.paths, running)

    def _load(self, takes: str) -> Any:
        """Give what the pipeline takes, or the reason why these images are not that."""
        for series in self.order.series:
            _prove(series)
        loaded = [
            volumes.load([Path(file.path) for file in series], takes)
            for series in self.order.series
        ]
        refused = [found for found in loaded if isinstance(found, Reason)]
        if refused:
            return refused[0]
        whole = [found for found in loaded if not isinstance(found, Reason)]
        self._input, self._source = whole[0].input, whole[0].source
        if takes == "volumes":
            return tuple(found.input for found in whole)
        return self._input

    def _run_pipeline(self, pipeline: type[Pipeline[Any]], loaded: Any) -> object:
        import numpy as np  # noqa: PLC0415  torch and numpy load only where a pipeline runs
        import torch  # noqa: PLC0415

        if self._threads:
            torch.set_num_threads(self._threads)
        seed = int(self.order.key[:8], 16)
        torch.manual_seed(seed)
        np.random.seed(seed)  # for pipelines that use numpy's global generator
        torch.use_deterministic_algorithms(True, warn_only=True)
        running = self._running
        context = Context(
            device=torch.device(self._device),
            settings=installed.settings_of(pipeline, self.order.settings),
            seed=seed,
            reduction=self.order.reduction,
            log=logging.getLogger(f"dicomnode.pipeline.{pipeline.name}"),
            report=lambda fraction, text: running.report("analyse", fraction, text),
            is_cancelled=running.is_cancelled,
        )
        with torch.inference_mode():
            return pipeline().run(loaded, context)

    def _declined(self, reason: Reason) -> messages.Declined:
        return messages.Declined(
            code=reason.code, parameters=reason.parameters, seconds=self._running.seconds
        )


def encode_status(
    order: messages.EncodeStatus, running: Running
) -> messages.Encoded | messages.Held:
    """Build, write and check the report of a run that ended without a result."""
    pipeline = installed.load(order.pipeline)
    paths = [Path(file.path) for series in order.series[:1] for file in series]
    source = volumes.headers_of(paths)
    written: list[tuple[messages.ResultSet, objects.EncodedObject, Path]] = []
    for wanted in order.sets:
        request = objects.StatusRequest(
            source=source,
            algorithm=_algorithm(pipeline),
            equipment=_equipment(order.device_serial_number),
            key=wanted.key,
            finished_at=_local(order.finished_at_ms, order.zone),
            form=objects.Form(frozenset(wanted.presents), wanted.sr),
            predecessors=_predecessors(wanted),
            text=order.sentence,
        )
        with running.timed("encode"):
            built = objects.encode_status(request)
            written += _write(wanted, built, order.target, start=len(written) + 1)
    return _gate(written, source.paths, running)


def compare(first: str, second: str) -> bool:
    """Tell whether two files hold the same content in other bytes."""
    return same_content(Path(first), Path(second))


def _prove(series: Sequence[messages.SourceFile]) -> None:
    """Raise FileDamagedError unless every file still has the bytes that were received."""
    damaged = 0
    for file in series:
        try:
            damaged += files.data_set_digest(Path(file.path)) != file.digest
        except OSError:
            damaged += 1
    if damaged:
        raise FileDamagedError(f"{damaged} stored images are not what was received")


def _local(at_ms: int, zone: str) -> datetime:
    """Give a time in the node's zone: dates in an object without an offset are read as local."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.astimezone(ZoneInfo(zone) if zone else None)


def _algorithm(pipeline: type[Pipeline[Any]]) -> objects.Algorithm:
    return objects.Algorithm(
        name=pipeline.name,
        version=pipeline.version,
        rule_based=not pipeline.bundles,
        series_number=pipeline.series_number,
    )


def _equipment(serial_number: str) -> objects.Equipment:
    return objects.Equipment(serial_number=serial_number, software_version=__version__)


def _predecessors(wanted: messages.ResultSet) -> tuple[objects.PredecessorRef, ...]:
    return tuple(objects.PredecessorRef(**ref.model_dump()) for ref in wanted.predecessors)


def _write(
    wanted: messages.ResultSet, built: Sequence[objects.EncodedObject], target: str, start: int
) -> list[tuple[messages.ResultSet, objects.EncodedObject, Path]]:
    written = []
    for number, encoded in enumerate(built, start):
        path = Path(target.format(number=number))
        encoded.write(path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        written.append((wanted, encoded, path))
    return written


def _gate(
    written: Sequence[tuple[messages.ResultSet, objects.EncodedObject, Path]],
    source: Sequence[Path],
    running: Running,
) -> messages.Encoded | messages.Held:
    """Read every file back and check it, set by set, against the source and its own numbers."""
    violations: list[checks.Violation] = []
    with running.timed("check"):
        for wanted in {wanted.form: wanted for wanted, _, _ in written}.values():
            paths = [path for other, _, path in written if other.form == wanted.form]
            known = [checks.Predecessor(**ref.model_dump()) for ref in wanted.predecessors]
            violations += checks.check(paths, source, predecessors=known)
    if violations:
        return messages.Held(
            violations=tuple((v.rule, v.where, v.text) for v in violations),
            check_count=checks.RULE_COUNT,
            seconds=running.seconds,
        )
    return messages.Encoded(
        objects=tuple(_described(wanted, built, path) for wanted, built, path in written),
        check_count=checks.RULE_COUNT,
        seconds=running.seconds,
    )


def _described(
    wanted: messages.ResultSet, built: objects.EncodedObject, path: Path
) -> messages.WrittenObject:
    content = path.read_bytes()
    return messages.WrittenObject(
        kind=built.kind,
        form=wanted.form,
        number=int(path.stem.rsplit(".", 1)[-1]),
        sop_class_uid=built.sop_class_uid,
        sop_instance_uid=built.sop_instance_uid,
        series_instance_uid=built.series_instance_uid,
        path=str(path),
        byte_count=len(content),
        digest=hashlib.sha256(content).hexdigest(),
    )
