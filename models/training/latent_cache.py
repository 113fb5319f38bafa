"""What frozen encoders make of a story file's pictures, encoded once and kept beside it.

Of the autoencoder the posterior's mean and standard deviation are kept, not a sample: training
draws anew from them at every step, as it does without a cache. Of BLIP's picture encoder, where it
is frozen, its states are kept in half precision. Pictures that occur in several stories are encoded
once. The file names the stories, the weights and the sizes it was made from and is refused with any
others.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from operator import length_hint
from pathlib import Path
from shutil import disk_usage

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from common.files import file_hash, writing
from common.hdf5 import replacing_hdf5
from common.terminal import as_word, in_one_line, tqdm
from models.checkpoints.weights import weights_hash
from models.frames import HistoryTransform, sides

__all__ = ["LatentCache", "Latents"]

STATES = "picture_states"


class LatentCache:
    """`STORIES.latents.h5` beside `STORIES.h5`, with a row for every distinct picture.

    Args:
        vae: the autoencoder, its weights already the ones to train with. Its mean and std are kept
            in float32.
        story_file: where the pictures come from.
        image_size: of pictures as the autoencoder is shown them, a number, or height and width.
        vision: BLIP's picture encoder and what pictures go through before, if it is frozen: the
            states (P, D_vit) are kept as well, in float16.
        text_key: which captions are read; it decides which stories are whole, and so are numbered.
        crop: how pictures get the frames' proportions, where it is not the data set's own way.
        views: of pictures that are seen in many ways, the keys of the configuration that decide in
            which ones (`latent_draws`, `seed` …); empty: each is seen in one.
    """

    def __init__(
        self,
        vae: nn.Module,
        story_file: str | os.PathLike,
        image_size: int | Sequence[int],
        vision: tuple[nn.Module, HistoryTransform] | None = None,
        text_key: str = "text",
        crop: str | None = None,
        views: Mapping[str, str | int] | None = None,
    ) -> None:
        self.vae = vae.eval()
        self.vision_encoder = vision[0].eval() if vision else None
        self.history_transform = vision[1] if vision else None
        self.story_file = Path(story_file)
        height, width = sides(image_size)
        self.image_size = height if height == width else f"{height}x{width}"
        self.text_key = text_key
        self.crop = crop
        self.views = dict(views or {})
        self.path = self.story_file.with_suffix(".latents.h5")

    @cached_property
    def _key(self) -> dict[str, str | int]:
        """What the latents depend on; the names are part of the message about a stale file."""
        key = {
            "story file": file_hash(self.story_file),
            "autoencoder": _module_hash(self.vae, without=("decoder.", "post_quant_conv.")),
            "image_size": self.image_size,
        }
        if self.text_key != "text":  # only VIST's file has several
            key["kind of captions"] = self.text_key
        if self.crop:
            key["crop"] = self.crop
        key |= self.views
        if self.vision_encoder is not None:
            how = self.history_transform
            key["picture encoder"] = _module_hash(self.vision_encoder)
            key["normalisation"] = f"{how.size} {how.mean.tolist()} {how.std.tolist()}"
        return key

    def prepare(
        self,
        splits: Sequence[str],
        batches_of: Callable[[str], Iterable[tuple[Tensor, Tensor]]],
        device: torch.device | str = "cpu",
    ) -> None:
        """Encode `splits` on `device` into a new file, or check the one that is there.

        batches_of: split -> batches of all its stories in order, as the autoencoder and as the
            picture encoder sees them: (B, K, 3, H, W) in [-1, 1], (B, K, 3, h, w).

        Raises:
            ValueError: the file is stale. OSError: it cannot be written; nothing is left behind.
        """
        if self.path.exists():
            self.check(splits)
            return
        batches = {split: batches_of(split) for split in splits}  # all, before the long work
        print(f"Encoding the pictures of {self.story_file} once, into {self.path}")
        for left in self.path.parent.glob(f".{self.path.name}.*.tmp"):
            if time.time() - left.stat().st_mtime > 86400:  # another run may be writing a new one
                print(f"removed {left}, left by a run that was killed")
                left.unlink(missing_ok=True)
        encoders = [self.vae] if self.vision_encoder is None else [self.vae, self.vision_encoder]
        home = next((p.device for p in self.vae.parameters()), device)
        with ExitStack() as open_file:
            with self._writing():
                file = open_file.enter_context(replacing_hdf5(self.path))
            for encoder in encoders:
                open_file.callback(encoder.to, home)
                encoder.to(device)
            rows: dict[bytes, int] = {}  # of every distinct picture
            for split in splits:
                bar = tqdm(batches[split], f"{split} latents")
                stories = []
                for batch in bar:
                    stories.append(self._add(file, rows, batch, device))
                    if len(stories) == 1 and split == splits[0]:
                        count = sum(map(length_hint, batches.values()))
                        self._say_size(file, count * stories[0].size)
                with self._writing():
                    file[split] = np.concatenate(stories or [np.zeros((0, 0), int)])  # (N, K)
            with self._writing():
                file.attrs.update(self._key)
                open_file.close()

    def _say_size(self, file: h5py.File, pictures: int) -> None:
        size = pictures * sum(column[0].nbytes for column in file.values() if len(column))
        free = disk_usage(self.path.parent).free
        print(
            f"{self.path} will take at most {size / 1e6:,.0f} MB, for {pictures:,} pictures, of "
            f"which equal ones are kept once; {free / 1e6:,.0f} MB are free"
        )

    def _add(
        self,
        file: h5py.File,
        rows: dict[bytes, int],
        batch: tuple[Tensor, Tensor],
        device: torch.device | str,
    ) -> np.ndarray:
        """Encode what is new in a batch; the rows of all of it, (B, K)."""
        targets, history = (pictures.flatten(0, 1) for pictures in batch)
        names = [_name(*views) for views in zip(targets, history, strict=True)]
        new = {name: i for i, name in enumerate(names) if name not in rows}
        if new:
            chosen = list(new.values())
            for key, values in self._encode(targets[chosen].to(device), history[chosen].to(device)):
                with self._writing():
                    _append(file, key, values.cpu().numpy())
            rows.update(zip(new, range(len(rows), len(rows) + len(new)), strict=True))
        return np.array([rows[name] for name in names]).reshape(batch[0].shape[:2])

    @torch.no_grad()
    def _encode(self, targets: Tensor, history: Tensor) -> Iterator[tuple[str, Tensor]]:
        """What is kept of pictures (N, 3, H, W), (N, 3, h, w), each (N, ...)."""
        # Weights kept in half precision meet other types under autocast only, as in training.
        half = {p.dtype for p in self.vae.parameters()} - {torch.float32}
        dtype = half.pop() if half else None
        with torch.autocast(targets.device.type, dtype, enabled=dtype is not None):
            for key, values in _posterior(self.vae, targets):
                yield key, values.float()
            if self.vision_encoder is not None:
                yield STATES, self.vision_encoder(pixel_values=history).last_hidden_state.half()

    def _writing(self) -> AbstractContextManager[None]:
        return writing(self.path, otherwise="train without this cache, cache_latents=false")

    def check(self, splits: Iterable[str]) -> None:
        """ValueError if the file is not the cache of these stories and these weights."""
        try:
            with h5py.File(self.path) as file:
                wanted = dict.fromkeys(("kind of captions", "crop", "latent_draws"))
                wanted = {**wanted, **self._key}
                found = {name: value.item() if isinstance(value, np.generic) else value
                         for name, value in file.attrs.items()}  # fmt: skip
                stale = {name: found.get(name) for name in wanted}
                stale = {name: was for name, was in stale.items() if was != wanted[name]}
                missing = [split for split in splits if split not in file]
        except OSError as error:
            problem = f"cannot be read ({in_one_line(error)});"
        else:
            if not stale and not missing:
                return
            problem = self._difference(wanted, stale) if stale else f"lacks {missing[0]!r};"
        raise ValueError(
            f"{self.path} {problem} delete it, and training makes it anew, or train without it, "
            f"cache_latents=false"
        )

    def _difference(self, wanted: dict, stale: dict) -> str:
        """The first of what a cache depends on that is another; as `key=value` if it can be set."""
        name, was = next(iter(stale.items()))
        if name != "latent_draws" and (was is None or name not in self.views):
            return f"was made with another {name};"
        before, now = (f"{name}={as_word(value)}" for value in (was, wanted[name]))
        return f"was made with {before}, the configuration has {now}; set {before}, or"

    def split(self, split: str) -> Latents:
        """What `prepare` encoded of a split."""
        self.check([split])
        return Latents(self.path, split, self.vision_encoder is not None)


class Latents:
    """Number of a story, or of its draw -> what is kept of its K pictures, for `StoryDataset`.

    `latents_mean`, `latents_std`: (K, c, h, w), scaled as for the U-Net, the second only of an
    autoencoder that has a posterior; with `states` also `picture_states`: (K, P, D_vit). Every
    process opens its own handle at the first read (fork and spawn safe).
    """

    def __init__(self, path: Path, split: str, states: bool) -> None:
        self.path = path
        self._columns = {"latents_mean": "mean", "latents_std": "std"}
        if states:
            self._columns[STATES] = STATES
        self._handle: tuple[int, h5py.File] | None = None
        with h5py.File(path) as file:
            self._rows = file[split][:]  # (N, K)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = (os.getpid(), h5py.File(self.path))
        file, rows = self._handle[1], self._rows[index]
        return {
            key: torch.from_numpy(np.stack([file[column][row] for row in rows]))
            for key, column in self._columns.items()
            if column in file
        }

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_handle": None}


def _name(target: Tensor, history: Tensor) -> bytes:
    digest = hashlib.sha256(target.numpy())
    digest.update(history.numpy())
    return digest.digest()


def _posterior(vae: nn.Module, frames: Tensor) -> list[tuple[str, Tensor]]:
    """Scaled mean and std (N, c, h, w); an autoencoder without a posterior has a mean only."""
    encoded, scale = vae.encode(frames), vae.config.scaling_factor
    if not hasattr(encoded, "latent_dist"):
        return [("mean", encoded.latent * scale)]
    distribution = encoded.latent_dist
    return [("mean", distribution.mean * scale), ("std", distribution.std * scale)]


def _append(file: h5py.File, key: str, values: np.ndarray) -> None:
    if key not in file:
        shape = values.shape[1:]
        sizes = {"shape": (0, *shape), "maxshape": (None, *shape), "chunks": (1, *shape)}
        file.create_dataset(key, dtype=values.dtype, **sizes)
    column = file[key]
    start = len(column)
    column.resize(start + len(values), axis=0)
    column[start:] = values


def _module_hash(module: nn.Module, without: tuple[str, ...] = ()) -> str:
    """Of class, configuration (but not where it was loaded from) and weights, not all parts'."""
    config = module.config.to_dict() if hasattr(module.config, "to_dict") else module.config
    config = {key: value for key, value in config.items() if not key.startswith("_")}
    config.pop("transformers_version", None)
    settings = json.dumps(config, sort_keys=True, default=str)
    weights = {k: v for k, v in module.state_dict().items() if not k.startswith(without)}
    return weights_hash(weights, type(module).__name__, settings, signed_zeros=False)
