"""What tests of the page share."""

from __future__ import annotations

import numpy as np
from outcomes import CAPTIONS, picture

from page import handlers


def put(story, drawing):
    for k, frame in enumerate(drawing.result[0]):
        story.put(k, frame, drawing.origin)


def typed(settings, captions=CAPTIONS):
    """What stands in the page's fields."""
    how = settings.sampler
    steps, first = how["num_inference_steps"], how["first_frame_inference_steps"]
    last = [steps, first or steps, how["guidance_scale"], how["scheduler"]]
    blank = [""] * (handlers.MOST_FRAMES - len(captions))
    return [*captions, *blank, settings.name, settings.seed, *last]


def finished(drawing):
    list(drawing)
    return list(drawing.result[0])


def alike(some, others):
    return all(np.array_equal(one, other) for one, other in zip(some, others, strict=True))


def frames_of(folder, name="my_story"):
    return [picture(path) for path in sorted((folder / name).glob("0*.png"))]
