"""What do Causal-Story's add-ons bring? Asked of the cartoon world.

    python -m benchmarks.causal_story                   all runs, then the tables
    python -m benchmarks.causal_story --tables          the tables of the runs that are there

AR-LDM and each add-on train alike: same base, stories, steps and seeds. A run's result is one JSON
file in the folder --out; a run that is there is not done again. What tuning a part brings is asked
by `benchmarks.new_characters`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import torch

from benchmarks.history_hits import history_hits
from benchmarks.spread import mean_spread
from building import open_stories
from common.files import replacing
from configuration import load_config
from demo.judge import make_judge
from evaluation.metrics.cartoon import ROWS as METRICS
from evaluation.options import Options
from evaluation.run import evaluate
from evaluation.samples import read_samples
from sample import draw_stories
from train import train

# The tiny U-Net's mid block has 4x4 positions, on which a window of 32 is plain causal attention;
# down.0 and up.1 have 8x8, where it bites.
BLOCKS = "causal_story.blocks=[mid,down.0,up.1]"
SPATIAL = ["causal_story.spatial_window=32", BLOCKS]
WEIGHTS = ["causal_story.history_weights=true"]
ADAPTER = ["causal_story.adapter_width=32", BLOCKS]
VARIANTS = {
    "AR-LDM": [],
    "+ spatial": SPATIAL,
    "+ history weights": WEIGHTS,
    "+ history window": ["causal_story.history_window=2"],
    "+ adapter": ADAPTER,
    "+ spatial + history weights": [*SPATIAL, *WEIGHTS],
}
BATCH = 5  # stories a step


class Ablation:
    """Runs what is missing in `out` and keeps its results there."""

    def __init__(self, out: Path, steps: int, stories: int, overrides: list[str]) -> None:
        self.out = out
        self.settings = {"steps": steps, "stories": stories, "overrides": overrides}
        self.overrides = overrides
        self.steps, self.stories = steps, stories

    def read(self, name: str, seed: int) -> dict | None:
        """A run's result, if it is there."""
        path = self._path(name, seed)
        if not path.is_file():
            return None
        result = json.loads(path.read_text())
        if result["settings"] != self.settings:
            raise ValueError(
                f"{path} was made with {result['settings']}; give the same, or another --out"
            )
        return result

    def compare_add_ons(self, seed: int) -> None:
        for name, words in VARIANTS.items():
            if self.read(name, seed) is None:
                checkpoint, seconds = self._train(name, seed, words)
                self._save(name, seed, checkpoint, seconds, words)
                shutil.rmtree(checkpoint.parent)

    def _path(self, name: str, seed: int) -> Path:
        words = "".join(c if c.isalnum() else " " for c in name.lower()).split()
        return self.out / f"{'-'.join(words)}-seed{seed}.json"

    def _folder(self, name: str, seed: int) -> Path:
        return self.out / "checkpoints" / self._path(name, seed).stem

    def _train(self, name: str, seed: int, words: list[str]) -> tuple[Path, float]:
        print(f"{name}, seed {seed}", flush=True)
        folder = self._folder(name, seed)
        common = [
            f"seed={seed}", f"run_name={folder.name}", f"ckpt_dir={folder.parent}",
            f"batch_size={BATCH}", f"max_steps={self.steps}", "max_epochs=1000", "logger=none",
            "save_every_minutes=null", *self.overrides, *words,
        ]  # fmt: skip
        stories = len(open_stories(load_config(common), "train"))
        warmup = 0.1 * self.steps * BATCH / stories  # a tenth of the steps
        begin = time.perf_counter()
        checkpoint = train(load_config([f"warmup_epochs={warmup}", *common]))
        return checkpoint, time.perf_counter() - begin

    def _save(
        self, name: str, seed: int, checkpoint: Path, seconds: float, words: list[str]
    ) -> None:
        """Draw test stories, judge them, write the result."""
        folder = self.out / "samples" / self._path(name, seed).stem
        shutil.rmtree(folder, ignore_errors=True)
        config = load_config([
            *self.overrides, *words, f"seed={seed}", "mode=sample", "batch_size=20",
            f"num_stories={self.stories}", f"test_model_file={checkpoint}",
            f"sample_output_dir={folder}",
        ])  # fmt: skip
        draw_stories(config)
        options = Options(
            str(folder), judge=str(self._judge()), pictures=False,
            cache=str(self.out / "features.sqlite"),
        )  # fmt: skip
        metrics = evaluate(options)["metrics"]
        values = {metric: metrics[f"cartoon/{metric}"]["value"] for metric in METRICS}
        result = {
            "name": name, "seed": seed, "settings": self.settings,
            "training_seconds": round(seconds, 1),
            "checkpoint_mb": round(checkpoint.stat().st_size / 1e6, 2),
            "trained_parameters": _trained(checkpoint),
            "test": {**values, "hits": history_hits(read_samples(folder).stories)},
        }  # fmt: skip
        with replacing(self._path(name, seed)) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n")

    def _judge(self) -> Path:
        path = self.out / "judge.safetensors"
        if not path.is_file():
            make_judge(path)
        return path

    def print_tables(self, seeds: int) -> None:
        """Mean and, after ±, standard deviation over the seeds that are there."""
        print(f"| | seeds | trained | MB | {' | '.join(METRICS)} |")
        print("|" + "---|" * (len(METRICS) + 4))
        for name in VARIANTS:
            if not (results := self._results(name, seeds)):
                continue
            first = results[0]
            values = (mean_spread([r["test"][metric] for r in results]) for metric in METRICS)
            trained = f"{first['trained_parameters']:,} | {first['checkpoint_mb']:.1f}"
            print(f"| {name} | {len(results)} | {trained} | {' | '.join(values)} |")
        columns = ("rate", "chance", "latest", "mass")
        print("\nDoes the largest history weight find the needed frame?\n")
        print(f"| | frames | {' | '.join(columns)} |\n|" + "---|" * (len(columns) + 2))
        for name in VARIANTS:
            hits = [result["test"]["hits"] for result in self._results(name, seeds)]
            if hits := [found for found in hits if found]:
                values = (mean_spread([found[column] for found in hits]) for column in columns)
                print(f"| {name} | {hits[0]['frames']} | {' | '.join(values)} |")

    def _results(self, name: str, seeds: int) -> list[dict]:
        return [result for seed in range(seeds) if (result := self.read(name, seed))]


def _trained(checkpoint: Path) -> int:
    """How many numbers the optimiser moved."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    moments = content["optimizer_states"][0]["state"].values()
    return sum(moment["exp_avg"].numel() for moment in moments)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/causal_story"))
    parser.add_argument("--steps", type=int, default=120, help="of every training")
    parser.add_argument("--stories", type=int, default=50, help="test stories drawn by a run")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("overrides", nargs="*", help="config keys for all runs")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    ablation = Ablation(args.out, args.steps, args.stories, args.overrides)
    try:
        for seed in range(0 if args.tables else args.seeds):
            ablation.compare_add_ons(seed)
        ablation.print_tables(args.seeds)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
