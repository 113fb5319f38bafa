"""A small GroundingDINO that finds the cartoon's characters, in the published one's files.

transformers' network and loss, taught on rendered frames; boxes are what the renderer pastes. Its
nine places are a grid of three by three, so that a character lies in one of them.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    BertConfig,
    BertTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    SwinConfig,
)

from common.terminal import tqdm
from datasets.cartoon.canvas import SIZE
from datasets.cartoon.characters import draw_character
from datasets.cartoon.renderer import SLOTS, render
from datasets.cartoon.world import Scene, all_scenes
from evaluation.networks.detector import PROMPT

__all__ = ["DETECTOR_STEPS", "train_detector"]

DETECTOR_STEPS, SCENES, BATCH = 120, 600, 32
SIDE = 96  # pixels
SIZES = (2.7, 4.3)  # what turns the width and height that boxes begin with into a character's
# transformers knows these by BERT's numbers, not by their names
SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: "."}
WORDS = [SPECIAL.get(n, "character" if n == 1 else f"[unused{n}]") for n in range(1013)]


def train_detector(folder: Path) -> None:
    """Write a folder like that of IDEA-Research/grounding-dino-tiny."""
    torch.manual_seed(0)
    detector = GroundingDinoForObjectDetection(GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=SIDE, embed_dim=16, depths=[1] * 4, num_heads=[1, 2, 4, 4], window_size=4,
            out_features=["stage4"], drop_path_rate=0.0,
        ),
        text_config=BertConfig(vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1,
                               num_attention_heads=2, intermediate_size=32),
        d_model=64, encoder_layers=1, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, num_queries=9,
        max_text_len=16, num_feature_levels=1, encoder_n_points=2, decoder_n_points=2,
        dropout=0.0, focal_alpha=0.5,
    ))  # fmt: skip
    with torch.no_grad():
        detector.model.encoder_output_bbox_embed.layers[-1].bias[2:] = torch.tensor(SIZES)
    folder.mkdir(parents=True, exist_ok=True)
    (vocabulary := folder / "vocab.txt").write_text("\n".join(WORDS))
    processor = GroundingDinoProcessor(
        GroundingDinoImageProcessor(size={"shortest_edge": SIDE, "longest_edge": SIDE}),
        BertTokenizer(vocab=str(vocabulary)),
    )
    scenes = random.Random(0).sample(list(all_scenes()), SCENES)
    shown = [Image.fromarray(render(one)) for one in scenes]
    pictures = processor.image_processor(images=shown, return_tensors="pt").pixel_values
    ids = processor.tokenizer([PROMPT], return_tensors="pt").input_ids.expand(BATCH, -1)
    answers = [{"boxes": boxes(one), "class_labels": torch.zeros(len(one.cast)).long()}
               for one in scenes]  # fmt: skip
    optimiser, rng = torch.optim.AdamW(detector.parameters()), random.Random(0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 1.5e-3, total_steps=DETECTOR_STEPS, pct_start=0.1
    )
    for _ in tqdm(range(DETECTOR_STEPS), "detector"):
        batch = rng.sample(range(SCENES), BATCH)
        labels = [answers[n] for n in batch]
        loss = detector(pixel_values=pictures[batch], input_ids=ids, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    detector.save_pretrained(folder)
    processor.save_pretrained(folder)


def boxes(scene: Scene) -> Tensor:
    """(characters, 4) of a scene: centre, width and height as shares of its sides."""
    rows = []
    for (name, shirt), slot in zip(scene.cast, SLOTS[len(scene.cast)], strict=True):
        left, top, right, bottom = draw_character(name, shirt, scene.action).reduced().getbbox()
        left, right = (min(max(x + slot - SIZE // 2, 0), SIZE) for x in (left, right))
        rows.append([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])
    return torch.tensor(rows) / SIZE
