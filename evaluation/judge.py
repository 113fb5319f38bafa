"""The judge: a small network that reads place, cast, clothes and action from one cartoon frame.

It is trained on rendered frames only, blurred, shifted and spotted at random so that it reads
drawn frames as well, and it can state its own error on frames whose labels are known.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from evaluation.features import Encoder
from evaluation.options import option
from evaluation.samples import check_vocabulary, read_picture, replacing

SIDE = 64  # pixels the network sees; frames are averaged down to it
ABSENT = -100  # cross_entropy's ignore_index: clothes of who is not there


class Judge:
    """Reads frames; `known_error` (from `error` on held-out frames) travels with the file."""

    def __init__(self, network: nn.Module, vocabulary: dict, known_error: dict | None = None):
        self.network = network.eval()
        self.vocabulary = vocabulary
        self.known_error = known_error

    @torch.inference_mode()
    def read(self, frames: np.ndarray, batch_size: int = 256) -> list[dict]:
        """(N, H, W, 3) uint8 -> N labels {place, cast, clothes, action, confidence: {...}}.

        Confidences are probabilities; those of cast and clothes are of the least certain part.
        """
        readings = []
        for pixels in _shrink(frames, batch_size):
            readings += self.decode(self.network.body(pixels.float() / 255 - 0.5))
        return readings

    def decode(self, answers: Tensor) -> list[dict]:
        """The network's answers (N, sum of its sizes) as labels."""
        vocabulary, readings = self.vocabulary, []
        logits = self.network.split(answers)
        place, action = logits["place"].softmax(1).max(1), logits["action"].softmax(1).max(1)
        cast, clothes = logits["cast"].sigmoid(), logits["clothes"].softmax(2).max(2)
        for n in range(len(answers)):
            present = [c for c in range(cast.shape[1]) if cast[n, c] > 0.5]
            names = [vocabulary["characters"][c] for c in present]
            worn = [vocabulary["clothes"][i] for i in clothes.indices[n, present].tolist()]
            readings.append({
                "place": vocabulary["places"][place.indices[n]],
                "cast": names,
                "clothes": dict(zip(names, worn, strict=True)),
                "action": vocabulary["actions"][action.indices[n]],
                "confidence": {
                    "place": float(place.values[n]),
                    "cast": float(torch.maximum(cast[n], 1 - cast[n]).min()),
                    "clothes": min(clothes.values[n, present].tolist(), default=1.0),
                    "action": float(action.values[n])}})
        return readings

    def error(self, frames: np.ndarray, labels: Sequence[dict]) -> dict[str, float]:
        """Share of wrong readings: place, action and exact cast per frame, clothes per wearer.

        A character that is there but not seen counts as wrong clothes.
        """
        read = self.read(frames)
        pairs = list(zip(read, labels, strict=True))
        worn = [got["clothes"].get(name) == colour
                for got, label in pairs for name, colour in label["clothes"].items()]
        return {"place": float(np.mean([got["place"] != label["place"] for got, label in pairs])),
                "cast": float(np.mean([set(got["cast"]) != set(label["cast"])
                                       for got, label in pairs])),
                "clothes": float(1 - np.mean(worn)),
                "action": float(np.mean([got["action"] != label["action"]
                                         for got, label in pairs]))}

    def save(self, path: str | os.PathLike) -> None:
        """Write one safetensors file that carries the vocabulary and the known error."""
        metadata = {"vocabulary": json.dumps(self.vocabulary),
                    "known_error": json.dumps(self.known_error)}
        with replacing(path) as temporary:
            save_file(self.network.state_dict(), temporary, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Judge:
        """Read what `save` wrote; FileNotFoundError or ValueError otherwise."""
        if not Path(path).is_file():
            raise FileNotFoundError(f"{option('judge')}={path} does not exist: give the file that "
                                    "training a judge saved (make demo leaves one)")
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            vocabulary = json.loads(metadata["vocabulary"])
            check_vocabulary(vocabulary, str(path))
            network = JudgeNetwork(vocabulary)
            network.load_state_dict(weights)
        except (SafetensorError, KeyError, RuntimeError, json.JSONDecodeError) as error:
            raise ValueError(f"{option('judge')}={path} is not a judge's file ({error}): train and "
                             "save it again") from error
        return cls(network, vocabulary, json.loads(metadata.get("known_error", "null")))


def judge_encoders(judge: Judge, sha256: str) -> dict[str, Encoder]:
    """`judge`: the 128 numbers before the answers, features of distances in the cartoon world;
    `judge answers`: what `Judge.decode` takes."""
    body = judge.network.body
    return {"judge": Encoder(f"judge {sha256}", body[-1].in_features, body[:-1], _prepare),
            "judge answers": Encoder(f"judge-answers {sha256}", sum(judge.network.sizes), body,
                                     _prepare)}


def _prepare(path: Path) -> Tensor:
    return next(_shrink(read_picture(path)[None].copy()))[0].float() / 255 - 0.5


class JudgeNetwork(nn.Module):
    """(N, 3, 64, 64) in [0, 1] -> logits: place (N, P), cast (N, C), clothes (N, C, W), action."""

    def __init__(self, vocabulary: dict):
        super().__init__()
        characters, colours = len(vocabulary["characters"]), len(vocabulary["clothes"])
        self.sizes = [len(vocabulary["places"]), characters, characters * colours,
                      len(vocabulary["actions"])]
        self.shape = (characters, colours)
        self.body = nn.Sequential(
            *_block(3, 16, 5, 2), *_block(16, 32, 3, 2), *_block(32, 64, 3, 2),
            *_block(64, 64, 3, 1), nn.Flatten(), nn.Linear(64 * 8 * 8, 128), nn.ReLU(),
            nn.Linear(128, sum(self.sizes)))

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return self.split(self.body(pixels - 0.5))

    def split(self, answers: Tensor) -> dict[str, Tensor]:
        """(N, sum of `sizes`) -> logits by kind."""
        place, cast, clothes, action = answers.split(self.sizes, dim=1)
        return {"place": place, "cast": cast, "clothes": clothes.unflatten(1, self.shape),
                "action": action}


def train_judge(frames: np.ndarray, labels: Sequence[dict], vocabulary: dict, seed: int,
                progress: bool = True, steps: int = 250, batch_size: int = 64) -> Judge:
    """Train on (N, 128, 128, 3) uint8 frames and their N labels; the same seed, the same judge."""
    check_vocabulary(vocabulary, "train_judge")
    if len(frames) != len(labels) or not len(frames):
        raise ValueError(f"train_judge got {len(frames)} frames and {len(labels)} labels: give "
                         "equally many, at least one")
    pixels, target = torch.cat(list(_shrink(frames))), _encode(labels, vocabulary)
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = JudgeNetwork(vocabulary).to(memory_format=torch.channels_last)  # a third faster
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    bar = tqdm(range(steps), "judge", disable=not progress)
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


def _block(channels: int, out: int, kernel: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(out), nn.ReLU()]


def _shrink(frames: np.ndarray, batch_size: int = 256):
    """Yield (n, 3, 64, 64) uint8 batches, each pixel the mean of the pixels it covers."""
    for start in range(0, len(frames), batch_size):
        batch = torch.from_numpy(np.ascontiguousarray(frames[start:start + batch_size]))
        small = F.adaptive_avg_pool2d(batch.permute(0, 3, 1, 2).float(), SIDE)
        yield small.round().to(torch.uint8)


def _encode(labels: Sequence[dict], vocabulary: dict) -> dict[str, Tensor]:
    """Labels as tensors: place (N,), action (N,), cast (N, C) 0/1, clothes (N, C) or ABSENT."""
    places, characters, colours, actions = (
        {name: i for i, name in enumerate(vocabulary[key])}
        for key in ("places", "characters", "clothes", "actions"))
    cast = torch.zeros(len(labels), len(characters))
    clothes = torch.full(cast.shape, ABSENT)
    try:
        for n, label in enumerate(labels):
            for name in label["cast"]:
                cast[n, characters[name]] = 1
                clothes[n, characters[name]] = colours[label["clothes"][name]]
        return {"place": torch.tensor([places[label["place"]] for label in labels]),
                "action": torch.tensor([actions[label["action"]] for label in labels]),
                "cast": cast, "clothes": clothes}
    except KeyError as error:
        raise ValueError(f"a frame label lacks {error} or it is not in the vocabulary: build the "
                         "labels and the vocabulary together") from error


def _loss(logits: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
    return (F.cross_entropy(logits["place"], target["place"])
            + F.cross_entropy(logits["action"], target["action"])
            + 3 * F.binary_cross_entropy_with_logits(logits["cast"], target["cast"])
            + F.cross_entropy(logits["clothes"].flatten(0, 1), target["clothes"].flatten(),
                              ignore_index=ABSENT, reduction="sum")
            / target["cast"].sum().clamp(min=1))


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
    pixels = pixels + F.interpolate(blotches, (SIDE, SIDE), mode="bilinear") * draw(0, .06, 1, 1, 1)
    return pixels + torch.randn(pixels.shape, generator=random) * draw(0, 0.05, 1, 1, 1)
