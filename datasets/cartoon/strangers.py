"""Strangers: any number of made-up characters, each a word and a look of its own, and their heads.

No story is about them unless asked for. A base that has seen many can be taught one more: their
parts are those of all animals here, put together anew, and never as a newcomer's.
"""

from __future__ import annotations

import colorsys
from dataclasses import astuple, dataclass
from functools import cache
from itertools import islice
from random import Random

from datasets.cartoon.canvas import INK, Canvas, Colour, curve
from datasets.cartoon.figure import ORANGE, RED, X, cheeks, eyes, mouth

__all__ = ["PARTS", "Stranger", "draw_head", "draw_tail", "features", "make_up", "stranger"]

PARTS = {
    "ears": ("none", "round", "pointed", "upright", "hanging", "tufts", "feathers", "horns"),
    "face": ("plain", "heart", "discs", "cheeks", "patch", "stripes", "cap"),
    "muzzle": ("none", "plain", "outlined"),
    "nose": ("small", "large", "snout", "beak", "bill", "point"),
    "tail": ("none", "thin", "long", "bushy", "ball"),
    "feet": ("fur", "orange", "second"),
    "blush": (False, True),
    "whiskers": (False, True),
}
# Ears with faces that make a newcomer (`world.NEWCOMERS`); no stranger has both.
_NEWCOMERS = {("hanging", "patch"), ("none", "heart"), ("tufts", "discs")}
_BIRDS = ("beak", "bill", "point")


@dataclass(frozen=True)
class Stranger:
    """Kinds of `PARTS`; colours of the fur, of ears and markings, of muzzle and face; shares of the
    usual size, 0.85 to 1.15."""

    ears: str
    face: str
    muzzle: str
    nose: str
    tail: str
    feet: str
    blush: bool
    whiskers: bool
    fur: Colour
    second: Colour
    pale: Colour
    wide: float
    high: float
    ear: float
    eyes: float
    pronoun: str

    @property
    def feet_colour(self) -> Colour:
        return {"fur": self.fur, "orange": ORANGE, "second": self.second}[self.feet]


@cache
def stranger(name: str) -> Stranger | None:
    """Who has this name; None if it is none of theirs."""
    return _look(Random(f"look of {name}")) if _is_name(name) else None


def make_up(number: int) -> list[str]:
    """The names of the first so many."""
    names = dict.fromkeys(_name(Random(f"name {n}")) for n in range(4 * number))
    return list(islice(names, number))


def features(one: Stranger) -> list[float]:
    """A look in numbers around 0: what a stranger's word means."""
    *kinds, fur, second, pale, wide, high, ear, eyes, pronoun = astuple(one)
    numbers = [
        float(kind == other) - 1 / len(options)
        for kind, options in zip(kinds, PARTS.values(), strict=True)
        for other in options
    ]
    numbers += [2 * (value / 255 - 0.6) for colour in (fur, second, pale) for value in colour]
    numbers += [4 * (share - 1) for share in (wide, high, ear, eyes)]
    return [*numbers, float(pronoun == "he") - 0.5]


_OPEN, _VOWELS = "bdfgjkprtvw", "aeiou"


def _name(random: Random) -> str:
    return "".join(random.choice(letters) for letters in (_OPEN, _VOWELS, _OPEN, _VOWELS, "xq"))


def _is_name(name: str) -> bool:
    return len(name) == 5 and name[-1] in "xq"


def _look(random: Random) -> Stranger:
    while True:
        kinds = {part: random.choice(options) for part, options in PARTS.items()}
        if (kinds["ears"], kinds["face"]) not in _NEWCOMERS:
            break
    if kinds["nose"] in _BIRDS:
        kinds["muzzle"] = "none"
    fur, second = _colour(random), _colour(random)
    pale = random.choice([(255, 255, 255), _colour(random, pale=True), _colour(random, pale=True)])
    shares = [random.uniform(0.87, 1.13) for _ in range(4)]
    return Stranger(*kinds.values(), fur, second, pale, *shares, random.choice(("he", "she")))


def _colour(random: Random, pale: bool = False) -> Colour:
    hue = random.random()
    if pale:
        return _rgb(hue, random.uniform(0, 0.4), random.uniform(0.9, 1))
    kind = random.random()
    if kind < 0.35:  # bright
        return _rgb(hue, random.uniform(0.3, 0.8), random.uniform(0.6, 1))
    if kind < 0.7:  # brown, cream, dark brown
        return _rgb(random.uniform(0.04, 0.13), random.uniform(0.15, 0.7), random.uniform(0.35, 1))
    return _rgb(hue, random.uniform(0, 0.3), random.uniform(0.2, 1))  # grey


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))


def draw_tail(canvas: Canvas, look: Stranger, lift: float, side: int) -> None:
    y, x = lift, [X + side * d for d in range(40)]
    if look.tail == "thin":
        canvas.limb([(x[12], 106 + y), (x[26], 88 + y)], 6, look.second)
    elif look.tail == "long":
        canvas.limb([(x[12], 108 + y), (x[25], 106 + y), (x[27], 90 + y)], 7, look.fur)
    elif look.tail == "bushy":
        canvas.limb([(x[12], 106 + y), (x[24], 98 + y)], 14, look.fur)
        canvas.ellipse(x[25], 90 + y, 7, 10, look.fur)
        canvas.ellipse(x[26], 84 + y, 4.4, 5, look.second, line=0)
    elif look.tail == "ball":
        canvas.ellipse(x[19], 102 + y, 6, 6, look.second)


