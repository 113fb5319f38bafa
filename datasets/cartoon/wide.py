"""The wide world's grammar: too many pictures to learn by heart, and more to keep in mind.

Beside what the small world's captions leave open, these persist untold: the weather, named in the
opening and when it changes; an object, named when it is picked up, handed over or put away; and
where each character stands, how large and turned to which side, which is never named and stays
while the place stays and nobody comes or goes. Captions tell no more of it than who is left of
whom: who was told of first is leftmost, who comes stands to the right of all others. A third
character may come by, and is named when it comes and when it leaves. Pronouns mean the two who
stay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

from datasets.cartoon.grammar import Teller, vocabulary
from datasets.cartoon.world import (
    CHARACTERS,
    COLOURS,
    KINDS,
    OBJECTS,
    PRONOUNS,
    WEATHERS,
    WIDE_HELD_OUT,
    Scene,
    Spot,
)

__all__ = ["COLUMNS", "DEPTHS", "WideTeller", "place_characters", "wide_vocabulary"]

_OPENINGS = (
    "{who} {does} {place} {weather}.", "{weather}, {who} {does} {place}.",
    "{place}, {who} {does} {weather}.",
)  # fmt: skip
_TURNS = {
    "clear": ("The weather clears up and {who} {does}.", "It clears up. Now {who} {does}."),
    "rain": ("It starts to rain and {who} {does}.", "The rain comes. Now {who} {does}."),
    "snow": ("It starts to snow and {who} {does}.", "The snow comes. Now {who} {does}."),
    "fog": ("Fog comes up and {who} {does}.", "The fog comes. Now {who} {does}."),
}
_PICKS = (
    "{giver} picks up a {thing} and {who} {does}.", "{giver} finds a {thing}. Now {who} {does}.",
)  # fmt: skip
_GIVES = ("{giver} gives {him} the {kind} and {who} {does}.",)
_PUTS_AWAY = ("{giver} puts the {kind} away and {who} {does}.",)
_COMES_BY = ("{new} comes by and {who} {does}.", "{new} passes by and {who} {does}.")
_STAYS = ("{who} {does}.", "Then {who} {does}.", "Now {who} {does}.")
_GOES_ON = ("{gone} goes on. Now {who} {does}.", "{gone} walks on. Now {who} {does}.")
# Where characters stand: on the grid of the autoencoder's patches, so that one who is moved has the
# same latents elsewhere. And how large, with the feet how far from above.
COLUMNS = tuple(range(24, 105, 16))  # pixels from the left
DEPTHS = {"far": (56, 112), "midway": (66, 116), "near": (80, 120)}  # percent, pixels from above
_ROOM = {1: (1, "midway", "near"), 2: (3, "midway", "near"), 3: (2, "far", "midway")}


def place_characters(names: list[str], rng: Random) -> dict[str, Spot]:
    """A spot for each, in their order from the left, so that no face is covered."""
    apart, *depths = _ROOM[len(names)]  # columns from one to the next, at least
    free = len(COLUMNS) - 1 - apart * (len(names) - 1)
    shifts = sorted(rng.randint(0, free) for _ in names)
    placed = {}
    for number, (name, shift) in enumerate(zip(names, shifts, strict=True)):
        size, ground = DEPTHS[rng.choice(depths)]
        placed[name] = Spot(COLUMNS[apart * number + shift], ground, size, rng.choice((-1, 1)))
    return placed


def wide_vocabulary() -> frozenset[str]:
    """Every word of the wide world's captions, in lower case."""
    templates = (*_PICKS, *_GIVES, *_PUTS_AWAY, *_COMES_BY, *_GOES_ON)
    texts = [re.sub(r"\{\w+\}", " ", text) for text in (*templates, *sum(_TURNS.values(), ()))]
    texts += [*WEATHERS.values(), *KINDS, *COLOURS, "with all three"]
    return vocabulary(_OPENINGS) | frozenset(re.findall(r"\w+", " ".join(texts).lower()))


