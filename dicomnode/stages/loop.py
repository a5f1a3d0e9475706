"""The loop that every stage runs: one unit after another, and a wait where there is none."""

from __future__ import annotations

import threading
from collections.abc import Callable

from structlog.stdlib import BoundLogger

from dicomnode.errors import DatabaseUnavailableError

_PAUSE_AFTER_FAULT_S = 1.0


def run_steps(
    step: Callable[[], bool],
    wait: Callable[[], object],
    stop: threading.Event,
    log: BoundLogger,
) -> None:
    """Call ``step`` until ``stop`` is set; ``wait`` when it had nothing to do.

    A fault never ends the loop: the rows are as they were before the unit, so it is taken again.
    """
    while not stop.is_set():
        try:
            if not step() and not stop.is_set():
                wait()
        except DatabaseUnavailableError as fault:
            log.warning("database_unavailable", cause=str(fault))
            stop.wait(_PAUSE_AFTER_FAULT_S)
        except Exception:
            log.exception("step_failed")
            stop.wait(_PAUSE_AFTER_FAULT_S)
