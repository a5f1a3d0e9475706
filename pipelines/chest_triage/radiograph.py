"""Signs of a frontal chest radiograph that raise its urgency: one white side, many round spots."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dicomnode.sdk import (
    Assessment,
    Code,
    Context,
    Declined,
    Finding,
    Findings,
    Image,
    Images,
    Laterality,
    Measurement,
    Outline,
    Sign,
    Urgency,
)
from dicomnode.sdk.codes import ABNORMAL_OPACITY, LUNG
from pipelines.chest_triage.field_signs import FieldMeasures, Spot, measure_fields
from pipelines.chest_triage.lung_fields import LungFields, in_field, without_borders
from pipelines.chest_triage.words import ASYMMETRY, SPOT_COUNT

# Mean and spread of right minus left on normal adult radiographs of the choosing half (README).
USUAL_DIFFERENCE = (0.007, -0.039, -0.119)
USUAL_SPREAD = (0.127, 0.165, 0.244)
ONE_SIDED_SPREADS = 3.85
MANY_SPOTS = 8
SPOT_STRENGTH = 0.04
FAINTEST_CONTRAST = 0.08
LATERAL_VIEWS = frozenset({"LL", "RL", "LLD", "RLD", "LLO", "RLO", "LATERAL", "LAT"})
ASPECT = (0.6, 1.7)


@dataclass(frozen=True, slots=True)
class Frame:
    """The part of an image that was analysed, to bring places back to the image's pixels.

    ``row`` and ``column`` are its first pixel; ``is_mirrored`` says that the patient's left is at
    the left edge, so that columns were turned round before the analysis. ``tells_sides`` is false
    where the image states no orientation: that radiographs mostly hang with the patient's right
    at the left edge proves no side.
    """

    row: int
    column: int
    rows: int
    columns: int
    is_mirrored: bool
    tells_sides: bool

    def points(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give (column, row) in the image of points (x, y) in fractions of the analysed part."""
        x = 1.0 - xy[:, 0] if self.is_mirrored else xy[:, 0]
        columns = self.column + np.clip(x, 0.0, 1.0) * self.columns
        rows = self.row + np.clip(xy[:, 1], 0.0, 1.0) * self.rows
        return np.stack([columns, rows], axis=1)

    def side(self, *, is_first: bool) -> Laterality | None:
        """Side of the patient that lies first (or last) in the columns of the analysed part."""
        if not self.tells_sides:
            return None
        return Laterality.RIGHT if is_first else Laterality.LEFT


def triage_radiographs(series: Images, context: Context) -> Findings | Declined:
    """Look at each frontal image of ``series``; declined where there is none to look at."""
    refusals, findings, signs = [], [], []
    looked_at = 0
    for place, image in enumerate(series.images):
        context.progress(place / len(series.images), "looking at radiographs")
        refusal = why_not_frontal(image, series.series.view_position)
        if refusal:
            refusals.append(refusal)
            continue
        frame, measures = analyse(image, context.device)
        if measures.fields.contrast < FAINTEST_CONTRAST:
            refusals.append("No two lung fields were recognised in the image.")
            continue
        looked_at += 1
        found, reasons = _signs(measures, frame, place)
        findings += found
        signs += reasons
    if not looked_at:
        return Declined(refusals[0] if refusals else "The series holds no image.")
    return Findings(
        summary=_summary(signs),
        findings=tuple(findings),
        sought=(ABNORMAL_OPACITY,),
        assessment=Assessment(Urgency.SIGNIFICANT if signs else None, tuple(signs)),
    )


def why_not_frontal(image: Image, series_view: str = "") -> str:
    """A sentence why ``image`` is not looked at, empty for a frontal view."""
    view = (image.view_position or series_view).upper()
    if view in LATERAL_VIEWS:
        return f"The image is a lateral view ({view}); only frontal chest radiographs are judged."
    if image.patient_orientation and not _is_upright_frontal(image.patient_orientation):
        row, column = image.patient_orientation
        return (
            f"Patient Orientation {row:.8}\\{column:.8} is no upright frontal view; "
            "only frontal chest radiographs are judged."
        )
    rows, columns = image.array.shape
    if not ASPECT[0] < rows / columns < ASPECT[1]:
        return f"The image of {columns} x {rows} pixels does not have the shape of a chest image."
    if min(rows, columns) < 64:
        return f"The image of {columns} x {rows} pixels is too small to be judged."
    return ""


def _is_upright_frontal(orientation: tuple[str, str]) -> bool:
    """Tell whether rows run between the patient's sides and columns to the feet.

    The first letter of each value is its main direction (PS3.3 C.7.6.1.1.1).
    """
    row, column = (value.upper()[:1] for value in orientation)
    return row in ("L", "R") and column == "F"


