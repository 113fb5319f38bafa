"""Which of several pictures shows a caption best, by a CLIP in transformers' layout.

PickScore (Kirstain et al., arXiv 2305.01569) has this layout: the folder of
yuvalkirstain/PickScore_v1 with the tokenizer and preprocessor files of
laion/CLIP-ViT-H-14-laion2B-s32B-b79K beside; so does openai/clip-vit-large-patch14.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

from evaluation.networks.weights import in_short

__all__ = ["CaptionScorer"]


class CaptionScorer:
    """A CLIP from a local `folder`.

    Raises:
        ValueError: there is none in it.
    """

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu") -> None:
        local = {"local_files_only": True, "trust_remote_code": False}
        try:
            self.model = CLIPModel.from_pretrained(folder, **local).eval().to(device)
            self.tokenizer = CLIPTokenizer.from_pretrained(folder, **local)
            self.processor = CLIPImageProcessor.from_pretrained(folder, **local)
        except Exception as error:  # transformers raises many kinds
            raise ValueError(
                f"{folder} is no folder of a CLIP in transformers' layout ({in_short(error)}); "
                "give one with its tokenizer and preprocessor, such as PickScore's"
            ) from error

    @torch.inference_mode()
    def __call__(self, caption: str, pictures: Sequence[np.ndarray]) -> list[float]:
        """Scores of pictures (H, W, 3) uint8, their cosines with the caption, scaled; the higher
        the better."""
        shown = self.processor([Image.fromarray(picture) for picture in pictures],
                               return_tensors="pt")  # fmt: skip
        read = self.tokenizer([caption], truncation=True, return_tensors="pt")
        inputs = {**shown, **read}
        inputs = {name: value.to(self.model.device) for name, value in inputs.items()}
        return self.model(**inputs).logits_per_image[:, 0].tolist()
