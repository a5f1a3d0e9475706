"""Thirty studies through a node whose processes are killed at random; then every invariant.

``python -m tests.crash.soak --studies 30 --seed 7 [--postgresql] [--minutes 6]``; the seed is
said, so that a run can be made again. Exit 1 where anything does not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from tests.crash.bench import Bench, Study, running_bench
from tests.node import KINDS
from tests.postgres import running_cluster

_VICTIMS = (*KINDS, "child", *KINDS, "serve")
_PAUSE_S = (1.0, 5.0)
# A job that lost three workers is parked: kills stop before that becomes the usual end.
_KILLS_PER_STUDY = 0.7


class Soak:
    """One run: a scanner that sends until all is acknowledged, and a hand that kills."""

    def __init__(self, bench: Bench, seed: int, say: Callable[[str], None]) -> None:
        self._bench = bench
        self._random = random.Random(seed)
        self._say = say
        self._sent = threading.Event()
        self.kills: list[str] = []

    def run(self, count: int, minutes: float) -> list[str]:
        """Send and kill; give what does not hold in the end."""
        deadline = time.monotonic() + minutes * 60
        studies = [self._study(number) for number in range(count)]
        faults: list[str] = []
        thread = threading.Thread(target=self._send, args=(studies, deadline, faults))
        thread.start()
        most = max(2, round(count * _KILLS_PER_STUDY))
        while len(self.kills) < most and not self._is_over(studies):
            time.sleep(self._random.uniform(*_PAUSE_S))
            self._kill()
        thread.join()
        self._bench.node.ensure_running()
        for number, study in enumerate(studies, start=1):
            left_s = max(60.0, deadline - time.monotonic())
            self._bench.node.wait_settled(study.study_instance_uid, left_s)
            self._say(f"study {number} of {count} ended")
        self._bench.node.wait_up("receive")
        return faults + self._bench.violations() + self._without_result(studies)

    def _is_over(self, studies: Sequence[Study]) -> bool:
        settled = self._bench.node.is_settled
        return self._sent.is_set() and all(settled(one.study_instance_uid) for one in studies)

    def _study(self, number: int) -> Study:
        slices = self._random.randint(2, 12)
        return self._bench.study(f"soak {number}", slices=slices, rows=32)

    def _send(self, studies: Sequence[Study], deadline: float, faults: list[str]) -> None:
        pauses = random.Random(len(studies))
        try:
            for number, study in enumerate(studies, start=1):
                time.sleep(pauses.uniform(0.0, 2.0))
                left = list(study.files)
                while left and time.monotonic() < deadline:
                    left = left[self._bench.send(left) :]
                    if left:
                        time.sleep(0.5)
                if left:
                    faults.append(f"{len(left)} images of study {number} were never acknowledged")
                self._say(f"study {number} of {len(studies)} sent")
        finally:
            self._sent.set()

    def _kill(self) -> None:
        victim = self._random.choice(_VICTIMS)
        node = self._bench.node
        if victim not in ("serve", "child") and node.row(victim) is None:
            return
        if victim == "child" and not node.has_child():
            return
        node.kill(victim)
        node.ensure_running()
        self.kills.append(victim)
        self._say(f"killed {victim}")

    def _without_result(self, studies: Sequence[Study]) -> list[str]:
        """A job ends with its results at the PACS, or is parked after three losses, in words."""
        found = []
        for study in studies:
            number = study.study_instance_uid
            last = self._bench.node.jobs(number)[-1:]
            if not last:
                found.append(f"no job for {number}")
                continue
            (job,) = last
            objects = len(self._bench.pacs.instances(number))
            parked = job.lost_leases >= 3 and job.reason is not None
            if job.input_count != len(study.files):
                found.append(
                    f"job {job.id} ran over {job.input_count} of {len(study.files)} images"
                )
            if job.state == "done" and objects < 2:
                found.append(f"job {job.id} is done and the PACS holds {objects} objects")
            if job.state != "done" and not parked:
                found.append(f"job {job.id} ended as {job.state}: {job.reason}")
        return found


@contextmanager
def _database(folder: Path, *, is_postgresql: bool) -> Iterator[str]:
    if not is_postgresql:
        yield ""
        return
    with running_cluster() as cluster:
        yield cluster.url(cluster.create())


def soak(count: int, seed: int, minutes: float, *, is_postgresql: bool = False) -> list[str]:
    """Run one; give what does not hold."""
    console = Console(stderr=True)
    console.print(f"{count} studies, seed {seed}")
    with tempfile.TemporaryDirectory(prefix="soak") as name:
        folder = Path(name)
        with (
            _database(folder, is_postgresql=is_postgresql) as url,
            running_bench(folder, url=url) as bench,
        ):
            run = Soak(bench, seed, lambda line: console.print(line, highlight=False))
            violations = run.run(count, minutes)
            if violations:
                kept = Path(tempfile.gettempdir()) / f"soak-{seed}.log"
                kept.write_bytes(bench.node.log.read_bytes())
                console.print(f"the node's log: {kept}")
    console.print(f"{len(run.kills)} kills: {', '.join(run.kills)}")
    return violations


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=30)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--postgresql", action="store_true")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else int.from_bytes(os.urandom(3), "big")
    violations = soak(given.studies, seed, given.minutes, is_postgresql=given.postgresql)
    console = Console()
    for one in violations:
        console.print(one, highlight=False)
    told = f"{len(violations)} violations" if violations else "every invariant holds"
    console.print(f"seed {seed}: {told}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