@dataclass
class WideTeller(Teller):
    """What a listener knows besides: the weather, who has which object, who is just passing."""

    weather: str = ""
    carried: tuple[str, str] | None = None  # by whom, what
    visitor: str | None = None
    spots: dict[str, Spot] = field(default_factory=dict)
    openings: ClassVar[tuple[str, ...]] = _OPENINGS
    _arranged: tuple | None = None

    def open(self) -> None:
        self.weather = self.rng.choice(list(WEATHERS))
        super().open()
        self.labels[-1]["weather_named"] = True

    def go_on(self) -> None:
        """One more frame: of the weather, of an object, of someone passing, or a plain one."""
        if self.carried and self.carried[0] not in (*self.around, self.gone):
            self.carried = None  # whoever had it has gone for good
        if self.visitor:
            return self._visit_goes_on()
        chance = self.rng.random()
        if chance < 0.12:
            return self._turn()
        if chance < (0.22 if self.carried else 0.42) and self._handle():
            return None
        if chance > 0.75 and len(self.around) == 2:
            return self._come_by()
        return super().go_on()

    def _turn(self) -> None:
        others = [
            weather for weather in WEATHERS
            if weather != self.weather and self._allowed(self.place, weather)
        ]  # fmt: skip
        self.weather = self.rng.choice(others)
        self._tell(_TURNS[self.weather], self.around, who=self._pronoun(self.around))
        self.labels[-1]["weather_named"] = True

    def _handle(self) -> bool:
        """Someone around picks the object up, gives it away or puts it away; False if nobody can.

        What is not around is with whoever has gone home and may come back.
        """
        name, thing = self.carried or (self.rng.choice(self.around), "")
        if name not in self.around:
            return False
        words, named = {"him": "", "kind": thing.split()[-1] if thing else ""}, False
        takers = [one for one in self.around if one != name and self._allowed(one, words["kind"])]
        if not thing:
            things = [one for one in OBJECTS if self._allowed(name, one.split()[1])]
            words["thing"] = self.rng.choice(things)
            templates, self.carried = _PICKS, (name, words["thing"])
            named = self.rng.random() < 0.5
        elif takers and self.rng.random() < 0.6:
            words["him"] = {"he": "him", "she": "her"}[PRONOUNS[takers[0]]]
            templates, self.carried = _GIVES, (takers[0], thing)
        else:
            templates, self.carried = _PUTS_AWAY, None
        giver = name.title() if named else PRONOUNS[name]
        who = self._pronoun(self.around)
        self._tell(templates, self.around, named=named, giver=giver, who=who, **words)
        self.labels[-1]["object_named"] = True
        return True

    def _come_by(self) -> None:
        self.visitor = self.rng.choice([name for name in CHARACTERS if name not in self.around])
        name = self.visitor
        new = self._introduce(name) if self.rng.random() < 0.5 else name.title()
        everyone = [*self.around, name]
        self._tell(_COMES_BY, everyone, named=True, new=new, who=self._pronoun(everyone))

    def _visit_goes_on(self) -> None:
        everyone = [*self.around, self.visitor]
        if self.rng.random() < 0.3:
            return self._tell(_STAYS, everyone, who=self._pronoun(everyone))
        gone, self.visitor = self.visitor.title(), None
        who = self._pronoun(self.around)
        return self._tell(_GOES_ON, self.around, named=True, gone=gone, who=who)

    def _tell(self, templates: tuple[str, ...], cast: list[str], *told: bool, **words) -> None:
        there = (self.place, *self.around, *filter(None, [self.visitor]))
        if there != self._arranged:
            self.spots, self._arranged = place_characters(list(there[1:]), self.rng), there
        super()._tell(templates, cast, *told, weather=WEATHERS[self.weather], **words)
        self.labels[-1] |= {"weather_named": False, "object_named": False}

    def _elsewhere(self) -> list[str]:
        return [place for place in super()._elsewhere() if self._allowed(place, self.weather)]

    def _allowed(self, *pair: str) -> bool:
        return self.allow_held_out or pair not in WIDE_HELD_OUT

    def _scene(self, cast: list[str], action: str) -> Scene:
        shown = sorted(cast, key=lambda name: self.spots[name].x)
        carried = self.carried if self.carried and self.carried[0] in cast else None
        return Scene(
            self.place,
            tuple((name, self.shirts[name]) for name in shown),
            action,
            self.weather,
            carried,
            tuple(self.spots[name] for name in shown),
        )
