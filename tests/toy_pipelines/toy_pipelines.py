"""Pipelines that behave as a test wants: a package of its own, found by its entry points.

Each takes the CT series whose Series Description begins with its name.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from dicomnode.sdk import Context, Declined, Findings, Match, Pipeline, Segment, Volume
from dicomnode.sdk.codes import SKELETON

# While a file of this name exists, the pipelines that find something wait.
GATE = "TOY_GATE"


def _for(name: str) -> Match:
    return Match(modality="CT", series_description={"regex": f"^{name}"})


def _wait_at_gate(context: Context) -> None:
    gate = os.environ.get(GATE)
    while gate and Path(gate).exists():
        context.progress(0.5, "waiting at the gate")
        time.sleep(0.02)


class ToyOk(Pipeline[Volume]):
    """Everything that is not air, as one segment."""

    name, version = "toy-ok", "1.0.0"
    match = _for("toy-ok")

    def run(self, volume: Volume, context: Context) -> Findings | Declined:
        _wait_at_gate(context)
        mask = np.asarray(volume.array > 0.0)
        return Findings("One segment.", segments=(Segment(mask, type=SKELETON),))


class ToySecond(ToyOk):
    """The same for another series of the study."""

    name, version = "toy-second", "1.0.0"
    match = _for("toy-second")


class ToyRaises(Pipeline[Volume]):
    """Raises what its author did not expect."""

    name, version = "toy-raises", "1.0.0"
    match = _for("toy-raises")

    def run(self, volume: Volume, context: Context) -> Findings | Declined:
        raise ZeroDivisionError("no spacing between slices")


class ToyHangs(Pipeline[Volume]):
    """Never ends and never asks whether it should."""

    name, version = "toy-hangs", "1.0.0"
    match = _for("toy-hangs")

    def run(self, volume: Volume, context: Context) -> Findings | Declined:
        while True:
            time.sleep(60)


class ToyTalks(Pipeline[Volume]):
    """Never ends, and tells of its progress all the time."""

    name, version = "toy-talks", "1.0.0"
    match = _for("toy-talks")

    def run(self, volume: Volume, context: Context) -> Findings | Declined:
        while True:
            context.progress(0.5, "nearly there")
            time.sleep(0.01)


class ToyEatsMemory(Pipeline[Volume]):
    """Takes memory until none is given any more."""

    name, version = "toy-eats-memory", "1.0.0"
    match = _for("toy-eats-memory")

    def run(self, volume: Volume, context: Context) -> Findings | Declined:
        taken = []
        while True:
            taken.append(np.ones(2**24, dtype=np.uint8))


class ToyDies(Pipeline[Volume]):
    """Is killed as the kernel kills what takes too much memory."""

    name, version = "toy-dies", "1.0.0"
    match = _for("toy-dies")

    def run(self, volume: Volume, context: Context) -> Findings | Declined:
        os.kill(os.getpid(), signal.SIGKILL)
        return Declined("never said")


class ToyDeclines(Pipeline[Volume]):
    """Cannot use what it gets."""

    name, version = "toy-declines", "1.0.0"
    match = _for("toy-declines")

    def run(self, volume: Volume, context: Context) -> Findings | Declined:
        return Declined("the legs are missing")
