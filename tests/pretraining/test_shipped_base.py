"""What the base in assets/ has to be able to do beside drawing its cast."""

from pathlib import Path

import torch
from transformers import BertTokenizer, BlipForImageTextRetrieval

from datasets.cartoon.world import ACTIONS, NEWCOMERS, PLACES, SHIRTS, Scene
from pretraining.align import read_pictures
from pretraining.cartoon_source import draw

BLIP = Path("assets/cartoon-base/blip")


def test_blip_tells_characters_apart_that_it_has_never_seen():
    blip = BlipForImageTextRetrieval.from_pretrained(BLIP).float().eval()
    tokenizer = BertTokenizer.from_pretrained(BLIP)
    looks = list(zip(PLACES, SHIRTS, [*ACTIONS, *ACTIONS], strict=False))  # five scenes
    read = {}
    for name in NEWCOMERS:
        pictures = draw([Scene(place, ((name, shirt),), act) for place, shirt, act in looks])
        with torch.no_grad():
            states = read_pictures(blip, tokenizer, pictures, ["He."] * len(pictures)).states
        read[name] = states.flatten(1)  # (scenes, tokens * channels)
    means = torch.stack([states.mean(0) for states in read.values()])
    scatter = torch.stack([states.var(0).sum() for states in read.values()])
    apart = torch.cdist(means, means).square()[~torch.eye(len(means), dtype=torch.bool)]
    assert apart.min() > scatter.max()
