"""The story grammar: captions in plain English and the scenes they determine.

Later captions mostly say "he", "she" or "they", and name the place only when it changes. Whoever
reads the captions in order can tell place, cast and action of every frame: "he" and "she" are the
last he and she named and are drawn alone, "they" are both. Shirts are drawn per character and
story and are never named, so they can only be known from earlier frames.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import ClassVar

from datasets.cartoon.world import (
    ACTIONS,
    CHARACTERS,
    HES,
    PLACES,
    PRONOUNS,
    SHES,
    SHIRTS,
    SPECIES,
    Scene,
    all_scenes,
)

FRAMES = 5  # of a story, unless asked otherwise
# Per action: (one does it, two do it).
_VERBS = {
    "stand": (("stands still", "stand still"), ("waits quietly", "wait quietly"),
              ("looks around", "look around")),
    "wave": (("waves", "wave"), ("waves hello", "wave hello"), ("waves happily", "wave happily")),
    "jump": (("jumps high", "jump high"), ("jumps for joy", "jump for joy"),
             ("hops up and down", "hop up and down")),
    "sleep": (("sleeps", "sleep"), ("falls asleep", "fall asleep"), ("takes a nap", "take a nap")),
}  # fmt: skip
_OPENINGS = ("{who} {does} {place}.", "One day, {who} {does} {place}.", "{place}, {who} {does}.")
_STAYS = (
    "{who} {does}.", "Then {who} {does}.", "Now {who} {does}.", "After a while, {who} {does}.",
    "{who} {does}, still in the same place.", "In the same place, {who} {does}.",
)  # fmt: skip
_MOVES = (
    "{who} {walk} {to} and {does}.", "Then {who} {run} {to} and {does}.",
    "Later, {who} {does} {place}.",
)  # fmt: skip
_JOINS = (
    "{new} joins {whom} and they {does}.", "{new} comes along and they {does}.",
    "Then {new} arrives and they {does}.",
)  # fmt: skip
_LEAVES = ("{gone} goes home. Now {who} {does}.",)
_RETURNS = ("{back} comes back and they {does}.", "Soon {back} is back and they {does}.")


@dataclass(frozen=True)
class Story:
    """Its captions, the scenes they tell, and the label dict of each frame."""

    captions: tuple[str, ...]
    scenes: tuple[Scene, ...]
    labels: tuple[dict, ...]


def vocabulary(openings: Sequence[str] = _OPENINGS) -> frozenset[str]:
    """Every word of a caption that the world can tell, and of the explicit ones, in lower case."""
    templates = (*openings, *_STAYS, *_MOVES, *_JOINS, *_LEAVES, *_RETURNS)
    texts = [re.sub(r"\{\w+\}", " ", template) for template in templates]
    texts += [phrase for pair in _VERBS.values() for one_or_two in pair for phrase in one_or_two]
    texts += ["walks walk runs run to they him her", *PRONOUNS.values()]
    texts += [scene.explicit_caption() for scene in all_scenes()]
    return frozenset(re.findall(r"\w+", " ".join(texts).lower()))


def make_story(
    rng: Random, allow_held_out: bool, frames: int = FRAMES, teller: type[Teller] | None = None
) -> Story:
    """Draw a story; without `allow_held_out`, no frame shows a held-out combination.

    A longer story goes on where a shorter one from the same generator ends. teller: of another
    world than the small one.
    """
    told = (teller or Teller)(rng, allow_held_out)
    told.open()
    while len(told.scenes) < frames:
        told.go_on()
    return Story(tuple(told.captions), tuple(told.scenes), tuple(told.labels))


def recast(story: Story, new: Mapping[str, str]) -> Story:
    """The story with others in some of its characters' places: old name -> new one."""

    def swap(match: re.Match) -> str:
        return new[match[1].lower()].title()

    named = re.compile(rf"\b({'|'.join(new)})\b( the \w+)?", re.IGNORECASE)
    captions = tuple(named.sub(swap, caption) for caption in story.captions)
    scenes = tuple(recast_scene(scene, new) for scene in story.scenes)
    labels = tuple(
        {**label, **scene.label()} for label, scene in zip(story.labels, scenes, strict=True)
    )
    return Story(captions, scenes, labels)


def recast_scene(scene: Scene, new: Mapping[str, str]) -> Scene:
    """The same of a scene."""
    cast = tuple((new.get(who, who), shirt) for who, shirt in scene.cast)
    carried = scene.carried and (new.get(scene.carried[0], scene.carried[0]), scene.carried[1])
    return replace(scene, cast=cast, carried=carried)


