"""Every kind of writer on a disk that takes no more: one sentence, and nothing half-written."""

from __future__ import annotations

import re
import resource
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sample_folders import VOCABULARY, write_samples

from building import sampler_settings
from common.files import replacing
from configuration import load_config, write_config
from datasets.check import main as check_command
from datasets.contact_sheet import draw_contact_sheet
from datasets.story_writer import StoryWriter
from demo.judge import make_judge
from evaluation.classifier import Training
from evaluation.networks.classifier_training import train
from evaluation.networks.features import FeatureCache, Features
from evaluation.networks.judge import Judge, JudgeNetwork
from evaluation.pictures.page import write_storyboard_html
from evaluation.pictures.story_files import StoryFiles, write_story_files
from evaluation.pictures.storyboard import draw_storyboard
from evaluation.samples import SamplesFolder
from models.export import Export, export
from models.training.loggers import build_logger
from page.saving import save
from page.story import Settings, Story

ROOM = 600  # bytes that a file may have
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


@contextmanager
def full():
    """Every longer file of this process fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def log(kind: str):
    def write(_: Path, out: Path) -> None:
        logger = build_logger(kind, out, "run")
        for step in range(100):
            logger.log_metrics({"loss": 1 / (step + 1)}, step)
        logger.save()
        logger.finalize("success")

    return write


def tensors(_: Path, out: Path) -> None:
    with replacing(out / "x.ckpt") as temporary:
        torch.save(torch.zeros(10_000), temporary)


def page(_: Path, out: Path) -> None:
    settings = Settings("mine", 0, sampler_settings(load_config([])))
    model = SimpleNamespace(digest="0", unusual={}, characters_read=lambda captions: None)
    save(model, Story([NOISE, NOISE]), ["One.", "Two."], settings, out)


def files_as(kind: str):
    return lambda data, out: write_story_files(StoryFiles(str(data / "samples"), str(out), kind))


WRITERS = {
    "storyboard.png": lambda data, out: draw_storyboard(data / "samples", out / "storyboard.png"),
    "storyboard.html": lambda data, out: write_storyboard_html(data / "samples", out / "x.html"),
    "GIF": files_as("gif"),
    "PDF": files_as("pdf"),
    "contact sheet": lambda data, out: draw_contact_sheet(data / "s.h5", out / "x.png", ["text"]),
    "configuration": lambda data, out: write_config(load_config([]), out / "config.yaml"),
    "a judge": lambda data, out: Judge(JudgeNetwork(VOCABULARY), VOCABULARY).save(out / "x.safe"),
    "what PyTorch saves": tensors,
    "the page": page,
    "the manifest": lambda data, out: SamplesFolder(out, {}, {"places": ["x" * 1000]}),
    "log as CSV": log("csv"),
    "log for TensorBoard": log("tensorboard"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    home = tmp_path_factory.mktemp("data")
    write_samples(home / "samples")
    for path in (home / "samples").glob("*/*.png"):
        Image.fromarray(NOISE).save(path)
    with StoryWriter(home / "s.h5", 2) as writer:
        writer.add("train", [NOISE, NOISE], {"text": ["One.", "Two."]})
    return home


def check(data: Path) -> None:
    words = ["check", str(data / "s.h5"), "--sheet", "/proc/x.png"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as said:
        patch.setattr(sys, "argv", words)
        patch.setattr("datasets.check.check_story_file", None)
        check_command()
    raise OSError(str(said.value))


LATE = {  # what writes after long work, which fails here
    "contact sheet": check,
    "a judge": lambda data: make_judge(Path("/proc/x"), scenes=(1 / 0 for _ in "x")),
    "a classifier": lambda data: train(Training("gone", "/proc/x")),
    "a model": lambda data: export(Export(str(data / "s.h5"), "/proc/x")),
}


@pytest.mark.parametrize("kind", LATE)
def test_a_place_that_nothing_can_be_written_to_is_said_before_the_work(kind, data):
    with pytest.raises(OSError, match="cannot write /proc/x.*: .*; make /proc writable, or choose"):
        LATE[kind](data)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_is_said_with_its_path_and_a_remedy(kind, data, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with full(), pytest.raises(OSError) as caught:
        WRITERS[kind](data, out)
    said = str(caught.value)
    assert re.match(rf"cannot write {out}.*: .*; (free some space|make .* writable), or", said)
    assert "\n" not in said and said.count("cannot write") == 1
    left = [path for path in out.rglob("*") if path.is_file() and path.stat().st_size]
    assert [path for path in left if "logs" not in path.parts] == []


def test_networks_results_need_room_too(tmp_path):
    cache = FeatureCache(tmp_path / "f.sqlite")
    rows = np.ones((1, 10_000), np.float32)
    encoder = SimpleNamespace(key="toy", width=10_000, load=str)
    with full(), pytest.raises(OSError, match="cannot write .*f.sqlite: .*, or name another cache"):
        cache.put([b"key"], rows)
    assert cache.known([b"key"]) == set()
    cache.put([cache.key(encoder, "a caption")], rows)
    with full(), pytest.raises(OSError, match="cannot write .*; .*, or name another disk .* TMP"):
        Features(cache)(["a caption"], encoder)
