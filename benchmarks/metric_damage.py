"""Do the metrics move the right way? Real cartoon stories, damaged more and more, are scored.

    python -m benchmarks.metric_damage [--stories 30]

Prints a Markdown table and writes OUT/damage.json. Nothing is downloaded, so these networks stand
in for the published ones: the cartoon judge (its readings, and its last features for the Fréchet
and kernel distances), a small CLIP trained here on rendered scenes and their full captions, and
LPIPS over an untrained AlexNet. The classifier's metrics are left out: the judge reads the same.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from torchvision.models import alexnet
from tqdm import tqdm

from benchmarks.cartoon_demo import make_judge
from datasets.cartoon.grammar import Story, make_story
from datasets.cartoon.renderer import render
from datasets.cartoon.world import HES, LABEL_VOCABULARY, PLACES, SHES, Scene, all_scenes
from evaluation.options import Options
from evaluation.run import evaluate
from models.samples_folder import SamplesFolder

METRICS = ["judge_frechet", "judge_kernel", "clip", "lpips_adjacent", "cartoon"]
CLIP = {
    "model_cfg": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 128, "patch_size": 8,
                       "head_width": 32},
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 128, "heads": 4,
                     "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "size": 64},
}  # fmt: skip
STRENGTHS = {
    "blur (sigma, pixels)": (1, 3, 9),
    "noise (deviation of 255)": (20, 60, 180),
    "characters swapped (share of frames)": (0.25, 0.5, 1.0),
    "wrong place (share of frames)": (0.25, 0.5, 1.0),
    "frames shuffled (share of stories)": (0.25, 0.5, 1.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("outputs/damage"))
    parser.add_argument("--stories", type=int, default=30)
    parser.add_argument("--clip-steps", type=int, default=80)
    args = parser.parse_args()
    networks = prepare_networks(args)
    rng = random.Random(1)
    stories = [make_story(rng, True) for _ in range(args.stories)]
    rows = {}
    settings = [("none", 0), *((kind, one) for kind, many in STRENGTHS.items() for one in many)]
    for kind, strength in tqdm(settings, "damage"):
        folder = args.out / "stories"
        shutil.rmtree(folder, ignore_errors=True)
        write_damaged(folder, stories, kind, strength)
        found = evaluate(
            Options(str(folder), METRICS, pictures=False, frechet_draws=2, draws=100, **networks)
        )
        rows[f"{kind.partition(' (')[0]} {strength or ''}".strip()] = found["metrics"]
    (args.out / "damage.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(markdown(rows))


def markdown(rows: dict[str, dict]) -> str:
    """One line a damage and strength, one column a metric."""
    names = list(rows["none"])
    lines = ["| | " + " | ".join(name.removeprefix("cartoon/") for name in names) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for title, metrics in rows.items():
        values = [metrics[name]["value"] for name in names]
        cells = ("–" if v is None else f"{v:.0f}" if abs(v) > 10 else _two(v) for v in values)
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _two(value: float) -> str:
    """Two digits, and no minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def write_damaged(folder: Path, stories: list[Story], kind: str, strength: float) -> None:
    """A samples folder whose references are the stories' own pictures; captions say all."""
    rng, noise = random.Random(2), np.random.default_rng(2)
    damage: dict[str, Callable[[list[Scene]], list[np.ndarray]]] = {
        "none": lambda scenes: [render(one) for one in scenes],
        "blur": lambda scenes: [_blurred(render(one), strength) for one in scenes],
        "noise": lambda scenes: [_noisy(render(one), strength, noise) for one in scenes],
        "characters": lambda scenes: [
            render(_recast(one) if rng.random() < strength else one) for one in scenes
        ],
        "wrong": lambda scenes: [
            render(_elsewhere(one) if rng.random() < strength else one) for one in scenes
        ],
        "frames": lambda scenes: [
            render(one) for one in (_turned(scenes) if rng.random() < strength else scenes)
        ],
    }
    settings = {"seed": 0, "given": 0, "checkpoint": "", "sampler": {"damage": kind}}
    samples = SamplesFolder(folder, settings, LABEL_VOCABULARY)
    for number, story in enumerate(stories):
        frames = np.stack(damage[kind.split(" ")[0]](list(story.scenes)))
        captions = [scene.explicit_caption() for scene in story.scenes]
        real = [render(scene) for scene in story.scenes]
        samples.add(f"{number:04d}", captions, frames, real, list(story.labels))


def prepare_networks(args: argparse.Namespace) -> dict[str, str | bool]:
    """Train what is not in `args.out` yet; the options of `evaluate` that name the networks."""
    out = args.out
    judge, clip, lpips = out / "judge.safetensors", out / "clip", out / "alexnet.safetensors"
    out.mkdir(parents=True, exist_ok=True)
    if not judge.is_file():
        make_judge().save(judge)
    if not (clip / "open_clip_model.safetensors").is_file():
        train_clip(clip, args.clip_steps)
    if not lpips.is_file():
        torch.manual_seed(0)
        save_file(alexnet().state_dict(), lpips)
    return {
        "judge": str(judge),
        "clip_model": f"local-dir:{clip}",
        "lpips_weights": str(lpips),
        "allow_other_weights": True,
        "cache": str(out / "features.sqlite"),
    }


def train_clip(folder: Path, steps: int, batch_size: int = 48) -> None:
    """Contrastive training on scenes and their captions, held-out combinations included."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(CLIP))
    torch.manual_seed(0)
    model = open_clip.CLIP(**CLIP["model_cfg"])
    tokenise = open_clip.SimpleTokenizer(context_length=32)
    rng = random.Random(0)
    scenes = rng.sample(list(all_scenes()), 2000)
    frames = [np.asarray(Image.fromarray(render(one)).resize((64, 64))) for one in scenes]
    pictures = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    texts = tokenise([one.explicit_caption() for one in scenes])
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=steps)
    loss_of = open_clip.ClipLoss()
    bar = tqdm(range(steps), "clip")
    for step in bar:
        batch = rng.sample(range(len(scenes)), batch_size)
        image, text, scale = model(pictures[batch] / 127.5 - 1, texts[batch])
        loss = loss_of(image, text, scale)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")


def _blurred(frame: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(sigma)))


def _noisy(frame: np.ndarray, deviation: float, noise: np.random.Generator) -> np.ndarray:
    speckled = frame + deviation * noise.standard_normal(frame.shape)
    return speckled.round().clip(0, 255).astype(np.uint8)


def _recast(scene: Scene) -> Scene:
    """Everybody replaced by the next of the same pronoun."""
    after = {name: names[n - 2] for names in (HES, SHES) for n, name in enumerate(names)}
    return replace(scene, cast=tuple((after[name], shirt) for name, shirt in scene.cast))


def _elsewhere(scene: Scene) -> Scene:
    places = list(PLACES)
    return replace(scene, place=places[(places.index(scene.place) + 1) % len(places)])


def _turned(scenes: list[Scene]) -> list[Scene]:
    """No frame in its own slot."""
    return scenes[2:] + scenes[:2]


if __name__ == "__main__":
    main()
