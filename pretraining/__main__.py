"""Train a base from nothing and save it as `diffusion_model` and `blip_model` folders.

    python -m pretraining --stories my.h5 --out outputs/my-base --image-size 64 --minutes 40
    python main.py config=outputs/my-base/train.yaml

Without --stories it makes a base of the cartoon world, in an hour and a quarter on two CPU cores.
Five stages: the autoencoder; a text-to-image U-Net that learns words, then to draw from the few
that BLIP can say; a BLIP aligned to its text encoder; and the autoencoder's decoder once more, on
latents that the U-Net draws. Only training stories' pictures are learnt from; the others are
measured. What is done lies under --work, and a run that was cut off goes on there.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

import torch
from diffusers import AutoencoderRAE
from omegaconf import OmegaConf
from transformers.utils import logging

from common.files import held, remove_leftovers, replacing
from common.terminal import error_in_one_line, script_parser, setting
from datasets.cartoon.worlds import WORLDS
from datasets.specs import SPECS
from datasets.story_hdf5 import StoryFile
from pretraining.base import make_base
from pretraining.cartoon_source import cartoon_source
from pretraining.sizes import IMAGE_SIZES, SIZES
from pretraining.stages import STAGES, Settings
from pretraining.story_source import story_source
from pretraining.vocabulary import token_counter

_IN_A_BASE = (
    "README.md", "model_index.json", "vae", "unet", "text_encoder", "tokenizer", "scheduler",
    "blip", "previews", "train.yaml",
)  # fmt: skip
_WRITTEN = {"settings.json", "train.yaml"}
for stage in STAGES.values():
    _WRITTEN |= {stage.folder, stage.state, stage.sheet}
TRAINING_STEPS, BATCH = 600, 5  # of AR-LDM on the base; config.yaml's batch_size


def main(arguments: list[str] | None = None) -> None:
    example = "python -m pretraining --stories my.h5 --out outputs/my-base --minutes 40"
    parser = script_parser(__doc__, example)
    add = parser.add_argument
    add("--stories", type=Path, help="story file (HDF5) to learn; without it, the cartoon world")
    sets = [name for name in SPECS if name != "cartoon"]
    add("--dataset", choices=sets, default="folder", help="what it was built from (folder)")
    add("--world", choices=WORLDS, default="small", help="which cartoon world (small)")
    add("--out", type=Path, help="folder of the base (outputs/bases/NAME of the stories)")
    add("--work", type=Path, help="folder of stages (outputs/pretraining/NAME of --out)")
    add("--image-size", type=int, choices=IMAGE_SIZES, default=128, help="pixels a side (128)")
    add("--size", choices=SIZES, default="tiny", help="of the networks (tiny)")
    add("--strangers", type=int, default=0, help="made-up characters of the cartoon world besides")
    add("--start", type=Path, help="base to start from, such as assets/cartoon-base")
    how_long = parser.add_mutually_exclusive_group()
    how_long.add_argument("--minutes", type=float, help="to spend on all stages together")
    how_long.add_argument("--steps", type=int, help="of all stages together (5750)")
    add("--batch-size", type=int, help="pictures a step (32 and 24)")
    add("--seed", type=int, default=0)
    add("--device", help="cpu, cuda, … (the GPU, where there is one)")
    args = parser.parse_args(arguments)
    for name in ("minutes", "steps", "batch_size"):
        value = getattr(args, name)
        if value is not None and not (0 < value < math.inf):
            parser.error(f"--{name.replace('_', '-')} {value}: give more than 0")
    if args.strangers and (args.stories or args.strangers < 0):
        parser.error(f"--strangers {args.strangers}: give a number, and no --stories beside it")
    if args.stories and args.world != "small":
        parser.error(f"--world {args.world}: give no --stories beside it")
    if not sys.stderr.isatty():
        logging.disable_progress_bar()  # a file would hold each of its states
    world = "cartoon" if args.world == "small" else args.world
    name = args.stories.stem if args.stories else "strangers" if args.strangers else world
    out = args.out or Path("outputs/bases") / name
    work = args.work or Path("outputs/pretraining") / out.name
    torch.set_float32_matmul_precision("high")  # TF32 on GPUs that have it
    if out.resolve() == work.resolve():
        parser.error(f"--work {work}: give another folder than --out")
    with error_in_one_line(), _held("--out", out), _held("--work", work):
        _refuse_others(out)
        keys = ("size", "seed", "start", "steps", "minutes", "batch_size")
        how = {key: getattr(args, key) for key in keys}
        how["device"] = _device(args.device)
        if args.stories:
            source = story_source(args.stories, args.image_size, args.dataset)
        else:
            kinds = {"strangers": args.strangers, "world": args.world}
            source = cartoon_source(image_size=args.image_size, **kinds)
        make_base(source, out, work, Settings(args.image_size, **how))
        if args.stories:
            write_training_file(out, args.stories, args.dataset, args.image_size)
    said = quote(f"config={out}/train.yaml")
    if not args.stories:
        parts = {"tiny.diffusion_model": out, "tiny.blip_model": out / "blip"}
        said = " ".join(setting(*part) for part in parts.items()) + f" cartoon.world={args.world}"
    print(f"{out} is done; next: python main.py {said}")


@contextmanager
def _held(option: str, folder: Path) -> Iterator[None]:
    """Hold a folder that is to be written, without what a killed run left there; before long work.

    Raises:
        ValueError, CannotWrite: it is a file, in use by another run, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{option} {folder} is a file: give a folder")
    with held(folder / ".lock", f"{option}: {folder} is"):
        for place in (folder, folder / "previews"):
            remove_leftovers(place, _WRITTEN | {folder.name})
        yield


