"""The DICOM door: associations are admitted, their objects handed to `TakeIn`, their rows kept."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

from dicomnode.errors import DatabaseUnavailableError, StorageError
from dicomnode.network.door import AssociationRequest, CutOff, Refuse, Rejection
from dicomnode.network.server import Server
from dicomnode.rules.reasons import Reason
from dicomnode.stages.receive.listening import ReceiverSettings
from dicomnode.stages.receive.policy import Admission, shown
from dicomnode.stages.receive.reconcile import reconcile
from dicomnode.stages.receive.records import Records, cut_in_words
from dicomnode.stages.receive.take_in import Sender, TakeIn
from dicomnode.stages.receive.visit import Means, Room, Visit
from dicomnode.storage import Storage
from dicomnode.telemetry import Metrics, logger
from dicomnode.worklist.database import Worklist

_STEP_S = 1.0
_DRAIN_S = 30.0
_STALE_ARRIVAL_S = 6 * 3600.0
_CLEAR_S = 3600.0

_REJECTIONS = {
    "association.refused_calling": Rejection.CALLING_NOT_RECOGNISED,
    "association.refused_address": Rejection.CALLING_NOT_RECOGNISED,
    "association.refused_called": Rejection.CALLED_NOT_RECOGNISED,
    "association.busy": Rejection.LIMIT_EXCEEDED,
    "quarantine.no_room": Rejection.CONGESTION,
}


class Receiver:
    """The stage: listens, admits, takes in; one for each storage folder.

    Parameters
    ----------
    worklist, storage
        Where rows and files go.
    settings
        Names, limits, peers.
    process_id
        Row of this process, for the associations that it serves.
    metrics
        Counters of this process.
    """

    def __init__(
        self,
        worklist: Worklist,
        storage: Storage,
        settings: ReceiverSettings,
        *,
        process_id: int | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._worklist, self._storage = worklist, storage
        self._settings = settings
        self._admission = self._admission_of(settings)
        self._take_in = TakeIn(worklist, storage)
        self._records = Records(worklist, process_id)
        self._room = Room(storage, settings.free)
        self._means = Means(self._records, self._take_in, self._room, storage, metrics or Metrics())
        self._visits: set[Visit] = set()
        self._visits_lock = threading.Lock()
        self._server: Server | None = None
        self._held = ExitStack()
        self._cleared_at = time.monotonic()

    @staticmethod
    def _admission_of(settings: ReceiverSettings) -> Admission:
        return Admission.of_settings(settings.node, settings.listen, settings.peers)

    def run(self, stop: threading.Event) -> None:
        """Receive until ``stop`` is set, then let objects on their way be finished."""
        self.start()
        try:
            while not stop.wait(_STEP_S):
                self.step()
        finally:
            self.drain(_DRAIN_S)

    def start(self) -> None:
        """Claim the folder, bring files and rows together, then open the door.

        Raises
        ------
        StorageError
            When another receiver uses the folder.
        ConfigurationError
            When the certificates cannot be used.
        OSError
            When the address cannot be listened on.
        """
        with ExitStack() as held:
            held.enter_context(self._storage.claim_receiver())
            found = reconcile(self._worklist, self._storage, self._take_in)
            server = Server(self._settings.server(), self)
            server.start()
            self._server = server
            self._held = held.pop_all()
        logger("receive").info(
            "listening", port=server.port, adopted=found.adopted, missing=found.missing
        )

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._server is not None
        return self._server.port

    def reload(self, settings: ReceiverSettings) -> None:
        """Use other settings, but host and port, from the next association on."""
        server_settings = settings.server()
        self._admission = self._admission_of(settings)
        self._room.floor = settings.free
        self._settings = settings
        if self._server is not None:
            self._server.reload(server_settings)

    def step(self) -> bool:
        """Bring rows up to date; tell whether there was anything to do."""
        try:
            self._records.write_turned_away()
            did = self._take_in.settle()
            with self._visits_lock:
                self._visits = {visit for visit in self._visits if not visit.is_over}
                visits = tuple(self._visits)
            for visit in visits:
                did = visit.write_progress() or did
        except DatabaseUnavailableError as fault:
            logger("receive").error("rows_not_written", fault=str(fault))
            return False
        if time.monotonic() - self._cleared_at > _CLEAR_S:
            self._cleared_at = time.monotonic()
            self._clear_arrivals()
        return did

    def _clear_arrivals(self) -> None:
        try:
            self._storage.clear_arrivals(_STALE_ARRIVAL_S)
        except StorageError as fault:
            logger("receive").error("arrivals_not_cleared", fault=str(fault))

    def drain(self, limit_s: float) -> None:
        """Close the door, let objects on their way be finished, give the folder back."""
        try:
            if self._server is not None:
                self._server.drain(limit_s)
        finally:
            self._close()

    def stop(self) -> None:
        """Close the door and abort what is open."""
        try:
            if self._server is not None:
                self._server.stop()
        finally:
            self._close()

    def _close(self) -> None:
        self._server = None
        try:
            self._records.write_turned_away()
        except DatabaseUnavailableError as fault:
            logger("receive").error("rows_not_written", fault=str(fault))
        finally:
            self._held.close()

    def requested(self, request: AssociationRequest) -> Visit | Refuse:
        """Admit a caller, or say why not (an association's thread)."""
        verdict = self._admission.decide(
            request.calling_ae_title, request.called_ae_title, request.address
        )
        if isinstance(verdict, str):
            verdict = self._congestion(request) or verdict
        if isinstance(verdict, Reason):
            self._records.refused(request, verdict)
            return Refuse(_REJECTIONS[verdict.code])
        association_id = self._records.open_one(request, verdict)
        sender = Sender(verdict, request.calling_ae_title, request.called_ae_title, association_id)
        visit = Visit(self._means, request, sender, association_id)
        with self._visits_lock:
            self._visits.add(visit)
        return visit

    def _congestion(self, request: AssociationRequest) -> Reason | None:
        if self._server is not None and self._server.is_full:
            most = self._settings.listen.maximum_associations
            calling = shown(request.calling_ae_title)
            return Reason("association.busy", {"calling": calling, "n": most, "max": most})
        return self._room.lacking()

    def turned_away(self, address: str, cut_off: CutOff) -> None:
        """Remember a connection that was closed before it asked for anything."""
        where = shown(address)
        self._records.turned_away(address, cut_in_words(cut_off, where, where))
