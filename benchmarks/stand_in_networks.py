"""Small networks that stand in for the published ones, trained here on rendered frames.

Nothing is downloaded. Each goes through the same files, checks and code as the published one, so
what is shown is the metric's code at work, and not the values that the published network gives.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import alexnet

from common.terminal import tqdm
from datasets.cartoon.renderer import render
from datasets.cartoon.world import LABEL_VOCABULARY, all_scenes
from demo.judge import make_judge
from evaluation.classifier import Training
from evaluation.networks.classifier_training import train
from evaluation.networks.inception import fid_inception
from evaluation.samples import SamplesFolder

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
CLIP_STEPS = 80
CLASSIFIER = {"image_size": 96, "batch_size": 16, "epochs": 6}
LABELLED = 200  # stories of five scenes that the classifier is given; every tenth is held out
BEHIND = {  # for the table
    "fid": "FID's Inception with the body of the classifier below, instead of TensorFlow-2015's",
    "clip": f"a CLIP of two layers, trained for {CLIP_STEPS} steps on scenes and full captions",
    "lpips": "AlexNet with random weights, seed 0",
    "classifier": (
        "Inception v3, trained for {epochs} epochs at {image_size} pixels".format(**CLASSIFIER)
        + f" on {9 * LABELLED // 2} labelled scenes"
    ),
    "judge": "the demo's judge",
}


def prepare_networks(out: Path) -> dict[str, str | bool]:
    """Make what is not in `out` yet; the options of `evaluate` that name the networks."""
    out.mkdir(parents=True, exist_ok=True)
    judge, clip, lpips = out / "judge.safetensors", out / "clip", out / "alexnet.safetensors"
    classifier, inception = out / "classifier.safetensors", out / "inception.safetensors"
    if not judge.is_file():
        make_judge(judge)
    if not (clip / "open_clip_model.safetensors").is_file():
        train_clip(clip)
    if not lpips.is_file():
        save_file(random_alexnet().state_dict(), lpips)
    if not classifier.is_file():
        write_labelled(out / "labelled")
        train(Training(str(out / "labelled"), str(classifier), device="cpu", **CLASSIFIER))
    if not inception.is_file():
        save_file(inception_from(load_file(classifier)), inception)
    return {
        "judge": str(judge),
        "classifier": str(classifier),
        "inception_weights": str(inception),
        "clip_model": f"local-dir:{clip}",
        "lpips_weights": str(lpips),
        "allow_other_weights": True,
        "cache": str(out / "features.sqlite"),
    }


def write_labelled(folder: Path) -> None:
    """Scenes of the whole world, five to a "story", as `evaluation.classifier` reads them."""
    scenes = random.Random(0).sample(list(all_scenes()), 5 * LABELLED)
    settings = {"seed": 0, "given": 0, "checkpoint": "", "sampler": {}}
    samples = SamplesFolder(folder, settings, LABEL_VOCABULARY)
    for number in range(LABELLED):
        part = scenes[5 * number : 5 * number + 5]
        frames = np.stack([render(one) for one in part])
        captions = [one.explicit_caption() for one in part]
        samples.add(f"{number:04d}", captions, frames, [], [one.label() for one in part])


def inception_from(classifier: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """FID's Inception with a classifier's body; the layer of its 1008 answers is never used."""
    weights = fid_inception().state_dict()
    return {name: torch.zeros_like(value) if name.startswith("fc.") else classifier[name]
            for name, value in weights.items()}  # fmt: skip


def random_alexnet() -> nn.Module:
    torch.manual_seed(0)
    network = alexnet()
    for layer in network.features:
        if isinstance(layer, nn.Conv2d):  # PyTorch's own values let the picture fade away
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return network


def train_clip(folder: Path, steps: int = CLIP_STEPS, batch_size: int = 48) -> None:
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
