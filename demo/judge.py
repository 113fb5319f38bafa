"""Train the judge of the cartoon world on rendered frames: `python -m demo.judge out=FILE`.

    python -m demo.judge out=judge.safetensors

It learns from 3000 frames of the whole world, held-out combinations too, as it has to recognise
them, and never from drawn ones; its error on 1000 other rendered frames goes into the file.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.command_line import option, run

if TYPE_CHECKING:
    from datasets.cartoon.world import Scene
    from evaluation.networks.judge import Judge

__all__ = ["make_judge"]

TRAINING, TEST = 3000, 1000  # rendered frames


@dataclass
class JudgeTraining:
    """The options of this command."""

    out: str = option("file to write, such as judge.safetensors")
    seed: int = option("of the first weights and of the frames' order and damage", 0, least=0)


def make_judge(
    path: Path,
    seed: int = 0,
    scenes: Iterable[Scene] | None = None,
    vocabulary: dict | None = None,
    steps: int = 250,
) -> Judge:
    """Render, train, measure, save; `scenes` and their `vocabulary`: those of the stories."""
    import numpy as np

    from datasets.cartoon.renderer import render
    from datasets.cartoon.world import LABEL_VOCABULARY, all_scenes
    from evaluation.networks.judge_training import train_judge

    scenes, vocabulary = list(scenes or all_scenes()), vocabulary or LABEL_VOCABULARY
    random.Random(0).shuffle(scenes)
    scenes = scenes[: TRAINING + TEST]
    frames = np.stack([render(scene) for scene in scenes])
    labels = [scene.label() for scene in scenes]
    judge = train_judge(frames[:TRAINING], labels[:TRAINING], vocabulary, seed, steps=steps)
    judge.known_error = judge.error(frames[TRAINING:], labels[TRAINING:])
    judge.save(path)
    return judge


def _train(options: JudgeTraining) -> None:
    error = make_judge(Path(options.out), options.seed).known_error
    print(f"{options.out}: error on other rendered frames {error}")


if __name__ == "__main__":
    run(JudgeTraining, __doc__, _train, sys.argv[1:])
