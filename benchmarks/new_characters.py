"""How well does a trained model learn new characters from a few pictures?

    python -m benchmarks.new_characters                       all runs, then the table
    python -m benchmarks.new_characters --only "5 pictures"   runs whose name holds this
    python -m benchmarks.new_characters --table               the table of the runs that are there

Three characters that neither base nor demo has ever seen (`datasets.cartoon.world.NEWCOMERS`) are
learnt together, by the command of the README, from pictures with captions that name cast, place and
action. Then test stories are drawn in which one of them takes somebody's place, and
others of the old cast alone; a judge trained on renders of all nine reads both. A run's result is
one JSON file in the folder --out; a run that is there is not done again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from benchmarks.runs import Runs, mean_spread, print_table
from common.files import file_hash
from common.terminal import as_quoted_word, error_in_one_line, script_parser
from configuration import load_config
from datasets.cartoon.build import WORLD_SEED, tell_stories
from datasets.cartoon.grammar import Story, cast_of, recast, recast_scene
from datasets.cartoon.renderer import render
from datasets.cartoon.world import (
    ACTIONS,
    HES,
    LABEL_VOCABULARY,
    NEWCOMERS,
    PLACES,
    PRONOUNS,
    SHES,
    SHIRTS,
    Scene,
    all_scenes,
)  # fmt: skip
from datasets.new_characters import AUTO
from datasets.story_writer import StoryWriter
from evaluation.metrics.cartoon import frame_verdicts
from evaluation.networks.judge import Judge
from evaluation.samples import read_picture, read_samples, remove_stories
from sample import draw_stories
from train import train

CLASS_WORDS = {"milo": "bear", "gus": "chick", "olga": "cat"}  # where not looked for
VOCABULARY = {**LABEL_VOCABULARY, "characters": [*LABEL_VOCABULARY["characters"], *NEWCOMERS]}
SAID = {  # by one, by two
    "stand": ("stands still", "stand still"), "wave": ("waves", "wave"),
    "jump": ("jumps high", "jump high"), "sleep": ("falls asleep", "fall asleep"),
}  # fmt: skip
BEFORE = "before"
RUNS: dict[str, tuple[int, list[str]]] = {  # name -> pictures of each, what main.py is told more
    "5 pictures": (5, []),
    **{f"{count} pictures": (count, []) for count in (1, 3, 10)},
    **{f"5 pictures, max_steps={steps}": (5, [f"max_steps={steps}"]) for steps in (75, 150, 800)},
    "5 pictures, tune=attention": (5, ["tune=attention", "init_lr=8e-4"]),
    "5 pictures, tune=lora of attention": (5, ["lora_layers=attention"]),
    "5 pictures, tune=words": (5, ["tune=words"]),
    "5 pictures, tune=all": (5, ["tune=all", "init_lr=8e-4"]),
    "5 pictures, decoder_steps=0": (5, ["decoder_steps=0"]),
    "5 pictures, prior_stories=drawn": (5, ["prior_stories=drawn"]),
    "5 pictures, prior_stories=none": (5, ["prior_stories=none"]),
    "5 pictures without captions": (5, []),
    "5 pictures, class words": (5, []),
    "5 pictures, all alone": (5, []),
    "5 pictures, all alone, tune=all": (5, ["tune=all", "init_lr=8e-4"]),
}
COLUMNS = {
    "named": "recognised where named", "all": "in all its frames", "shirts": "its shirt kept",
    "old_shirts": "old ones' shirts kept", "old_cast": "old stories: exact cast",
}  # fmt: skip


def write_pictures(
    folder: Path,
    seed: int,
    count: int,
    captions: bool = True,
    alone: bool = False,
    class_words: bool = False,
) -> list[dict]:
    """`count` pictures of each newcomer; what new_characters takes.

    alone: on all of them; else two of five show an old character beside it. class_words: name
        them; else they are looked for.
    """
    entries = []
    for name, (_, pronoun) in NEWCOMERS.items():
        random = Random(f"{seed}/{name}")
        left = {name} if pronoun == "he" else HES
        places, shirts, actions = (
            random.sample(list(kind), len(kind)) for kind in (PLACES, SHIRTS, ACTIONS)
        )
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        for n in range(count):
            cast = [(name, shirts[(n + n // 5) % 5])]
            if n % 5 in (2, 4) and not alone:
                cast.append((random.choice(SHES if pronoun == "he" else HES), shirts[n % 5]))
            cast.sort(key=lambda who: who[0] not in left)  # he stands left, she right
            scene = Scene(places[n % 5], tuple(cast), actions[n % 4])
            Image.fromarray(render(scene)).save(place / f"{n}.png")
            if captions:
                names = " and ".join(who.title() for who, _ in cast)
                said = f"{names} {SAID[scene.action][len(cast) - 1]} {PLACES[scene.place]}."
                (place / f"{n}.txt").write_text(said)
        entries.append({"word": name, "class_word": CLASS_WORDS[name] if class_words else AUTO,
                        "pictures": str(place),
                        "pronoun": pronoun})  # fmt: skip
    return entries


def with_newcomer(story: Story, name: str) -> Story | None:
    """The story with a newcomer in place of the first of its he's or she's; None if it has none."""
    old = next((who for who in cast_of(story) if PRONOUNS[who] == NEWCOMERS[name][1]), None)
    return old and recast(story, {old: name})


def write_stories(path: Path, count: int, new: bool) -> Path:
    """Test stories: of the old cast, or each with a newcomer."""
    told = iter(tell_stories({"test": 8 * count}, WORLD_SEED)["test"])
    names = list(NEWCOMERS)
    with StoryWriter(path, attributes={"label_vocabulary": VOCABULARY}) as writer:
        for n in range(count):
            story = next(told)
            while new and (changed := with_newcomer(story, names[n % 3])) is None:
                story = next(told)
            story = changed if new else story
            frames = [render(scene) for scene in story.scenes]
            writer.add("test", frames, {"text": story.captions}, labels=story.labels)
    return path


def scenes() -> Iterator[Scene]:
    """Those of the old cast, and one with a newcomer beside each."""
    random = Random(0)
    for scene in all_scenes():
        yield scene
        old, _ = random.choice(scene.cast)
        names = [name for name, (_, pronoun) in NEWCOMERS.items() if pronoun == PRONOUNS[old]]
        yield recast_scene(scene, {old: random.choice(names)})


class Benchmark:
    """Runs what is missing in `out` and keeps its results there."""

    def __init__(self, out: Path, base: Path, stories: int, overrides: list[str]) -> None:
        settings = {"base": file_hash(base), "stories": stories, "overrides": overrides}
        self.runs = Runs(out, settings)
        self.out, self.base, self.stories, self.overrides = out, base, stories, overrides
        self.files = {
            name: write_stories(out / f"{name}.h5", stories, name == "new")
            for name in ("new", "old")
        }

    def run(self, name: str, seed: int) -> None:
        if self.runs.read(name, seed):
            return
        print(f"{name}, seed {seed}", flush=True)
        checkpoint, seconds = self.base, 0.0
        if name != BEFORE:
            checkpoint, seconds = self._train(name, seed)
        self.runs.write(name, seed, {
            "seconds": round(seconds), "megabytes": checkpoint.stat().st_size / 1e6,
            **self._measure(checkpoint, self.runs.path(name, seed).stem),
        })  # fmt: skip

    def _train(self, name: str, seed: int) -> tuple[Path, float]:
        count, words = RUNS[name]
        run = self.runs.path(name, seed).stem
        pictures = self.out / "pictures" / run
        how = {
            "captions": "without captions" not in name,
            "alone": "all alone" in name,
            "class_words": "class words" in name,
        }
        entries = write_pictures(pictures, seed, count, **how)
        told = ", ".join(map(_as_words, entries))
        begin = time.perf_counter()
        checkpoint = train(load_config([
            as_quoted_word("base_model_file", self.base), f"new_characters=[{told}]",
            f"seed={seed}", f"run_name={run}",
            as_quoted_word("ckpt_dir", self.out / "checkpoints"), "logger=none",
            "save_every_minutes=null", *self.overrides, *words,
        ]))  # fmt: skip
        return checkpoint, time.perf_counter() - begin

    def _measure(self, checkpoint: Path, run: str) -> dict:
        verdicts = {}
        for stories, file in self.files.items():
            folder = self.out / "samples" / f"{run}-{stories}"
            remove_stories(folder)
            draw_stories(load_config([
                *self.overrides, "mode=sample", as_quoted_word("test_model_file", checkpoint),
                as_quoted_word("cartoon.hdf5_file", file),
                as_quoted_word("sample_output_dir", folder),
                f"num_stories={self.stories}", "batch_size=12",
            ]))  # fmt: skip
            verdicts[stories] = list(self._verdicts(folder))
        new, old = verdicts["new"], verdicts["old"]
        there = [(name in v["reading"]["cast"], named) for v, _, name, named in new if name]
        kept = [(right, who in NEWCOMERS) for _, shirts, *_ in new for who, right in shirts]
        kept_before = [right for _, shirts, *_ in old for _, right in shirts]
        return {
            "named": _mean(seen for seen, named in there if named),
            "all": _mean(seen for seen, _ in there),
            "shirts": _mean(right for right, newcomer in kept if newcomer),
            "old_shirts": _mean(kept_before),
            "old_cast": _mean(v["cast"] for v, *_ in old),
            "new_cast": _mean(v["cast"] for v, *_ in new),
            "place": _mean(v["place"] for v, *_ in new),
            "action": _mean(v["action"] for v, *_ in new),
        }

    def _verdicts(self, folder: Path) -> Iterator[tuple]:
        """Of each frame: its verdict, (who, kept) of shirts, its newcomer, whether it is named."""
        how = {"scenes": scenes(), "vocabulary": VOCABULARY, "steps": 400}
        judge = Judge.load(self.runs.judge(**how))
        for story in read_samples(folder).stories:
            readings = judge.read(np.stack([read_picture(path) for path in story.frames]))
            seen: set[str] = set()
            for verdict, caption in zip(
                frame_verdicts(story, readings), story.captions, strict=True
            ):
                cast = verdict["label"]["cast"]
                again = [who for who in cast if who in seen]
                seen |= set(cast)
                name = next((who for who in cast if who in NEWCOMERS), None)
                named = name is not None and name in caption.lower()
                yield verdict, list(zip(again, verdict["shirts"], strict=True)), name, named

    def table(self, seeds: int) -> None:
        """Mean and, after ±, standard deviation over the seeds that are there."""
        rows = []
        for name in (BEFORE, *RUNS):
            if found := self.runs.of(name, seeds):
                values = [mean_spread([one[column] for one in found]) for column in COLUMNS]
                first = found[0]
                cost = [first["seconds"], f"{first['megabytes']:.1f}"]
                rows.append([name, len(found), *cost, *values])
        print_table(["seeds", "s", "MB", *COLUMNS.values()], rows)


def _as_words(entry: dict) -> str:
    """An entry of new_characters as main.py takes it."""
    words = (as_quoted_word(key, text).replace("=", ": ", 1) for key, text in entry.items())
    return f"{{{', '.join(words)}}}"


def _mean(values) -> float:
    return float(np.mean(list(values)))


def main() -> None:
    parser = script_parser(__doc__)
    base = "outputs/demo/checkpoints/demo/last.ckpt"
    parser.add_argument("--base", type=Path, default=Path(base), help=f"a checkpoint ({base})")
    parser.add_argument("--out", type=Path, default=Path("outputs/new_characters"))
    parser.add_argument("--stories", type=int, default=60, help="drawn of each kind by a run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", default="", help="runs whose name holds this")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("overrides", nargs="*", help="config keys for all runs")
    args = parser.parse_args()
    with error_in_one_line():
        benchmark = Benchmark(args.out, args.base, args.stories, args.overrides)
        for seed in [] if args.table else args.seeds:
            for name in (BEFORE, *RUNS):
                if args.only in name:
                    benchmark.run(name, seed)
        benchmark.table(max(args.seeds) + 1)


if __name__ == "__main__":
    main()
