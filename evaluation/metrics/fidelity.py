"""How near a drawn cartoon frame is to the renderer's own picture of what the judge reads in it.

So a frame that shows the wrong thing cleanly counts as clean, and what is measured is the drawing:
blur, speckles, wrong shades. A frame read as no scene of the world (three characters, or two that
never meet) has no such picture and does not count, nor does one of another size. In the wide world
nobody can tell from a reading where characters stand, so none counts.

`figure_psnr` is of the pixels where characters are: most of the error lies on them, and two cover
twice as much of a frame as one.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from datasets.cartoon import renderer
from datasets.cartoon.canvas import SIZE
from datasets.cartoon.renderer import render
from datasets.cartoon.world import ACTIONS, NEWCOMERS, PLACES, PRONOUNS, SHIRTS, Scene
from evaluation.metrics.material import Material
from evaluation.networks.features import Encoder, Features, Network
from evaluation.networks.judge import decode, shrink
from evaluation.samples import read_picture

__all__ = [
    "fidelity", "figure_psnr", "figure_psnr_one", "figure_psnr_two", "psnr", "psnr_one", "psnr_two",
    "scene_of", "ssim", "ssim_one", "ssim_two",
]  # fmt: skip

MOST = 50.0  # dB, of equal pictures too: nobody sees a difference that small
COLUMNS = ("psnr", "ssim", "figure_psnr", "characters")
_PRONOUNS = PRONOUNS | {name: pronoun for name, (_, pronoun) in NEWCOMERS.items()}


def scene_of(reading: dict) -> Scene | None:
    """The scene of a judge's reading; None if the world has none like it."""
    if "weather" in reading:
        return None
    known = reading["place"] in PLACES and reading["action"] in ACTIONS
    known &= set(reading["clothes"].values()) <= SHIRTS.keys()
    if not known or not reading["clothes"].keys() <= _PRONOUNS.keys():
        return None
    cast = sorted(reading["clothes"].items(), key=lambda one: _PRONOUNS[one[0]])  # he stands left
    if len(cast) != 1 and [_PRONOUNS[name] for name, _ in cast] != ["he", "she"]:
        return None
    return Scene(reading["place"], tuple(cast), reading["action"])


def fidelity(picture: Tensor, reading: dict) -> Tensor:
    """(4,), in the order of COLUMNS, of a picture (3, H, W) in uint8; zeros where it is of no scene
    or not of the renderer's size."""
    scene = scene_of(reading)
    if scene is None or picture.shape[1:] != (SIZE, SIZE):
        return torch.zeros(len(COLUMNS))
    real, empty = (
        torch.from_numpy(render(one)).permute(2, 0, 1) for one in (scene, replace(scene, cast=()))
    )
    figures = (real != empty).any(0)  # (H, W)
    both = picture.cpu().float(), real.float()
    likeness = structural_similarity_index_measure(*(one[None] for one in both), data_range=255.0)
    return torch.stack([
        _decibels(*both), likeness, _decibels(*(one[:, figures] for one in both)),
        torch.tensor(float(len(scene.cast))),
    ])  # fmt: skip


def _decibels(drawn: Tensor, real: Tensor) -> Tensor:
    """(), of any number of values from 0 to 255."""
    return peak_signal_noise_ratio(drawn, real, data_range=255.0).clamp(max=MOST)


class _Fidelity(nn.Module):
    """`fidelity` of pictures (n, 3, H, W) in uint8 -> (n, 4)."""

    def __init__(self, judge: Network) -> None:
        super().__init__()
        self.answers = judge.encoders["answers"].network
        self.vocabulary = judge.vocabulary

    def forward(self, pictures: Tensor) -> Tensor:
        pixels = next(shrink(pictures.permute(0, 2, 3, 1).cpu().numpy(), len(pictures)))
        answers = self.answers(pixels.to(pictures.device).float() / 255 - 0.5)
        rows = map(fidelity, pictures, decode(answers, self.vocabulary))
        return torch.stack([row.to(pictures.device) for row in rows])


@cache
def _renderer(folder: Path = Path(renderer.__file__).parent) -> str:
    """A hash of the sources in `folder`: other ones may draw other pictures to compare with."""
    sources = (path.read_bytes().replace(b"\r\n", b"\n") for path in sorted(folder.glob("*.py")))
    return sha256(b"".join(sources)).hexdigest()


def _load(path: Path) -> Tensor:
    return torch.from_numpy(read_picture(path).copy()).permute(2, 0, 1)


def _measure(
    column: str, characters: int | None, material: Material, judge: Network, features: Features
) -> np.ndarray:
    """(S, K, 2)."""
    made_by = f"fidelity {' '.join(COLUMNS)} {judge.sha256} {_renderer()}"
    encoder = Encoder(made_by, len(COLUMNS), _Fidelity(judge), _load)
    values = features(material.pictures[material.drawn], encoder)
    there = values[:, COLUMNS.index("characters")]
    counts = (there > 0) if characters is None else (there == characters)
    return material.per_frame(
        material.drawn, values[:, COLUMNS.index(column)] * counts, counts.astype(float)
    )


(
    psnr, psnr_one, psnr_two, ssim, ssim_one, ssim_two,
    figure_psnr, figure_psnr_one, figure_psnr_two,
) = (
    partial(_measure, column, characters)
    for column in COLUMNS[:-1]
    for characters in (None, 1, 2)
)  # fmt: skip
