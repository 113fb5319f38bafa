"""The judge's network: 64x64 pixels to one row of answers, whose parts are the kinds of label.

Characters of the small world stand in one of three slots, and one flat layer reads them all. Those
of the wide world (a vocabulary with weathers) stand anywhere: there, the network learns where each
of them is, and what is carried, and reads clothes, action and object at that spot.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["CELLS", "CHOICES", "JudgeNetwork", "split"]

# Kinds of label of which a frame has one, with the vocabulary's names for them.
CHOICES = {"place": "places", "action": "actions", "weather": "weathers", "object": "objects",
           "colour": "colours", "carrier": "characters"}  # fmt: skip
CELLS = 16  # a side, in which the wide world's characters are looked for
_WIDTH = 48


def _sizes(vocabulary: dict[str, list[str]]) -> dict[str, int]:
    """How many answers there are of each kind, in order."""
    characters, colours = len(vocabulary["characters"]), len(vocabulary["clothes"])
    kinds = ("action", "weather", "object", "colour", "carrier")[: 5 if _is_wide(vocabulary) else 1]
    several = {"cast": characters, "clothes": characters * colours}
    return {
        "place": len(vocabulary["places"]),
        **several,
        **{kind: len(vocabulary[CHOICES[kind]]) for kind in kinds},
    }


def _is_wide(vocabulary: dict[str, list[str]]) -> bool:
    return "weathers" in vocabulary


def split(answers: Tensor, vocabulary: dict[str, list[str]]) -> dict[str, Tensor]:
    """(N, sum of sizes) -> logits: cast (N, C), clothes (N, C, W), of each choice (N, names)."""
    sizes = _sizes(vocabulary)
    logits = dict(zip(sizes, answers.split([*sizes.values()], dim=1), strict=True))
    logits["clothes"] = logits["clothes"].unflatten(1, (sizes["cast"], -1))
    return logits


class JudgeNetwork(nn.Module):
    """(N, 3, 64, 64) in [0, 1] -> logits by kind of label, see `split`; in the wide world further
    `where` (N, C + 1, 256), in which cell each character and the object is."""

    def __init__(self, vocabulary: dict):
        super().__init__()
        self.vocabulary = vocabulary
        if _is_wide(vocabulary):
            self.body = nn.Sequential(
                *_block(3, 16, 5, 2), *_block(16, _WIDTH, 3, 2), *_block(_WIDTH, _WIDTH),
                *_block(_WIDTH, _WIDTH, dilation=2), *_block(_WIDTH, _WIDTH),
                _Spots(_WIDTH, len(vocabulary["characters"]) + 1),
                _Readout(_WIDTH, vocabulary))  # fmt: skip
        else:
            self.body = nn.Sequential(
                *_block(3, 16, 5, 2), *_block(16, 32, 3, 2), *_block(32, 64, 3, 2), *_block(64, 64),
                nn.Flatten(), nn.Linear(64 * 8 * 8, 128), nn.ReLU(),
                nn.Linear(128, sum(_sizes(vocabulary).values())))  # fmt: skip

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        if not _is_wide(self.vocabulary):
            return split(self.body(pixels - 0.5), self.vocabulary)
        *layers, spots, readout = self.body
        seen = nn.Sequential(*layers)(pixels - 0.5)
        logits = split(readout(spots(seen)), self.vocabulary)
        return {**logits, "where": spots.find(seen).flatten(2)}


class _Spots(nn.Module):
    """(N, D, 16, 16) -> (N, (1 + Q) D): all cells, then of each of Q parts its own."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.find = nn.Conv2d(width, parts, 1)

    def forward(self, seen: Tensor) -> Tensor:
        weights = self.find(seen).flatten(2).softmax(-1)  # (N, Q, 256)
        cells = seen.flatten(2).transpose(1, 2)  # (N, 256, D)
        whole = cells.mean(1, keepdim=True) + cells.amax(1, keepdim=True)
        return torch.cat([whole, weights @ cells], 1).flatten(1)


class _Readout(nn.Module):
    """What `_Spots` gives -> (N, sum of sizes). Clothes, action and who carries are read off all
    characters by the same weights, so that each teaches the others."""

    def __init__(self, width: int, vocabulary: dict[str, list[str]]) -> None:
        super().__init__()
        self.characters, self.kinds = len(vocabulary["characters"]), _sizes(vocabulary)
        self.in_features = (self.characters + 2) * width
        self.out_features = sum(self.kinds.values())
        whole, each, thing = ("place", "weather"), ("clothes", "action"), ("object", "colour")
        counts = self.kinds | {"clothes": len(vocabulary["clothes"])}
        self.heads = nn.ModuleDict(
            {kind: nn.Linear(width, counts[kind]) for kind in (*whole, *each, *thing)}
        )
        self.cast = nn.Linear(width, self.characters)  # a row for each, of its own cell
        self.carrier = nn.Linear(width, 1)

    def forward(self, read: Tensor) -> Tensor:
        whole, *parts = read.unflatten(1, (self.characters + 2, -1)).unbind(1)  # each (N, D)
        each, thing = torch.stack(parts[:-1], 1), parts[-1]  # (N, C, D), (N, D)
        cast = (each * self.cast.weight).sum(-1) + self.cast.bias
        there = cast.sigmoid()
        answers = {
            "cast": cast,
            "clothes": self.heads["clothes"](each).flatten(1),
            "action": (self.heads["action"](each) * there[..., None]).sum(1),
            "carrier": self.carrier(each)[..., 0] + there.clamp(min=1e-6).log(),
            **{kind: self.heads[kind](whole) for kind in ("place", "weather")},
            **{kind: self.heads[kind](thing) for kind in ("object", "colour")},
        }
        return torch.cat([answers[kind] for kind in self.kinds], 1)


def _block(
    channels: int, out: int, kernel: int = 3, stride: int = 1, dilation: int = 1
) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, out, kernel, stride, dilation * (kernel // 2), dilation, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    ]
