"""The cartoon world in words: who lives in it, where, what they wear and what they do.

Everything is finite and named here, so that pictures, captions and labels agree by construction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

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


@dataclass(frozen=True)
class Scene:
    """What one frame shows: a place, one or two dressed characters (left to right), an action."""

    place: str
    cast: tuple[tuple[str, str], ...]
    action: str

    @property
    def held_out(self) -> bool:
        """Whether the frame shows a character x place x action that training never sees."""
        return any((name, self.place, self.action) in HELD_OUT for name, _ in self.cast)

    def label(self) -> dict:
        """What the frame shows, as the labels of a story file say it."""
        return {
            "place": self.place,
            "cast": [name for name, _ in self.cast],
            "clothes": dict(self.cast),
            "action": self.action,
        }

    def explicit_caption(self, name_clothes: bool = True) -> str:
        """One sentence that says all that is drawn (all but the shirts, if not `name_clothes`)."""
        people = [
            name.title()
            + (f" the {SPECIES[name]}" if name in SPECIES else "")
            + (f" in a {shirt} shirt" if name_clothes else "")
            for name, shirt in self.cast
        ]
        verb = self.action if len(people) == 2 else f"{self.action}s"
        return f"{' and '.join(people)} {verb} {PLACES[self.place]}."


def all_scenes() -> Iterator[Scene]:
    """Every scene of the world: each character alone, and each he with each she."""
    casts = [((name, shirt),) for name, shirt in product(CHARACTERS, SHIRTS)]
    dressed_hes, dressed_shes = product(HES, SHIRTS), product(SHES, SHIRTS)
    casts += list(product(dressed_hes, dressed_shes))
    for place, cast, action in product(PLACES, casts, ACTIONS):
        yield Scene(place, cast, action)
