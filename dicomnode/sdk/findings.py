"""What a pipeline returns: findings and anatomy in the source's own grid, in coded words.

The node measures every segment itself, in source geometry, and writes the DICOM objects. An
author returns masks, points and codes; never a volume in mL, never a UID.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from dicomnode.sdk.codes import Code


class Laterality(StrEnum):
    """A side of the patient, never of the picture."""

    RIGHT = "right"
    LEFT = "left"
    BILATERAL = "bilateral"


class Urgency(StrEnum):
    """Level of Significance (121403, DCM) of a triage; None in `Assessment` means undetermined."""

    HIGHLY_SIGNIFICANT = "highly significant"
    SIGNIFICANT = "significant"
    NOT_SIGNIFICANT = "not significant"


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number that only the pipeline knows; unit in UCUM. The node adds volume, axes and mean."""

    name: Code
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Probability:
    """A probability 0…1 and the bundle whose trained network gave it."""

    value: float
    bundle: str


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A boolean mask ``(z, y, x)`` on the source volume's grid, or a box of it with its offset.

    ``offset`` is the source index (z, y, x) of ``mask[0, 0, 0]``. Masks on another grid are
    brought back by `dicomnode.imaging.resample.to_grid_of` first. ``type``, ``label`` and
    ``laterality`` are given for anatomy; inside a `Finding` the finding's own count.
    """

    mask: NDArray[np.bool_]
    offset: tuple[int, int, int] = (0, 0, 0)
    type: Code | None = None
    label: str = ""
    laterality: Laterality | None = None
    measurements: tuple[Measurement, ...] = ()

    def __post_init__(self) -> None:
        if self.mask.ndim != 3 or self.mask.dtype != np.bool_:
            raise ValueError("a segment's mask is a (z, y, x) array of bool")

    def on_grid(self, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
        """Full-size mask of ``shape`` (z, y, x); raises ValueError where the box leaves it."""
        if self.offset == (0, 0, 0) and self.mask.shape == shape:
            return self.mask
        ends = tuple(o + n for o, n in zip(self.offset, self.mask.shape, strict=True))
        if min(self.offset) < 0 or any(e > s for e, s in zip(ends, shape, strict=True)):
            raise ValueError(f"a segment's box {self.offset}…{ends} leaves the grid {shape}")
        full = np.zeros(shape, dtype=np.bool_)
        box = tuple(slice(o, e) for o, e in zip(self.offset, ends, strict=True))
        full[box] = self.mask
        return full


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """A closed polygon on one 2D image.

    ``points`` is ``(n, 2)`` in (column, row); 0, 0 is the outer corner of the first pixel, whose
    centre is 0.5, 0.5 (PS3.3 C.18.6). ``image`` is the image's place in `Images`.
    """

    points: NDArray[np.float64]
    image: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One lesion or sign: what, where, and how sure a trained network is.

    ``laterality`` None lets the node compute the side from the segment's place against the middle
    of the body; where the images do not show that middle, the finding of a lung is sited in the
    chest, without a side. A pipeline that knows better says the side. ``score`` only orders
    findings of a rule-based pipeline (highest first) and is never sent as a probability.
    """

    type: Code
    site: Code
    segment: Segment | None = None
    outline: Outline | None = None
    laterality: Laterality | None = None
    probability: Probability | None = None
    score: float = 0.0
    label: str = ""
    measurements: tuple[Measurement, ...] = ()
    qualities: tuple[tuple[Code, Code], ...] = ()


@dataclass(frozen=True, slots=True)
class Sign:
    """Why an urgency was raised: a coded sign and one sentence with the figures behind it."""

    code: Code
    text: str
    measurements: tuple[Measurement, ...] = ()


@dataclass(frozen=True, slots=True)
class Assessment:
    """A triage: an urgency and its reasons.

    ``urgency`` None means undetermined. A pipeline without a trained bundle may raise an urgency,
    never reassure: `Urgency.NOT_SIGNIFICANT` from such a pipeline fails its job.
    """

    urgency: Urgency | None
    reasons: tuple[Sign, ...] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """The result of a run that could look: what was found, also when that is nothing.

    ``summary`` is one sentence for the radiologist ("No nodule of 4 mm or more found").
    ``sought`` names what was looked for; where nothing of it was found, a pipeline with a trained
    bundle lists it in ``absent``, and a rule-based one leaves it undetermined.
    ``facts`` are written to the series' row, where routing can use them.
    """

    summary: str
    findings: tuple[Finding, ...] = ()
    segments: tuple[Segment, ...] = ()
    sought: tuple[Code, ...] = ()
    absent: tuple[Code, ...] = ()
    assessment: Assessment | None = None
    facts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Declined:
    """The input does not suit this pipeline; ``text`` says why, in a sentence for an admin."""

    text: str
