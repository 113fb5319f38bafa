"""Train the judge of the cartoon world on rendered frames: `python -m demo.judge out=FILE`.

    python -m demo.judge out=judge.safetensors

It learns from 3000 frames of the whole world (8000 of the wide one), held-out combinations too, as
it has to recognise them, and never from drawn ones; its error on 1000 other rendered frames goes
into the file.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.files import check_writable
from common.key_value_arguments import option, run

if TYPE_CHECKING:
    from datasets.cartoon.world import Scene
    from evaluation.networks.judge import Judge

__all__ = ["make_judge"]

TRAINING, STEPS = {"small": 3000, "wide": 8000}, {"small": 250, "wide": 900}
TEST = 1000  # rendered frames
SEED = 1  # of the wide world's stories: others than those that are drawn


@dataclass
class JudgeTraining:
    """The options of this command."""

    out: str = option("file to write, such as judge.safetensors")
    seed: int = option("of the first weights and of the frames' order and damage", 0, least=0)
    world: str = option("which cartoon world: small or wide", "small", choices=("small", "wide"))


def make_judge(
    path: Path,
    seed: int = 0,
    scenes: Iterable[Scene] | None = None,
    vocabulary: dict | None = None,
    steps: int | None = None,
    world: str = "small",
) -> Judge:
    """Render, train, measure, save; `scenes` and their `vocabulary`: those of the stories."""
    import numpy as np

    from datasets.cartoon.renderer import find, render
    from datasets.cartoon.world import all_scenes
    from datasets.cartoon.worlds import WORLDS
    from evaluation.networks.judge_training import train_judge

    check_writable(path)
    training, vocabulary = TRAINING[world], vocabulary or WORLDS[world].labels
    if not scenes:
        scenes = all_scenes() if world == "small" else _wide_scenes(training + TEST)
    scenes = list(scenes)
    random.Random(0).shuffle(scenes)
    scenes = scenes[: training + TEST]
    frames = np.stack([render(scene) for scene in scenes])
    labels = [{**scene.label(), "at": find(scene)} for scene in scenes]
    judge = train_judge(
        frames[:training], labels[:training], vocabulary, seed, steps or STEPS[world]
    )
    judge.known_error = judge.error(frames[training:], labels[training:])
    judge.save(path)
    return judge


def _wide_scenes(count: int) -> Iterable[Scene]:
    """Those of stories that nobody else is told."""
    from datasets.cartoon.build import tell_stories

    told = tell_stories({"test": count // 4}, SEED, world="wide")["test"]
    return dict.fromkeys(scene for story in told for scene in story.scenes)


def _train(options: JudgeTraining) -> None:
    error = make_judge(Path(options.out), options.seed, world=options.world).known_error
    print(f"{options.out}: error on other rendered frames {error}")


if __name__ == "__main__":
    run(JudgeTraining, __doc__, _train, sys.argv[1:])
