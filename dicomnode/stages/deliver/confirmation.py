"""Asks a peer whether it keeps what it stored: a C-FIND look for each SOP Instance UID."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from dicomnode.errors import PeerRefusedError, PeerUnreachableError
from dicomnode.network import client
from dicomnode.network.client import SeriesInstances
from dicomnode.network.connect import Remote
from dicomnode.rules.reasons import Parameter, Reason
from dicomnode.rules.states import DeliveryState
from dicomnode.stages.deliver.answers import next_look_at
from dicomnode.stages.deliver.line import Line
from dicomnode.stages.notices import Notice
from dicomnode.worklist import results, sending, studies
from dicomnode.worklist.results import Result
from dicomnode.worklist.sending import ClaimedDelivery, DeliveryEnd

# Study Root Query/Retrieve Information Model - FIND, PS3.4 C.6.2.
_STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_EXPLICIT, _IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


def offers_find(remote: Remote) -> bool:
    """Tell whether a peer can be asked what it holds.

    Raises
    ------
    PeerUnreachableError, PeerRefusedError
        When it is not to be learned now.
    """
    asked = client.accepted_contexts(remote, {_STUDY_ROOT_FIND: (_EXPLICIT, _IMPLICIT)})
    return bool(asked[_STUDY_ROOT_FIND])


def series_of(study_instance_uid: str, found: Sequence[Result]) -> list[SeriesInstances]:
    """Give results as what is asked for, series by series."""
    by_series: dict[str, list[str]] = {}
    for one in found:
        by_series.setdefault(one.series_instance_uid, []).append(one.sop_instance_uid)
    return [
        SeriesInstances(study_instance_uid, series_instance_uid, tuple(members))
        for series_instance_uid, members in by_series.items()
    ]


class Confirmation:
    """One look at a peer for the objects of one delivery."""

    def __init__(self, line: Line, claimed: ClaimedDelivery) -> None:
        self._line = line
        self._claimed = claimed

    def run(self) -> None:
        """Ask, and write down what was found.

        Raises
        ------
        LeaseLostError
            If the delivery is another's now.
        """
        if self._line.peer.confirm == "none":
            # It was to be asked when it stored them; the settings changed since.
            self._write(self._final_as_sent("delivery.sent_final"))
            return
        try:
            there = self._ask()
        except PeerUnreachableError as fault:
            why, next_at = self._line.failed(fault)
            self._again(next_at, why.parameters.get("cause"))
            return
        except PeerRefusedError as fault:
            self._refused(str(fault))
            return
        self._line.answered()
        self._write(self._found(there))

    def _ask(self) -> frozenset[str]:
        delivery = self._claimed.delivery
        with self._line.worklist.read() as tx:
            study = studies.get(tx, delivery.study_id)
            made = results.of_ids(tx, [entry.result_id for entry in delivery.statuses])
        assert study is not None, "a delivery's study is never deleted before it"
        return client.held_instances(self._line.remote, series_of(study.study_instance_uid, made))

    def _is_not_offered(self) -> bool:
        """Tell whether nothing can be confirmed: the peer has no C-FIND and need not have one."""
        if self._line.peer.confirm != "auto":
            return False
        try:
            return not offers_find(self._line.remote)
        except (PeerUnreachableError, PeerRefusedError):
            return False

    def _refused(self, cause: str) -> None:
        """Ask later; after the last look what was stored counts as sent, like with one not asked.

        Without an end a study whose PACS answers no query would never be purged.
        """
        next_at = next_look_at(self._sent_at(), self._line.worklist.now())
        if self._is_not_offered():
            self._write(self._final_as_sent("delivery.sent_final"))
        elif next_at is None:
            self._write(self._final_as_sent("delivery.sent_unasked", cause))
        else:
            self._again(next_at, cause)

    def _final_as_sent(self, code: str, cause: Parameter = None) -> DeliveryEnd:
        objects = self._claimed.delivery.statuses
        told: dict[str, Parameter] = {"peer": self._line.name, "n": len(objects)}
        if cause:
            told["cause"] = cause
        return DeliveryEnd(state=DeliveryState.SENT, reason=Reason(code, told), objects=objects)

    def _found(self, there: frozenset[str]) -> DeliveryEnd:
        now_ms = self._line.worklist.now()
        objects = tuple(
            replace(entry, confirmed_at=now_ms if entry.sop_instance_uid in there else None)
            for entry in self._claimed.delivery.statuses
        )
        kept = sum(entry.confirmed_at is not None for entry in objects)
        told: dict[str, Parameter] = {"peer": self._line.name, "n": len(objects), "at": now_ms}
        if kept == len(objects):
            reason = Reason("delivery.confirmed", told)
            return DeliveryEnd(state=DeliveryState.CONFIRMED, reason=reason, objects=objects)
        looked: dict[str, Parameter] = {
            "peer": self._line.name,
            "at": now_ms,
            "n": kept,
            "m": len(objects),
        }
        next_at = next_look_at(self._sent_at(), now_ms)
        if next_at is not None:
            reason = Reason("commitment.not_offered", {**looked, "next_at": next_at})
            return DeliveryEnd(
                state=DeliveryState.SENT, reason=reason, objects=objects, confirm_at=next_at
            )
        lost: dict[str, Parameter] = {"peer": self._line.name, "n": len(objects), "m": kept}
        # What is not there counts as missing: a person who resends sends exactly that.
        missing = tuple(
            entry if entry.confirmed_at else replace(entry, stored_at=None) for entry in objects
        )
        return DeliveryEnd(
            state=DeliveryState.FAILED, reason=Reason("delivery.not_kept", lost), objects=missing
        )

    def _sent_at(self) -> int:
        return self._claimed.delivery.sent_at or self._claimed.delivery.created_at

    def _again(self, next_at: int, cause: Parameter = None) -> None:
        """Have the peer asked later: it could not say anything."""
        delivery = self._claimed.delivery
        told: dict[str, Parameter] = {
            "peer": self._line.name,
            "n": len(delivery.objects),
            "since_at": self._sent_at(),
            "next_at": next_at,
        }
        if cause:
            told["cause"] = cause
        self._write(
            DeliveryEnd(
                state=DeliveryState.SENT,
                reason=Reason("commitment.outstanding", told),
                objects=delivery.statuses,
                confirm_at=next_at,
            )
        )

    def _write(self, end: DeliveryEnd) -> None:
        delivery, now_ms = self._claimed.delivery, self._line.worklist.now()
        notice = Notice(
            what="",
            at_ms=now_ms,
            reason=end.reason,
            study_id=delivery.study_id,
            job_id=delivery.job_id,
            peer=self._line.name,
        )

        def write(tx: Connection) -> None:
            before = studies.lock(tx, delivery.study_id)[0].outcome
            sending.confirm(tx, delivery.id, self._claimed.fence, end, now_ms)
            self._line.announcer.ended(tx, notice, end.state, before)

        with self._line.worklist.write() as tx:
            write(tx)
