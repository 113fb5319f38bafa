"""Weather over a place: a veil over its colours and what falls; indoors, as seen by the window."""

from __future__ import annotations

from random import Random

from datasets.cartoon.canvas import SIZE, Canvas

_WHITE = (255, 255, 255, 255)
# Of each weather: colour of the veil; its opacity (of 255) out of doors and in; of the window.
_VEILS = {
    "clear": ((160, 222, 255), 0, 0),
    "rain": ((34, 52, 92), 120, 70),
    "snow": ((206, 216, 236), 120, 90),
    "fog": ((198, 202, 206), 190, 110),
}
_WINDOW = (38, 4, 90, 42)  # larger than the house's own, which heads would hide


def draw_weather(weather: str, place: str) -> Canvas:
    """What is to be laid over the background."""
    canvas = Canvas()
    veil, outdoors, indoors = _VEILS[weather]
    everything = (-2, -2, SIZE + 2, SIZE + 2)
    if place == "house":
        left, top, right, bottom = _WINDOW
        canvas.rectangle(*everything, (*veil, indoors))
        canvas.rectangle(*_WINDOW, (*veil, 255), line=3)
        _draw_air(canvas, weather, (left + 3, top + 3, right - 3, bottom - 3), 9)
        canvas.stroke([(64, top), (64, bottom)], 2.4)
        canvas.stroke([(left, 23), (right, 23)], 2.4)
        return canvas
    canvas.rectangle(*everything, (*veil, outdoors))
    if weather == "snow":
        canvas.ellipse(64, 128, 96, 34, _WHITE, line=0)  # lies on the ground
    _draw_air(canvas, weather, (4, 4, SIZE - 4, SIZE - 4), 15)
    return canvas


def _draw_air(
    canvas: Canvas, weather: str, box: tuple[float, float, float, float], apart: float
) -> None:
    """Drops, flakes or swathes of fog within a box, always the same."""
    if weather == "clear":
        return
    left, top, right, bottom = box
    random = Random(weather)
    y = top
    while y <= bottom:
        if weather == "fog":
            middle, half = random.uniform(left, right), (right - left) * random.uniform(0.2, 0.4)
            ends = [(max(left, middle - half), y), (min(right, middle + half), y)]
            canvas.stroke(ends, 0.3 * apart, (240, 242, 244, 255))
        x = right if weather == "fog" else left + random.uniform(0, apart)
        while x < right:
            if weather == "rain":
                drop = [(x, y), (x - 0.15 * apart, y + 0.5 * apart)]
                canvas.stroke(drop, 1.6, (196, 226, 255, 255))
            else:
                radius = apart * random.uniform(0.1, 0.17)
                canvas.ellipse(x, y, radius, radius, _WHITE, line=0)
            x += apart * random.uniform(0.8, 1.2)
        y += apart
