"""The objects that a character of the wide world can carry, each unmistakable by its outline."""

from __future__ import annotations

from datasets.cartoon.canvas import INK, Canvas, Colour, Point, curve
from datasets.cartoon.world import COLOURS

_WHITE = (255, 255, 255)
_LIFTS = {"balloon": 72, "umbrella": 26, "flag": 21}  # of their middles above the hand


def draw_object(thing: str, action: str, side: int) -> Canvas:
    """An object such as "red ball" in the hand of who acts to `side`: the hand that never waves.

    On a board on which `draw_character` would draw who holds it.
    """
    canvas = Canvas()
    colour, kind = thing.split()
    _KINDS[kind](canvas, _hand(action, side), -side, COLOURS[colour])
    return canvas


def centre(thing: str, action: str, side: int) -> Point:
    """Where the object is on that board."""
    x, y = _hand(action, side)
    return x - 4 * side, _up(y, _LIFTS.get(thing.split()[1], 0))


def _hand(action: str, side: int) -> Point:
    x, y = {"jump": (28, 51), "sleep": (21, 107)}.get(action, (22, 100))
    return 64 - side * x, y


def _up(y: float, lift: float) -> float:
    return max(16, y - lift)


def _ball(canvas: Canvas, hand: Point, side: int, colour: Colour) -> None:
    x, y = hand[0] + side * 3, hand[1] + 3
    canvas.ellipse(x, y, 12, 12, colour)
    canvas.polygon([*curve(x, y, 10.6, 10.6, -22, 22), *curve(x, y, 10.6, 10.6, 158, 202)],
                   _WHITE, line=0)  # fmt: skip


def _balloon(canvas: Canvas, hand: Point, side: int, colour: Colour) -> None:
    x, y = hand[0] + side * 4, _up(hand[1], _LIFTS["balloon"])
    canvas.stroke([hand, (x, y + 13)], 2)
    canvas.polygon([(x, y + 11), (x - 4, y + 18), (x + 4, y + 18)], colour, line=1.6)
    canvas.ellipse(x, y, 12, 14.5, colour)
    canvas.ellipse(x - 4, y - 5, 2.6, 3.6, _WHITE, line=0)


def _umbrella(canvas: Canvas, hand: Point, side: int, colour: Colour) -> None:
    x, top = hand[0] + side * 2, hand[1] - 22
    canvas.stroke([(x, top), (x, hand[1] + 8)], 3)
    canvas.stroke(curve(x - side * 3.5, hand[1] + 8, 3.5, 4, 0, 180), 3)
    canvas.polygon(curve(x, top, 16, 15, 180, 360), colour)


def _flag(canvas: Canvas, hand: Point, side: int, colour: Colour) -> None:
    x, top = hand[0], hand[1] - 30
    canvas.stroke([(x, top), (x, hand[1] + 8)], 3.2, INK)
    canvas.polygon([(x, top), (x + side * 18, top + 8), (x, top + 17)], colour)


def _box(canvas: Canvas, hand: Point, side: int, colour: Colour) -> None:
    x, y = hand[0] + side * 3, hand[1] + 2
    canvas.rectangle(x - 11, y - 10, x + 11, y + 11, colour, line=2)
    canvas.rectangle(x - 2.6, y - 9, x + 2.6, y + 10, _WHITE)
    for dx in (-5, 5):
        canvas.ellipse(x + dx, y - 13, 4.4, 3, _WHITE, line=1.8)


_KINDS = {"ball": _ball, "balloon": _balloon, "umbrella": _umbrella, "flag": _flag, "box": _box}
