"""The judge: a small network that reads place, cast, clothes and action from one cartoon frame.

It is trained on rendered frames only (`judge_training.py`), and it can state its own error on
frames whose labels are known.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from common.files import file_hash, replacing
from evaluation.command_line import spelled
from evaluation.networks.features import Encoder, Network
from evaluation.networks.weights import in_short, require
from evaluation.options import Options
from evaluation.samples import Samples, check_vocabulary, read_picture

__all__ = ["SIDE", "Judge", "JudgeNetwork", "decode", "judge_network", "shrink"]

SIDE = 64  # pixels the network sees; frames are averaged down to it


class Judge:
    """Reads frames; `known_error` (from `error` on held-out frames) travels with the file."""

    def __init__(self, network: nn.Module, vocabulary: dict, known_error: dict | None = None):
        self.network = network.eval()
        self.vocabulary = vocabulary
        self.known_error = known_error

    @torch.inference_mode()
    def read(self, frames: np.ndarray, batch_size: int = 256) -> list[dict]:
        """(N, H, W, 3) uint8 -> N labels {place, cast, clothes, action}."""
        readings = []
        for pixels in shrink(frames, batch_size):
            answers = self.network.body(pixels.float() / 255 - 0.5)
            readings += decode(answers, self.vocabulary)
        return readings

    def error(self, frames: np.ndarray, labels: Sequence[dict]) -> dict[str, float]:
        """Share of wrong readings: place, action and exact cast per frame, clothes per wearer.

        A character that is there but not seen counts as wrong clothes.
        """
        pairs = list(zip(self.read(frames), labels, strict=True))
        kept = [
            got["clothes"].get(name) == colour
            for got, label in pairs
            for name, colour in label["clothes"].items()
        ]
        place = np.mean([got["place"] != label["place"] for got, label in pairs])
        cast = np.mean([set(got["cast"]) != set(label["cast"]) for got, label in pairs])
        action = np.mean([got["action"] != label["action"] for got, label in pairs])
        shares = {"place": place, "cast": cast, "clothes": 1 - np.mean(kept), "action": action}
        return {kind: float(share) for kind, share in shares.items()}

    def save(self, path: str | os.PathLike) -> None:
        """Write one safetensors file that carries the vocabulary and the known error."""
        metadata = {
            "vocabulary": json.dumps(self.vocabulary),
            "known_error": json.dumps(self.known_error),
        }
        with replacing(path) as temporary:
            save_file(self.network.state_dict(), temporary, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Judge:
        """Read what `save` wrote; FileNotFoundError or ValueError otherwise."""
        key = spelled("judge")
        require(path, key, "give the file that training a judge saved (make demo leaves one)")
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            vocabulary = json.loads(metadata["vocabulary"])
            check_vocabulary(vocabulary, str(path))
            network = JudgeNetwork(vocabulary)
            network.load_state_dict(weights)
        except (SafetensorError, KeyError, RuntimeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{key}={path} is not a judge's file ({in_short(error)}): train one again"
            ) from error
        return cls(network, vocabulary, json.loads(metadata.get("known_error", "null")))


def judge_network(options: Options, samples: Samples | None = None) -> Network:
    """`features`: the 128 numbers before the answers, for distances in the cartoon world;
    `answers`: what `decode` takes."""
    judge = Judge.load(options.judge)
    if samples and samples.vocabulary not in (None, judge.vocabulary):
        raise ValueError(
            f"{spelled('judge')}={options.judge}: its label vocabulary is not that of "
            f"{samples.folder}: train the judge on the world these stories come from"
        )
    body, sha256 = judge.network.body, file_hash(options.judge)
    encoders = {
        "features": Encoder(f"judge {sha256}", body[-1].in_features, body[:-1], _prepare),
        "answers": Encoder(f"judge-answers {sha256}", body[-1].out_features, body, _prepare),
    }
    name = Path(options.judge).name
    return Network("judge", name, sha256, encoders, judge.known_error, judge.vocabulary)


def _prepare(path: Path) -> Tensor:
    return next(shrink(read_picture(path)[None].copy()))[0].float() / 255 - 0.5


def decode(answers: Tensor, vocabulary: dict[str, list[str]]) -> list[dict]:
    """The network's answers (N, sum of its sizes) as labels."""
    logits, readings = _split(answers, vocabulary), []
    place, action = logits["place"].argmax(1), logits["action"].argmax(1)
    cast, clothes = logits["cast"] > 0, logits["clothes"].argmax(2)
    for n in range(len(answers)):
        present = cast[n].nonzero().flatten().tolist()
        readings.append({
            "place": vocabulary["places"][place[n]],
            "cast": [vocabulary["characters"][c] for c in present],
            "clothes": {
                vocabulary["characters"][c]: vocabulary["clothes"][clothes[n, c]] for c in present
            },
            "action": vocabulary["actions"][action[n]],
        })  # fmt: skip
    return readings


def _sizes(vocabulary: dict[str, list[str]]) -> list[int]:
    places, characters, colours, actions = (
        len(vocabulary[key]) for key in ("places", "characters", "clothes", "actions")
    )
    return [places, characters, characters * colours, actions]


def _split(answers: Tensor, vocabulary: dict[str, list[str]]) -> dict[str, Tensor]:
    """(N, sum of sizes) -> logits: place (N, P), cast (N, C), clothes (N, C, W), action (N, A)."""
    place, cast, clothes, action = answers.split(_sizes(vocabulary), dim=1)
    clothes = clothes.unflatten(1, (cast.shape[1], -1))
    return {"place": place, "cast": cast, "clothes": clothes, "action": action}


class JudgeNetwork(nn.Module):
    """(N, 3, 64, 64) in [0, 1] -> logits by kind of label, see `_split`."""

    def __init__(self, vocabulary: dict):
        super().__init__()
        self.vocabulary = vocabulary
        self.body = nn.Sequential(
            *_block(3, 16, 5, 2), *_block(16, 32, 3, 2), *_block(32, 64, 3, 2),
            *_block(64, 64, 3, 1), nn.Flatten(), nn.Linear(64 * 8 * 8, 128), nn.ReLU(),
            nn.Linear(128, sum(_sizes(vocabulary))))  # fmt: skip

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return _split(self.body(pixels - 0.5), self.vocabulary)


def _block(channels: int, out: int, kernel: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    ]


def shrink(frames: np.ndarray, batch_size: int = 256) -> Iterator[Tensor]:
    """Yield (n, 3, 64, 64) uint8 batches, each pixel the mean of the pixels it covers."""
    for start in range(0, len(frames), batch_size):
        batch = torch.from_numpy(np.ascontiguousarray(frames[start : start + batch_size]))
        small = F.adaptive_avg_pool2d(batch.permute(0, 3, 1, 2).float(), SIDE)
        yield small.round().to(torch.uint8)
