"""One storage folder: ``in`` (received), ``out`` (results), ``tmp`` (on their way in)."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dicomnode.errors import StorageError, StorageForeignError
from dicomnode.storage.durable import (
    make_folder,
    storage_errors,
    sync_file,
    sync_folder,
    write_new,
)

_MARKER = "dicomnode.id"
_KEPT_NAME = re.compile(r"\d{4}-\d{2}-\d{2}/[0-9a-f]{32}\.dcm")
_RESULT_NAME = re.compile(r"(?P<job>\d{1,19})\.(?P<fence>\d{1,19})\.(?P<number>\d{1,9})\.dcm")


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """Room on the disk of the storage folder, in bytes."""

    free_bytes: int
    total_bytes: int

    @property
    def fraction(self) -> float:
        """Share of the disk that is free, 0…1."""
        return self.free_bytes / self.total_bytes if self.total_bytes else 0.0


@dataclass(frozen=True, slots=True)
class ResultName:
    """A file below ``out``: ``<job>.<fence>.<number>.dcm``."""

    name: str
    job_id: int
    fence: int
    number: int


class Storage:
    """The bytes of one node.

    A marker file ties the folder to one database: opening it with another node id, or without a
    marker although it holds files, raises `StorageForeignError`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._in, self._out, self._tmp = root / "in", root / "out", root / "tmp"
        self._synced_days: set[str] = set()
        self._days_lock = threading.Lock()

    @classmethod
    def open(cls, root: Path, node_id: str, *, adopt_empty: bool) -> Storage:
        """Open the folder of the node ``node_id``.

        Parameters
        ----------
        root
            The storage folder.
        node_id
            The id that the worklist's database carries.
        adopt_empty
            Mark an empty or absent folder as this node's. False for a database that already holds
            instances: their files must be somewhere else.

        Raises
        ------
        StorageForeignError
            When the marker is absent or another node's.
        StorageError
            When the folder cannot be made or read.
        """
        storage = cls(root)
        with storage_errors(f"the storage folder {root}"):
            marker = root / _MARKER
            if marker.is_file():
                storage._prove_marker(marker, node_id)
            else:
                storage._adopt(marker, node_id, adopt_empty=adopt_empty)
            for folder in (storage._in, storage._out, storage._tmp):
                make_folder(folder)
        return storage

    def _prove_marker(self, marker: Path, node_id: str) -> None:
        found = marker.read_text(encoding="ascii", errors="replace").strip()
        if found != node_id:
            raise StorageForeignError(
                f"the storage folder {self.root} belongs to another database (its node id is not "
                "the worklist's); point [node] storage or [worklist] url at the right one"
            )

    def _adopt(self, marker: Path, node_id: str, *, adopt_empty: bool) -> None:
        in_use = self._in.is_dir() and any(self._in.iterdir())
        if in_use or not adopt_empty:
            raise StorageForeignError(
                f"the storage folder {self.root} has no marker of this node, though "
                + ("it holds images" if in_use else "the worklist already lists images")
                + "; is the right disk mounted?"
            )
        make_folder(self.root)
        write_new(marker, f"{node_id}\n".encode("ascii"))

    @contextmanager
    def claim_receiver(self) -> Iterator[None]:
        """Hold the folder's one receiver lock; raises StorageError while another process does."""
        with storage_errors("the receiver's lock"):
            handle = os.open(self.root / "receiver.lock", os.O_RDWR | os.O_CREAT, 0o640)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StorageError(
                    f"another receiver already uses the storage folder {self.root}"
                ) from None
            yield
        finally:
            os.close(handle)

    @property
    def arrivals(self) -> Path:
        """The folder ``tmp``: on the disk of ``in``, so that keeping a file is a rename."""
        return self._tmp

    def new_arrival(self) -> Path:
        """Give a random path in ``tmp`` where nothing is yet."""
        return self._tmp / f"{secrets.token_hex(16)}.part"

    def keep(self, arrival: Path, day: str) -> str:
        """Move a whole file from ``tmp`` durably into ``in/<day>/``; give its name below ``in``.

        Raises
        ------
        DiskFullError, StorageError
            When it could not be made durable; the file is gone then, never half kept.
        """
        name = f"{day}/{secrets.token_hex(16)}.dcm"
        target = self.kept(name)
        with storage_errors("keeping an arrival"):
            try:
                sync_file(arrival)
                self._open_day(target.parent)
                arrival.rename(target)
                sync_folder(target.parent)
            except OSError:
                # After a failed sync the kernel may have dropped the pages: the bytes are lost.
                for path in (arrival, target):
                    with suppress(OSError):
                        path.unlink(missing_ok=True)
                raise
        return name

    def _open_day(self, day: Path) -> None:
        """Make a day's folder where it is not there, its own entry durable.

        That it is there is not enough: the thread that made it may not have synced it yet, or the
        node may have died before it did.
        """
        with self._days_lock:
            if day.name not in self._synced_days or not day.is_dir():
                day.mkdir(mode=0o750, exist_ok=True)
                sync_folder(self._in)
                self._synced_days.add(day.name)

    def kept(self, name: str) -> Path:
        """Path of a kept file; raises ValueError for anything that is not a name of ours."""
        if not _KEPT_NAME.fullmatch(name):
            raise ValueError("not a name of a kept file")
        return self._in / name

    def result(self, name: str) -> Path:
        """Path of a result file; raises ValueError for anything that is not a name of ours."""
        if not _RESULT_NAME.fullmatch(name):
            raise ValueError("not a name of a result file")
        return self._out / name

    def result_name(self, job_id: int, fence: int, number: int) -> str:
        """Name below ``out`` of a job's result under one fence."""
        return f"{job_id}.{fence}.{number}.dcm"

    def stage_result(self, job_id: int, fence: int, number: int, content: bytes) -> str:
        """Write one result durably; its name says whose it is, until a row does."""
        name = self.result_name(job_id, fence, number)
        with storage_errors("writing a result"):
            self.result(name).unlink(missing_ok=True)
            write_new(self.result(name), content)
        return name

    def make_result_durable(self, name: str) -> None:
        """Make a result that a child process wrote at `result` durable."""
        with storage_errors("writing a result"):
            sync_file(self.result(name))
            sync_folder(self._out)

    def discard_results(self, job_id: int, fence: int) -> None:
        """Delete what a job wrote under a fence that was lost."""
        with storage_errors("discarding results"):
            for path in self._out.glob(f"{job_id}.{fence}.*.dcm"):
                path.unlink(missing_ok=True)

    def delete_kept(self, name: str) -> None:
        """Delete a kept file; one that is gone already is fine."""
        with storage_errors("deleting an image"):
            self.kept(name).unlink(missing_ok=True)

    def delete_result(self, name: str) -> None:
        """Delete a result file; one that is gone already is fine."""
        with storage_errors("deleting a result"):
            self.result(name).unlink(missing_ok=True)

    def kept_names(self) -> Iterator[str]:
        """Names below ``in`` of every kept file, day by day."""
        for day in sorted(self._in.iterdir()):
            for path in sorted(day.iterdir()):
                name = f"{day.name}/{path.name}"
                if _KEPT_NAME.fullmatch(name):
                    yield name

    def result_names(self) -> Iterator[ResultName]:
        """Every file below ``out`` that carries a result's name."""
        for path in sorted(self._out.iterdir()):
            if found := _RESULT_NAME.fullmatch(path.name):
                yield ResultName(
                    path.name, int(found["job"]), int(found["fence"]), int(found["number"])
                )

    def clear_arrivals(self, older_than_s: float = 0.0) -> int:
        """Delete what broken transfers left in ``tmp``; give how many files went."""
        limit = time.time() - older_than_s
        count = 0
        with storage_errors("clearing arrivals"):
            for path in self._tmp.iterdir():
                try:
                    if path.stat().st_mtime <= limit:
                        path.unlink()
                        count += 1
                except FileNotFoundError:
                    continue
        return count

    def remove_empty_days(self) -> None:
        """Drop day folders that purging emptied, never today's."""
        today = time.strftime("%Y-%m-%d", time.gmtime())
        with storage_errors("removing empty folders"):
            for day in self._in.iterdir():
                if day.is_dir() and day.name < today and not any(day.iterdir()):
                    day.rmdir()

    def free(self) -> FreeSpace:
        """Room on the disk that the folder lies on."""
        with storage_errors("asking for free space"):
            usage = shutil.disk_usage(self.root)
        return FreeSpace(usage.free, usage.total)
