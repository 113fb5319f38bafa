"""The options of `python -m evaluation` and `mode=sample`."""

from __future__ import annotations

from dataclasses import dataclass

from common.key_value_arguments import option
from evaluation.published import PUBLISHED

__all__ = ["Options"]


@dataclass
class Options:
    """What to judge, by which metrics, with which networks; see `python -m evaluation --help`."""

    samples: str = option(
        "folder that mode=sample wrote, any folder of pictures, or a folder of several samples "
        "folders of the same stories: seeds of one system"
    )
    metrics: list[str] | str | None = option(
        "names and groups with commas between them, or all: whatever can be measured; null: "
        "cartoon if there is a judge",
        None,
    )
    compare: list[str] | str | None = option(
        "other systems' folders of the same stories, with commas between them", None
    )
    out: str | None = option("folder for the results; null: the samples folder", None)
    format: str | None = option(
        "a table for a paper too, a column a folder", None, choices=("latex", "markdown", "csv")
    )
    reference: str | None = option("folder of real pictures, where samples has no manifest", None)
    captions: str | None = option("file with one caption a line, likewise", None)
    labels: str | None = option("file of labels by picture, JSON lines or CSV, likewise", None)
    story_length: int = option("pictures a story in a folder without sub-folders, likewise", 1)
    benchmark: str | None = option("folder of ViStoryBench's stories, which samples shows", None)
    pictures: bool = option("draw storyboards and charts, too", True)
    stories: int = option("stories on storyboard.png, half of them worst, half best", 8)
    judge: str | None = option("file of the cartoon judge", None)
    classifier: str | None = option("file of the classifier of characters and backgrounds", None)
    background_classifier: str | None = option("file of one of backgrounds alone", None)
    classifier_crop: str | None = option(
        "how both see a frame; null: squash if trained here, else Resize + CenterCrop",
        None,
        choices=("squash", "centre"),
    )
    inception_weights: str | None = option("file of FID's Inception; null: PyTorch's folder", None)
    imagenet_inception: str | None = option("file of the Inception score's network; likewise", None)
    clip_model: str = option(
        "open_clip's name, or local-dir:FOLDER with a model in it", "ViT-B-32-quickgelu"
    )
    clip_weights: str = option("open_clip's tag, or a file", "openai")
    clip_l14_model: str = option("the same for the benchmarks' metrics", "ViT-L-14-quickgelu")
    clip_l14_weights: str = option("open_clip's tag, or a file, for them", "openai")
    dino_model: str = option("timm's name", "vit_base_patch14_dinov2.lvd142m")
    dino_weights: str | None = option("file of that network; null: the hub's", None)
    lpips_net: str = option("network of LPIPS", "alex", choices=("alex", "vgg", "squeeze"))
    lpips_weights: str | None = option("file of that network; null: PyTorch's folder", None)
    csd_weights: str | None = option("file of CSD's ViT-L, for style", None)
    aesthetic_head: str | None = option("file of Aesthetic Predictor 2.5's layers", None)
    aesthetic_encoder: str = option(
        "folder or hub name of the SigLIP beneath", "google/siglip-so400m-patch14-384"
    )
    detector: str | None = option("folder of a GroundingDINO", None)
    allow_other_weights: bool = option("take files whose hash is not the published one", False)
    papers: str | None = option("column of published FIDs to stand beside", None, PUBLISHED)
    cache: str = option("file that keeps the networks' features", "outputs/features.sqlite")
    draws: int = option("bootstrap draws of whole stories for the 95 % intervals", 1000)
    frechet_draws: int = option("the same for Fréchet distances, where each takes seconds", 100)
    batch_size: int = option("pictures or captions that a network gets at once", 32)
    processes: int = option("processes that read and prepare pictures; 1: this one", 1)
    device: str = option("cpu, cuda, cuda:1, …; auto: the first GPU if there is one", "auto")
