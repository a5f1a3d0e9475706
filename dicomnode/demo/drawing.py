"""Drawing on pictures: grey values through a window, outlines, tints, text, and the frame around.

Every picture leaves through `framed`, which burns the notice in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFilter, ImageFont

NOTICE = "Research use only; not a medical device"
Colour = tuple[int, int, int]
# Distinct on grey also for eyes that do not tell red from green.
COLOURS: tuple[Colour, ...] = (
    (255, 176, 0),
    (86, 180, 233),
    (240, 128, 190),
    (0, 200, 150),
    (240, 228, 66),
    (230, 110, 60),
)
WHITE: Colour = (240, 240, 240)
_DIM: Colour = (165, 170, 178)
_DARK: Colour = (18, 20, 24)
_ALARM: Colour = (255, 196, 64)
_MARGIN, _HEAD, _FOOT, _GAP = 20, 64, 44, 20


@dataclass(frozen=True, slots=True)
class View:
    """A plane of an image as it is shown.

    Parameters
    ----------
    box
        First and one past the last (row, row, column, column) of the plane that is shown.
    size
        Width and height in pixels of the picture.
    spacing
        mm between (rows, columns) of the plane.
    """

    box: tuple[int, int, int, int]
    size: tuple[int, int]
    spacing: tuple[float, float]

    @classmethod
    def of(
        cls, box: tuple[int, int, int, int], spacing: tuple[float, float], fit: tuple[int, int]
    ) -> View:
        """Give the largest view of a box that fits (width, height) and keeps its proportions."""
        height = (box[1] - box[0]) * spacing[0]
        width = (box[3] - box[2]) * spacing[1]
        scale = min(fit[0] / width, fit[1] / height)
        return cls(box, (max(1, round(width * scale)), max(1, round(height * scale))), spacing)

    def grey(self, plane: NDArray[np.float32], low: float, high: float) -> Pillow.Image:
        """Show values between ``low`` and ``high`` as black to white."""
        cut = plane[self._rows, self._columns]
        shown = np.clip((cut - low) / (high - low), 0.0, 1.0)
        picture = Pillow.fromarray((shown * 255).astype(np.uint8))
        return picture.resize(self.size, Pillow.Resampling.BICUBIC).convert("RGB")

    def mask(self, plane: NDArray[np.bool_]) -> Pillow.Image:
        """Show a mask as a picture of 0 and 255 with smooth edges."""
        # Pixels are whole first: a smooth enlargement alone would shrink single ones away.
        cut = Pillow.fromarray(plane[self._rows, self._columns].astype(np.uint8) * 255)
        step = max(1, self.size[0] // max(1, cut.width))
        whole = cut.resize(self.size, Pillow.Resampling.NEAREST)
        soft = whole.filter(ImageFilter.GaussianBlur(step / 2.5))
        return soft.point(lambda value: 255 if value > 127 else 0)

    def point(self, row: float, column: float) -> tuple[float, float]:
        """Give (x, y) in the picture of a place in the plane; 0, 0 is the first pixel's corner."""
        x = (column - self.box[2]) / (self.box[3] - self.box[2]) * self.size[0]
        y = (row - self.box[0]) / (self.box[1] - self.box[0]) * self.size[1]
        return x, y

    @property
    def _rows(self) -> slice:
        return slice(self.box[0], self.box[1])

    @property
    def _columns(self) -> slice:
        return slice(self.box[2], self.box[3])