def cast_of(story: Story) -> list[str]:
    """Who is in it, in the order of their coming."""
    return list(dict.fromkeys(who for scene in story.scenes for who, _ in scene.cast))


@dataclass
class Teller:
    """What a listener knows so far: the place, who is around, who left last, all shirts."""

    rng: Random
    allow_held_out: bool
    place: str = ""
    around: list[str] = field(default_factory=list)
    gone: str | None = None
    captions: list[str] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    labels: list[dict] = field(default_factory=list)
    openings: ClassVar[tuple[str, ...]] = _OPENINGS

    def __post_init__(self) -> None:
        self.shirts = {name: self.rng.choice(list(SHIRTS)) for name in CHARACTERS}

    def open(self) -> None:
        """The first frame names cast and place."""
        self.place = self.rng.choice(self._elsewhere())
        self.around = [self.rng.choice(HES), self.rng.choice(SHES)]
        self.rng.shuffle(self.around)
        if self.rng.random() < 0.5:
            del self.around[1]
        who = " and ".join(name.title() for name in self.around)
        if len(self.around) == 1 and self.rng.random() < 0.5:
            who = self._introduce(self.around[0])
        self._tell(self.openings, self.around, True, named=True, who=who)

    def go_on(self) -> None:
        """One more frame: someone moves, comes, leaves, returns, or does something else."""
        chance = self.rng.random()
        if chance < 0.2:
            self.place = self.rng.choice(self._elsewhere())
            self._tell(_MOVES, self.around, True, who=self._pronoun(self.around))
        elif len(self.around) == 2:
            if chance < 0.3:
                self._leave()
            else:
                cast = self.rng.choice([self.around, self.around, self.around[:1], self.around[1:]])
                self._tell(_STAYS, cast, who=self._pronoun(cast))
        elif chance < 0.4 and self.gone:
            back, self.gone = self.gone, None
            self.around = [*self.around, back]
            self._tell(_RETURNS, self.around, back=PRONOUNS[back])
        elif chance < 0.5:
            self._join()
        else:
            self._tell(_STAYS, self.around, who=self._pronoun(self.around))

    def _leave(self) -> None:
        self.gone, stays = self.rng.sample(self.around, 2)
        self.around = [stays]
        gone = self.gone.title()
        self._tell(_LEAVES, self.around, named=True, gone=gone, who=PRONOUNS[stays])

    def _join(self) -> None:
        first = self.around[0]
        others = [name for name in (SHES if first in HES else HES) if name != self.gone]
        new, self.gone = self.rng.choice(others), None
        self.around = [first, new]
        whom = "him" if first in HES else "her"
        name = self._introduce(new) if self.rng.random() < 0.5 else new.title()
        self._tell(_JOINS, self.around, named=True, new=name, whom=whom)

    def _tell(
        self,
        templates: tuple[str, ...],
        cast: list[str],
        place_named: bool = False,
        named: bool = False,
        **words: str,
    ) -> None:
        """Draw an action, then add caption, scene and label; `named`: a character is named."""
        options = [self._scene(cast, action) for action in ACTIONS]
        # A new frame always differs from the last one.
        options = [scene for scene in options if scene not in self.scenes[-1:]]
        scene = self.rng.choice([s for s in options if self.allow_held_out or not s.held_out])
        two = len(cast) > 1
        phrase = PLACES[scene.place]
        caption = self.rng.choice(templates).format(
            does=self.rng.choice(_VERBS[scene.action])[two],
            walk=("walks", "walk")[two],
            run=("runs", "run")[two],
            place=phrase,
            to="to " + phrase.split(" ", 1)[1],
            **words,
        )
        self.captions.append(caption[0].upper() + caption[1:])
        self.scenes.append(scene)
        told = {"pronoun_only": not named, "place_named": place_named, "held_out": scene.held_out}
        self.labels.append({**scene.label(), **told})

    def _elsewhere(self) -> list[str]:
        return [place for place in PLACES if place != self.place]

    def _scene(self, cast: list[str], action: str) -> Scene:
        dressed = tuple((name, self.shirts[name]) for name in sorted(cast, key=CHARACTERS.index))
        return Scene(self.place, dressed, action)

    @staticmethod
    def _pronoun(cast: list[str]) -> str:
        return {1: PRONOUNS[cast[0]], 2: "they", 3: "all three"}[len(cast)]

    @staticmethod
    def _introduce(name: str) -> str:
        return f"{name.title()} the {SPECIES[name]}"
