"""GroundingDINO's boxes for the word "character", and CLIP ViT-L/14 for what is in them.

The detector is transformers' GroundingDinoForObjectDetection from a folder with
IDEA-Research/grounding-dino-tiny (config.json, model.safetensors, tokenizer and preprocessor
files): the same network as groundingdino_swint_ogc.pth, which ViStoryBench loads.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoProcessor, GroundingDinoForObjectDetection

from common.files import file_hash
from common.key_value_arguments import spelled
from evaluation.networks.clip import clip_l14_network
from evaluation.networks.features import Encoder, Network, device_of
from evaluation.networks.weights import in_short, require, settings_hash
from evaluation.options import Options
from evaluation.samples import Samples, read_picture

__all__ = ["BOXES", "detector_network"]

PROMPT = "character."
BOXES = 20  # the surest of a picture that are kept


class _Boxes(nn.Module):
    """(1, 3, H, W) -> (1, BOXES * 5): sureness, then left, top, right, bottom as shares of the
    sides, the surest first; zeros where there are fewer."""

    def __init__(self, detector: GroundingDinoForObjectDetection, ids: Tensor) -> None:
        super().__init__()
        self.detector = detector
        self.register_buffer("ids", ids)

    def forward(self, pixels: Tensor) -> Tensor:
        found = self.detector(pixel_values=pixels, input_ids=self.ids.expand(len(pixels), -1))
        sure, order = found.logits.sigmoid().amax(-1).sort(descending=True)  # (N, queries)
        x, y, w, h = found.pred_boxes.unbind(-1)
        corners = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1).clamp(0, 1)
        corners = corners.gather(1, order[..., None].expand_as(corners))
        rows = torch.cat([sure[..., None], corners], -1)[:, :BOXES]  # (N, boxes, 5)
        return nn.functional.pad(rows, (0, 0, 0, BOXES - rows.shape[1])).flatten(1)


def detector_network(options: Options, samples: Samples | None = None) -> Network:
    """Encoders "boxes" of pictures, one at a time, and "picture" of (path, crop_name(…))."""
    key = spelled("detector")
    hint = "give a folder with IDEA-Research/grounding-dino-tiny"
    path = require(options.detector, key, hint, folder=True)
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        detector = GroundingDinoForObjectDetection.from_pretrained(path, **local)
        processor = AutoProcessor.from_pretrained(path, **local)
        sha256 = file_hash(path / "model.safetensors")
        made = settings_hash(detector.config.to_json_string(), processor.to_json_string())
        ids = processor.tokenizer([PROMPT], return_tensors="pt").input_ids
    except Exception as error:  # transformers raises many kinds
        said = in_short(error)
        raise ValueError(f"{key}={path} is no folder of a GroundingDINO ({said})") from error
    clip = clip_l14_network(options)
    network = _Boxes(detector, ids).eval().to(device_of(options.device))
    boxes = Encoder(
        f"boxes {PROMPT} {made} {sha256}", BOXES * 5, network, partial(_prepare, processor)
    )
    encoders = {"boxes": boxes, "picture": clip.encoders["picture"]}
    title = f"GroundingDINO {sha256[:8]} and {clip.title}"
    return Network(title, clip.file, clip.sha256, encoders)


def _prepare(processor, path: Path) -> Tensor:
    picture = Image.fromarray(read_picture(path))
    return processor.image_processor(images=picture, return_tensors="pt").pixel_values[0]
