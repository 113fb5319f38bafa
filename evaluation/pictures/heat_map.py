"""Which earlier frame did this frame look at? History weights as a small picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

__all__ = ["draw_heat_map", "say_weights"]

CELL = 18  # pixels
PALE, STRONG = (238, 241, 246), (31, 78, 176)  # weights 0 and 1


def draw_heat_map(weights: Sequence[Sequence[float]]) -> Image.Image:
    """One row a frame from the second on, one column an earlier frame; the darker, the more.

    weights: (K, K); row n says how much frame n looked at each earlier one. The last column is
    left out, as nobody looks at the last frame, and so is the first row, which has nothing to see.
    """
    count = len(weights) - 1
    size = max(1, count) * CELL
    picture = Image.new("RGB", (size, size), "#ffffff")
    draw = ImageDraw.Draw(picture)
    for n in range(count):
        for u in range(n + 1):
            weight = min(1.0, max(0.0, weights[n + 1][u]))
            colour = tuple(round(p + (s - p) * weight) for p, s in zip(PALE, STRONG, strict=True))
            draw.rectangle((u * CELL, n * CELL, (u + 1) * CELL - 3, (n + 1) * CELL - 3), colour)
    return picture


def say_weights(weights: Sequence[Sequence[float]]) -> str:
    """The same in words: "frame 3 looked at frame 1 (0.62)" for each frame's largest weight."""
    said = []
    for n, row in enumerate(weights):
        if n and max(row) > 0:
            most = max(range(n), key=lambda u: row[u])
            said.append(f"frame {n + 1} looked at frame {most + 1} ({row[most]:.2f})")
    return ", ".join(said)
