"""Draws a scene: a cached background with cached character pictures pasted into it."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
from PIL import Image

from datasets.cartoon.canvas import SIZE
from datasets.cartoon.characters import draw_character
from datasets.cartoon.objects import centre, draw_object
from datasets.cartoon.places import draw_place
from datasets.cartoon.weather import draw_weather
from datasets.cartoon.world import Scene, Spot

# Where characters stand (pixels from the left): alone in the middle, or he left and she right.
SLOTS = {0: (), 1: (64,), 2: (34, 94)}
FEET, _NECK = 119, 70  # pixels from above, on a character's own board


def render(scene: Scene) -> np.ndarray:
    """The frame of a scene, (128, 128, 3) uint8 RGB; the same scene always gives the same bytes."""
    frame = _background(scene.place, scene.weather).copy()
    if scene.spots:
        # Who stands nearer, and so lower, is drawn over the others.
        for (name, shirt), spot in sorted(
            zip(scene.cast, scene.spots, strict=True), key=lambda one: one[1].ground
        ):
            _paste(frame, _large(name, shirt, scene.action, spot.side), spot)
        if scene.carried:
            carrier, thing = scene.carried
            spot = scene.spots[[name for name, _ in scene.cast].index(carrier)]
            _paste(frame, _held(thing, scene.action, spot.side), spot)
        return np.array(frame)
    for (name, shirt), x in zip(scene.cast, SLOTS[len(scene.cast)], strict=True):
        character = _character(name, shirt, scene.action)
        frame.paste(character, (x - SIZE // 2, 0), character)
    return np.array(frame)


def find(scene: Scene) -> dict[str, tuple[float, float]]:
    """Where each character of the wide world is, and the "object" that is carried, in
    shares of width and height. (Nothing of the small world.)"""
    found = {}
    for (name, _), spot in zip(scene.cast, scene.spots, strict=False):
        found[name] = _on_frame((SIZE / 2, _NECK), spot)
        if scene.carried and name == scene.carried[0]:
            found["object"] = _on_frame(centre(scene.carried[1], scene.action, spot.side), spot)
    return found


def _on_frame(point: tuple[float, float], spot: Spot) -> tuple[float, float]:
    share = spot.size / 100
    x, y = spot.x + share * (point[0] - SIZE / 2), spot.ground + share * (point[1] - FEET)
    return x / SIZE, y / SIZE


def _paste(frame: Image.Image, board: Image.Image, spot: Spot) -> None:
    side = round(SIZE * spot.size / 100)
    small = board.resize((side, side), Image.Resampling.HAMMING)
    frame.paste(small, (spot.x - side // 2, spot.ground - round(FEET * spot.size / 100)), small)


@cache
def _background(place: str, weather: str | None) -> Image.Image:
    canvas = draw_place(place)
    if weather:
        canvas.overlay(draw_weather(weather, place).image)
    return canvas.reduced().convert("RGB")


@lru_cache(1024)  # of strangers there may be many
def _character(name: str, shirt: str, action: str) -> Image.Image:
    return draw_character(name, shirt, action).reduced()


@lru_cache(1000)  # a quarter of a megabyte each, and slow to draw
def _large(name: str, shirt: str, action: str, side: int) -> Image.Image:
    return draw_character(name, shirt, action, side).image.reduce(2)


@lru_cache(200)
def _held(thing: str, action: str, side: int) -> Image.Image:
    return draw_object(thing, action, side).image.reduce(2)
