"""Trains the classifier on a samples folder with labels: binary cross-entropy for characters,
cross-entropy for the background, and 0.4 of the same on the auxiliary head.

Every tenth story is held out, and the error on it goes into the file, which is written anew after
each epoch. Pictures of less than 299 pixels train in a fraction of the time; the network then has
no auxiliary head, which needs 299.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.inception import InceptionOutputs

from common.files import check_writable, replacing
from common.terminal import tqdm
from evaluation.networks.classifier import SIDE, build_inception, prepare
from evaluation.networks.features import device_of
from evaluation.networks.weights import in_short, load_weights
from evaluation.samples import Samples, places_of, read_samples, strange_names

if TYPE_CHECKING:  # the command imports this file
    from evaluation.classifier import Training

__all__ = ["LabelledFrames", "train"]

UNKNOWN = -100  # a background that PyTorch's cross-entropy leaves out


class LabelledFrames(Dataset):
    """(picture (3, side, side), characters (C,) 0/1, background index) from a samples folder.

    The index is -100 where not exactly one background is there, which the loss leaves out; frames
    whose characters nobody knows are left out altogether.
    """

    def __init__(self, samples: Samples, held_out: bool, side: int = SIDE) -> None:
        vocabulary, self.side = samples.vocabulary or {}, side
        self.characters, self.places = vocabulary.get("characters"), vocabulary.get("places", [])
        if not self.characters:
            raise ValueError(f"{samples.folder} has no label_vocabulary.json with characters")
        self.frames = []
        for number, story in enumerate(samples.stories):
            if (number % 10 == 9) == held_out:
                if not story.labels:
                    raise ValueError(f"{samples.folder}: story {story.story_id!r} has no labels")
                frames = story.reference_frames or story.frames
                for label in story.labels:
                    if strange := strange_names(label, self.characters, self.places):
                        raise ValueError(
                            f"{samples.folder}: story {story.story_id!r} has label {strange[0]!r}, "
                            "which is not in label_vocabulary.json: add it there, or mend the label"
                        )
                both = zip(frames, story.labels, strict=True)
                self.frames += [(frame, label) for frame, label in both if "cast" in label]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        path, label = self.frames[index]
        there = torch.tensor([float(name in label["cast"]) for name in self.characters])
        places = places_of(label)
        place = self.places.index(places[0]) if self.places and len(places) == 1 else UNKNOWN
        return prepare(path, self.side), there, place


def train(options: Training) -> dict[str, float] | None:
    """Train, write `out` and return the error on held-out stories (None without ten stories)."""
    check_writable(options.out)
    side, device = options.image_size, device_of(options.device)
    samples = read_samples(options.data)
    training, test = (LabelledFrames(samples, part, side) for part in (False, True))
    if len(training) < 2:
        raise ValueError(f"{options.data} has {len(training)} frames to train on: give more")
    if training.places and all(len(places_of(label)) != 1 for _, label in training.frames):
        raise ValueError(
            f"{options.data} has no frame with one known background: give some, or take places out "
            "of label_vocabulary.json"
        )
    torch.manual_seed(options.seed)
    network = build_inception(len(training.characters) + len(training.places), side >= SIDE)
    if options.init:
        _start_from(network, options.init)
    network.to(device, memory_format=torch.channels_last)  # quicker on processors
    batch_size = min(options.batch_size, len(training))
    loader = DataLoader(training, batch_size, shuffle=True, drop_last=True)  # no batch of one
    rate = options.init_lr or (2e-4 if options.init else 1e-3)
    optimiser = torch.optim.AdamW(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, epochs=options.epochs, steps_per_epoch=len(loader)
    )
    about = {"characters": training.characters, "places": training.places, "image_size": side}
    for epoch in range(options.epochs):
        network.train()
        bar = tqdm(loader, f"epoch {epoch + 1}/{options.epochs}")
        for batch in bar:
            pictures, there, place = (part.to(device) for part in batch)
            outputs = network(pictures.contiguous(memory_format=torch.channels_last))
            loss = sum(weight * _loss(logits, there, place) for weight, logits in _answers(outputs))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            bar.set_postfix(loss=f"{loss.item():.3f}")
        error = _error(network.eval(), test, options.batch_size, device)
        tqdm.write(f"epoch {epoch + 1}: error on held-out stories {error}")
        _save(network, {**about, "known_error": error}, options.out)
    return error


def _start_from(network: nn.Module, path: str) -> None:
    """Load all but the answers' own layers."""
    weights = {k: v for k, v in load_weights(path, "init").items() if "fc." not in k}
    try:
        missing = network.load_state_dict(weights, strict=False).missing_keys
    except RuntimeError as error:  # other shapes
        raise ValueError(f"init={path} does not fit Inception v3 ({in_short(error)})") from error
    if lacks := [k for k in missing if not k.endswith(("fc.weight", "fc.bias"))]:
        raise ValueError(f"init={path} is no Inception v3 of torchvision: it lacks {lacks[0]}")


def _answers(outputs: Tensor | InceptionOutputs) -> list[tuple[float, Tensor]]:
    """Logits, of the auxiliary head too where there is one, with their weights in the loss."""
    if isinstance(outputs, Tensor):
        return [(1.0, outputs)]
    return [(1.0, outputs.logits), (0.4, outputs.aux_logits)]


def _save(network: nn.Module, about: dict, path: str) -> None:
    weights = {k: v.cpu().contiguous() for k, v in network.state_dict().items()}
    with replacing(path) as temporary:
        save_file(weights, temporary, {key: json.dumps(value) for key, value in about.items()})


def _loss(logits: Tensor, there: Tensor, place: Tensor) -> Tensor:
    characters, places = logits.split([there.shape[1], logits.shape[1] - there.shape[1]], dim=1)
    loss = F.binary_cross_entropy_with_logits(characters, there)
    if not places.shape[1] or (place == UNKNOWN).all():  # the mean of none would be no number
        return loss
    return loss + F.cross_entropy(places, place, ignore_index=UNKNOWN)


@torch.inference_mode()
def _error(network: nn.Module, frames: LabelledFrames, batch_size: int, device: str) -> dict | None:
    """Share of frames with a wrong cast, and with a wrong background where it is known."""
    wrong: list[Tensor] = []
    for pictures, there, place in DataLoader(frames, batch_size):
        logits = network(pictures.to(device)).cpu()
        cast = ((logits[:, : there.shape[1]] > 0) != there.bool()).any(1)
        rest = logits[:, there.shape[1] :]
        background = (rest.argmax(1) != place).float() if rest.shape[1] else cast.float()
        background[place == UNKNOWN] = torch.nan  # every one where no places are learned
        wrong.append(torch.stack([cast.float(), background], 1))
    if not wrong:
        return None
    means = zip(("cast", "place"), torch.cat(wrong).nanmean(0).tolist(), strict=True)
    return {key: mean for key, mean in means if mean == mean}  # of no known one it is no number
