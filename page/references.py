"""The test stories of the data set that a model was trained on, to be drawn beside their own."""

from __future__ import annotations

import threading

from omegaconf import DictConfig

from building import open_stories, story_frames
from datasets.story_prompts import StoryPrompt, read_prompts

__all__ = ["References"]


class References:
    """Opened when the first is asked for: the cartoon world's may have to be drawn then."""

    def __init__(self, config: DictConfig) -> None:
        self._config, self._frames, self._opening = config, None, threading.Lock()

    def story(self, number: int | None) -> tuple[StoryPrompt, int]:
        """Story `number`, counted from 1, as mode=sample draws it; and how many there are.

        Raises:
            ValueError, OSError: there is no such story, or the file is not there or is broken.
        """
        with self._opening:
            if self._frames is None:
                self._frames = story_frames(open_stories(self._config, "test"), self._config)
        count = len(self._frames.stories)
        if number is None:
            raise ValueError(f"There is no number: give one from 1 to {count}.")
        if not 1 <= number <= count or number != int(number):
            raise ValueError(f"Story {number}: there are stories 1 to {count}.")
        (prompt,) = read_prompts(self._frames, [int(number) - 1])
        return prompt, count
