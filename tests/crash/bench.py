"""A node between a scanner and a PACS, all real, and what must hold of them whatever was killed."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import dcmread
from sqlalchemy import func, select

from dicomnode.config import Retention
from dicomnode.dicom.files import data_set_digest
from dicomnode.rules.states import FINAL_JOB_STATES, DeliveryState, InstanceState, JobState
from dicomnode.stages.sweep.purge import Keeper
from dicomnode.worklist import schema
from tests import dcmtk
from tests.data import ct_series, save_all, uid
from tests.node import Node, Sections, running_node
from tests.orthanc import AE_TITLE, Orthanc, running_orthanc

_ACKNOWLEDGED = re.compile(r"Received (?:C-)?Store Response \(Success\)")
_SEND_TRIES = 20


@dataclass
class Bench:
    """One node with its PACS; remembers what was acknowledged to the scanner.

    ``acknowledged`` gives for each SOP Instance UID the digests of the data sets that were.
    """

    node: Node
    pacs: Orthanc
    folder: Path
    acknowledged: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def study(self, word: str, description: str = "toy-ok", **how: Any) -> Study:
        """Make a small CT study; ``word`` gives its UIDs."""
        given = {"slices": 3, "rows": 32, "series": description, **how}
        images = ct_series(study=word, description=description, **given)
        place = self.folder / "scanner" / word / description
        return Study(uid(word), tuple(save_all(images, place)))

    def send(self, files: Sequence[Path], *options: str | int, calling: str = "SCANNER") -> int:
        """Send files over one association; give how many were acknowledged, in their order."""
        said = dcmtk.send(self.node.port, files, *options, program_name="storescu", calling=calling)
        count = len(_ACKNOWLEDGED.findall(said.stdout + said.stderr))
        self.remember(files[:count])
        return count

    def remember(self, files: Sequence[Path]) -> None:
        """Note that files were acknowledged."""
        for path in files:
            head = dcmread(path, stop_before_pixels=True)
            self.acknowledged[str(head.SOPInstanceUID)].add(data_set_digest(path))

    def send_all(self, files: Sequence[Path], *options: str | int) -> None:
        """Send as a scanner does: what was not acknowledged goes again, until all is."""
        left = list(files)
        for _ in range(_SEND_TRIES):
            self.node.wait_up("receive")
            left = left[self.send(left, *options) :]
            if not left:
                return
        raise AssertionError(f"{len(left)} images were never acknowledged")

    def is_unconfirmed(self) -> bool:
        """Whether the PACS is still to be asked about something that was sent."""
        mine = schema.deliveries.c.state == DeliveryState.SENT
        with self.node.worklist.read() as tx:
            return tx.execute(select(func.count()).where(mine)).scalar_one() > 0

    def violations(self) -> list[str]:
        """Say what does not hold; everything must have ended."""
        return [
            *self._lost_images(),
            *self._orphans(),
            *self._unfinished(),
            *self._doubles(),
            *self._at_the_pacs(),
        ]

    def check(self) -> None:
        """Fail where anything does not hold."""
        found = self.violations()
        assert not found, "\n".join([*found, self.node.last_lines()])

    def _lost_images(self) -> Iterator[str]:
        table = schema.instances
        with self.node.worklist.read() as tx:
            rows = tx.execute(select(table).where(table.c.state != InstanceState.PENDING)).all()
        by_number = {row.sop_instance_uid: row for row in rows if row.state == "current"}
        storage = self.node.storage
        for sop_instance_uid, digests in self.acknowledged.items():
            row = by_number.get(sop_instance_uid)
            if row is None:
                yield f"acknowledged and without a row: {sop_instance_uid}"
            elif row.digest not in digests:
                yield f"kept other bytes than were sent: {sop_instance_uid}"
        for row in rows:
            path = storage.kept(row.path)
            if not path.is_file():
                yield f"a row without its file: {row.path}"
            elif data_set_digest(path) != row.digest:
                yield f"a file that is not what came: {row.path}"

    def _orphans(self) -> Iterator[str]:
        worklist, storage = self.node.worklist, self.node.storage
        Keeper(worklist, storage, Retention()).delete_leftovers()
        with worklist.read() as tx:
            kept = set(tx.execute(select(schema.instances.c.path)).scalars())
            kept |= set(tx.execute(select(schema.quarantine.c.path)).scalars())
            made = set(tx.execute(select(schema.results.c.path)).scalars())
        yield from (f"an image without a row: {name}" for name in set(storage.kept_names()) - kept)
        files = {found.name for found in storage.result_names()}
        yield from (f"a result without a row: {name}" for name in files - made)
        yield from (f"a row of a result without its file: {name}" for name in made - files)
        yield from (f"left in tmp: {path.name}" for path in storage.arrivals.iterdir())

    def _unfinished(self) -> Iterator[str]:
        final = [state.value for state in FINAL_JOB_STATES]
        open_deliveries = (DeliveryState.QUEUED.value, DeliveryState.SENDING.value)
        with self.node.worklist.read() as tx:
            jobs = tx.execute(select(schema.jobs).where(schema.jobs.c.state.not_in(final))).all()
            left = schema.deliveries.c.state.in_(open_deliveries)
            sending = tx.execute(select(schema.deliveries).where(left)).all()
            pending = tx.execute(
                select(schema.instances).where(schema.instances.c.state == "pending")
            ).all()
            unclosed = tx.execute(
                select(schema.attempts).where(schema.attempts.c.ended_at.is_(None))
            ).all()
        yield from (f"job {row.id} has not ended: {row.state}" for row in jobs)
        yield from (f"delivery {row.id} has not ended: {row.state}" for row in sending)
        yield from (f"instance {row.id} was never compared" for row in pending)
        yield from (f"attempt {row.id} has not ended" for row in unclosed)

    def _doubles(self) -> Iterator[str]:
        jobs, results = schema.jobs, schema.results
        with self.node.worklist.read() as tx:
            current = (
                select(jobs.c.line, func.count().label("n"))
                .where(jobs.c.state == JobState.DONE.value, jobs.c.is_current)
                .group_by(jobs.c.line)
            )
            for row in tx.execute(current):
                if row.n != 1:
                    yield f"{row.n} results count in the line {row.line}"
            sets = (
                select(results.c.job_id, results.c.form, results.c.kind, func.count().label("n"))
                .group_by(results.c.job_id, results.c.form, results.c.kind)
                .having(func.count() > 1)
            )
            for row in tx.execute(sets):
                yield f"job {row.job_id} made {row.n} objects {row.kind} of one form"

    def _at_the_pacs(self) -> Iterator[str]:
        held = self.pacs.instances()
        with self.node.worklist.read() as tx:
            made = {row.sop_instance_uid: row for row in tx.execute(select(schema.results))}
            sent = tx.execute(
                select(schema.deliveries).where(
                    schema.deliveries.c.state.in_(["sent", "confirmed"])
                )
            ).all()
        for row in sent:
            for entry in row.objects:
                if entry["sop_instance_uid"] not in held:
                    yield f"sent, and not at the PACS: {entry['sop_instance_uid']}"
        for sop_instance_uid, instance in held.items():
            if sop_instance_uid in self.acknowledged:
                continue
            row = made.get(sop_instance_uid)
            if row is None:
                yield f"at the PACS, and no result here: {sop_instance_uid}"
                continue
            stored = self.node.storage.result(row.path).read_bytes()
            if _data_set(self.pacs.file(instance)) != _data_set(stored):
                yield f"the PACS holds other bytes than are kept: {sop_instance_uid}"


@dataclass(frozen=True)
class Study:
    """A study to send: its UID and its files."""

    study_instance_uid: str
    files: tuple[Path, ...]


def _data_set(file: bytes) -> str:
    """Digest of what stands behind the file meta header, which each keeper writes anew."""
    length = int.from_bytes(file[140:144], "little")
    assert file[128:132] == b"DICM"
    return hashlib.sha256(file[144 + length :]).hexdigest()


@contextmanager
def running_bench(
    folder: Path, sections: Sections | None = None, url: str = "", *, forwards: bool = False
) -> Iterator[Bench]:
    """Run a node and its PACS; its ``[peers.pacs]`` may be changed by ``sections``."""
    probe = Node(folder / "node", {}, url)
    with running_orthanc(folder / "pacs", probe.port, forwards=forwards) as pacs:
        probe_sections = _with_pacs(pacs, sections or {})
        with running_node(probe, probe_sections) as node:
            yield Bench(node, pacs, folder)


def _with_pacs(pacs: Orthanc, sections: Sections) -> Sections:
    given = sections.get("peers", {})
    peer = {
        "ae_title": AE_TITLE,
        "host": "127.0.0.1",
        "port": pacs.dicom_port,
        "receives_from": True,
        "sends_to": True,
        "confirm": "find",
    }
    return {**sections, "peers": {**given, "pacs": {**peer, **given.get("pacs", {})}}}
