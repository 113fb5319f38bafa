"""Draws stories with a trained model: `python main.py mode=sample`."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from omegaconf import DictConfig
from torch.multiprocessing import ProcessExitedException
from torchvision.transforms.v2 import functional as F

from building import (
    build_pipeline,
    check_scheduler,
    check_weights_file,
    drawing_precision,
    find_devices,
    known_words,
    open_stories,
    own_stories,
    sampler_arguments,
    sampler_settings,
    story_frames,
    unusual_settings,
)
from common.files import file_hash, file_state, held, remove_leftovers, writing
from common.interrupts import ending_at_signals
from common.terminal import error_in_one_line, in_one_line, tqdm
from configuration import ConfigError, checkpoint_to_draw_with
from datasets.damage import unreadable
from datasets.notices import (
    characters_read,
    long_captions,
    named,
    warn_of_left_out,
    warn_of_long_captions,
    warn_of_unknown_words,
)
from datasets.story_hdf5 import StoryFile
from datasets.story_prompts import StoryPrompt, read_prompts
from evaluation.samples import RESERVED, SamplesFolder
from models.frames import refuse_black
from models.main_process import is_main_process, say
from redraw import redraw

__all__ = ["draw_stories", "sample"]


def sample(config: DictConfig) -> Path:
    """Draw stories into `sample_output_dir`, show and measure them; returns that folder."""
    folder = Path(config.sample_output_dir)
    metrics = ["fid@64"] * config.calculate_fid + list(config.metrics)  # the original's FID
    if metrics:
        from common.key_value_arguments import option_prefix  # only now: networks take long
        from evaluation.metrics.choice import preflight
        from evaluation.options import Options
        from evaluation.run import evaluate

        options = Options(str(folder), metrics, pictures=False, **config.evaluation)
        unlabelled = None
        if not config.story and config.redraw.frame is None:
            stories = open_stories(config, "test")
            unlabelled = str(stories.path) if stories.label_vocabulary is None else None
        with option_prefix("evaluation."):  # what is missing is said before hours of drawing
            preflight(options, unlabelled)
    names = draw_stories(config)
    if names is None:
        return folder
    from evaluation.pictures.page import write_storyboard_html
    from evaluation.pictures.storyboard import draw_storyboard

    draw_storyboard(folder, folder / "storyboard.png", names[:8])
    write_storyboard_html(folder, folder / "storyboard.html", names)
    print(f"{len(names)} stories, storyboard.png and storyboard.html are in {folder}")
    if metrics:
        with option_prefix("evaluation."):
            evaluate(options, names)  # of all that the folder may hold, those of this command
    return folder


def draw_stories(config: DictConfig) -> list[str] | None:
    """Draw stories into `sample_output_dir`; their ids, or None in all processes but the first.

    Those that are there already stay. Every device of this machine draws its share in a process of
    its own; processes that a launcher started on several machines share likewise. Other programs
    that would draw into the same folder at the same time are refused. Where `redraw` asks for it,
    frames of stories that are there are drawn again instead.
    """
    _follow_slurm()
    lock = nullcontext()
    folder = Path(config.sample_output_dir)
    if is_main_process():
        lock = held(folder / ".lock", f"sample_output_dir: {folder} is")
    with lock, ending_at_signals("the same command draws the rest"):
        if config.redraw.frame is None:
            return _draw_stories(config)
        return redraw(config, find_devices(config)[0]) if is_main_process() else None


def _draw_stories(config: DictConfig) -> list[str] | None:
    devices = find_devices(config)
    checkpoint = checkpoint_to_draw_with(config)
    check_weights_file("test_model_file", checkpoint)
    if config.tune != "all":
        check_weights_file("base_model_file", config.base_model_file)
    check_scheduler(config)
    wanted = Wanted(config)
    if is_main_process():
        names = (*RESERVED, *wanted.names)
        if left := remove_leftovers(Path(config.sample_output_dir), names):
            print(f"removed {', '.join(left)}, left by a run that was killed")
    as_hashed = file_state(checkpoint)
    settings = {
        "seed": config.seed,
        "given": int(config.task == "continuation"),
        "checkpoint": file_hash(checkpoint),
        "sampler": sampler_settings(config),
        **unusual_settings(config),
    }
    if config.lora_files:
        settings["loras"] = [
            file_hash(path) if Path(path).is_file() else None for path in config.lora_files
        ]
    try:
        folder = SamplesFolder(
            config.sample_output_dir, settings, wanted.label_vocabulary, wanted.asked
        )
    except ValueError as error:
        raise ValueError(f"sample_output_dir: {error}") from error
    _say_drawn_again(folder)
    remaining = wanted.readable(i for i, name in enumerate(wanted.names) if name not in folder.done)
    share = (config, wanted, folder, checkpoint, as_hashed)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        state = PartialState(cpu=config.accelerator == "cpu")
        state.wait_for_everyone()  # nobody adds to the folder while another still reads it
        mine = remaining[state.process_index :: state.num_processes]
        _draw(*share, mine, state.device, show_progress=state.is_main_process)
        state.wait_for_everyone()  # the storyboard needs the others' stories too
        return wanted.names if state.is_main_process else None
    if len(devices) > 1 and len(remaining) > 1:
        shares = [remaining[i :: len(devices)] for i in range(len(devices))]
        how = {"nprocs": len(devices), "join": False}
        drawing = torch.multiprocessing.spawn(_draw_as, (share, shares, devices), **how)
        try:
            while not drawing.join():
                pass
        except ProcessExitedException as error:
            if error.signal_name is None:
                sys.exit(error.exit_code)  # it has said why
            raise OSError(
                f"a process that draws was killed ({error.signal_name}), perhaps for memory; the "
                f"same command draws the rest"
            ) from None
        finally:  # Python would wait for their end before its own
            for process in drawing.processes:
                process.terminate()
    else:
        _draw(*share, remaining, devices[0])
    return wanted.names


def _say_drawn_again(folder: SamplesFolder) -> None:
    """Say which stories that are there are drawn over: another may have the id of one."""
    for why in dict.fromkeys(folder.again.values()):
        names = [name for name, reason in folder.again.items() if reason == why]
        listed = named(names, most=5)
        was, are = ("was", "is") if len(names) == 1 else ("were", "are")
        say(f"{folder.path}: {listed} {was} {why} and {are} drawn again")


def _follow_slurm() -> None:
    """Let several tasks of srun share the stories, as torchrun's do."""
    if "WORLD_SIZE" in os.environ or int(os.environ.get("SLURM_NTASKS", 1)) == 1:
        return
    from pytorch_lightning.plugins.environments import SLURMEnvironment  # only there

    try:
        if not SLURMEnvironment.detect():  # a shell within an allocation
            return
        slurm = SLURMEnvironment()
    except RuntimeError as error:
        raise ConfigError(
            f"SLURM_NTASKS is {os.environ['SLURM_NTASKS']} ({in_one_line(error)}); start with srun "
            f"--ntasks-per-node, or set SLURM_NTASKS=1"
        ) from error
    os.environ |= {
        "WORLD_SIZE": str(slurm.world_size()),
        "RANK": str(slurm.global_rank()),
        "LOCAL_RANK": str(slurm.local_rank()),
        "MASTER_ADDR": slurm.main_address,
        "MASTER_PORT": str(slurm.main_port),
    }


