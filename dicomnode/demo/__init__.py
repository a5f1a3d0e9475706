"""The demonstration: one chest CT and one radiograph through a whole node of its own.

``run(data, out, screen)`` is everything that the command ``demo`` needs: it starts a small PACS
and ``dicomnode serve`` in a folder that is deleted afterwards, sends the images from a third
process, waits until everything came back, compares what the PACS received with the truth, and
leaves pictures and objects in ``out``. It tells what it does through a `Screen`, which the command
line's `Output` is, and gives True when nothing was missed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dicomnode.demo.screen import Screen

__all__ = ["run"]


def run(data: Path | None, out: Path, screen: Screen) -> bool:
    """Show the node at work; True when everything that was drawn was found and delivered.

    Parameters
    ----------
    data
        A folder whose DICOM files are sent as they are; None draws phantoms whose truth is known.
    out
        Where pictures, received objects and ``demo.json`` are left; made if it is not there.
    screen
        What tells people, or with ``as_json`` scripts, about it.

    Raises
    ------
    DemoError
        When the demonstration cannot go on: a process ended, a bound of waiting passed, or there
        is nothing to send. A KeyboardInterrupt passes through; both leave nothing running.
    """
    # The small PACS and the scanner are started as modules of this package and need no images.
    from dicomnode.demo.demonstration import Demonstration  # noqa: PLC0415

    return Demonstration(data, out, screen).run()