def draw_head(canvas: Canvas, look: Stranger, y: float, action: str) -> None:
    wide, high, size = 23 * look.wide, 21 * look.high, look.ear
    if look.ears != "hanging":
        _ears(canvas, look, y, wide, high, size)
    canvas.ellipse(X, y, wide, high, look.fur)
    if look.face == "cap":
        canvas.polygon(curve(X, y - 1, wide - 1, high - 1, 200, 340), look.second, line=0)
    elif look.face == "stripes":
        for dx in (-6, 0, 6):
            canvas.stroke([(X + dx, y - high + 3), (X + dx, y - high + 8)], 3, look.second)
    elif look.face == "patch":
        canvas.ellipse(X + 10, y - 4, 9.5, 10.5, look.second, line=0)
    for side in (-1, 1):
        if look.face == "heart":
            canvas.ellipse(X + side * 8, y - 1, 10, 12, look.pale, line=0)
        elif look.face == "discs":
            canvas.ellipse(X + side * 11, y - 2, 12.5, 12.5, look.pale, line=1.6)
        elif look.face == "cheeks":
            canvas.ellipse(X + side * 0.5 * wide, y + 8, 0.42 * wide, 7, look.pale, line=0)
    if look.face == "heart":
        canvas.ellipse(X, y + 9, 15, 11, look.pale, line=0)
    if look.ears == "hanging":
        _ears(canvas, look, y, wide, high, size)
    eyes(canvas, 10 * look.eyes, y - 3, action)
    if look.muzzle != "none":
        line = 1.4 if look.muzzle == "outlined" else 0
        canvas.ellipse(X, y + 9.5, 12, 9, look.pale, line=line)
    if look.blush:
        cheeks(canvas, 16, y + 8)
    if look.whiskers:
        for side, dy in ((-1, -1.5), (1, -1.5), (-1, 2.5), (1, 2.5)):
            whisker = [(X + side * 16, y + 8 + dy * 0.6), (X + side * 28, y + 7 + dy * 1.8)]
            canvas.stroke(whisker, 1.6)
    _nose(canvas, look, y, action)


def _ears(canvas: Canvas, look: Stranger, y: float, wide: float, high: float, size: float) -> None:
    top = y - high
    for side in (-1, 1):
        x = [X + side * d for d in range(40)]
        if look.ears == "round":
            canvas.ellipse(X + side * 0.72 * wide, y - 16, 9 * size, 9 * size, look.fur)
            canvas.ellipse(
                X + side * 0.72 * wide, y - 16, 4.5 * size, 4.5 * size, look.second, line=0
            )
        elif look.ears == "pointed":
            canvas.polygon([(x[22], y - 20 - 8 * size), (x[23], y - 5), (x[5], y - 18)], look.fur)
            inner = [(x[20], y - 15 - 7 * size), (x[20], y - 11), (x[11], y - 16)]
            canvas.polygon(inner, look.second, line=0)
        elif look.ears == "upright":
            canvas.ellipse(X + side * 9.5, y - 26, 7, 15 * size, look.fur)
            canvas.ellipse(X + side * 9.5, y - 25, 3.2, 10.5 * size, look.second, line=0)
        elif look.ears == "hanging":
            ear = [(x[12], y - 19), (x[27], y - 12), (x[30], y + 12 * size),
                   (x[24], y + 19 * size), (x[19], y + 4)]  # fmt: skip
            canvas.polygon(ear, look.second)
        elif look.ears == "tufts":
            canvas.polygon([(x[26], y - 21 - 7 * size), (x[22], y - 4), (x[4], y - 16)], look.fur)
        elif look.ears == "horns":
            horn = [(x[6], top + 5), (x[17], top + 8), (x[16], top - 10 * size)]
            canvas.polygon(horn, look.second)
    if look.ears == "feathers":
        for width, colour in ((9, INK), (5, look.fur)):
            for tip, rise in ((-11, 7), (0, 11), (11, 7)):
                feather = [(X, top + 4), (X + tip * 0.4, top - 3), (X + tip, top - rise * size)]
                canvas.stroke(feather, width, colour)


def _nose(canvas: Canvas, look: Stranger, y: float, action: str) -> None:
    jump = action == "jump"
    if look.nose == "beak":
        if jump:
            canvas.polygon([(X - 6, y + 9), (X + 6, y + 9), (X, y + 16)], RED, 1.8)
        tip = 9 if jump else 12
        beak = [(X - 8, y + 6), (X, y + 1), (X + 8, y + 6), (X, y + tip)]
        canvas.polygon(beak, ORANGE, line=1.8)
    elif look.nose == "bill":
        tip = 14 if jump else 10
        canvas.polygon([(X - 8, y + 4), (X + 8, y + 4), (X, y + tip)], ORANGE, line=1.8)
    elif look.nose == "point":
        canvas.polygon([(X - 5, y + 3), (X + 5, y + 3), (X, y + 14)], (240, 190, 40), line=1.8)
    elif look.nose == "snout":
        canvas.ellipse(X, y + 7, 8, 5.5, (250, 160, 170), line=1.6)
        for side in (-1, 1):
            canvas.ellipse(X + side * 3, y + 7, 1.4, 2, INK, line=0)
        mouth(canvas, y + 15, 5, action)
    else:
        large = look.nose == "large"
        canvas.ellipse(X, y + 5.5, 5 if large else 3, 3.6 if large else 2.3,
                       INK if large else (226, 70, 110), line=0)  # fmt: skip
        mouth(canvas, y + 12, 5, action)
