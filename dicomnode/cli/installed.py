"""Asking the analysing child: no pipeline's code runs in the process of the command line."""

from __future__ import annotations

import time
from collections.abc import Callable

from pydantic import BaseModel

from dicomnode.config import Settings
from dicomnode.errors import PipelineError
from dicomnode.rules.routing import PipelineRule
from dicomnode.stages.analyse import messages
from dicomnode.stages.analyse.child_process import ChildProcess, Died, Limits
from dicomnode.worklist.pipelines import Pipeline

_DESCRIBE_LIMIT_S = 120.0


def child_of(settings: Settings, device: str) -> ChildProcess:
    """Give a child that runs pipelines on a device; it starts with the first order."""
    analyse = settings.analyse
    return ChildProcess(device, Limits(analyse.memory, analyse.time_limit_s, analyse.threads))


def ask(
    child: ChildProcess,
    order: BaseModel,
    limit_s: float,
    on_progress: Callable[[messages.Progress], None] = lambda _progress: None,
) -> BaseModel | Died:
    """Give the child one order and wait for its answer."""
    died = child.start()
    if died is not None:
        return died
    child.order(order)
    for answer in child.answers(time.monotonic() + limit_s):
        if isinstance(answer, messages.Progress):
            on_progress(answer)
        elif answer is not None:
            return answer
    return Died("SIGKILL", "crashed")


def describe(settings: Settings) -> tuple[messages.DescribedPipeline, ...]:
    """Describe every pipeline that is installed on this machine, broken ones with why.

    Raises
    ------
    PipelineError
        When the child cannot even do that.
    """
    child = child_of(settings, "cpu")
    try:
        given = {name: rules.settings for name, rules in settings.pipelines.items()}
        answer = ask(child, messages.Describe(settings=given), _DESCRIBE_LIMIT_S)
    finally:
        child.stop()
    if not isinstance(answer, messages.Described):
        raise PipelineError(f"The installed pipelines could not be described: {answer}")
    return answer.pipelines


def unswitched(described: messages.DescribedPipeline) -> Pipeline:
    """Give an installed pipeline as a row that no admin switched."""
    return Pipeline(
        **described.model_dump(),
        described_at=0,
        suspended=None,
        suspended_by=None,
        suspended_at=None,
        mode=None,
        priority=None,
    )


def rules_of(
    described: tuple[messages.DescribedPipeline, ...], settings: Settings
) -> list[PipelineRule]:
    """Give installed pipelines with what the TOML says about them."""
    from dicomnode.stages.route import rule_of  # noqa: PLC0415  loads pydicom

    return [rule_of(unswitched(one), settings) for one in described]
