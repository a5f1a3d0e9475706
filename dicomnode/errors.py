"""The tree of errors that the node raises on purpose.

    DicomNodeError
    ├── ConfigurationError        the TOML, the environment or the command line is wrong
    ├── WorklistError
    │   ├── DatabaseUnavailableError   does not answer, or stays locked
    │   ├── DatabaseOlderError         needs `dicomnode db upgrade`
    │   ├── DatabaseNewerError         written by a newer program
    │   ├── DatabaseUnsafeError        would lose acknowledged rows in a crash
    │   └── LeaseLostError             the row is another's now: stop, leave nothing behind
    ├── StorageError
    │   ├── DiskFullError              no room for another image
    │   ├── StorageForeignError        the folder belongs to another database
    │   └── FileDamagedError           a stored file is not what its row says
    ├── DicomError
    │   ├── UnreadableError            not DICOM, cut off, or over a limit
    │   ├── NotDecodableError          no decoder here for this transfer syntax
    │   └── EncodingError              a result could not be built
    ├── PipelineError             a pipeline is broken or broke its promise
    │   ├── PipelineMissingError       not installed, or it cannot be imported
    │   └── ModelError                 a bundle is missing, altered or broken
    └── PeerError                 a peer did not do what was asked
        ├── PeerUnreachableError       no connection, or it broke
        └── PeerRefusedError           it answered no

Expected outcomes (a gap in the series, no route, a pipeline that declines, a status from a peer, a
violation at the gate) are values, not errors that travel.
"""

from typing import ClassVar


class DicomNodeError(Exception):
    """Anything that the node raises on purpose; the message is a sentence for an admin."""

    code: ClassVar[str] = "node.error"


class ConfigurationError(DicomNodeError):
    """The configuration is wrong; ``faults`` lists every fault found, one sentence each."""

    code = "node.configuration"

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class WorklistError(DicomNodeError):
    """The worklist cannot be used."""

    code = "node.database"


class DatabaseUnavailableError(WorklistError):
    """The database does not answer, or stayed locked past its time limit."""


class DatabaseOlderError(WorklistError):
    """The database is older than this program."""


class DatabaseNewerError(WorklistError):
    """The database was written by a newer program."""


class DatabaseUnsafeError(WorklistError):
    """The database is set so that a crash would lose acknowledged rows."""


class LeaseLostError(WorklistError):
    """The row belongs to another process now; whoever gets this stops and leaves nothing behind."""

    code = "job.lease_lost"


class StorageError(DicomNodeError):
    """The files cannot be used."""

    code = "node.storage"


class DiskFullError(StorageError):
    """There is no room for another image."""

    code = "node.disk_full"


class StorageForeignError(StorageError):
    """The storage folder belongs to another database, or to none."""


class FileDamagedError(StorageError):
    """A stored file is missing, or its bytes are not those that were received."""

    code = "failed.source"


class DicomError(DicomNodeError):
    """Something is wrong with a DICOM object."""


class UnreadableError(DicomError):
    """The bytes are not DICOM, are cut off, or go over a limit; ``offset`` says where."""

    code = "quarantine.unreadable"

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


class NotDecodableError(DicomError):
    """No decoder of this node reads the transfer syntax."""

    code = "declined.transfer_syntax"


class EncodingError(DicomError):
    """A result object could not be built from what a pipeline found."""

    code = "failed.rule_broken"


class PipelineError(DicomNodeError):
    """A pipeline is broken, or broke its promise."""

    code = "failed.error"


class PipelineMissingError(PipelineError):
    """A pipeline is not installed here, or cannot be imported."""

    code = "failed.pipeline_missing"


class ModelError(PipelineError):
    """A bundle is missing, was altered, or cannot be built."""

    code = "failed.model"


class PeerError(DicomNodeError):
    """A peer did not do what it was asked."""

    code = "delivery.refused_other"


class PeerUnreachableError(PeerError):
    """The peer takes no connection, or the connection broke."""

    code = "delivery.peer_down"


class PeerRefusedError(PeerError):
    """The peer refused the association or a context."""

    code = "delivery.connection_refused"
