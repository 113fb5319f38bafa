"""Trains the judge on rendered frames of the cartoon world: `python -m demo.judge` renders them.

Frames are blurred, shifted and spotted at random, so that it reads drawn ones as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.terminal import tqdm
from evaluation.networks.judge import SIDE, Judge, JudgeNetwork, shrink
from evaluation.networks.judge_parts import CELLS, CHOICES

__all__ = ["train_judge"]

ABSENT = -100  # cross_entropy's ignore_index: clothes of who is not there


def train_judge(
    frames: np.ndarray,
    labels: Sequence[dict],
    vocabulary: dict,
    seed: int,
    steps: int = 250,
    batch_size: int = 64,
) -> Judge:
    """Train on (N, 128, 128, 3) uint8 frames and their N labels; the same seed, the same judge."""
    pixels, target = torch.cat(list(shrink(frames))), _encode(labels, vocabulary)
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = JudgeNetwork(vocabulary).to(memory_format=torch.channels_last)  # a third faster
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    bar = tqdm(range(steps), "judge")
    for step in bar:
        chosen = torch.randint(len(pixels), (batch_size,), generator=random)
        batch = _disturb(pixels[chosen].float() / 255, random)
        logits = network(batch.contiguous(memory_format=torch.channels_last))
        loss = _loss(logits, {key: value[chosen] for key, value in target.items()})
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")
    return Judge(network.to(memory_format=torch.contiguous_format), vocabulary)


def _encode(labels: Sequence[dict], vocabulary: dict) -> dict[str, Tensor]:
    """Labels as tensors: of each choice (N,) or ABSENT, cast (N, C) 0/1, clothes (N, C) or ABSENT.

    where (N, C + 1): cells of characters and object, ABSENT unless labels have `at`, {character or
    "object": (x, y) as shares of the picture}.
    """
    numbers = {key: {name: i for i, name in enumerate(names)} for key, names in vocabulary.items()}
    characters, colours = numbers["characters"], numbers["clothes"]
    cast = torch.zeros(len(labels), len(characters))
    clothes = torch.full(cast.shape, ABSENT)
    where = torch.full((len(labels), len(characters) + 1), ABSENT)
    for n, label in enumerate(labels):
        for name in label["cast"]:
            cast[n, characters[name]] = 1
            clothes[n, characters[name]] = colours[label["clothes"][name]]
        for name, (x, y) in label.get("at", {}).items():
            column, row = (min(max(int(CELLS * one), 0), CELLS - 1) for one in (x, y))
            where[n, characters.get(name, -1)] = CELLS * row + column
    choices = {
        kind: torch.tensor([_number(label[kind], numbers[key]) for label in labels])
        for kind, key in CHOICES.items()
        if "weathers" in vocabulary or kind in ("place", "action")
    }
    return {"cast": cast, "clothes": clothes, "where": where, **choices}


def _number(name: str | None, numbers: dict[str, int]) -> int:
    return ABSENT if name is None else numbers[name]


def _loss(logits: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
    return sum(
        (_choice_loss(logits[kind], target[kind]) for kind in CHOICES if kind in logits),
        3 * F.binary_cross_entropy_with_logits(logits["cast"], target["cast"])
        + _choice_loss(logits["clothes"].flatten(0, 1), target["clothes"].flatten())
        + (_choice_loss(logits["where"].flatten(0, 1), target["where"].flatten())
           if "where" in logits else 0),
    )  # fmt: skip


def _choice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """The mean over those that are there; 0 if none is."""
    there = (target != ABSENT).sum().clamp(min=1)
    return F.cross_entropy(logits, target, ignore_index=ABSENT, reduction="sum") / there


def _disturb(pixels: Tensor, random: torch.Generator) -> Tensor:
    """Shift by at most a pixel, blur, change brightness and contrast, add blotches and noise."""

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(len(pixels), *shape, generator=random)

    turn = torch.eye(2, 3).repeat(len(pixels), 1, 1)
    turn[:, :, 2] = draw(-2 / SIDE, 2 / SIDE, 2)  # the picture is 2 wide: 2 / SIDE is one pixel
    grid = F.affine_grid(turn, list(pixels.shape), align_corners=False)
    pixels = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    wide = F.pad(pixels, (1, 1, 1, 1), mode="replicate")
    soft = (wide[..., :-2] + wide[..., 1:-1] + wide[..., 2:]) / 3  # ten times avg_pool2d's speed
    soft = (soft[..., :-2, :] + soft[..., 1:-1, :] + soft[..., 2:, :]) / 3
    pixels = pixels.lerp(soft, draw(0, 1, 1, 1, 1))
    pixels = (pixels - 0.5) * draw(0.8, 1.2, 1, 1, 1) + 0.5 + draw(-0.08, 0.08, 1, 1, 1)
    blotches = torch.randn(len(pixels), 3, 12, 12, generator=random)
    pixels = pixels + F.interpolate(blotches, (SIDE, SIDE), mode="bilinear") * draw(
        0, 0.06, 1, 1, 1
    )
    return pixels + torch.randn(pixels.shape, generator=random) * draw(0, 0.05, 1, 1, 1)
