"""What the worker and its child say to each other: one JSON object per line.

Never pickle: after it decoded a hostile stream the child is not trusted, and its words are checked
against these types before the worker believes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from dicomnode.rules.states import ResultKind

# Longest line that either side reads: a list of 20,000 inputs fits many times.
LONGEST_LINE = 32 * 2**20


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceFile(_Message):
    """One image to analyse, and the digest that its bytes must have."""

    path: str
    digest: str


class Describe(_Message):
    """Describe every installed pipeline under these settings, by name."""

    do: Literal["describe"] = "describe"
    settings: Mapping[str, Mapping[str, Any]]


class Analyse(_Message):
    """Load the series, run the pipeline, keep what it found for `Encode`."""

    do: Literal["analyse"] = "analyse"
    pipeline: str
    settings: Mapping[str, Any]
    key: str
    series: tuple[tuple[SourceFile, ...], ...]
    reduction: int = 1
    on_cpu: bool = False


class Predecessor(_Message):
    """An object that the new set supersedes at its peer."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


class ResultSet(_Message):
    """One set to build: for the peers that want this form and hold these predecessors.

    ``key`` is the job's key with the form: every UID of the set derives from it.
    """

    key: str
    form: str
    presents: tuple[str, ...]
    sr: Literal["3d", "2d"]
    predecessors: tuple[Predecessor, ...] = ()


class _ResultOrder(_Message):
    """What every order for result objects says.

    The n-th object goes to the file ``target`` with ``{number}`` replaced by n, from 1.
    """

    finished_at_ms: int
    zone: str = ""
    device_serial_number: str
    sets: tuple[ResultSet, ...]
    target: str


class Encode(_ResultOrder):
    """Build, write and check the sets of what was found."""

    do: Literal["encode"] = "encode"
    key: str


class EncodeStatus(_ResultOrder):
    """Build, write and check the report that says that a pipeline could not do its work."""

    do: Literal["status"] = "status"
    pipeline: str
    sentence: str
    series: tuple[tuple[SourceFile, ...], ...]


class Compare(_Message):
    """Tell whether two files hold the same content in other bytes."""

    do: Literal["compare"] = "compare"
    first: str
    second: str


class Cancel(_Message):
    """Stop the run; nobody wants its result any more."""

    do: Literal["cancel"] = "cancel"


class Ready(_Message):
    """The child has started and takes orders."""

    say: Literal["ready"] = "ready"


class Progress(_Message):
    """How far the run is."""

    say: Literal["progress"] = "progress"
    stage: str
    fraction: float
    text: str


class DescribedPipeline(_Message):
    """One installed pipeline as the row of `pipelines` keeps it; ``broken`` says why it cannot run.

    ``takes`` is "volume" or "images"; ``settings`` are its own with those of the TOML;
    ``weights`` are digests by bundle.
    """

    name: str
    version: str = ""
    broken: str | None = None
    match: Mapping[str, Any] = {}
    select: Mapping[str, Any] = {}
    takes: str = "volume"
    settings: Mapping[str, Any] = {}
    weights: Mapping[str, str] = {}


class Described(_Message):
    """Every installed pipeline."""

    say: Literal["described"] = "described"
    pipelines: tuple[DescribedPipeline, ...]


class Analysed(_Message):
    """The pipeline ran; what it found is kept in the child."""

    say: Literal["analysed"] = "analysed"
    summary: str
    finding_count: int
    segment_count: int
    urgency: str | None
    facts: Mapping[str, str]
    seconds: Mapping[str, float]


class Declined(_Message):
    """The input does not suit the pipeline; a reason of the catalogue."""

    say: Literal["declined"] = "declined"
    code: str
    parameters: Mapping[str, str | int | float | None]
    seconds: Mapping[str, float]


class WrittenObject(_Message):
    """One result file that passed the gate."""

    kind: ResultKind
    form: str
    number: int
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    path: str
    byte_count: int
    digest: str


class Encoded(_Message):
    """Every set is written and passed every check."""

    say: Literal["encoded"] = "encoded"
    objects: tuple[WrittenObject, ...]
    check_count: int
    seconds: Mapping[str, float]


class Held(_Message):
    """The gate found violations; nothing may be sent."""

    say: Literal["held"] = "held"
    violations: tuple[tuple[str, str, str], ...]
    check_count: int
    seconds: Mapping[str, float]


class Failed(_Message):
    """Something stopped the run; a reason of the catalogue."""

    say: Literal["failed"] = "failed"
    code: str
    parameters: Mapping[str, str | int | float | None]


class Compared(_Message):
    """Whether both files hold the same content."""

    say: Literal["compared"] = "compared"
    equal: bool


class WasCancelled(_Message):
    """The run stopped because it was asked to."""

    say: Literal["cancelled"] = "cancelled"


Order = Annotated[
    Describe | Analyse | Encode | EncodeStatus | Compare | Cancel, Field(discriminator="do")
]
Answer = Annotated[
    Ready
    | Progress
    | Described
    | Analysed
    | Declined
    | Encoded
    | Held
    | Failed
    | Compared
    | WasCancelled,
    Field(discriminator="say"),
]
ORDER: TypeAdapter[Describe | Analyse | Encode | EncodeStatus | Compare | Cancel] = TypeAdapter(
    Order
)
ANSWER: TypeAdapter[
    Ready
    | Progress
    | Described
    | Analysed
    | Declined
    | Encoded
    | Held
    | Failed
    | Compared
    | WasCancelled
] = TypeAdapter(Answer)
