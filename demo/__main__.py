"""The whole loop on the embedded world: train on stories, draw held-out ones, measure, show.

    python -m demo [key=value …]

Writes OUT/storyboard.png, storyboard.html and metrics.json, what `evaluate` found in each of three
ways to draw test stories: with history, as continuation of a given frame, and with history hidden.
"""

from __future__ import annotations

from pathlib import Path

from common.imports import heavy_imports
from common.terminal import as_quoted_word, error_in_one_line, script_parser
from configuration import load_config

STEPS = 440  # of five stories each


def main(arguments: list[str] | None = None) -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/demo"))
    parser.add_argument(
        "--stories",
        type=int,
        default=100,
        help="test stories drawn with history; half of them in each other way",
    )
    parser.add_argument("overrides", nargs="*", help="config keys, such as seed=1")
    args = parser.parse_args(arguments)
    words = ["run_name=demo", as_quoted_word("ckpt_dir", args.out / "checkpoints")]
    words += [f"max_steps={STEPS}", *args.overrides]
    with error_in_one_line():
        config = load_config([*words, "resume=never"])  # before seconds of imports
        with heavy_imports():
            from demo.loop import train_draw_and_judge
        train_draw_and_judge(args.out, args.stories, config, words)


if __name__ == "__main__":
    main()
