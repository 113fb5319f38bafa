"""Kills training, sampling, building and evaluation at random moments, starts the same command
again, and compares what comes out in the end with a run that nobody disturbed.

python -m tests.faults FOLDER               50, 30, 20 and 10 kills of these, or 20 minutes each
python -m tests.faults FOLDER --train 5 --sample 3 --build 2 --evaluate 1 --minutes 5

Each attempt is a process of its own that runs the program as the command line does. It is forked
from this one, which has imported everything already, so that kills fall on work, not on imports.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import evaluation.__main__
import evaluation.run  # noqa: F401  imported once, for all that are forked
import main
import sample  # noqa: F401
import train  # noqa: F401
from common.terminal import as_quoted_word
from data_script import folder_hdf5
from datasets.cartoon.world import LABEL_VOCABULARY
from evaluation.networks.judge import Judge, JudgeNetwork
from models.checkpoints.run_folder import LAST, last_good
from tests.tiny_base import IMAGE_SIZE, save_tiny_base

SIGNALS = (signal.SIGKILL,) * 3 + (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
RUNS = {  # what the runs that are killed in turn are started with beside
    "plain": [],
    "average, workers": ["ema_decay=0.9", "num_workers=1"],
    "cached, two batches a step": ["cache_latents=true", "accumulate_grad_batches=2"],
}


def words(folder: Path) -> list[str]:
    """A run of twelve steps, saved after each."""
    places = {
        "tiny.diffusion_model": "base", "tiny.blip_model": "base/blip", "cartoon.data_dir": "data",
        "ckpt_dir": "checkpoints",
    }  # fmt: skip
    return [
        *(as_quoted_word(key, folder / name) for key, name in places.items()),
        f"tiny.image_size={IMAGE_SIZE}", "cartoon.stories={train:12,val:2,test:6}",
        "batch_size=2", "max_epochs=2", "save_every_minutes=0", "num_workers=0", "logger=none",
        "accelerator=cpu", "num_inference_steps=2", "first_frame_inference_steps=null",
        "num_stories=-1", "save_best=true",
    ]  # fmt: skip


def start(program: Callable, command: list[str], log: Path) -> int:
    """Fork a process that runs a program in a group of its own; its number."""
    if number := os.fork():
        return number
    code = 1
    try:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1), os.dup2(out, 2)
        program(command)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush(), sys.stdout.flush()
    os._exit(code)


def wait(number: int, seconds: float) -> int | None:
    """The exit code of a process, or None if it is not over by then."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(number, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def disturbed(
    program: Callable, command: list[str], log: Path, seconds: float, left: int, until: float
) -> Counter:
    """Run `command` again and again, killed at random moments at most `left` times, to its end.

    Returns how often by which signal, and how often what was wrong.
    """
    seen: Counter = Counter()
    while True:
        number = start(program, command, log)
        kill = sum(seen.values()) < left and time.monotonic() < until
        code = wait(number, random.uniform(0, 0.6 * seconds) if kill else 600)
        if code is not None:
            if code:
                seen[f"WRONG: ended with {code}"] += 1
            return seen
        if not kill:
            os.killpg(number, signal.SIGKILL)
            seen["WRONG: hung"] += 1
            return seen
        chosen = random.choice(SIGNALS)
        os.killpg(number, chosen)
        seen[chosen.name] += 1
        code = wait(number, 120)
        if code is None:
            os.killpg(number, signal.SIGKILL)
            os.waitpid(number, 0)
            seen[f"WRONG: lived on after {chosen.name}"] += 1
        elif code == 0 and chosen == signal.SIGKILL:
            seen["WRONG: killed with 0"] += 1


def trained(folder: Path) -> str:
    """A hash of all that a finished training is: weights, averages, moments, rates, progress."""
    content = torch.load(folder / LAST, weights_only=True)
    keys = ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers", "global_step")
    return _digest({key: content.get(key) for key in keys})


