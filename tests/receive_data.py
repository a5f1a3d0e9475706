"""A receiver on a database and a folder of its own, and what tests ask of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from dicomnode.config import Listen, Node, Peer
from dicomnode.dicom.files import data_set_offset
from dicomnode.stages.receive.dimse import Receiver
from dicomnode.stages.receive.listening import ReceiverSettings
from dicomnode.storage import Storage
from dicomnode.worklist import associations, quarantine
from dicomnode.worklist.associations import Association
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.quarantine import Quarantined
from dicomnode.worklist.schema import instances

SCANNER = Peer(ae_title=("SCANNER",), receives_from=True)


def settings(
    peers: Mapping[str, Peer] | None = None, free: float = 0.0, **listen: object
) -> ReceiverSettings:
    """Settings of a receiver on any free port that lets SCANNER in."""
    door = Listen(host="127.0.0.1", **listen).model_copy(update={"port": 0})  # type: ignore[arg-type]
    return ReceiverSettings(Node(ae_title="DICOMNODE"), door, peers or {"ct": SCANNER}, free)


@dataclass
class ReceivingNode:
    """A worklist and a storage folder; a receiver when one is started."""

    worklist: Worklist
    storage: Storage
    receivers: list[Receiver] = field(default_factory=list)

    @contextmanager
    def receiving(self, with_settings: ReceiverSettings | None = None) -> Iterator[Receiver]:
        """Run a receiver."""
        receiver = Receiver(self.worklist, self.storage, with_settings or settings())
        receiver.start()
        try:
            yield receiver
        finally:
            receiver.stop()

    def rows(self) -> list[tuple[str, str, str, str]]:
        """SOP Instance UID, path, digest and state of every instance row."""
        columns = (
            instances.c.sop_instance_uid,
            instances.c.path,
            instances.c.digest,
            instances.c.state,
        )
        with self.worklist.read() as tx:
            return [tuple(row) for row in tx.execute(select(*columns).order_by(instances.c.id))]

    def files(self) -> list[str]:
        """Names of the kept files."""
        return list(self.storage.kept_names())

    def arrivals(self) -> list[Path]:
        """What lies in ``tmp``."""
        return list(self.storage.arrivals.iterdir())

    def associations(self) -> list[Association]:
        """Every association, the newest first."""
        with self.worklist.read() as tx:
            return associations.recent(tx)

    def quarantined(self) -> list[Quarantined]:
        """What is set aside, the newest first."""
        with self.worklist.read() as tx:
            return quarantine.listed(tx)

    def data_set(self, name: str) -> bytes:
        """Bytes of the data set in a kept file."""
        return data_set(self.storage.kept(name))


def data_set(path: Path) -> bytes:
    """Bytes of the data set in a file, without what stands before."""
    return path.read_bytes()[data_set_offset(path)[0] :]


@contextmanager
def sqlite_node(folder: Path) -> Iterator[ReceivingNode]:
    """A node on SQLite."""
    with Worklist.open(f"sqlite:///{folder / 'worklist.db'}") as worklist:
        worklist.upgrade()
        storage = Storage.open(folder / "storage", worklist.node_id, adopt_empty=True)
        yield ReceivingNode(worklist, storage)
