"""How good are the samplers with few steps? Asked of a model of the cartoon world.

    python -m benchmarks.sampler_quality CHECKPOINT JUDGE [key=value …]  draw, judge, table and plot
    python -m benchmarks.sampler_quality CHECKPOINT JUDGE --tables       of what is measured already

Every way to draw the same test stories is measured with several seeds of the sampler: the share of
frames where place, cast, action and shirts are all right, and the seconds of one core a story
takes. What is measured is kept in OUT and is not measured again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.runs import Runs, mean_spread, print_table
from building import build_pipeline, open_stories, sampler_arguments, story_frames
from common.files import file_hash
from common.terminal import as_quoted_word, error_in_one_line, script_parser
from configuration import load_config
from datasets.story_prompts import read_prompts
from evaluation.metrics.bootstrap import ratio
from evaluation.metrics.cartoon import ROWS, count_frames
from evaluation.networks.judge import Judge
from evaluation.samples import SampledStory
from models.components import load_scheduler_config
from models.schedulers import sampling_scheduler

BATCH = 20  # stories drawn together
STEPS = (4, 6, 8, 10, 20, 50)
SAMPLERS = {
    "ddim, eta 0": ["scheduler=ddim", "eta=0"],
    "ddim, eta 1": ["scheduler=ddim", "eta=1"],
    "dpm++": ["scheduler=dpm++"],
    "sde-dpm++": ["scheduler=sde-dpm++"],
    "unipc": ["scheduler=unipc"],
    "euler": ["scheduler=euler"],
}
STOCHASTIC = {name: SAMPLERS[name] for name in ("ddim, eta 1", "sde-dpm++")}
FIRST = (10, 20, 40)  # steps of a first frame that is drawn, where the others have few
GUIDED = {
    "guidance 2": ["guidance_scale=2"],
    "guidance 6": ["guidance_scale=6"],
    "guidance 2 in the middle": ["guidance_scale=2", "guidance_interval=[0.2,0.8]"],
}


def ways() -> dict[str, list[str]]:
    """What is measured, the quick ones first: a name, and the overrides that draw so."""
    found = {}
    for steps in STEPS:
        for name, words in SAMPLERS.items():
            found[f"{name}, {steps}"] = [*words, f"num_inference_steps={steps}"]
    for steps in STEPS[:4]:
        for name, words in STOCHASTIC.items():
            for first in (n for n in FIRST if n > steps):
                key = f"{name}, {steps}, first frame {first}"
                one = f"first_frame_inference_steps={first}"
                found[key] = [*words, f"num_inference_steps={steps}", one]
    for name, words in STOCHASTIC.items():
        for how, more in GUIDED.items():
            found[f"{name}, 10, {how}"] = [*words, "num_inference_steps=10", *more]
    return found


class Measurement:
    """Draws `stories` test stories in different ways and judges them; `words`: overrides of all."""

    def __init__(self, checkpoint: Path, judge: Path, stories: int, words: Sequence[str]) -> None:
        model = as_quoted_word("test_model_file", checkpoint)
        self.words = ["mode=sample", model, "num_stories=-1", *words]
        config = load_config(self.words)
        self.noise = load_scheduler_config(config[config.backbone].diffusion_model)
        self.pipeline = build_pipeline(config, checkpoint, torch.device("cpu"))
        self.pipeline.set_progress_bar_config(disable=True)
        self.judge = Judge.load(judge)
        frames = story_frames(open_stories(config, "test"), config)
        self.prompts = list(read_prompts(frames, range(stories)))

    def __call__(self, words: Sequence[str], seed: int) -> dict:
        config = load_config([*self.words, *words, f"seed={seed}"])
        self.pipeline.scheduler = sampling_scheduler(config.scheduler, self.noise)
        counts, seconds = [], 0.0
        for start in range(0, len(self.prompts), BATCH):
            batch = self.prompts[start : start + BATCH]
            begin = time.process_time()
            drawn = self.pipeline.draw(batch, **sampler_arguments(config)).frames
            seconds += time.process_time() - begin
            for prompt, frames in zip(batch, drawn.permute(0, 1, 3, 4, 2).numpy(), strict=True):
                names = [Path(str(k)) for k in range(len(frames))]
                labels = {"labels": prompt.labels}
                story = SampledStory(prompt.story_id, prompt.captions, names, **labels)
                counts.append(count_frames(story, self.judge.read(frames)))
        values = ratio(np.sum(counts, (0, 1)))
        return {
            "seconds": round(seconds / len(self.prompts), 3),
            **{
                row: round(float(value), 4)
                for row, value in zip(ROWS, values, strict=True)
                if not np.isnan(value)  # the wide world's alone
            },
        }


def print_tables(results: list[dict]) -> None:
    """Frames all right by steps; by steps of the first frame; guided. And seconds a story."""

    def table(title: str, heads: Sequence[object], ends: Sequence[str], starts: Iterable[str]):
        def cells(start: str, key: str) -> list[str]:
            names = [f"{start}, {end}" for end in ends]
            return [mean_spread([r[key] for r in results if r["name"] == name]) for name in names]

        starts = list(starts)
        rows = [[start, *cells(start, "all_right")] for start in starts]
        last = f"seconds of {starts[-1]}"
        print(f"{title}\n")
        print_table([str(head) for head in heads], [*rows, [last, *cells(starts[-1], "seconds")]])
        print()

    table("Frames all right, by steps a frame", STEPS, [str(n) for n in STEPS], SAMPLERS)
    few = (f"{name}, {steps}" for name in STOCHASTIC for steps in STEPS[:4])
    ends = [f"first frame {steps}" for steps in FIRST]
    table("By steps of a first frame that has more than the others", FIRST, ends, few)
    table("Ten steps, guided", list(GUIDED), [f"10, {how}" for how in GUIDED], STOCHASTIC)


def plot(results: list[dict]) -> Figure:
    """Frames all right over seconds a story, a line a sampler; the marks are steps."""
    figure = Figure((8, 4.8), dpi=110, layout="constrained")
    chart = figure.subplots()
    at: dict[int, list[float]] = {}  # seconds of so many steps, which samplers hardly differ in
    for sampler in SAMPLERS:
        course = []
        for steps in STEPS:
            rows = [one for one in results if one["name"] == f"{sampler}, {steps}"]
            if rows:
                values = [row["all_right"] for row in rows]
                seconds = np.median([row["seconds"] for row in rows])
                course.append((seconds, np.mean(values), np.std(values)))
                at.setdefault(steps, []).append(seconds)
        if course:
            x, y, spread = zip(*course, strict=True)
            chart.errorbar(x, y, spread, marker="o", capsize=2, label=sampler, alpha=0.8)
    chart.set_xscale("log")
    marks = {steps: np.median(seconds) for steps, seconds in at.items()}
    chart.set_xticks(list(marks.values()), [f"{x:.2f}\n{n} steps" for n, x in marks.items()])
    chart.minorticks_off()
    chart.set_ylabel("frames all right")
    chart.set_xlabel("seconds of one core a story of five frames")
    chart.grid(alpha=0.3)
    chart.legend()
    return figure


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("judge", type=Path)
    parser.add_argument("--out", type=Path, default=Path("outputs/sampler_quality"))
    parser.add_argument("--stories", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="measure ways with this in their name")
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("overrides", nargs="*", help="config keys of all ways")
    args = parser.parse_intermixed_args()
    with error_in_one_line():
        settings = {key: file_hash(getattr(args, key)) for key in ("checkpoint", "judge")}
        settings |= {"stories": args.stories, "overrides": args.overrides}
        runs = Runs(args.out, settings)
        if not args.tables:
            torch.set_num_threads(1)
            plain = ["first_frame_inference_steps=null", *args.overrides]
            measure = Measurement(args.checkpoint, args.judge, args.stories, plain)
            for seed in range(args.seeds):
                for name, words in ways().items():
                    if args.only in name and runs.read(name, seed) is None:
                        print(f"{name}, seed {seed}", flush=True)
                        runs.write(name, seed, measure(words, seed))
        results = [one for name in ways() for one in runs.of(name, args.seeds)]
    print_tables(results)
    plot(results).savefig(args.out / "quality.png")


if __name__ == "__main__":
    main()