def analyse(image: Image, device: torch.device) -> tuple[Frame, FieldMeasures]:
    """Cut borders off, turn a mirrored image, and measure its lung fields on ``device``."""
    pixels = torch.from_numpy(image.array.copy()).to(device)
    rows, columns = without_borders(pixels)
    part = pixels[rows, columns]
    orientation = image.patient_orientation
    is_mirrored = bool(orientation and orientation[0].upper().startswith("R"))
    frame = Frame(
        rows.start,
        columns.start,
        part.shape[0],
        part.shape[1],
        is_mirrored=is_mirrored,
        tells_sides=orientation is not None,
    )
    return frame, measure_fields(part.flip(1) if is_mirrored else part)


def one_sided_score(measures: FieldMeasures) -> tuple[float, int]:
    """Difference of both sides in usual spreads, of the zone where it is largest, and the zone.

    Positive where the side that lies first in the analysed part, the patient's right unless the
    image states no orientation, is the denser one.
    """
    scores = [
        (difference - usual) / spread
        for difference, usual, spread in zip(
            measures.differences(), USUAL_DIFFERENCE, USUAL_SPREAD, strict=True
        )
    ]
    zone = max(range(len(scores)), key=lambda place: abs(scores[place]))
    return scores[zone], zone


def strong_spots(measures: FieldMeasures) -> tuple[Spot, ...]:
    """Give the spots above the threshold, if there are enough of them to count as many."""
    strong = tuple(spot for spot in measures.spots if spot.strength >= SPOT_STRENGTH)
    return strong if len(strong) >= MANY_SPOTS else ()


def _signs(measures: FieldMeasures, frame: Frame, place: int) -> tuple[list[Finding], list[Sign]]:
    findings, signs = [], []
    score, zone = one_sided_score(measures)
    if abs(score) >= ONE_SIDED_SPREADS:
        figure = Measurement(ASYMMETRY, abs(score), "1")
        name = ("upper", "middle", "lower")[zone]
        text = (
            f"One-sided opacification: the {name} zone of {_field_name(frame, score > 0)} is "
            f"{abs(score):.1f} usual spreads denser than the other side "
            f"(threshold {ONE_SIDED_SPREADS})."
        )
        signs.append(Sign(ABNORMAL_OPACITY, text, (figure,)))
        outline = Outline(frame.points(_field_outline(measures.fields, score > 0)), place)
        side = frame.side(is_first=score > 0)
        findings.append(_finding(outline, side, abs(score), "One-sided opacification", (figure,)))
    spots = strong_spots(measures)
    if spots:
        count = Measurement(SPOT_COUNT, float(len(spots)), "1")
        text = (
            f"Multiple rounded opacities: {len(spots)} round spots in the lung fields "
            f"(threshold {MANY_SPOTS})."
        )
        signs.append(Sign(ABNORMAL_OPACITY, text, (count,)))
        for spot in spots:
            side = frame.side(is_first=spot.x < measures.fields.centre_x)
            outline = Outline(frame.points(_circle(spot, frame)), place)
            findings.append(_finding(outline, side, spot.strength, "Rounded opacity", ()))
    return findings, signs


def _field_name(frame: Frame, is_first: bool) -> str:
    side = frame.side(is_first=is_first)
    if side is not None:
        return f"the {side} lung field"
    return f"the lung field at the {'left' if is_first else 'right'} edge of the image"


def _finding(
    outline: Outline,
    side: Laterality | None,
    score: float,
    label: str,
    measurements: tuple[Measurement, ...],
    finding_type: Code = ABNORMAL_OPACITY,
) -> Finding:
    return Finding(
        type=finding_type,
        site=LUNG,
        outline=outline,
        laterality=side,
        score=score,
        label=label,
        measurements=measurements,
    )


def _field_outline(fields: LungFields, is_right: bool) -> NDArray[np.float64]:
    """Closed outline (x, y) of one field in fractions of the analysed part."""
    u = torch.linspace(-1.2, 1.2, 481)
    outer, inner = [], []
    for v in torch.linspace(-1.0, 1.0, 41):
        row = u[in_field(u, v.expand(481)) & ((u < 0) if is_right else (u > 0))]
        if row.numel():
            y = fields.centre_y + float(v) * fields.height / 2
            outer.append((fields.centre_x + float(row[0]) * fields.width / 2, y))
            inner.append((fields.centre_x + float(row[-1]) * fields.width / 2, y))
    return np.asarray([*outer, *reversed(inner), outer[0]])


def _circle(spot: Spot, frame: Frame) -> NDArray[np.float64]:
    """Closed polygon (x, y) of 24 corners, round in pixels and not in fractions."""
    angles = np.linspace(0.0, 2 * math.pi, 25)
    mean_size = math.sqrt(frame.rows * frame.columns)
    x = spot.x + spot.radius * np.cos(angles) * mean_size / frame.columns
    y = spot.y + spot.radius * np.sin(angles) * mean_size / frame.rows
    circle = np.stack([x, y], axis=1)
    circle[-1] = circle[0]
    return circle


def _summary(signs: list[Sign]) -> str:
    if not signs:
        return (
            "No sign that raises the urgency was found by rules; "
            "this says nothing about the absence of disease."
        )
    return " ".join(sign.text for sign in signs)
