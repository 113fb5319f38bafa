"""Strangers: any number of made-up characters, each a word and a look drawn from its number.

No story is about them unless asked for. A base that has seen many can be taught one more: their
parts are those of all animals here, put together anew, and never as a newcomer's.
"""

from __future__ import annotations

import colorsys
from dataclasses import astuple, dataclass
from functools import cache
from itertools import islice
from random import Random

from datasets.cartoon.canvas import Colour

__all__ = ["PARTS", "Stranger", "features", "make_up", "stranger"]

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
_ORANGE = (255, 140, 30)


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
        return {"fur": self.fur, "orange": _ORANGE, "second": self.second}[self.feet]


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
