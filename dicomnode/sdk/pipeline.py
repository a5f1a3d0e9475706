"""The class that a pipeline author derives from, and what it is given to run."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from dicomnode.sdk.findings import Declined, Findings
from dicomnode.sdk.match import Match, Select
from dicomnode.sdk.volume import Images, Volume

if TYPE_CHECKING:
    import torch

Input = TypeVar("Input", Volume, Images, Volume | Images, tuple[Volume, ...])


class Cancelled(Exception):  # noqa: N818  it is a request that was heard, not an error
    """Raised inside a run by `Context.progress` once the job was cancelled or lost its lease."""


@dataclass(frozen=True, slots=True)
class NoSettings:
    """For a pipeline without settings of its own."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the node lends to one run.

    ``device`` is where tensors belong; ``seed`` derives from the job's key, so that the same input
    gives the same result; ``reduction`` is 1, and 2, 4 … after memory ran out: cut windows so
    many times smaller.
    """

    device: torch.device
    settings: Any = field(default_factory=NoSettings)
    seed: int = 0
    reduction: int = 1
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("dicomnode.pipeline"))
    models: Mapping[str, torch.nn.Module] = field(default_factory=dict)
    report: Callable[[float, str], None] = lambda _fraction, _text: None
    is_cancelled: Callable[[], bool] = lambda: False

    @property
    def cancelled(self) -> bool:
        """True once nobody wants the result any more; a long run should look now and then."""
        return self.is_cancelled()

    def progress(self, fraction: float, text: str) -> None:
        """Tell how far the run is (0…1) and what it does; raises `Cancelled` to stop it."""
        if self.is_cancelled():
            raise Cancelled
        self.report(min(max(fraction, 0.0), 1.0), text)

    def model(self, name: str) -> torch.nn.Module:
        """Give a bundle's network, warm, in eval mode; raises KeyError for one not declared."""
        return self.models[name]

    @classmethod
    def for_test(cls, device: str = "cpu", **given: Any) -> Context:
        """Give a context for a unit test of a pipeline."""
        import torch  # noqa: PLC0415  torch takes seconds to load; most readers of this file need none

        return cls(device=torch.device(device), **given)


class Pipeline(ABC, Generic[Input]):
    """One analysis: which series it wants, and what it finds in them.

    The type argument says what ``run`` takes: `Volume`, `Images`, ``Volume | Images`` or
    ``tuple[Volume, ...]``. Registered by the entry-point group ``dicomnode.pipelines``.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    match: ClassVar[Match]
    select: ClassVar[Select] = Select()
    bundles: ClassVar[tuple[str, ...] | list[str]] = ()
    settings: ClassVar[type] = NoSettings
    series_number: ClassVar[int] = 9300

    @abstractmethod
    def run(self, series: Input, context: Context) -> Findings | Declined:
        """Analyse ``series``; anything it raises fails this try of the job with a reason."""
