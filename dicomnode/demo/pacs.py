"""The demo's own small PACS: keeps what it is sent in a folder and answers C-FIND about it.

A process of its own, so that results really cross a network. For demonstrations only: it knows no
patients, no limits and no security. ``python -m dicomnode.demo.pacs FOLDER PARENT_PID`` listens on
a port that the kernel picks, says it on standard output, and ends with its parent.
"""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pynetdicom import AE, AllStoragePresentationContexts, _config, evt

from dicomnode.stages.kernel import die_with_parent

AE_TITLE = "DEMOPACS"
# PS3.4 A.4 and C.6.2.2: Verification, and Study Root Query/Retrieve Information Model - FIND.
_ASKED = ("1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.2.2.1")
_SUCCESS, _PENDING, _NOT_UNDERSTOOD, _CLASS_MISMATCH = 0x0000, 0xFF00, 0xC000, 0xA900
_UID = re.compile(r"[0-9.]{1,64}")
_KEYS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


class SmallPacs:
    """Receives by C-STORE into ``folder``; finds by study, series and instance UID."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, dict[str, str]] = {}
        self._changing = threading.Lock()

    def store(self, event: Any) -> int:
        """Keep one object under its SOP Instance UID, which is digits and dots or refused."""
        uid = str(event.request.AffectedSOPInstanceUID)
        if not _UID.fullmatch(uid):
            return _CLASS_MISMATCH
        path = self._folder / f"{uid}.dcm"
        draft = path.with_suffix(".part")
        draft.write_bytes(event.encoded_dataset())
        draft.replace(path)
        head = dcmread(path, stop_before_pixels=True, specific_tags=list(_KEYS))
        with self._changing:
            self._known[uid] = {key: str(head.get(key, "")) for key in _KEYS}
        return _SUCCESS

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        """Answer a study root query with what matches its unique keys."""
        query = event.identifier
        wanted = {key: _asked_for(query, key) for key in _KEYS}
        with self._changing:
            known = list(self._known.values())
        for values in known:
            if all(values[key] in asked for key, asked in wanted.items() if asked):
                answer = Dataset()
                answer.QueryRetrieveLevel = query.get("QueryRetrieveLevel", "IMAGE")
                for key, value in values.items():
                    setattr(answer, key, value)
                yield _PENDING, answer


def _asked_for(query: Dataset, key: str) -> frozenset[str]:
    """Values of one key of a query, by list of UID matching (PS3.4 C.2.2.2.2); empty: any."""
    value = query.get(key)
    if value is None or value == "":
        return frozenset()
    return frozenset([value] if isinstance(value, str) else map(str, value))


def main(arguments: list[str]) -> None:
    """Run until terminated."""
    folder, parent_pid = Path(arguments[0]), int(arguments[1])
    die_with_parent(parent_pid)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    folder.mkdir(parents=True, exist_ok=True)
    _config.LOG_HANDLER_LEVEL = "none"
    pacs = SmallPacs(folder)
    entity = AE(ae_title=AE_TITLE)
    stored = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
    for sop_class_uid in (*_ASKED, *stored):
        entity.add_supported_context(sop_class_uid)
    server = entity.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, pacs.store), (evt.EVT_C_FIND, pacs.find)],
    )
    assert server is not None
    assert server.socket is not None
    sys.stdout.write(f"{server.socket.getsockname()[1]}\n")
    sys.stdout.flush()
    stop.wait()
    server.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
