"""A picture world nobody here drew, for `python -m pretraining --stories`: emoji as a story's cast.

    apt-get install fonts-noto-color-emoji
    python -m benchmarks.sticker_world build outputs/stickers.h5
    python -m pretraining --stories outputs/stickers.h5 --out outputs/stickers --image-size 64
    python main.py config=outputs/stickers/train.yaml
    python main.py config=outputs/stickers/train.yaml mode=sample sample_output_dir=outputs/samples
    python -m benchmarks.sticker_world judge outputs/stickers.h5 outputs/samples

The pictures are those of Noto Color Emoji (SIL Open Font License 1.1), which Debian packages.
`judge` trains a small classifier on the real pictures of training stories, and reads drawn ones.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common.terminal import error_in_one_line, script_parser
from datasets.pictures import encode_picture
from datasets.story_hdf5 import StoryFile
from datasets.story_writer import StoryWriter

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
DRAWN_AT = 109  # the only size that this font has, in its own unit
CAST = {  # name -> what it is, "he" or "she", emoji
    "ella": ("elephant", "she", "\N{ELEPHANT}"),
    "otto": ("owl", "he", "\N{OWL}"),
    "fiona": ("flamingo", "she", "\N{FLAMINGO}"),
    "pablo": ("penguin", "he", "\N{PENGUIN}"),
    "rosa": ("robot", "she", "\N{ROBOT FACE}"),
    "dino": ("dinosaur", "he", "\N{SAUROPOD}"),
}
PLACES = {  # place -> in a caption, emoji
    "desert": ("in the desert", "\N{DESERT}"),
    "valley": ("in the valley", "\N{NATIONAL PARK}"),
    "sea": ("by the sea", "\N{SUNRISE}"),
    "city": ("in the city", "\N{NIGHT WITH STARS}"),
}
ACTIONS = {"stand": ("stands", "stand"), "jump": ("jumps", "jump"), "sleep": ("sleeps", "sleep")}
VOCABULARY = {
    "characters": list(CAST), "places": list(PLACES), "clothes": ["none"], "actions": list(ACTIONS),
}  # fmt: skip
FRAMES = 5
SIZES = {"train": 320, "val": 40, "test": 40}  # stories


def main(arguments: list[str] | None = None) -> None:
    parser = script_parser(__doc__, "python -m benchmarks.sticker_world build outputs/stickers.h5")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="write the story file")
    build.add_argument("file", type=Path)
    build.add_argument("--size", type=int, default=64, help="pixels a side (64)")
    build.add_argument("--font", type=Path, default=FONT, help=f"the font's file ({FONT})")
    judge = commands.add_parser("judge", help="read drawn frames, and real ones beside them")
    judge.add_argument("file", type=Path, help="the story file")
    judge.add_argument("samples", type=Path, help="folder that mode=sample wrote")
    args = parser.parse_args(arguments)
    with error_in_one_line():
        run_command(args)


def run_command(args: argparse.Namespace) -> None:
    if args.command == "judge":
        print(json.dumps(judge_samples(args.file, args.samples), indent=1))
        return
    if not args.font.is_file():
        raise FileNotFoundError(f"{args.font} is not there: install fonts-noto-color-emoji")
    build_file(args.file, Stickers(args.font, args.size))
    print(f"{args.file}: {SIZES} stories of {FRAMES} frames")


class Stickers:
    """Draws scenes of `size` pixels with the pictures of a colour font."""

    def __init__(self, font: Path, size: int) -> None:
        self.size = size
        self._font = ImageFont.truetype(str(font), DRAWN_AT)
        self._figures = {name: self._emoji(emoji) for name, (_, _, emoji) in CAST.items()}
        self._places = {name: self._emoji(emoji) for name, (_, emoji) in PLACES.items()}

    def _emoji(self, letter: str) -> Image.Image:
        """One emoji, RGBA, cut to what is drawn."""
        picture = Image.new("RGBA", (160, 160))
        ImageDraw.Draw(picture).text((8, 8), letter, font=self._font, embedded_color=True)
        return picture.crop(picture.getbbox())

    def draw(self, scene: dict) -> np.ndarray:
        """A scene (label of a frame) as (size, size, 3) uint8."""
        place = self._places[scene["place"]]
        edge = place.width // 10  # the emoji's corners are round
        place = place.crop((edge, edge, place.width - edge, place.height - edge))
        board = place.resize((256, 256), Image.Resampling.LANCZOS).convert("RGBA")
        for n, name in enumerate(scene["cast"]):
            figure = self._figures[name]
            scale = 126 / max(figure.size)
            figure = figure.resize(tuple(round(side * scale) for side in figure.size))
            if scene["action"] == "sleep":
                figure = figure.rotate(90, expand=True)
            middle = 256 * (n + 0.5) / len(scene["cast"])
            bottom = {"stand": 248, "jump": 152, "sleep": 248}[scene["action"]]
            at = round(middle - figure.width / 2), round(bottom - figure.height)
            board.alpha_composite(figure, at)
        small = board.convert("RGB").resize((self.size, self.size), Image.Resampling.LANCZOS)
        return np.asarray(small)


def build_file(path: Path, stickers: Stickers) -> None:
    """Write the stories; two to four characters each, and no story twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = "Sticker world: pictures of Noto Color Emoji, SIL Open Font License 1.1"
    attributes = {"description": about, "label_vocabulary": VOCABULARY}
    told: set[str] = set()
    with StoryWriter(path, FRAMES, attributes=attributes) as writer:
        for split, count in SIZES.items():
            number = 0
            while writer.counts[split] < count:
                random = Random(f"{split}/{number}")
                number += 1
                captions, scenes = tell(random)
                if "|".join(captions) in told:
                    continue
                told.add("|".join(captions))
                frames = [encode_picture(stickers.draw(scene)) for scene in scenes]
                writer.add(split, frames, {"text": captions}, labels=scenes)