class Wanted:
    """The stories that the configuration wants drawn.

    names: their ids; asked: id -> what makes a story another one though its id is the same.
    """

    def __init__(self, config: DictConfig) -> None:
        self.own: list[StoryPrompt] = []
        if config.story:
            self.own = own_stories(config)
            self.asked = {prompt.story_id: prompt.asked() for prompt in self.own}
            self.label_vocabulary = None
        else:
            stories = open_stories(config, "test")
            warn_of_left_out([stories])
            self.frames = story_frames(stories, config)
            count = len(stories) if config.num_stories == -1 else config.num_stories
            indices = range(min(count, len(stories)))
            ids = [stories.story_id(i) for i in indices]
            if len(set(ids)) < len(ids):
                twice = next(i for i in ids if ids.count(i) > 1)
                raise ValueError(
                    f"{stories.path}: story_id {twice!r} is there twice in the test split; build "
                    "the file again"
                )
            self.asked = {stories.story_id(i): _asked(stories, i) for i in indices}
            self.label_vocabulary = stories.label_vocabulary
        self.names = list(self.asked)

    def readable(self, indices: Iterator[int]) -> list[int]:
        """Those of `indices` whose pictures can be read; the others are said and forgotten."""
        indices = list(indices)
        broken = {} if self.own else unreadable(self.frames.stories, indices)
        if broken:
            why, total = next(iter(broken.values())), len(self.names)
            self.names = [name for i, name in enumerate(self.names) if i not in broken]
            if not self.names:
                raise ValueError(why)
            warnings.warn(f"{len(broken)} of {total} stories cannot be drawn: {why}", stacklevel=2)
        return [i for i in indices if i not in broken]

    def prompts(self, indices: list[int]) -> Iterator[StoryPrompt]:
        """The stories of these numbers, read one by one."""
        if self.own:
            return (self.own[i] for i in indices)
        return read_prompts(self.frames, indices)


