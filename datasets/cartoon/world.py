"""The cartoon world in words: who lives in it, where, what they wear and what they do.

Everything that is told is finite and named here, so that pictures, captions and labels agree by
construction. The wide world (`wide.py`) adds weather, an object that someone carries, and spots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

SPECIES = {
    "pip": "chick",
    "bruno": "bear",
    "tiko": "fox",
    "momo": "rabbit",
    "zara": "frog",
    "luna": "cat",
}
PRONOUNS = {"pip": "he", "bruno": "he", "tiko": "he", "momo": "she", "zara": "she", "luna": "she"}
CHARACTERS = tuple(SPECIES)
# Drawn for measurements alone: no story, caption, pretraining nor word list has them.
NEWCOMERS = {"milo": ("dog", "he"), "gus": ("penguin", "he"), "olga": ("owl", "she")}
HES = tuple(name for name in CHARACTERS if PRONOUNS[name] == "he")
SHES = tuple(name for name in CHARACTERS if PRONOUNS[name] == "she")
# Each place with the words a caption uses for it.
PLACES = {
    "meadow": "in the meadow",
    "beach": "on the beach",
    "mountain": "on the snowy mountain",
    "city": "in the city at night",
    "house": "in the house",
}
ACTIONS = ("stand", "wave", "jump", "sleep")
# Chosen to stay apart in hue and brightness after blur, and from every fur colour.
SHIRTS = {
    "red": (226, 38, 48),
    "blue": (44, 138, 246),
    "yellow": (255, 205, 0),
    "white": (252, 252, 252),
    "purple": (130, 40, 172),
}
LABEL_VOCABULARY = {
    "characters": list(CHARACTERS),
    "places": list(PLACES),
    "clothes": list(SHIRTS),
    "actions": list(ACTIONS),
}
# Combinations no training or validation frame shows: one per character, over all places.
HELD_OUT = frozenset(
    {
        ("pip", "beach", "sleep"),
        ("bruno", "city", "jump"),
        ("tiko", "house", "wave"),
        ("momo", "mountain", "jump"),
        ("zara", "meadow", "stand"),
        ("luna", "beach", "wave"),
    }
)
# The wide world's weather, with a caption's words for it; clear is how the places are drawn.
WEATHERS = {
    "clear": "in clear weather",
    "rain": "in the rain",
    "snow": "in the snow",
    "fog": "in the fog",
}
KINDS = ("ball", "balloon", "umbrella", "flag", "box")
COLOURS = {"red": (226, 38, 48), "blue": (44, 138, 246), "yellow": (255, 205, 0),
           "green": (30, 150, 70)}  # fmt: skip
OBJECTS = tuple(f"{colour} {kind}" for kind, colour in product(KINDS, COLOURS))
WIDE_LABEL_VOCABULARY = {
    **LABEL_VOCABULARY,
    "weathers": list(WEATHERS),
    "objects": ["none", *KINDS],
    "colours": list(COLOURS),
}
# Beside HELD_OUT, and as rare: who carries what, and where there is which weather.
WIDE_HELD_OUT = HELD_OUT | {
    ("pip", "umbrella"),
    ("bruno", "balloon"),
    ("tiko", "flag"),
    ("momo", "box"),
    ("zara", "ball"),
    ("luna", "flag"),
    ("beach", "snow"),
    ("house", "fog"),
    ("city", "rain"),
}


class Spot(NamedTuple):
    """Where a character stands in the wide world: pixels from the left and of the feet from above,
    percent of the full size, and the side (-1 left, 1 right) to which it acts."""

    x: int
    ground: int
    size: int
    side: int


@dataclass(frozen=True)
class Scene:
    """What one frame shows: a place, dressed characters (left to right), an action.

    One or two of them. In the wide world up to three, and further the weather, who of them carries
    which object, if any, and where each stands, which no caption says.
    """

    place: str
    cast: tuple[tuple[str, str], ...]
    action: str
    weather: str | None = None
    carried: tuple[str, str] | None = None
    spots: tuple[Spot, ...] = ()

    @property
    def held_out(self) -> bool:
        """Whether the frame shows a combination that training never sees."""
        shown = {(name, self.place, self.action) for name, _ in self.cast}
        shown.add((self.place, self.weather))
        if self.carried:
            name, thing = self.carried
            shown.add((name, thing.split()[1]))
        return not shown.isdisjoint(WIDE_HELD_OUT)

    def label(self) -> dict:
        """What the frame shows, as the labels of a story file say it."""
        label = {
            "place": self.place,
            "cast": [name for name, _ in self.cast],
            "clothes": dict(self.cast),
            "action": self.action,
        }
        if self.weather:
            carrier, thing = self.carried or (None, "none")
            *colour, kind = thing.split()
            label |= {"weather": self.weather, "object": kind, "colour": None, "carrier": carrier}
            label |= {"colour": colour[0]} if colour else {}
        return label

    def explicit_caption(self, name_clothes: bool = True, where: Sequence[str] = ()) -> str:
        """One sentence that says all that is drawn (all but the shirts, if not `name_clothes`).

        where: words for each spot, which stand before who stands there.
        """
        people = [
            (f"{spot} " if spot else "")
            + name.title()
            + (f" the {SPECIES[name]}" if name in SPECIES else "")
            + (f" in a {shirt} shirt" if name_clothes else "")
            + (f" with a {self.carried[1]}" if self.carried and name == self.carried[0] else "")
            for spot, (name, shirt) in zip(where or [""] * len(self.cast), self.cast, strict=True)
        ]
        verb = self.action if len(people) > 1 else f"{self.action}s"
        who = " and ".join([", ".join(people[:-1]), people[-1]] if people[1:] else people)
        weather = f" {WEATHERS[self.weather]}" if self.weather else ""
        return f"{who} {verb} {PLACES[self.place]}{weather}."


def all_scenes() -> Iterator[Scene]:
    """Every scene of the small world: each character alone, and each he with each she."""
    casts = [((name, shirt),) for name, shirt in product(CHARACTERS, SHIRTS)]
    dressed_hes, dressed_shes = product(HES, SHIRTS), product(SHES, SHIRTS)
    casts += list(product(dressed_hes, dressed_shes))
    for place, cast, action in product(PLACES, casts, ACTIONS):
        yield Scene(place, cast, action)
