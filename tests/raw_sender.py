"""A sender that looks at nothing: data sets go out byte for byte, under whatever UIDs are said."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom import FileDataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from tests.data import as_bytes


@dataclass(frozen=True)
class Raw:
    """An object as bytes: what its sender says of it, and its data set, sent as it is."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data_set).hexdigest()


def raw_of(dataset: FileDataset) -> Raw:
    """An object of the tests' own builders."""
    whole = as_bytes(dataset)
    meta_bytes = int.from_bytes(whole[140:144], "little")
    return Raw(
        str(dataset.SOPClassUID),
        str(dataset.SOPInstanceUID),
        str(dataset.file_meta.TransferSyntaxUID),
        whole[144 + meta_bytes :],
    )


@contextmanager
def connected(
    port: int, raws: Sequence[Raw], calling: str = "SCANNER", called: str = "DICOMNODE"
) -> Iterator[Callable[[Raw], int | None]]:
    """Open an association; what it gives sends an object and gives the status that is answered.

    None where nothing was answered, because the context was not accepted.
    """
    entity = AE(ae_title=calling)
    for pair in dict.fromkeys((raw.sop_class_uid, raw.transfer_syntax_uid) for raw in raws):
        entity.add_requested_context(*pair)
    connection = entity.associate("127.0.0.1", port, ae_title=called)
    try:
        yield lambda raw: _stored(connection, raw)
    finally:
        if connection.is_established:
            connection.release()


def _stored(connection: Association, raw: Raw) -> int | None:
    """Send bytes without looking at them; pynetdicom's own way would read and write them anew."""
    accepted = [
        context.context_id
        for context in connection.accepted_contexts
        if context.abstract_syntax == raw.sop_class_uid
        and raw.transfer_syntax_uid in context.transfer_syntax
    ]
    if not accepted:
        return None
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = raw.sop_class_uid
    request.AffectedSOPInstanceUID = raw.sop_instance_uid
    request.Priority = 2
    request.DataSet = io.BytesIO(raw.data_set)
    connection._reactor_checkpoint.clear()
    try:
        connection.dimse.send_msg(request, accepted[0])
        _, response = connection.dimse.get_msg(block=True)
    finally:
        connection._reactor_checkpoint.set()
    return None if response is None else int(response.Status)


def send(port: int, datasets: Sequence[FileDataset]) -> list[int | None]:
    """Send objects on one association and give what was answered."""
    raws = [raw_of(dataset) for dataset in datasets]
    with connected(port, raws) as store:
        return [store(raw) for raw in raws]
