"""The options of `python -m evaluation`, and how key=value arguments become checked options."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

T = TypeVar("T")
_PREFIX = ContextVar("prefix", default="")


@contextmanager
def option_prefix(prefix: str) -> Iterator[None]:
    """Within it messages call an option by `prefix` and its name: main.py has a section of them."""
    token = _PREFIX.set(prefix)
    try:
        yield
    finally:
        _PREFIX.reset(token)


def option(name: str) -> str:
    """What whoever reads a message has to type for the option `name`."""
    return _PREFIX.get() + name


@dataclass
class Options:
    """Every field is a key=value argument; see evaluation/README.md for the words."""

    samples: str  # samples folder, or a folder of pictures
    metrics: Any = None  # names and groups, as a list or with commas; all: whatever can be measured
    compare: str | None = None  # second samples folder of the same stories
    reference: str | None = None  # real pictures, where `samples` has no manifest
    captions: str | None = None  # one caption a line, likewise
    story_length: int = 1  # pictures a story in a flat folder, likewise
    pictures: bool = True  # draw storyboards and plots, too
    stories: int = 8  # on the storyboard picture: half of them worst, half best
    judge: str | None = None
    classifier: str | None = None
    inception_weights: str | None = None
    clip_model: str = "ViT-B-32-quickgelu"
    clip_weights: str = "openai"
    lpips_net: str = "alex"
    lpips_weights: str | None = None
    allow_other_weights: bool = False
    papers: str | None = None  # a column of the paper table, such as pororo-visualization
    cache: str = "outputs/features.sqlite"
    draws: int = 1000  # bootstrap draws; frechet_draws of them where each costs seconds
    frechet_draws: int = 100
    batch_size: int = 32
    processes: int = 1
    device: str = "auto"


def parse(kind: type[T], arguments: Sequence[str]) -> T:
    """A `kind` from key=value arguments; ValueError names what is wrong."""
    known = {field.name: field for field in fields(kind)}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key not in known or not equals or not value:
            raise ValueError(f"{argument!r} is not understood: give key=value of {list(known)}")
    given = {argument.partition("=")[0] for argument in arguments}
    for name, field in known.items():
        if field.default is MISSING and name not in given:
            raise ValueError(f"{name}=… is missing: {_MEANING.get(name, 'it has no default')}")
    try:
        text = OmegaConf.from_dotlist(list(arguments))
        options = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), text))
    except (OmegaConfBaseException, ValueError) as error:
        said = str(error).splitlines()[0]
        raise ValueError(f"{' '.join(arguments)}: {said}") from error
    return check(options)


def check(options: T) -> T:
    """ValueError for counts below 1 and names that are none; resolves device=auto."""
    for field in fields(options):
        value = getattr(options, field.name)
        if field.type in ("int", int) and field.name != "seed" and value < 1:
            raise ValueError(f"{option(field.name)}={value} is not a count: give 1 or more")
    if getattr(options, "lpips_net", "alex") not in ("alex", "vgg", "squeeze"):
        raise ValueError(f"{option('lpips_net')}={options.lpips_net} is not alex, vgg or squeeze")
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    return options


_MEANING = {
    "samples": "give the folder that mode=sample wrote, or any folder of pictures",
    "data": "give a samples folder whose stories carry labels",
    "out": "give the file to write, such as classifier.safetensors",
}
