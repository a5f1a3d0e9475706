"""Which result sets a job builds: one for each form that a peer wants, with its predecessors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dicomnode.config import Peer, Settings
from dicomnode.rules import keys
from dicomnode.rules.states import Mode, ResultKind
from dicomnode.stages.analyse import messages
from dicomnode.worklist import Worklist, deliveries, studies
from dicomnode.worklist.deliveries import NewDelivery, Predecessor
from dicomnode.worklist.jobs import Job

# What a set is made like when no peer wants it: in shadow, or without any peer.
_UNSENT = ("seg", "sr")


@dataclass(frozen=True, slots=True)
class Planned:
    """The sets to build, and for each peer the delivery that its set becomes."""

    sets: tuple[messages.ResultSet, ...]
    deliveries: tuple[NewDelivery, ...]


class SetPlanner:
    """Plans the sets of one job from the settings and from what its peers hold already."""

    def __init__(self, worklist: Worklist, settings: Settings, job: Job) -> None:
        self._worklist = worklist
        self._settings = settings
        self._job = job

    def plan(self, *, is_status: bool = False) -> Planned:
        """Group the peers by what they get: form and predecessors; see `FormParts`.

        ``is_status`` plans the report of a run without a result, for the peers that want one.
        """
        peers = self._targets()
        if is_status:
            peers = {name: peer for name, peer in peers.items() if "status" in peer.presents}
        with self._worklist.read() as tx:
            study = studies.get(tx, self._job.study_id)
            before = deliveries.predecessors(tx, self._job.line, sorted(peers), job_id=self._job.id)
        assert study is not None
        sets: dict[str, messages.ResultSet] = {}
        queued: list[NewDelivery] = []
        for name, peer in sorted(peers.items()):
            reports = _reports(before.get(name), study.study_instance_uid)
            wanted = self._result_set(peer.presents, peer.sr, reports, is_status=is_status)
            sets[wanted.form] = wanted
            predecessor_id = before[name].delivery_id if name in before else None
            queued.append(NewDelivery(peer=name, form=wanted.form, predecessor_id=predecessor_id))
        if not sets and not is_status:
            unsent = self._result_set(_UNSENT, "3d", ())
            sets[unsent.form] = unsent
        return Planned(tuple(sets.values()), tuple(queued))

    def _targets(self) -> Mapping[str, Peer]:
        if self._job.mode is Mode.SHADOW:
            return {}
        names = self._settings.targets(self._job.pipeline)
        return {name: self._settings.peers[name] for name in names}

    def _result_set(
        self,
        presents: Sequence[str],
        sr: str,
        before: tuple[messages.Predecessor, ...],
        *,
        is_status: bool = False,
    ) -> messages.ResultSet:
        form = keys.form(
            keys.FormParts(
                presents=tuple(presents),
                sr_class=sr,
                predecessors=tuple(one.sop_instance_uid for one in before),
                is_status=is_status,
            )
        )
        return messages.ResultSet(
            key=f"{self._job.key}|{form}",
            form=form,
            presents=tuple(presents),
            sr="2d" if sr == "2d" else "3d",
            predecessors=before,
        )


def _reports(
    before: Predecessor | None, study_instance_uid: str
) -> tuple[messages.Predecessor, ...]:
    """Give the reports of the set that a new one follows at a peer."""
    if before is None:
        return ()
    return tuple(
        messages.Predecessor(
            study_instance_uid=study_instance_uid,
            series_instance_uid=one.series_instance_uid,
            sop_class_uid=one.sop_class_uid,
            sop_instance_uid=one.sop_instance_uid,
        )
        for one in before.results
        if one.kind is ResultKind.SR
    )
