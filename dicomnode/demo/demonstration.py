"""The demonstration from start to end, in the six steps that it tells."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dicomnode.demo import account, comparison, material, pictures, received
from dicomnode.demo.comparison import Verdict
from dicomnode.demo.course import settled_stories
from dicomnode.demo.material import Material
from dicomnode.demo.processes import HOST, Workplace, workplace
from dicomnode.demo.received import Received
from dicomnode.demo.screen import DemoError, Screen, Told
from dicomnode.rules.states import DeliveryState, JobState
from dicomnode.worklist.story import Story

_ASSOCIATIONS = 4
_NOTICE = "Research use only; not a medical device."


class Demonstration:
    """One run; see `dicomnode.demo.run`."""

    def __init__(self, data: Path | None, out: Path, screen: Screen) -> None:
        self._data = data
        self._out = out
        self._told = Told(screen)
        self._began = time.monotonic()

    def run(self) -> bool:
        """Do everything; True when nothing was missed."""
        try:
            self._out.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise DemoError(f"{self._out} cannot be made: {fault.strerror}") from fault
        self._told.line(_NOTICE)
        with workplace() as place, self._told.waiting():
            given = self._begin(place)
            self._send(place, given)
            stories = settled_stories(place, given.study_instance_uids, self._told)
            sets = received.received_sets(stories, place.received, given)
            verdict = comparison.compare(given, sets, stories)
            self._tell_results(given, stories, sets, verdict)
            self._told.progress("drawing pictures")
            self._keep(sets)
            drawn = pictures.write_all(sets, verdict, self._out)
        return self._end(stories, sets, verdict, drawn)

    def _begin(self, place: Workplace) -> Material:
        """Start everything, and draw the phantoms while it starts."""
        self._told.progress("starting the node and a small PACS, drawing phantoms")
        started = time.monotonic()
        place.start()
        drawing = time.monotonic()
        images = self._out / "images"
        given = (
            material.drawn(images)
            if self._data is None
            else material.found_below(self._data, images)
        )
        drawn = time.monotonic()
        place.wait_until_up()
        up_s = time.monotonic() - started - (drawn - drawing)
        self._told.step(
            True, f"node on {HOST}:{place.node_port}, small PACS on {HOST}:{place.pacs_port}", up_s
        )
        self._told.step(True, given.sentence, drawn - drawing)
        return given

    def _send(self, place: Workplace, given: Material) -> None:
        self._told.progress("sending")
        started = time.monotonic()
        paths = [sent.path for sent in given.all]
        kept = place.send(paths, _ASSOCIATIONS)
        self._told.step(
            True,
            f"sent by C-STORE over {_ASSOCIATIONS} associations, {kept} kept",
            time.monotonic() - started,
        )

    def _tell_results(
        self, given: Material, stories: Sequence[Story], sets: Sequence[Received], verdict: Verdict
    ) -> None:
        """Tell steps 4 to 6 from the rows: what was analysed, checked, stored and confirmed."""
        jobs = [one.story.job for one in sets]
        done = [job for job in jobs if job.state is JobState.DONE]
        last_image = max(told.study.last_received_at for told in stories)
        ended = [job.finished_at for job in jobs if job.finished_at is not None]
        analysed_s = (max(ended, default=last_image) - last_image) / 1000
        words = f", {verdict.nodules_in_words}" if given.is_drawn else ""
        self._told.step(
            bool(done) and not any(job.state is JobState.FAILED for job in jobs),
            f"{len(done)} of {len(jobs)} jobs done{words}",
            analysed_s,
        )
        checks = [job.checks for job in jobs if job.checks]
        passed, failed = (sum(int(c.get(key, 0)) for c in checks) for key in ("passed", "failed"))
        check_s = sum((job.stage_times or {}).get("check", 0.0) for job in jobs)
        count = sum(len(one.story.results) for one in sets)
        self._told.step(
            not failed,
            f"{count} SEG and SR objects: {passed} of {passed + failed} checks",
            check_s,
        )
        deliveries = [entry.delivery for told in stories for entry in told.deliveries]
        confirmed = [d for d in deliveries if d.state is DeliveryState.CONFIRMED]
        last = max((d.finished_at for d in deliveries if d.finished_at), default=last_image)
        self._told.step(
            len(confirmed) == len(deliveries) and not any(one.missing for one in sets),
            f"{len(confirmed)} of {len(deliveries)} deliveries stored and confirmed by the PACS",
            max(0.0, (last - max(ended, default=last)) / 1000),
        )

    def _keep(self, sets: Sequence[Received]) -> None:
        """Keep what the PACS received; objects of an earlier run go."""
        folder = self._out / "received"
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.dcm"):
            old.unlink()
        for one in sets:
            for path in one.paths:
                shutil.copyfile(path, folder / path.name)

    def _end(
        self,
        stories: Sequence[Story],
        sets: Sequence[Received],
        verdict: Verdict,
        drawn: Sequence[Path],
    ) -> bool:
        told = self._told
        for heads, rows in (
            account.way_table(stories, sets),
            account.truth_table(verdict),
            account.time_table(stories, sets),
        ):
            told.line()
            told.table(heads, rows)
        told.line()
        told.line(f"pictures  {', '.join(path.name for path in drawn) or 'none'}")
        told.line(f"folder    {self._out.resolve()}: pictures, images/ sent, received/ SEG and SR")
        whole_s = time.monotonic() - self._began
        for fault in verdict.faults:
            told.line(f"✕ {fault}")
        ok = not verdict.faults
        told.line(
            f"{'✓ nothing was missed' if ok else '✕ not all is well'}, {whole_s:.0f} s in all"
        )
        document: dict[str, Any] = {
            "ok": ok,
            "notice": _NOTICE,
            "seconds": round(whole_s, 1),
            "steps": [step.as_data() for step in told.steps],
            "jobs": account.as_data(stories, sets),
            "truth": [line.as_data() for line in verdict.lines],
            "faults": list(verdict.faults),
            "pictures": [str(path.resolve()) for path in drawn],
        }
        text = json.dumps(document, indent=1, ensure_ascii=False)
        (self._out / "demo.json").write_text(text + "\n", encoding="utf-8")
        told.document(document)
        return ok
