"""Opening the worklist and the storage folder that belong together."""

from __future__ import annotations

from dicomnode.config import Settings
from dicomnode.errors import ConfigurationError
from dicomnode.storage import Storage
from dicomnode.worklist import Worklist, reconciliation


def open_worklist(settings: Settings) -> Worklist:
    """Open the worklist of these settings; its tables are proved at the first use.

    Raises
    ------
    ConfigurationError
        When the password file cannot be read.
    WorklistError
        When the database does not answer or is not safe.
    """
    password = None
    if settings.worklist.password_file is not None:
        try:
            password = settings.worklist.password_file.read_text(encoding="utf-8").strip()
        except OSError as fault:
            raise ConfigurationError(
                f"worklist.password_file {settings.worklist.password_file} cannot be read: "
                f"{fault.strerror}"
            ) from fault
    return Worklist.open(settings.worklist.url, password=password)


def open_storage(settings: Settings, worklist: Worklist) -> Storage:
    """Open the storage folder that carries the worklist's node id.

    Raises
    ------
    StorageError
        When it is another node's, or cannot be used.
    """
    with worklist.read() as tx:
        is_new = not reconciliation.named_files(tx, limit=1)
    return Storage.open(settings.node.storage, worklist.node_id, adopt_empty=is_new)
