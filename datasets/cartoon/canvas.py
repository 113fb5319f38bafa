"""A small drawing board: outlined shapes in 128-pixel units, drawn large and reduced smoothly."""

from __future__ import annotations

from math import cos, radians, sin

from PIL import Image, ImageDraw

SIZE = 128
INK = (48, 34, 54)
_SCALE = 4
_LINE = 2.0

Colour = tuple[int, ...]
Point = tuple[float, float]


def curve(cx: float, cy: float, rx: float, ry: float, start: float, stop: float) -> list[Point]:
    """Points along an ellipse from `start` to `stop` degrees (0 = right, 90 = down)."""
    steps = [start + (stop - start) * step / 16 for step in range(17)]
    return [(cx + rx * cos(radians(a)), cy + ry * sin(radians(a))) for a in steps]


class Canvas:
    """A transparent 128 x 128 board; shapes get an ink outline of `line` pixels (0 = none)."""

    def __init__(self) -> None:
        self.image = Image.new("RGBA", (SIZE * _SCALE, SIZE * _SCALE))
        self._draw = ImageDraw.Draw(self.image)

    def ellipse(
        self, cx: float, cy: float, rx: float, ry: float, fill: Colour, line: float = _LINE
    ) -> None:
        if line:
            self._disc(cx, cy, rx + line / 2, ry + line / 2, INK)
        self._disc(cx, cy, rx - line / 2, ry - line / 2, fill)

    def polygon(self, points: list[Point], fill: Colour, line: float = _LINE) -> None:
        self._draw.polygon([(x * _SCALE, y * _SCALE) for x, y in points], fill=fill)
        if line:
            self.stroke([*points, points[0]], line, INK)

    def stroke(self, points: list[Point], width: float, colour: Colour = INK) -> None:
        """A line with round ends and corners."""
        scaled = [(x * _SCALE, y * _SCALE) for x, y in points]
        self._draw.line(scaled, fill=colour, width=round(width * _SCALE))
        for x, y in points:
            self._disc(x, y, width / 2, width / 2, colour)

    def limb(self, points: list[Point], width: float, fill: Colour) -> None:
        """An outlined thick line: an arm, a leg, a tail."""
        self.stroke(points, width + _LINE, INK)
        self.stroke(points, width - _LINE, fill)

    def rectangle(
        self, left: float, top: float, right: float, bottom: float, fill: Colour, line: float = 0
    ) -> None:
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], fill, line)

    def rotated(self, degrees: float, centre: Point) -> Image.Image:
        """The board turned counter-clockwise about `centre`, still large."""
        pivot = (centre[0] * _SCALE, centre[1] * _SCALE)
        return self.image.rotate(degrees, Image.Resampling.BICUBIC, center=pivot)

    def overlay(self, image: Image.Image) -> None:
        """Lay another large board over this one."""
        self.image.alpha_composite(image)

    def reduced(self) -> Image.Image:
        """The finished 128 x 128 RGBA picture."""
        return self.image.reduce(_SCALE)

    def _disc(self, cx: float, cy: float, rx: float, ry: float, fill: Colour) -> None:
        box = [(cx - rx) * _SCALE, (cy - ry) * _SCALE, (cx + rx) * _SCALE, (cy + ry) * _SCALE]
        self._draw.ellipse(box, fill=fill)
