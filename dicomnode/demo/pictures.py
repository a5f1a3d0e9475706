"""Pictures of what the PACS received, drawn over the images that were sent."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw

from dicomnode.demo import drawing
from dicomnode.demo.comparison import Verdict
from dicomnode.demo.drawing import COLOURS, WHITE, Colour, Legend, Panel, View
from dicomnode.demo.received import Place, Received
from dicomnode.sdk import Image, Images, Volume

Value = TypeVar("Value", bound=np.generic)

_LUNG_HU = (-1250.0, 200.0)
_BODY_HU = (-300.0, 400.0)
_MOST_NODULES = 3
_CLOSE_UP_MM = 70.0


@dataclass(frozen=True, slots=True)
class Named:
    """A picture and the file name that it gets."""

    name: str
    picture: Pillow.Image


def write_all(sets: Sequence[Received], verdict: Verdict, folder: Path) -> list[Path]:
    """Draw every set that can be drawn; give the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for one in sets:
        for named in _pictures(one, verdict):
            path = folder / f"{named.name}.png"
            named.picture.save(path)
            paths.append(path)
    return paths


def _pictures(one: Received, verdict: Verdict) -> list[Named]:
    if isinstance(one.source, Images):
        return [_radiograph(one, place, image) for place, image in enumerate(one.source.images)]
    if not isinstance(one.source, Volume):
        return []
    lesions = [place for place in one.lesions if place.mask is not None]
    organs = [place for place in one.organs if place.mask is not None]
    named = [
        Named(f"ct-{one.pipeline}-{n}", _lesion(one, one.source, place, lesions, verdict))
        for n, place in enumerate(_shown(lesions, verdict), start=1)
    ]
    if organs:
        named.append(Named(f"ct-{one.pipeline}", _organs(one, one.source, organs)))
    return named


def _shown(lesions: Sequence[Place], verdict: Verdict) -> list[Place]:
    """Choose those that were drawn, else the first of the report."""
    drawn = [pair.found for pair in verdict.pairs if pair.found is not None]
    chosen = [place for place in drawn if any(place is lesion for lesion in lesions)]
    return chosen or list(lesions[:_MOST_NODULES])


def _lesion(
    one: Received, volume: Volume, place: Place, lesions: Sequence[Place], verdict: Verdict
) -> Pillow.Image:
    """Draw the slice on which a lesion is largest, and a close-up."""
    assert place.mask is not None
    z = place.mask.key_slice
    spacing = (volume.spacing[1], volume.spacing[2])
    overview = View.of(drawing.whole(volume.shape), spacing, (700, 700))
    rows, columns = np.nonzero(place.mask.plane(z))
    centre = (float(rows.mean()) + 0.5, float(columns.mean()) + 0.5)
    close = View.of(_around(centre, volume, _CLOSE_UP_MM), spacing, (460, 460))
    pictures = []
    for view, width in ((overview, 2), (close, 3)):
        picture = view.grey(volume.array[z], *_LUNG_HU)
        for n, lesion in enumerate(lesions):
            if lesion.mask is not None and z in lesion.mask.frame_of_slice:
                colour = COLOURS[0] if lesion is place else COLOURS[1 + n % 5]
                drawing.outline(picture, view.mask(lesion.mask.plane(z)), colour, width)
        pictures.append(picture)
    _mark_sides(pictures[0], volume)
    x, y = overview.point(*centre)
    reach = _CLOSE_UP_MM / 2 / spacing[1] / volume.shape[2] * overview.size[0]
    box = (x - reach, y - reach, x + reach, y + reach)
    ImageDraw.Draw(pictures[0]).rectangle(box, outline=(120, 124, 132), width=1)
    drawing.label(pictures[0], (x - reach, y - reach - 34), _size(place), COLOURS[0])
    drawing.scale_bar(pictures[1], close, 10.0)
    drawing.label(pictures[1], (6, 6), place.label, COLOURS[0])
    captions = (f"axial slice {z + 1} of {volume.shape[0]}", "close-up, 70 mm")
    panels = [Panel(p, c) for p, c in zip(pictures, captions, strict=True)]
    return drawing.framed(
        f"{one.pipeline} {one.story.job.version}: read back from the SEG and SR at the PACS",
        panels,
        Legend(_lesion_lines(place, verdict), 460),
    )


def _lesion_lines(place: Place, verdict: Verdict) -> list[tuple[str, Colour]]:
    lines = [
        (f"{place.label}{f', {place.side}' if place.side else ''}", COLOURS[0]),
        (f"volume {place.volume_ml:.2f} mL, as a ball {place.diameter_mm:.1f} mm", WHITE),
        (f"long axis {place.long_mm:.1f} mm, short axis {place.short_mm:.1f} mm", WHITE),
    ]
    drawn = next((pair.drawn for pair in verdict.pairs if pair.found is place), None)
    if drawn is not None:
        truth = f"drawn: {drawn.diameter_mm:.1f} mm, {drawn.volume_mm3 / 1000:.2f} mL"
        lines.append((f"{truth}, {drawn.laterality}", COLOURS[3]))
    return lines


def _size(place: Place) -> str:
    return f"{place.long_mm:.1f} x {place.short_mm:.1f} mm, {place.volume_ml:.2f} mL"


