"""The loop of every stage goes on after any fault, wherever it happens."""

from __future__ import annotations

import threading

import pytest

from dicomnode.errors import DatabaseUnavailableError
from dicomnode.stages import loop
from dicomnode.stages.loop import run_steps
from dicomnode.telemetry import logger


@pytest.mark.parametrize("fault", [DatabaseUnavailableError("away"), ZeroDivisionError("a fault")])
@pytest.mark.parametrize("place", ["step", "wait"])
def test_a_fault_in_a_step_or_in_the_wait_ends_no_stage(
    place: str, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_PAUSE_AFTER_FAULT_S", 0.0)
    stop = threading.Event()
    calls: list[str] = []

    def called(name: str) -> bool:
        calls.append(name)
        if calls.count(place) > 2:
            stop.set()
        if name == place:
            raise fault
        return False

    run_steps(lambda: called("step"), lambda: called("wait"), stop, logger("test"))
    assert stop.is_set()
    assert calls.count(place) == 3


def test_nothing_is_waited_for_once_told_to_stop() -> None:
    stop = threading.Event()
    waited: list[bool] = []

    def step() -> bool:
        stop.set()
        return False

    run_steps(step, lambda: waited.append(True), stop, logger("test"))
    assert waited == []
