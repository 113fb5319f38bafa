"""The characters, dressed and in a pose: those who have a name, and any number of strangers."""

from __future__ import annotations

from datasets.cartoon import strangers
from datasets.cartoon.canvas import Canvas
from datasets.cartoon.figure import X, arms, body, letter_z
from datasets.cartoon.heads import FEET, FUR, HEADS, draw_tail
from datasets.cartoon.world import NEWCOMERS, PRONOUNS, SHIRTS

_HES = {name for name, pronoun in PRONOUNS.items() if pronoun == "he"}
_HES |= {name for name, (_, pronoun) in NEWCOMERS.items() if pronoun == "he"}


def draw_character(name: str, shirt: str, action: str, side: int | None = None) -> Canvas:
    """One dressed character in the pose of `action`, standing at the middle of a clear board.

    side: to which it acts, left (-1) or right (1). None: he to the left of the picture and she to
    the right, so that a pair in fixed slots never collides.
    """
    canvas, other = Canvas(), strangers.stranger(name)
    fur = other.fur if other else FUR[name]
    feet = other.feet_colour if other else FEET.get(name, fur)
    if side is None:
        side = -1 if name in _HES or (other and other.pronoun == "he") else 1
    lift = {"jump": -14, "sleep": 7}.get(action, 0)
    shadow = 17 if action == "jump" else 24
    canvas.ellipse(X, 119, shadow, 4.5, (30, 20, 60, 90), line=0)
    if other:
        strangers.draw_tail(canvas, other, lift, -side)
    else:
        draw_tail(canvas, name, lift, -side)
    body(canvas, fur, feet, SHIRTS[shirt], action, lift)
    arms(canvas, fur, SHIRTS[shirt], action, side, lift, raised=False)
    head = Canvas()
    y = 57 + lift
    if other:
        strangers.draw_head(head, other, y, action)
    else:
        HEADS[name](head, y, action)
    canvas.overlay(head.rotated(9 * side, (X, y + 18)) if action == "sleep" else head.image)
    arms(canvas, fur, SHIRTS[shirt], action, side, lift, raised=True)
    if action == "sleep":
        letter_z(canvas, X + side * 26, 34, 12)
        letter_z(canvas, X + side * 22, 16, 8)
    return canvas