def _asked(stories: StoryFile, index: int) -> dict:
    """What makes it another story: its pictures are shown beside, and the first may be given."""
    asked = {"captions": stories.captions(index)}
    with suppress(ValueError):  # `Wanted.readable` says that
        asked["pictures"] = stories.pictures_hash(index)
    return asked


def _draw_as(rank: int, share: tuple, shares: list[list[int]], devices: list) -> None:
    with error_in_one_line():
        _draw(*share, shares[rank], devices[rank], show_progress=rank == 0)


def _draw(
    config: DictConfig,
    wanted: Wanted,
    folder: SamplesFolder,
    checkpoint: Path,
    as_hashed: tuple,
    indices: list[int],
    device: torch.device,
    show_progress: bool = True,
) -> None:
    """Draw the stories of these numbers and write each as soon as it is there."""
    if not indices:
        return
    pipeline = build_pipeline(config, checkpoint, device)
    if file_state(checkpoint) != as_hashed:
        raise ValueError(
            f"{checkpoint} was replaced while it was being read, by a training perhaps; draw again"
        )
    key = f"{config.dataset}.max_length"
    captions = [caption for story in wanted.asked.values() for caption in story["captions"]]
    tokenizers = (pipeline.clip_tokenizer, pipeline.blip_tokenizer)
    length = config[config.dataset].max_length
    long = long_captions(captions, tokenizers, length)
    if show_progress:
        where = config.story or "the test split"
        warn_of_long_captions(where, long, tokenizers, length, key)
        if config.story:
            words = pipeline.config.tokenization.get("new_words", ())
            known = known_words(config, words)
            warn_of_unknown_words(where, captions, tokenizers, known)
    read = {caption: characters_read(caption, tokenizers, length) for caption in long}
    pipeline.set_progress_bar_config(disable=True)  # there is one over stories
    given = folder.settings["given"]
    lengths = [len(story["captions"]) - given for story in wanted.asked.values()]
    progress = tqdm(total=sum(lengths[i] for i in indices), unit="frame", disable=not show_progress)
    with progress as bar, drawing_precision(config.precision, device):
        for prompts in _batches(wanted.prompts(indices), config.batch_size):
            tell = partial(lambda count, *_: bar.update(count), len(prompts))
            how = {**sampler_arguments(config), "callback_on_frame_end": tell}
            drawn = pipeline.draw(prompts, **how)
            for prompt, (frames, weights) in zip(prompts, drawn.stories(), strict=True):
                refuse_black(prompt.story_id, frames[given:])
                with writing(folder.path / prompt.story_id):
                    folder.add(
                        prompt.story_id,
                        prompt.captions,
                        frames,
                        _of_one_size(prompt.reference_frames, frames.shape[1:3]),
                        prompt.labels,
                        weights,
                        [read.get(caption) for caption in prompt.captions],
                    )


def _batches(prompts: Iterator[StoryPrompt], size: int) -> Iterator[list[StoryPrompt]]:
    """Neighbours of equal length, at most `size` together."""
    for _, alike in groupby(prompts, key=lambda prompt: len(prompt.captions)):
        batch: list[StoryPrompt] = []
        for prompt in alike:
            batch.append(prompt)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch


def _of_one_size(frames: Sequence[np.ndarray], size: tuple[int, int]) -> Sequence[np.ndarray]:
    """Real frames (H, W, 3) as they are, or at the drawn ones' `size` if they differ in theirs:
    metrics compare neighbours."""
    if len({frame.shape for frame in frames}) <= 1:
        return frames
    tensors = (torch.from_numpy(frame).permute(2, 0, 1) for frame in frames)
    return [F.resize(t, list(size), antialias=True).permute(1, 2, 0).numpy() for t in tensors]
