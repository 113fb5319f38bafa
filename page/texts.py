"""What the page says and how it looks."""

from __future__ import annotations

import numpy as np

from datasets.cartoon.world import (
    ACTIONS,
    CHARACTERS,
    COLOURS,
    HES,
    KINDS,
    PLACES,
    SHES,
    SPECIES,
    WEATHERS,
)

__all__ = ["BLANK", "CSS", "EXAMPLE", "understood"]

BLANK = np.full((128, 128, 3), 240, np.uint8)  # where nothing is drawn yet

EXAMPLE = (
    "Luna the cat waves on the beach.",
    "Then she jumps for joy.",
    "Bruno the bear joins her and they wave.",
    "They run to the house and take a nap.",
    "He looks around.",
)

CSS = """
.gradio-container {max-width: 1240px !important; margin: auto}
.cards {display: grid !important; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr));
        gap: 14px}
.card {background: var(--block-background-fill); border: 1px solid var(--border-color-primary);
       border-radius: 12px; padding: 10px; gap: 8px !important; min-width: 0 !important}
.cards {counter-reset: frame}
.card::before {counter-increment: frame; content: "Frame " counter(frame); font-weight: 600;
               font-size: 13px; color: var(--body-text-color-subdued)}
.frame {border: none !important; box-shadow: none !important; position: relative}
.frame.given::after {content: "given"; position: absolute; left: 8px; top: 8px; font-size: 12px;
                     padding: 1px 8px; border-radius: 8px; background: #2f6fde; color: white}
.frame .image-container, .frame .image-frame, .frame button {width: 100%}
.frame img {width: 100% !important; height: auto !important; aspect-ratio: 1;
            object-fit: contain !important; border-radius: 8px}
.frame .icon-button-wrapper {opacity: 0}
.frame:hover .icon-button-wrapper {opacity: 1}
.reference {width: 60% !important; min-width: 0 !important}
.reference::before {content: "its own picture"; font-size: 12px;
                    color: var(--body-text-color-subdued)}
.looked {font-size: 12px; color: var(--body-text-color-subdued)}
#candidates img {aspect-ratio: 1; object-fit: contain; height: auto !important}
#candidates, #candidates * {min-height: 0 !important}
.tools {gap: 4px !important; flex-wrap: nowrap !important}
.tools button {padding: 2px 0 !important; font-size: 14px}
#notices {background: #fff6e5; color: #6b4300; border-radius: 10px; padding: 8px 14px}
#status {min-height: 28px}
"""


WIDE = f"""
- the weather: {", ".join(WEATHERS.values())}; "It starts to rain and they wave."
- things to carry: a {", ".join(KINDS)}, {", ".join(COLOURS)}; "He picks up a red ball
  and he jumps high."
- a third one: "Luna comes by and all three wave."
"""


def understood(world: str = "small") -> str:
    """The cartoon world's cast, places and actions, as Markdown."""

    def cast(names: tuple[str, ...]) -> str:
        return ", ".join(f"**{name.title()}** the {SPECIES[name]}" for name in names)

    return f"""
- he: {cast(HES)}
- she: {cast(SHES)}
- where: {", ".join(PLACES.values())}
- what they do: {", ".join(ACTIONS)}, one at a time; they come, go home, walk and run elsewhere

At most one he and one she ({len(CHARACTERS)} characters in all) are in a frame. Name who is there
and where in the first caption; later ones may say he, she or they, and nothing of the place. Shirts
are chosen in the first frame.
""" + (WIDE if world == "wide" else "")
