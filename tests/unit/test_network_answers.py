"""The answers on an association that we opened are for who asked, and for nobody else."""

from __future__ import annotations

import queue
from types import SimpleNamespace
from typing import Any

from dicomnode.network.connect import _PatientProvider


def provider(timeout_s: float = 0.5) -> Any:
    """A provider without an association, as far as its queue goes."""
    made: Any = _PatientProvider.__new__(_PatientProvider)
    association = SimpleNamespace(dimse_timeout=timeout_s)
    made._assoc = association
    made.msg_queue = queue.Queue()
    made.guarded = SimpleNamespace(last_progress=0.0)
    return made


def test_a_look_without_waiting_leaves_the_answer_to_who_asked() -> None:
    waiting = provider()
    waiting.msg_queue.put((1, "answer"))
    assert waiting.get_msg(block=False) == (None, None)
    assert waiting.get_msg(block=True) == (1, "answer")


def test_silence_for_the_timeout_gives_nothing() -> None:
    assert provider(timeout_s=0.1).get_msg(block=True) == (None, None)
