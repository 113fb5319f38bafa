"""The judge: a small network that reads place, cast, clothes and action from one cartoon frame;
where the vocabulary has them, weather and who carries which object too.

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
from common.key_value_arguments import spelled
from evaluation.networks.features import Encoder, Network
from evaluation.networks.judge_parts import CHOICES, JudgeNetwork, split
from evaluation.networks.weights import in_short, require
from evaluation.options import Options
from evaluation.samples import Samples, check_vocabulary, read_picture

__all__ = [
    "SIDE", "Judge", "JudgeNetwork", "check_world", "decode", "judge_network", "same_object",
    "shrink",
]  # fmt: skip

SIDE = 64  # pixels the network sees; frames are averaged down to it
NOTHING = "none"  # the object of who carries none


class Judge:
    """Reads frames; `known_error` (from `error` on held-out frames) travels with the file."""

    def __init__(self, network: nn.Module, vocabulary: dict, known_error: dict | None = None):
        self.network = network.eval()
        self.vocabulary = vocabulary
        self.known_error = known_error

    @torch.inference_mode()
    def read(self, frames: np.ndarray, batch_size: int = 256) -> list[dict]:
        """(N, H, W, 3) uint8 -> N labels {place, cast, clothes, action}, and {weather, object,
        colour, carrier} where the vocabulary has weathers."""
        readings = []
        for pixels in shrink(frames, batch_size):
            answers = self.network.body(pixels.float() / 255 - 0.5)
            readings += decode(answers, self.vocabulary)
        return readings

    def error(self, frames: np.ndarray, labels: Sequence[dict]) -> dict[str, float]:
        """Share of wrong readings: place, action and exact cast per frame, clothes per wearer;
        weather per frame, and object with its carrier.

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
        if "weathers" in self.vocabulary:
            wrong = [got["weather"] != label["weather"] for got, label in pairs]
            shares["weather"] = np.mean(wrong)
            shares["object"] = np.mean([not same_object(got, label) for got, label in pairs])
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
    """`features`: the numbers before the answers (128; in the wide world 384), for distances in the
    cartoon world; `answers`: what `decode` takes."""
    judge = Judge.load(options.judge)
    body, sha256 = judge.network.body, file_hash(options.judge)
    encoders = {
        "features": Encoder(f"judge {sha256}", body[-1].in_features, body[:-1], _prepare),
        "answers": Encoder(f"judge-answers {sha256}", body[-1].out_features, body, _prepare),
    }
    name = Path(options.judge).name
    return Network("judge", name, sha256, encoders, judge.known_error, judge.vocabulary)


def check_world(samples: Samples, judge: Network) -> None:
    """ValueError for stories of another world than the judge's."""
    if samples.vocabulary not in (None, judge.vocabulary):
        raise ValueError(
            f"{spelled('judge')}={judge.file}: its label vocabulary is not that of "
            f"{samples.folder}: train the judge on the world these stories come from"
        )


def _prepare(path: Path) -> Tensor:
    return next(shrink(read_picture(path)[None].copy()))[0].float() / 255 - 0.5


def same_object(one: dict, two: dict) -> bool:
    """Whether two labels agree on what is carried and by whom, if anything."""
    return all(one.get(kind) == two.get(kind) for kind in ("object", "colour", "carrier"))


def decode(answers: Tensor, vocabulary: dict[str, list[str]]) -> list[dict]:
    """The network's answers (N, sum of its sizes) as labels."""
    logits, readings = split(answers, vocabulary), []
    chosen = {kind: logits[kind].argmax(1) for kind in CHOICES if kind in logits}
    cast, clothes = logits["cast"] > 0, logits["clothes"].argmax(2)
    for n in range(len(answers)):
        present = cast[n].nonzero().flatten().tolist()
        choices = {kind: vocabulary[CHOICES[kind]][best[n]] for kind, best in chosen.items()}
        if choices.get("object") == NOTHING:
            choices |= {"colour": None, "carrier": None}
        readings.append({
            "cast": [vocabulary["characters"][c] for c in present],
            "clothes": {
                vocabulary["characters"][c]: vocabulary["clothes"][clothes[n, c]] for c in present
            },
            **choices,
        })  # fmt: skip
    return readings


def shrink(frames: np.ndarray, batch_size: int = 256) -> Iterator[Tensor]:
    """Yield (n, 3, 64, 64) uint8 batches, each pixel the mean of the pixels it covers."""
    for start in range(0, len(frames), batch_size):
        batch = torch.from_numpy(np.ascontiguousarray(frames[start : start + batch_size]))
        small = F.adaptive_avg_pool2d(batch.permute(0, 3, 1, 2).float(), SIDE)
        yield small.round().to(torch.uint8)