def _refuse_others(out: Path) -> None:
    """ValueError if a base would take the place of what this program has not made."""
    own = out / "vae" / "config.json"
    if own.is_file() and AutoencoderRAE.__name__ in own.read_text("utf-8"):
        return
    if there := next((name for name in _IN_A_BASE if (out / name).exists()), None):
        raise ValueError(
            f"--out {out} holds {there}, which this program has not made: give another folder"
        )


def _device(name: str | None) -> torch.device:
    """The one of this name, or this machine's GPU, if it has one.

    Raises:
        ValueError: this machine has none of that name.
    """
    found = torch.accelerator.current_accelerator(check_available=True)
    if name is None:
        return found or torch.device("cpu")
    kinds = ["cpu", *([found.type] if found else [])]
    if name.split(":")[0] not in kinds:
        raise ValueError(f"--device {name}: this machine has {' and '.join(kinds)}")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device {name}: {error}; give {kinds[-1]}") from None


def write_training_file(out: Path, stories: Path, dataset: str, image_size: int) -> None:
    """Write `out`/train.yaml: what `main.py` needs to train AR-LDM on the base and its stories."""
    file = StoryFile(stories, "train", SPECS[dataset].text_key)
    captions = list(file.all_captions())
    longest = max(map(token_counter(captions), captions))
    keys = {
        "run_name": out.name,
        "dataset": dataset,
        "backbone": "tiny",
        dataset: {
            "hdf5_file": str(stories),
            "max_length": min(77, longest + 4),  # room for words of one's own
            "clip_embedding_tokens": None,
            "blip_embedding_tokens": None,
            "new_tokens": [],
        },
        "tiny": {
            "diffusion_model": str(out),
            "blip_model": str(out / "blip"),
            "image_size": image_size,
        },
        "max_epochs": max(1, math.ceil(TRAINING_STEPS * BATCH / len(file))),
    }
    tested = len(StoryFile(stories, "test", SPECS[dataset].text_key))
    draws = "mode=sample" if tested else "mode=sample story=FILE"  # a story of one's own
    text = f"# python main.py config=THIS trains AR-LDM on this base, and {draws} draws.\n"
    with replacing(out / "train.yaml") as temporary:
        temporary.write_text(text + OmegaConf.to_yaml(OmegaConf.create(keys)), "utf-8")


if __name__ == "__main__":
    main()