def _around(
    centre: tuple[float, float], volume: Volume, size_mm: float
) -> tuple[int, int, int, int]:
    """Give the box of ``size_mm`` round a place, moved so that it lies in the slice."""
    ranges = []
    for middle, count, step in zip(centre, volume.shape[1:], volume.spacing[1:], strict=True):
        length = min(count, round(size_mm / step))
        first = int(np.clip(round(middle - length / 2), 0, count - length))
        ranges += [first, first + length]
    return ranges[0], ranges[1], ranges[2], ranges[3]


def _organs(one: Received, volume: Volume, organs: Sequence[Place]) -> Pillow.Image:
    """Draw an axial and a coronal plane through the lungs, or else through the largest organ."""
    inner = [o for o in organs if "lung" in o.label.lower()] or [organs[0]]
    z = _largest(inner, 0, volume)
    y = _largest(inner, 1, volume)
    _, rows, columns = volume.spacing
    axial_view = View.of(drawing.whole(volume.shape), (rows, columns), (560, 640))
    axial = axial_view.grey(volume.array[z], *_BODY_HU)
    coronal_plane = np.ascontiguousarray(_coronal(volume.array[:, y], volume))
    coronal_view = View.of(
        drawing.whole(coronal_plane.shape), (volume.spacing[0], columns), (620, 640)
    )
    coronal = coronal_view.grey(coronal_plane, *_BODY_HU)
    lines: list[tuple[str, Colour]] = []
    for n, organ in enumerate(organs):
        assert organ.mask is not None
        colour = COLOURS[n % len(COLOURS)]
        lines.append((f"{organ.label}  {organ.volume_ml:,.0f} mL", colour))
        across = np.zeros((volume.shape[0], volume.shape[2]), dtype=np.bool_)
        for place in organ.mask.slices:
            across[place] = organ.mask.plane(place)[y]
        shown = ((axial, axial_view, organ.mask.plane(z)), (coronal, coronal_view, across))
        for picture, view, plane in shown:
            mask = view.mask(_coronal(plane, volume) if view is coronal_view else plane)
            if organ.label.lower() != "body":
                drawing.tint(picture, mask, colour, 0.28)
            drawing.outline(picture, mask, colour)
    _mark_sides(axial, volume)
    _mark_sides(coronal, volume, is_coronal=True)
    panels = [
        Panel(axial, f"axial slice {z + 1} of {volume.shape[0]}"),
        Panel(coronal, f"coronal, row {y + 1} of {volume.shape[1]}"),
    ]
    title = f"{one.pipeline} {one.story.job.version}: read back from the SEG and SR at the PACS"
    return drawing.framed(title, panels, Legend(lines))


def _largest(organs: Sequence[Place], axis: int, volume: Volume) -> int:
    """Index along an axis (0 slices, 1 rows) of the plane with most voxels of the organs."""
    counts = np.zeros(volume.shape[axis])
    for organ in organs:
        assert organ.mask is not None
        for z in organ.mask.slices:
            plane = organ.mask.plane(z)
            if axis == 0:
                counts[z] += plane.sum()
            else:
                counts += plane.sum(axis=1)
    return int(counts.argmax())


def _coronal(plane: NDArray[Value], volume: Volume) -> NDArray[Value]:
    """Turn a ``(z, x)`` plane so that the head is up and the patient's right at the left."""
    shown = plane[::-1] if volume.direction[0][2] > 0 else plane
    return shown if volume.direction[2][0] > 0 else shown[:, ::-1]


def _mark_sides(picture: Pillow.Image, volume: Volume, *, is_coronal: bool = False) -> None:
    along_x = float(volume.direction[2][0])
    if is_coronal or along_x > 0.7:
        drawing.sides(picture, "R", "L")
    elif along_x < -0.7:
        drawing.sides(picture, "L", "R")


def _radiograph(one: Received, number: int, image: Image) -> Named:
    """Draw a radiograph with the outlines that the report places on it."""
    spacing = image.pixel_spacing or (1.0, 1.0)
    view = View.of(drawing.whole(image.array.shape), spacing, (760, 720))
    picture = view.grey(image.array, 0.0, 1.0)
    draw = ImageDraw.Draw(picture)
    uid = one.image_uids[number]
    for n, place in enumerate(place for place in one.lesions if place.image_uid == uid):
        assert place.outline is not None
        colour = COLOURS[n % len(COLOURS)]
        points = [view.point(row, column) for column, row in place.outline]
        draw.line(points, fill=colour, width=3, joint="curve")
        top = min(points, key=lambda point: point[1])
        drawing.label(picture, (top[0] - 90, top[1] - 36), place.label, colour)
    if image.patient_orientation == ("L", "F"):
        drawing.sides(picture, "R", "L")
    urgency = str(one.urgency) if one.urgency else "undetermined"
    lines = [(f"urgency: {urgency}", COLOURS[0])]
    lines += [(line, WHITE) for line in textwrap.wrap(one.summary, 84)[:4]]
    title = f"{one.pipeline} {one.story.job.version}: read back from the SR at the PACS"
    panel = Panel(picture, f"radiograph, {image.view_position or 'view not stated'}")
    name = f"radiograph-{one.pipeline}" + (f"-{number + 1}" if number else "")
    return Named(name, drawing.framed(title, [panel], Legend(lines, 760)))