def whole(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Give the box of a whole plane."""
    return 0, shape[-2], 0, shape[-1]


def outline(picture: Pillow.Image, mask: Pillow.Image, colour: Colour, width: int = 2) -> None:
    """Draw the border of a mask just outside of it, in place."""
    grown = mask.filter(ImageFilter.MaxFilter(2 * width + 1))
    edge = Pillow.fromarray(np.asarray(grown) - np.asarray(mask))
    picture.paste(colour, (0, 0), edge)


def tint(picture: Pillow.Image, mask: Pillow.Image, colour: Colour, share: float) -> None:
    """Colour the inside of a mask and let the image shine through, in place."""
    veil = mask.point(lambda value: int(value * share))
    picture.paste(colour, (0, 0), veil)


def label(
    picture: Pillow.Image, place: tuple[float, float], words: str, colour: Colour, size: int = 18
) -> None:
    """Write on a dark ground at (x, y), moved so that nothing is cut off, in place."""
    draw = ImageDraw.Draw(picture, "RGBA")
    font = ImageFont.load_default(size)
    left, top, right, bottom = draw.textbbox((0, 0), words, font=font)
    width, height = right - left + 12, bottom - top + 10
    x = min(max(4.0, place[0]), max(4.0, picture.width - width - 4.0))
    y = min(max(4.0, place[1]), max(4.0, picture.height - height - 4.0))
    draw.rounded_rectangle((x, y, x + width, y + height), 4, fill=(0, 0, 0, 185))
    draw.text((x + 6 - left, y + 5 - top), words, font=font, fill=colour)


def sides(picture: Pillow.Image, left: str, right: str) -> None:
    """Write which side of the patient lies at the left and the right edge, in place."""
    middle = picture.height / 2 - 12
    label(picture, (6, middle), left, WHITE, 20)
    label(picture, (picture.width, middle), right, WHITE, 20)


def scale_bar(picture: Pillow.Image, view: View, length_mm: float) -> None:
    """Draw a bar of known length into the lower left corner, in place."""
    pixels = length_mm / (view.spacing[1] * (view.box[3] - view.box[2])) * view.size[0]
    draw = ImageDraw.Draw(picture, "RGBA")
    y = picture.height - 16
    draw.rounded_rectangle((4, y - 30, 20 + pixels, y + 10), 4, fill=(0, 0, 0, 185))
    draw.line((12, y, 12 + pixels, y), fill=WHITE, width=4)
    words = f"{length_mm:.0f} mm"
    draw.text((12, y - 26), words, font=ImageFont.load_default(16), fill=WHITE)


@dataclass(frozen=True, slots=True)
class Panel:
    """A picture with one line above it."""

    picture: Pillow.Image
    caption: str


@dataclass(frozen=True, slots=True)
class Legend:
    """Lines of text beside the pictures, each with a colour."""

    lines: Sequence[tuple[str, Colour]]
    width: int = 400


def framed(title: str, panels: Sequence[Panel], legend: Legend | None = None) -> Pillow.Image:
    """Put panels side by side under a title, the legend below the last, the notice at the foot."""
    caption = 26
    below = _legend_height(legend) if legend else 0
    heights = [panel.picture.height + caption for panel in panels]
    heights[-1] += below
    widths = [panel.picture.width for panel in panels]
    if legend:
        widths[-1] = max(widths[-1], legend.width)
    size = (
        sum(widths) + _GAP * (len(panels) - 1) + 2 * _MARGIN,
        max(heights) + _HEAD + _FOOT + _MARGIN,
    )
    sheet = Pillow.new("RGB", size, _DARK)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 18), title, font=ImageFont.load_default(26), fill=WHITE)
    x = _MARGIN
    for panel, width in zip(panels, widths, strict=True):
        draw.text((x, _HEAD - 4), panel.caption, font=ImageFont.load_default(16), fill=_DIM)
        sheet.paste(panel.picture, (x, _HEAD + caption))
        x += width + _GAP
    if legend:
        left = x - widths[-1] - _GAP
        _write_legend(draw, (left, _HEAD + caption + panels[-1].picture.height + 14), legend)
    _write_notice(draw, size)
    return sheet


def _legend_height(legend: Legend) -> int:
    return 14 + 27 * len(legend.lines) + 8


def _write_legend(draw: ImageDraw.ImageDraw, place: tuple[int, int], legend: Legend) -> None:
    font = ImageFont.load_default(18)
    for n, (words, colour) in enumerate(legend.lines):
        draw.text((place[0], place[1] + 27 * n), words, font=font, fill=colour)


def _write_notice(draw: ImageDraw.ImageDraw, size: tuple[int, int]) -> None:
    top = size[1] - _FOOT
    draw.rectangle((0, top, *size), fill=(60, 34, 0))
    font = ImageFont.load_default(20)
    width = draw.textlength(NOTICE, font=font)
    draw.text(((size[0] - width) / 2, top + 10), NOTICE, font=font, fill=_ALARM)
