"""One small chart a metric: its mean at each frame of the story, with the 95 % interval as a band.

Dashed lines are floor and ceiling over all frames: real pictures, and shuffled stories.
Drawn with Pillow at twice the size and scaled down for smooth lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from PIL import Image, ImageDraw

from evaluation.storyboard import GREY, INK, PAGE, RULE, typeface

ACROSS, WIDTH, HEIGHT, ZOOM = 3, 400, 240, 2
LEFT, RIGHT, TOP, BOTTOM = 62, 64, 46, 40  # of the axes within a chart
LINE, BAND = "#2f6fde", "#d5e2f9"


def plot_by_frame(metrics: Mapping[str, dict]) -> Image.Image | None:
    """Charts of the entries of `evaluate` that have `by_frame`; None when there is none."""
    shown = {
        name: entry
        for name, entry in metrics.items()
        if sum(value is not None for value in entry.get("by_frame", ())) > 1
    }
    if not shown:
        return None
    rows = -(-len(shown) // ACROSS)
    columns = min(ACROSS, len(shown))
    page = Image.new("RGB", (ZOOM * columns * WIDTH, ZOOM * rows * HEIGHT), PAGE)
    for place, (name, entry) in enumerate(shown.items()):
        corner = (place % ACROSS * WIDTH * ZOOM, place // ACROSS * HEIGHT * ZOOM)
        page.paste(_chart(name, entry), corner)
    return page.resize((page.width // ZOOM, page.height // ZOOM), Image.Resampling.LANCZOS)


def _chart(name: str, entry: dict) -> Image.Image:
    chart = Image.new("RGB", (ZOOM * WIDTH, ZOOM * HEIGHT), PAGE)
    draw = ImageDraw.Draw(chart)
    values, bands = entry["by_frame"], entry["by_frame_interval"]
    bounds = {key: entry[key] for key in ("floor", "ceiling") if entry.get(key) is not None}
    ends = [v for v in (*values, *bounds.values()) if v is not None]
    marks = axis(ends + [v for band in bands if band for v in band])
    low, high = marks[0], marks[-1]
    font = typeface(12 * ZOOM)

    def x(k: int) -> float:
        return ZOOM * (LEFT + (WIDTH - LEFT - RIGHT) * k / max(len(values) - 1, 1))

    def y(value: float) -> float:
        return ZOOM * (HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low))

    title = name.replace("_", " ")
    if title.startswith("cartoon/"):  # the classifier's metrics have the same names
        title = f"{title[len('cartoon/') :]}, judge"
    arrow = "higher is better" if entry["higher_is_better"] else "lower is better"
    draw.text((ZOOM * LEFT, ZOOM * 10), title, INK, typeface(15 * ZOOM))
    draw.text((ZOOM * (WIDTH - 12), ZOOM * 13), arrow, GREY, font, anchor="ra")
    for value in marks:
        draw.line((x(0), y(value), x(len(values) - 1), y(value)), RULE, ZOOM)
        draw.text((x(0) - 10 * ZOOM, y(value)), f"{value:.3g}", GREY, font, anchor="rm")
    there = [k for k, value in enumerate(values) if value is not None]
    banded = [k for k in there if bands[k]]
    if len(banded) > 1:
        upper = [(x(k), y(bands[k][1])) for k in banded]
        draw.polygon(upper + [(x(k), y(bands[k][0])) for k in reversed(banded)], BAND)
    _bounds(draw, bounds, y, font)
    draw.line([(x(k), y(values[k])) for k in there], LINE, 2 * ZOOM, joint="curve")
    for k in there:
        radius = 3.5 * ZOOM
        draw.ellipse((x(k) - radius, y(values[k]) - radius, x(k) + radius, y(values[k]) + radius),
                     LINE)  # fmt: skip
    for k in range(len(values)):
        where = (x(k), ZOOM * (HEIGHT - BOTTOM + 10))
        draw.text(where, f"frame {k + 1}" if not k else str(k + 1), GREY, font, anchor="ma")
    return chart


def _bounds(draw: ImageDraw.ImageDraw, bounds: Mapping[str, float], y: Callable, font) -> None:
    """Dashed lines with their names at the right, a line of text apart at least."""
    left, right = ZOOM * LEFT, ZOOM * (WIDTH - RIGHT)
    lowest = math.inf
    for name, value in sorted(bounds.items(), key=lambda one: one[1]):
        for start in range(left, right, 10 * ZOOM):
            draw.line((start, y(value), start + 4 * ZOOM, y(value)), GREY, ZOOM)
        lowest = min(y(value), lowest - 14 * ZOOM)
        draw.text((right + 8 * ZOOM, lowest), name, GREY, font, anchor="lm")


def axis(values: Sequence[float]) -> list[float]:
    """Two to five round numbers, evenly apart, around `values`; with 0 where all are the same."""
    low, high = min(values), max(values)
    if low == high:
        low, high = min(low, 0.0), max(high, 0.0)
    span = high - low or 1.0
    power = 10.0 ** math.floor(math.log10(span))
    for step in (power * part for part in (0.5, 1, 2, 5)):
        first, last = math.floor(low / step + 1e-3), math.ceil(high / step - 1e-3)
        if last - first <= 4:
            break
    return [step * n for n in range(first, max(last, first + 1) + 1)]
