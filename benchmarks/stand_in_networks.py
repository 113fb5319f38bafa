"""Small networks that stand in for the published ones, trained here on rendered frames.

Nothing is downloaded. Each goes through the same files, checks and code as the published one, so
what is shown is the metric's code at work, and not the values that the published network gives.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import open_clip
import timm
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter, ImageOps
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models import alexnet
from torchvision.transforms.functional import normalize, to_tensor
from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

from benchmarks.damaged_stories import STRENGTHS, blurred, noisy, pencil
from benchmarks.stand_in_detector import DETECTOR_STEPS, train_detector
from common.files import replacing, writing_folder
from common.terminal import tqdm
from datasets.cartoon.renderer import render
from datasets.cartoon.world import LABEL_VOCABULARY, all_scenes
from demo.judge import make_judge
from evaluation.classifier import Training
from evaluation.networks import csd, dino
from evaluation.networks.aesthetic import Predictor, build_head
from evaluation.networks.classifier import imagenet_network
from evaluation.networks.classifier_training import train
from evaluation.networks.features import Unit
from evaluation.networks.inception import fid_inception
from evaluation.options import Options
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
DINO = "test_vit"  # timm's
CSD = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 128, "patch_size": 32,
                   "head_width": 64},
    "text_cfg": {"layers": 1, "width": 16, "heads": 1},
}  # fmt: skip
SIGLIP = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
          "num_attention_heads": 2, "image_size": 64, "patch_size": 8}  # fmt: skip
STYLES: tuple[Callable[[Image.Image], Image.Image], ...] = (
    lambda picture: picture,
    pencil,
    ImageOps.grayscale,
    ImageOps.invert,
    lambda picture: ImageOps.posterize(picture, 1),
    lambda picture: picture.filter(ImageFilter.EMBOSS),
)
TOWER_STEPS = 150
CLASSIFIER = {"image_size": 96, "batch_size": 16, "epochs": 6}
MEASURED = 64  # scenes
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
    "clip…@l14": "the same CLIP",
    "dino": f"timm's {DINO}, taught for {TOWER_STEPS} steps who is where",
    "csd": f"a ViT of two layers, taught for {TOWER_STEPS} steps to tell {len(STYLES)} styles",
    "inception_score": (
        f"the classifier; each answer brought to mean 0 and deviation 1 over {MEASURED} scenes, as "
        "at 299 pixels it is sure of everything"
    ),
    "aesthetic": (
        f"a SigLIP of two layers, taught for {TOWER_STEPS} steps to give clean renders 10 and "
        "fewer points to blurred and noisy ones: it knows no taste"
    ),
    "cids, onstage_count, copy_paste": (
        f"a GroundingDINO of few layers, taught for {DETECTOR_STEPS} steps where characters are, "
        "and the same CLIP"
    ),
}


def prepare_networks(out: Path) -> dict[str, str | bool]:
    """Make what is not in `out` yet; the options of `evaluate` that name the networks."""
    out.mkdir(parents=True, exist_ok=True)
    labelled, siglip = out / "labelled", out / "siglip"

    def made(name: str, make: Callable[[Path], None], whole=replacing) -> str:
        if not (path := out / name).exists():
            with whole(path) as temporary:
                make(temporary)
        return str(path)

    def train_classifier(path: Path) -> None:
        write_labelled(labelled)
        train(Training(str(labelled), str(path), device="cpu", **CLASSIFIER))

    classifier = made("classifier.safetensors", train_classifier)
    weights = made("clip/open_clip_model.safetensors", train_clip)
    clip = f"local-dir:{Path(weights).parent}"
    return {
        "judge": made("judge.safetensors", make_judge),
        "classifier": classifier,
        "inception_weights": made(
            "inception.safetensors",
            lambda path: save_file(inception_from(load_file(classifier)), path),
        ),
        "imagenet_inception": made(
            "imagenet_inception.safetensors",
            lambda path: save_file(with_calm_answers(Path(classifier), labelled), path),
        ),
        "clip_model": clip,
        "clip_l14_model": clip,
        "dino_model": DINO,
        "dino_weights": made("dino.safetensors", train_dino),
        "csd_weights": made("csd.safetensors", train_csd),
        "aesthetic_head": made("aesthetic.safetensors", lambda path: train_aesthetic(siglip, path)),
        "aesthetic_encoder": str(siglip),
        "detector": made("detector", train_detector, writing_folder),
        "lpips_weights": made(
            "alexnet.safetensors", lambda path: save_file(random_alexnet().state_dict(), path)
        ),
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


def with_calm_answers(classifier: Path, labelled: Path) -> dict[str, torch.Tensor]:
    """The classifier, its answers at 299 pixels scaled: unscaled they are far from 0, and every
    Inception score is 1."""
    options = Options("", imagenet_inception=str(classifier), allow_other_weights=True)
    encoder = imagenet_network(options).encoders["features"]
    frames = sorted(labelled.glob("*/[0-9]*.png"))[:MEASURED]
    logits = torch.from_numpy(np.concatenate([encoder([frame]) for frame in frames]))
    weights = load_file(classifier)
    weights["fc.weight"] /= logits.std(0)[:, None]
    weights["fc.bias"] = (weights["fc.bias"] - logits.mean(0)) / logits.std(0)
    return weights


def random_alexnet() -> nn.Module:
    torch.manual_seed(0)
    network = alexnet()
    for layer in network.features:
        if isinstance(layer, nn.Conv2d):  # PyTorch's own values let the picture fade away
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return network


def train_clip(path: Path) -> None:
    """Contrastive training on scenes and their captions, held-out combinations included."""
    path.with_name("open_clip_config.json").write_text(json.dumps(CLIP))
    torch.manual_seed(0)
    model = open_clip.CLIP(**CLIP["model_cfg"])
    tokenise = open_clip.SimpleTokenizer(context_length=32)
    rng = random.Random(0)
    scenes = rng.sample(list(all_scenes()), 2000)
    frames = [np.asarray(Image.fromarray(render(one)).resize((64, 64))) for one in scenes]
    pictures = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    texts = tokenise([one.explicit_caption() for one in scenes])
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=CLIP_STEPS)
    loss_of = open_clip.ClipLoss()
    for _ in tqdm(range(CLIP_STEPS), "clip"):
        batch = rng.sample(range(len(scenes)), 48)
        image, text, scale = model(pictures[batch] / 127.5 - 1, texts[batch])
        loss = loss_of(image, text, scale)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    save_file(model.state_dict(), path)


def train_dino(path: Path) -> None:
    """Who is there and where, each a yes or no."""
    torch.manual_seed(0)
    network = timm.create_model(DINO, num_classes=0, img_size=dino.SIDE)
    scenes = random.Random(0).sample(list(all_scenes()), 1000)
    names = [*LABEL_VOCABULARY["characters"], *LABEL_VOCABULARY["places"]]
    there = [[name in scene.label()["cast"] or name == scene.place for name in names]
             for scene in scenes]  # fmt: skip
    pictures = _pixels([Image.fromarray(render(one)) for one in scenes], dino)
    head = nn.Linear(network.num_features, len(names))
    _teach(nn.Sequential(network, head), pictures, torch.tensor(there).float(),
           F.binary_cross_entropy_with_logits)  # fmt: skip
    save_file(network.state_dict(), path)


def train_csd(path: Path) -> None:
    """Which of STYLES, whoever is where."""
    torch.manual_seed(0)
    tower = open_clip.CLIP(**CSD, quick_gelu=True).visual
    scenes = random.Random(0).sample(list(all_scenes()), 1000)
    styles = [n % len(STYLES) for n in range(len(scenes))]
    pictures = [STYLES[n](Image.fromarray(render(one))).convert("RGB")
                for n, one in zip(styles, scenes, strict=True)]  # fmt: skip
    heads = nn.Sequential(Unit(tower), nn.Linear(CSD["embed_dim"], len(STYLES)))
    _teach(heads, _pixels(pictures, csd), torch.tensor(styles), F.cross_entropy)
    weights = tower.state_dict()
    style = weights.pop("proj")
    body = {f"backbone.{name}": value for name, value in weights.items()}
    heads = {"last_layer_style": style, "last_layer_content": torch.zeros_like(style)}
    save_file({name: value.contiguous() for name, value in {**body, **heads}.items()}, path)


def train_aesthetic(encoder: Path, head: Path) -> None:
    """From 10 for a clean render to 1 for one blurred or noisy beyond recognition."""
    torch.manual_seed(0)
    scenes, noise = random.Random(0).sample(list(all_scenes()), 1000), np.random.default_rng(0)
    shares, frames = noise.uniform(0, 1, len(scenes)) * (np.arange(len(scenes)) % 3 > 0), []
    for number, (scene, share) in enumerate(zip(scenes, shares.tolist(), strict=True)):
        worst = STRENGTHS["noise" if number % 3 == 1 else "blur"][-1]
        frame = render(scene)
        frames.append(noisy(frame, share * worst, noise) if number % 3 == 1
                      else blurred(frame, share * worst))  # fmt: skip
    processor = SiglipImageProcessor(size={"height": 64, "width": 64})
    pictures = processor(images=list(map(Image.fromarray, frames)), return_tensors="pt")
    siglip = SiglipVisionModel(SiglipVisionConfig(**SIGLIP))
    network = Predictor(siglip, build_head(SIGLIP["hidden_size"]))
    answers = torch.from_numpy(10 - 9 * shares).float()[:, None]
    _teach(network, pictures.pixel_values, answers, F.mse_loss)
    siglip.save_pretrained(encoder)
    processor.save_pretrained(encoder)
    weights = network.head.state_dict()
    save_file({f"scoring_head.{name}": value for name, value in weights.items()}, head)


def _pixels(pictures: Sequence[Image.Image], network) -> Tensor:
    """(N, 3, side, side), normalised as `network`, a module of `evaluation.networks`, does."""
    how = (network.MEAN, network.DEVIATION)
    sized = (picture.resize((network.SIDE,) * 2, Image.Resampling.BICUBIC) for picture in pictures)
    return torch.stack([normalize(to_tensor(picture), *how) for picture in sized])


def _teach(network: nn.Module, pictures: Tensor, answers: Tensor, loss_of) -> None:
    optimiser, rng = torch.optim.AdamW(network.parameters(), 1e-3), random.Random(0)
    for _ in tqdm(range(TOWER_STEPS), "tower"):
        batch = rng.sample(range(len(pictures)), 32)
        loss = loss_of(network(pictures[batch]), answers[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
