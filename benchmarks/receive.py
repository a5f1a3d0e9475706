"""How fast the door takes images in, beside Orthanc and DCMTK's storescp, all on this machine.

``python -m benchmarks.receive [--slices 100] [--rounds 3]``. Our node answers after file, folder
entry and row are durable; Orthanc syncs the file; storescp syncs nothing. All run with
TCP_NODELAY=1, without which DCMTK's answers come 44 ms late and every claim would be easy.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests import dcmtk
from tests.data import ct_series, save_all
from tests.node import Node, running_node
from tests.orthanc import AE_TITLE, running_orthanc

ASSOCIATIONS = (1, 4)


@contextmanager
def opponents(folder: Path) -> Iterator[Mapping[str, tuple[int, str]]]:
    """Start all three; give port and AE title by name."""
    with ExitStack() as running:
        scanner = {"ae_title": "SCANNER", "receives_from": True}
        sections = {"peers": {"scanner": scanner}, "complete": {"quiet": "1h", "limit": "2h"}}
        node = running.enter_context(running_node(Node(folder / "node", sections), sections))
        orthanc = running.enter_context(running_orthanc(folder / "orthanc", node.port))
        port, _ = running.enter_context(dcmtk.storescp(folder / "storescp"))
        yield {
            "dicomnode": (node.port, "DICOMNODE"),
            "Orthanc": (orthanc.dicom_port, AE_TITLE),
            "storescp --fork": (port, "STORESCP"),
        }


def fresh(folder: Path, number: int, slices: int) -> list[Path]:
    """Write one CT series of 512 x 512 that nobody has seen, half a megabyte per slice."""
    images = ct_series(slices=slices, rows=512, study=f"bench{number}", series=f"ct{number}")
    return save_all(images, folder / str(number))


def rate(port: int, called: str, parts: Sequence[Sequence[Path]]) -> float:
    """Send each part on an association of its own, all at once; give images per second."""
    commands = [
        [dcmtk.program("storescu"), "-aet", "SCANNER", "-aec", called, "127.0.0.1", str(port)]
        + [str(path) for path in part]
        for part in parts
    ]
    started = time.perf_counter()
    senders = [
        subprocess.Popen(command, env=dcmtk.environment(), stdout=subprocess.DEVNULL)
        for command in commands
    ]
    failed = [sender for sender in senders if sender.wait() != 0]
    if failed:
        raise SystemExit(f"{called}: {len(failed)} senders were refused")
    return sum(map(len, parts)) / (time.perf_counter() - started)


def measure(
    peers: Mapping[str, tuple[int, str]], make: Callable[[], list[Path]], rounds: int
) -> Mapping[tuple[str, int], float]:
    """Interleave the peers round by round; give the median rate of each at each width."""
    rates: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for width in ASSOCIATIONS:
            for name, (port, called) in peers.items():
                files = make()
                parts = [files[start::width] for start in range(width)]
                rates.setdefault((name, width), []).append(rate(port, called, parts))
    return {key: statistics.median(values) for key, values in rates.items()}


def main() -> None:
    """Print one line per peer and width: images per second, and our ratio to it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        numbers = iter(range(10_000))
        with opponents(folder) as peers:
            found = measure(
                peers, lambda: fresh(folder / "sent", next(numbers), wanted.slices), wanted.rounds
            )
    print(f"CT 512 x 512, {wanted.slices} per run, medians of {wanted.rounds} interleaved rounds")
    for (peer, width), images_per_s in sorted(found.items(), key=lambda item: item[0][1]):
        ratio = found["dicomnode", width] / images_per_s
        print(f"{width} associations  {peer:<16} {images_per_s:7.1f} images/s  ours {ratio:.2f} x")


if __name__ == "__main__":
    main()
