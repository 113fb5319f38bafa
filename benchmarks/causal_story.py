"""What do Causal-Story's add-ons bring? Asked of the cartoon world.

    python -m benchmarks.causal_story                   all runs, then the tables
    python -m benchmarks.causal_story --tables          the tables of the runs that are there
    python -m benchmarks.causal_story --out outputs/wide cartoon.world=wide tiny.diffusion_model=…
                                                        of the wide world, with its base

AR-LDM and each add-on train alike: same base, stories, steps and seeds. A run's result is one JSON
file in the folder --out; a run that is there is not done again. What tuning a part brings is asked
by `benchmarks.new_characters`.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from benchmarks.history_hits import history_hits
from benchmarks.runs import Runs, mean_spread, print_table
from building import open_stories
from common.terminal import as_quoted_word, error_in_one_line, script_parser
from configuration import load_config
from evaluation.metrics.cartoon import ROWS as METRICS
from evaluation.options import Options
from evaluation.run import evaluate
from evaluation.samples import read_samples, remove_stories
from models.checkpoints.run_folder import LAST, PREVIOUS
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
        self.runs = Runs(out, {"steps": steps, "stories": stories, "overrides": overrides})
        self.steps, self.stories, self.overrides = steps, stories, overrides

    def compare_add_ons(self, seed: int) -> None:
        for name, words in VARIANTS.items():
            if self.runs.read(name, seed) is None:
                checkpoint, seconds = self._train(name, seed, words)
                self.runs.write(name, seed, {
                    "training_seconds": round(seconds, 1),
                    "checkpoint_mb": round(checkpoint.stat().st_size / 1e6, 2),
                    "trained_parameters": _trained(checkpoint),
                    "test": self._test(name, seed, checkpoint, words),
                })  # fmt: skip
                for file in (LAST, PREVIOUS):  # those of many runs would fill the disk
                    (checkpoint.parent / file).unlink(missing_ok=True)

    def _train(self, name: str, seed: int, words: list[str]) -> tuple[Path, float]:
        print(f"{name}, seed {seed}", flush=True)
        common = [
            f"seed={seed}", f"run_name={self.runs.path(name, seed).stem}",
            as_quoted_word("ckpt_dir", self.runs.out / "checkpoints"),
            f"batch_size={BATCH}", f"max_steps={self.steps}", "max_epochs=1000", "logger=none",
            "save_every_minutes=null", *self.overrides, *words,
        ]  # fmt: skip
        stories = len(open_stories(load_config(common), "train"))
        warmup = 0.1 * self.steps * BATCH / stories  # a tenth of the steps
        begin = time.perf_counter()
        checkpoint = train(load_config([f"warmup_epochs={warmup}", *common]))
        return checkpoint, time.perf_counter() - begin

    def _test(self, name: str, seed: int, checkpoint: Path, words: list[str]) -> dict:
        """Draw test stories and judge them."""
        folder = self.runs.out / "samples" / self.runs.path(name, seed).stem
        remove_stories(folder)
        config = load_config([
            *self.overrides, *words, f"seed={seed}", "mode=sample", "batch_size=20",
            f"num_stories={self.stories}", as_quoted_word("test_model_file", checkpoint),
            as_quoted_word("sample_output_dir", folder),
        ])  # fmt: skip
        draw_stories(config)
        judge = self.runs.judge(world=config.cartoon.world)
        options = Options(
            str(folder), judge=str(judge), pictures=False,
            cache=str(self.runs.out / "features.sqlite"),
        )  # fmt: skip
        metrics = evaluate(options)["metrics"]
        found = {metric: metrics.get(f"cartoon/{metric}") for metric in METRICS}
        values = {metric: entry["value"] for metric, entry in found.items() if entry}
        return {**values, "hits": history_hits(read_samples(folder).stories)}

    def print_tables(self, seeds: int) -> None:
        """Mean and, after ±, standard deviation over the seeds that are there."""
        found = {name: results for name in VARIANTS if (results := self.runs.of(name, seeds))}
        measured = {metric for results in found.values() for metric in results[0]["test"]}
        shown = [metric for metric in METRICS if metric in measured]  # the rest: another world's
        print_table(["seeds", "trained", "MB", *shown], (
            [
                name, len(results), f"{results[0]['trained_parameters']:,}",
                f"{results[0]['checkpoint_mb']:.1f}",
                *(mean_spread([r["test"][metric] for r in results]) for metric in shown),
            ]
            for name, results in found.items()
        ))  # fmt: skip
        columns, rows = ("rate", "chance", "latest", "mass"), []
        for name, results in found.items():
            if hits := [result["test"]["hits"] for result in results if result["test"]["hits"]]:
                values = (mean_spread([one[column] for one in hits]) for column in columns)
                rows.append([name, hits[0]["frames"], *values])
        print("\nDoes the largest history weight find the needed frame?\n")
        print_table(["frames", *columns], rows)


def _trained(checkpoint: Path) -> int:
    """How many numbers the optimiser moved."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    moments = content["optimizer_states"][0]["state"].values()
    return sum(moment["exp_avg"].numel() for moment in moments)


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/causal_story"))
    parser.add_argument("--steps", type=int, default=120, help="of every training")
    parser.add_argument("--stories", type=int, default=50, help="test stories drawn by a run")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("overrides", nargs="*", help="config keys for all runs")
    args = parser.parse_args()
    ablation = Ablation(args.out, args.steps, args.stories, args.overrides)
    with error_in_one_line():
        for seed in range(0 if args.tables else args.seeds):
            ablation.compare_add_ons(seed)
        ablation.print_tables(args.seeds)


if __name__ == "__main__":
    main()
