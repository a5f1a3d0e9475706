"""The file that a data set is written to while it arrives: memory stays bounded, bytes as sent."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from dicomnode.network.door import Arrived, Destination, StoreCommand


class ArrivalFile:
    """A data set on its way in.

    A fault while writing is kept, not raised: the rest of the object is read and dropped, so that
    the sender gets an answer and its association lives.
    """

    def __init__(self, command: StoreCommand, destination: Destination) -> None:
        self._command = command
        self.path: Path = destination.path
        self.byte_count = 0
        self._digest = hashlib.sha256()
        self._handle = -1
        self._fault: OSError | None = None
        try:
            self._handle = os.open(
                self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640
            )
            self._write(memoryview(destination.header))
        except OSError as fault:
            self._fail(fault)

    def append(self, fragment: memoryview) -> None:
        """Write the next bytes of the data set."""
        self.byte_count += len(fragment)
        if self._fault is not None:
            return
        self._digest.update(fragment)
        try:
            self._write(fragment)
        except OSError as fault:
            self._fail(fault)

    def finish(self) -> Arrived:
        """Close the file and tell what it holds."""
        try:
            self._close()
        except OSError as fault:
            # Where a disk lies behind a network, only this tells that the bytes did not get there.
            self._fault = fault
            self._remove()
        return Arrived(
            self._command, self.path, self.byte_count, self._digest.hexdigest(), self._fault
        )

    def discard(self) -> None:
        """Leave nothing behind, as far as the disk lets us."""
        with contextlib.suppress(OSError):
            self._close()
        self._remove()

    def _remove(self) -> None:
        # What cannot be deleted now is cleared later; the sender's answer does not wait for it.
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _write(self, view: memoryview) -> None:
        while view:
            view = view[os.write(self._handle, view) :]

    def _fail(self, fault: OSError) -> None:
        self._fault = fault
        if self._handle >= 0:
            self.discard()

    def _close(self) -> None:
        if self._handle >= 0:
            # Also a close that fails has given the number back: another thread may have it now.
            handle, self._handle = self._handle, -1
            os.close(handle)


class DroppedArrival:
    """A data set whose answer stands before its bytes have come: they are counted and dropped."""

    def __init__(self) -> None:
        self.byte_count = 0

    def append(self, fragment: memoryview) -> None:
        """Drop the next bytes."""
        self.byte_count += len(fragment)

    def discard(self) -> None:
        """Nothing was kept."""