def tell(random: Random) -> tuple[list[str], list[dict]]:
    """Captions and labels of one story: one or two are there at a time, others come and go."""
    strangers = random.sample(list(CAST), 4)
    place, around = random.choice(list(PLACES)), [strangers.pop()]
    captions, scenes = [], []

    def add(start: str, action: str | None = None) -> None:
        action = action or random.choice(list(ACTIONS))
        who = "they" if len(around) == 2 else CAST[around[0]][1]
        verb = ACTIONS[action][len(around) - 1]
        text = re.sub(r"(^|\. )([a-z])", lambda m: m[0].upper(), start.format(who=who, verb=verb))
        captions.append(text)
        scenes.append({
            "place": place, "cast": list(around), "action": action,
            "clothes": dict.fromkeys(around, "none"),
        })  # fmt: skip

    add(f"{_named(around[0])} {{verb}} {PLACES[place][0]}.")
    while len(captions) < FRAMES:
        if len(around) == 1 and strangers and (len(captions) == 1 or random.random() < 0.5):
            around.append(strangers.pop())
            add(f"{_named(around[1])} comes and they {{verb}}.")
        elif random.random() < 0.25:
            place = random.choice([one for one in PLACES if one != place])
            add(f"later {{who}} {{verb}} {PLACES[place][0]}.")
        elif len(around) == 2 and random.random() < 0.35:
            gone = around.pop(random.randrange(2))
            add(f"{gone} goes home. {around[0]} {{verb}}.")
        else:
            add("{who} {verb}.", random.choice([a for a in ACTIONS if a != scenes[-1]["action"]]))
    return captions, scenes


def _named(name: str) -> str:
    return f"{name.title()} the {CAST[name][0]}"


def judge_samples(file: Path, samples: Path) -> dict:
    """What a judge of training pictures reads in drawn frames, and in the same stories' real ones.

    named: of the characters that a frame's caption names, how many are seen in it; cast, place,
    action: frames with all of it right.
    """
    from evaluation.networks.judge_training import train_judge
    from evaluation.samples import read_picture, read_samples

    frames, labels = _real(StoryFile(file, "train"))
    judge = train_judge(frames, labels, VOCABULARY, seed=0, steps=300)
    stories = read_samples(samples).stories
    captions = [caption for story in stories for caption in story.captions]
    labels = [label for story in stories for label in story.labels]
    result = {"stories": len(stories), "frames": len(labels)}
    for kind in ("frames", "reference_frames"):
        paths = [path for story in stories for path in getattr(story, kind)]
        pictures = np.stack([read_picture(path) for path in paths])
        readings = judge.read(pictures)
        result["drawn" if kind == "frames" else "real"] = _scores(readings, labels, captions)
    return result


def _real(stories: StoryFile) -> tuple[np.ndarray, list[dict]]:
    """Every picture of a split and its label."""
    places = [(i, k) for i in range(len(stories)) for k in range(stories.pictures_per_story)]
    pictures = np.stack([stories.picture(i, k) for i, k in places])
    return pictures, [label for i in range(len(stories)) for label in stories.labels(i)]


def _scores(
    readings: Sequence[dict], labels: Sequence[dict], captions: Sequence[str]
) -> dict[str, float]:
    both = list(zip(readings, labels, captions, strict=True))
    named = [
        name in read["cast"]
        for read, label, caption in both
        for name in label["cast"]
        if name in re.findall(r"\w+", caption.lower())
    ]
    shares = {
        "named": named,
        "cast": [set(read["cast"]) == set(label["cast"]) for read, label, _ in both],
        "place": [read["place"] == label["place"] for read, label, _ in both],
        "action": [read["action"] == label["action"] for read, label, _ in both],
    }
    return {key: round(float(np.mean(values)), 3) for key, values in shares.items()}


if __name__ == "__main__":
    main()