def _digest(value: object) -> str:
    digest = hashlib.sha256()

    def add(one: object) -> None:
        if isinstance(one, torch.Tensor):
            digest.update(one.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(one, dict):
            for key in sorted(one, key=str):
                digest.update(str(key).encode())
                add(one[key])
        elif isinstance(one, list | tuple):
            for part in one:
                add(part)
        else:
            digest.update(repr(one).encode())

    add(value)
    return digest.hexdigest()


def drawn(folder: Path) -> str:
    """A hash of a samples folder: its lines by story, its pictures, and that there is no more."""
    lines = sorted((folder / "manifest.jsonl").read_text().splitlines())
    files = sorted(path for path in folder.rglob("*.png") if path.parent != folder)
    names = [str(path.relative_to(folder)) for path in files]
    hidden = sorted(path.name for path in folder.glob(".*") if path.name != ".lock")
    pictures = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    return _digest([[json.loads(line) for line in lines], names, hidden, pictures])


def judged(folder: Path) -> str:
    """A hash of what an evaluation found, less where the files lay, and of its pictures."""
    found = json.loads((folder / "metrics.json").read_text())
    return _digest([found["metrics"], sorted(path.name for path in folder.iterdir())])


def write_pictures(folder: Path, stories: int = 150) -> None:
    """A folder of drawings with captions, to build from."""
    folder.mkdir(exist_ok=True)
    lines, noise = ["story,image,caption"], np.random.default_rng(0)
    for n in range(stories):
        for k in range(3):
            pixels = noise.integers(0, 256, (96, 96, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{n}-{k}.png")
            lines.append(f"{n},{n}-{k}.png,Drawing {k} of story {n}.")
    (folder / "captions.csv").write_text("\n".join(lines))


def build(command: list[str]) -> None:
    sys.argv = ["folder_hdf5.py", *command]
    folder_hdf5.main()


def campaign(name: str, program: Callable, base: list[str], runs: dict, kills: int,
             minutes: float, folder: Path, place, result) -> Counter:  # fmt: skip
    """Disturb `runs` in turn until there were `kills`; what was counted."""
    until = time.monotonic() + minutes * 60
    counts: Counter = Counter()
    whole, seconds = {}, {}
    turn = 0
    while sum(v for k, v in counts.items() if k.startswith("SIG")) < kills:
        if time.monotonic() > until:
            counts["out of time"] += 1
            break
        run, more = list(runs.items())[turn % len(runs)]
        log = folder / f"{name}.log"
        if run not in whole:
            begin = time.monotonic()
            number = start(program, [*base, *more, *place(f"whole{len(whole)}")], log)
            if wait(number, 600):
                raise SystemExit(f"the undisturbed run failed: see {log}")
            seconds[run] = time.monotonic() - begin
            whole[run] = result(f"whole{len(whole)}")
        left = kills - sum(v for k, v in counts.items() if k.startswith("SIG"))
        command = [*base, *more, *place("killed")]
        seen = disturbed(program, command, log, seconds[run], min(left, 8), until)
        counts += seen
        counts["runs compared"] += 1
        try:
            counts["alike" if result("killed") == whole[run] else "WRONG: other result"] += 1
        except Exception as error:
            counts[f"WRONG: {error!r:.100}"] += 1
        turn += 1
        print(f"{name} {turn} ({run}): {dict(counts)}", flush=True)
        for path in sorted(folder.rglob("*killed*")):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return counts


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=50, help="kills of training")
    parser.add_argument("--sample", type=int, default=30, help="kills of sampling")
    parser.add_argument("--build", type=int, default=20, help="kills of building a story file")
    parser.add_argument("--evaluate", type=int, default=10, help="kills of evaluation")
    parser.add_argument("--minutes", type=float, default=20, help="for each, then none is begun")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    random.seed(options.seed)
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "base").exists():
        number = os.fork()
        if not number:
            save_tiny_base(folder / "base")
            os._exit(0)
        os.waitpid(number, 0)
    base = words(folder)
    places = folder / "checkpoints"
    training = campaign(
        "train", main.main, base, RUNS, options.train, options.minutes, folder,
        lambda name: [f"run_name={name}"], lambda name: trained(places / name),
    )  # fmt: skip
    checkpoint = last_good(places / "whole0")
    draw = [*base, "mode=sample", as_quoted_word("test_model_file", checkpoint), "batch_size=1"]
    # Not in larger batches: what is left makes other ones, whose sums are rounded otherwise.
    ways = {"visualization": [], "continuation": ["task=continuation"]}
    sampling = campaign(
        "sample", main.main, draw, ways, options.sample, options.minutes, folder,
        lambda name: [as_quoted_word("sample_output_dir", folder / name)],
        lambda name: drawn(folder / name),
    )  # fmt: skip
    write_pictures(folder / "pictures")
    building = campaign(
        "build", build, ["--data_dir", str(folder / "pictures")],
        {"as they are": [], "padded": ["--pad"]}, options.build, options.minutes, folder,
        lambda name: ["--save_path", str(folder / f"{name}.h5")],
        lambda name: _digest([(folder / f"{name}.h5").read_bytes()]),
    )  # fmt: skip
    Judge(JudgeNetwork(LABEL_VOCABULARY), LABEL_VOCABULARY).save(folder / "judge.safetensors")
    judging = campaign(
        "evaluate", evaluation.__main__.main,
        [f"samples={folder / 'whole0'}", f"judge={folder / 'judge.safetensors'}"],
        {"cartoon": ["metrics=cartoon"], "all": ["metrics=all", "pictures=false"]},
        options.evaluate, options.minutes, folder,
        lambda name: [f"out={folder / 'judged' / name}", f"cache={folder / name}.sqlite"],
        lambda name: judged(folder / "judged" / name),
    )  # fmt: skip
    everything = {"train": training, "sample": sampling, "build": building, "evaluate": judging}
    print(json.dumps(everything, indent=1))
    sys.exit(any(key.startswith("WRONG") for counts in everything.values() for key in counts))


if __name__ == "__main__":
    run()
