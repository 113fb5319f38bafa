"""What all characters share: one chibi body in a big shirt, four poses, and the parts of a face."""

from __future__ import annotations

from datasets.cartoon.canvas import INK, Canvas, Colour, curve

X = 64  # every character is drawn in the middle and pasted into its slot
WHITE = (255, 255, 255)
ORANGE = (255, 140, 30)
RED = (190, 40, 60)  # of open mouths
_BLUSH = (255, 138, 138)


def body(
    canvas: Canvas, fur: Colour, feet: Colour, shirt: Colour, action: str, lift: float
) -> None:
    if action == "sleep":
        for side in (-1, 1):
            canvas.limb([(X + side * 8, 107), (X + side * 14, 112)], 11, fur)
            canvas.ellipse(X + side * 15, 113, 7.5, 6.5, feet)
        _shirt(canvas, shirt, 76 + lift, 101 + lift)
        return
    spread = 14 if action == "jump" else 9
    for side in (-1, 1):
        canvas.limb([(X + side * 8, 100 + lift), (X + side * spread, 112 + lift)], 9, fur)
        canvas.ellipse(X + side * (spread + 1), 115 + lift, 7.5, 4.5, feet)
    _shirt(canvas, shirt, 74 + lift, 107 + lift)


def _shirt(canvas: Canvas, shirt: Colour, top: float, bottom: float) -> None:
    hem = [(X + 17, bottom - 3), (X + 14, bottom), (X - 14, bottom), (X - 17, bottom - 3)]
    canvas.polygon([(X - 12, top), (X + 12, top), *hem], shirt)


def arms(
    canvas: Canvas, fur: Colour, shirt: Colour, action: str, wave: int, lift: float, raised: bool
) -> None:
    for side in (-1, 1):
        up = action == "jump" or (action == "wave" and side == wave)
        if up != raised:
            continue
        shoulder = (X + side * 14, 84 + lift)
        elbow, hand = (X + side * 19, 92 + lift), (X + side * 21, 100 + lift)
        if up:
            elbow, hand = (X + side * 25, 77 + lift), (X + side * 28, 65 + lift)
        canvas.ellipse(*hand, 5, 5, fur)
        canvas.limb([shoulder, elbow], 9, shirt)


def letter_z(canvas: Canvas, x: float, y: float, size: float) -> None:
    h = size / 2
    points = [(x - h, y - h), (x + h, y - h), (x - h, y + h), (x + h, y + h)]
    canvas.stroke(points, 4.6)
    canvas.stroke(points, 2.4, WHITE)


def eyes(canvas: Canvas, x: float, y: float, action: str) -> None:
    for side in (-1, 1):
        cx = X + side * x
        if action == "sleep":
            canvas.stroke(curve(cx, y, 5, 4, 10, 170), 2.2)
            continue
        canvas.ellipse(cx, y, 6, 7, WHITE, line=1.6)
        canvas.ellipse(cx - side * 0.8, y + 0.8, 3.8, 4.8, INK, line=0)
        canvas.ellipse(cx - 1.6, y - 1.6, 1.7, 1.7, WHITE, line=0)


def cheeks(canvas: Canvas, x: float, y: float) -> None:
    for side in (-1, 1):
        canvas.ellipse(X + side * x, y, 3.6, 2.6, _BLUSH, line=0)


def mouth(canvas: Canvas, y: float, width: float, action: str) -> None:
    """A smile; wide open in a jump, a small round breath in sleep."""
    if action == "jump":
        canvas.polygon(curve(X, y - 1, width, 7, 0, 180), RED, line=1.8)
    elif action == "sleep":
        canvas.ellipse(X, y + 1, 2, 2, RED, line=1.4)
    else:
        canvas.stroke(curve(X, y - 2, width, 4, 10, 170), 2)
