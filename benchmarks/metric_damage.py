"""Do the metrics move the right way? Real cartoon stories, damaged more and more, are scored.

    python -m benchmarks.metric_damage [--stories 8] [--metrics kid,clip_t]

Prints a Markdown table, one line a metric, and writes OUT/damage.json. Nothing is downloaded: small
networks made here stand in for the published ones (`stand_in_networks`), and are named.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
from pathlib import Path

from benchmarks.damaged_stories import STRENGTHS, write_damaged, write_told
from benchmarks.stand_in_networks import BEHIND, prepare_networks
from common.terminal import error_in_one_line, script_parser, tqdm
from datasets.cartoon.grammar import make_story
from evaluation.metrics.table import named_metrics
from evaluation.options import Options
from evaluation.run import evaluate
from evaluation.samples import remove_stories

UNITS = {
    "blur": "sigma {} pixels", "noise": "deviation {} of 255", "frames shuffled": "{} of stories",
}  # fmt: skip
UNDAMAGED = ("", 0)
FRECHET_DRAWS, DRAWS = 1, 10  # intervals are not shown


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/damage"))
    parser.add_argument("--stories", type=int, default=8, help="of five frames each, seed 1")
    parser.add_argument("--metrics", default="all")
    args = parser.parse_args()
    with error_in_one_line():
        damage_and_score(args.out, args.stories, args.metrics)


def damage_and_score(out: Path, count: int, metrics: str) -> None:
    """Score `count` stories as they are and damaged in every way, write and print it."""
    names = named_metrics(metrics)  # a mistyped one is said before minutes of training
    networks = prepare_networks(out)
    rng = random.Random(1)
    stories = [make_story(rng, True) for _ in range(count)]
    found, bench = {}, out / "told"
    steps = [(kind, strength) for kind, many in STRENGTHS.items() for strength in many]
    for kind, strength in tqdm([UNDAMAGED, *steps], "damage"):
        folder = out / "stories"
        remove_stories(folder)
        write_damaged(folder, stories, kind, strength)
        if (kind, strength) == UNDAMAGED:
            write_told(bench, folder)
        how = {"pictures": False, "frechet_draws": FRECHET_DRAWS, "draws": DRAWS, **networks}
        with contextlib.redirect_stdout(io.StringIO()):  # two dozen tables
            result = evaluate(Options(str(folder), names, benchmark=str(bench), **how))
        found[kind, strength] = result["metrics"]
    kept = {f"{kind} {strength}".strip(): one for (kind, strength), one in found.items()}
    (out / "damage.json").write_text(json.dumps(kept, indent=1) + "\n")
    print(markdown(found))
    print(f"\n{count} stories, {5 * count} frames; bold: worse with every step")
    print("".join(f"\n{key}: {text}" for key, text in BEHIND.items()))


def markdown(found: dict[tuple[str, float], dict]) -> str:
    """One line a metric: undamaged, each damage in growing strength, real and shuffled."""
    heads = ["undamaged"]
    for kind, strengths in STRENGTHS.items():
        unit = UNITS.get(kind, "{} of frames")
        heads.append(f"{kind}, {unit.format(' · '.join(map(str, strengths)))}")
    lines = [f"| | {' | '.join(heads)} | real | shuffled |", "|---" * (len(heads) + 3) + "|"]
    for name, entry in found[UNDAMAGED].items():
        cells = [_number(entry["value"])]
        for kind, strengths in STRENGTHS.items():
            values = [found[kind, strength][name]["value"] for strength in strengths]
            text = " · ".join(map(_number, values))
            worse = gets_worse([entry["value"], *values], entry["higher_is_better"])
            cells.append(f"**{text}**" if worse else text)
        cells += [_number(entry.get("real")), _number(entry.get("shuffled"))]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def gets_worse(values: list[float | None], higher_is_better: bool) -> bool:
    """Whether each value is worse than the one before."""
    if None in values:
        return False
    sign = 1 if higher_is_better else -1
    return all(sign * (two - one) < 0 for one, two in zip(values, values[1:], strict=False))


def _number(value: float | None) -> str:
    """Three digits, and no minus before a zero."""
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{round(value, 2) + 0.0:.2f}" if abs(value) < 10 else f"{value:.1f}"


if __name__ == "__main__":
    main()
