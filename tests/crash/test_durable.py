"""What is acknowledged is on the disk: seen in what the receiver asks of the system, in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.bench import Bench
from tests.crash.holds import traced

pytestmark = [pytest.mark.peer, pytest.mark.slow]

# A line of `strace -f -y`: thread, call, the file behind the first descriptor, the other arguments.
_CALL = re.compile(r"(?P<thread>\d+) +(?P<name>\w+)\((?:\d+<(?P<file>[^>]*)>)?(?P<rest>.*)")
_RESUMED = re.compile(r"(?P<thread>\d+) +<\.\.\. \w+ resumed>")
# PS3.8 9.3.1: the type of the PDU that carries a response
_P_DATA = ', "\\4'


def ended(trace: Path) -> Iterator[re.Match[str]]:
    """Calls in the order in which they ended; what is sent, in that in which it began."""
    begun: dict[str, re.Match[str]] = {}
    for line in trace.read_text(encoding="utf-8").splitlines():
        if resumed := _RESUMED.match(line):
            if resumed["thread"] in begun:
                yield begun.pop(resumed["thread"])
        elif call := _CALL.match(line):
            if line.endswith("<unfinished ...>") and call["name"] != "sendto":
                begun[call["thread"]] = call
            else:
                yield call


def steps_of(trace: Path, storage: Path, database: Path) -> list[str]:
    """Say what was done for one object: by the thread that kept it, and what was answered."""
    calls = list(ended(trace))
    (thread,) = {one["thread"] for one in calls if one["name"] == "rename"}
    steps = []
    for call in calls:
        path = Path(call["file"] or "")
        if call["name"] == "sendto":
            if call["rest"].startswith(_P_DATA):
                steps.append("answered")
        elif call["thread"] != thread:
            continue
        elif call["name"] == "rename":
            steps.append("named")
        elif path.parent == storage / "tmp":
            steps.append("bytes synced")
        elif path.parent == storage / "in":
            steps.append("folder synced")
        elif path.name.startswith(database.name):
            steps.append("rows synced")
    return steps


def test_an_object_is_acknowledged_when_its_bytes_its_folder_and_its_row_are_synced(
    bench: Bench, tmp_path: Path
) -> None:
    node, trace = bench.node, tmp_path / "trace"
    study = bench.study("durable", slices=1)
    calls = ("-y", "-e", "trace=fsync,fdatasync,rename,sendto")
    with traced(node, "receive", trace, *calls):
        assert bench.send(study.files) == 1
    steps = steps_of(trace, node.folder / "storage", node.folder / "worklist.db")
    object_only = steps[steps.index("bytes synced") : steps.index("answered") + 1]
    assert object_only == ["bytes synced", "named", "folder synced", "rows synced", "answered"]
