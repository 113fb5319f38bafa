"""The classifier of character_f1 and its training; a small network learns in Inception's place."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from sample_folders import VOCABULARY, toy_frames, write_manifest, write_samples
from torch import nn
from torchvision.models.inception import Inception3, InceptionOutputs

from common.key_value_arguments import parse
from evaluation.classifier import Training
from evaluation.metrics.classified import (
    background_accuracy,
    character_f1,
    check_backgrounds,
    check_labels,
    frame_accuracy,
)
from evaluation.metrics.material import Material
from evaluation.networks import classifier_training
from evaluation.networks.classifier import build_inception, character_network, prepare
from evaluation.networks.classifier_training import train
from evaluation.networks.features import Network
from evaluation.options import Options
from evaluation.run import evaluate
from evaluation.samples import Samples, read_samples


class Small(nn.Module):
    """(N, 3, H, W) -> logits (N, rows), twice while training with an auxiliary head."""

    def __init__(self, rows, auxiliary):
        super().__init__()
        layers = [nn.AdaptiveAvgPool2d(16), nn.Flatten(), nn.Linear(768, 32), nn.ReLU()]
        self.body, self.fc = nn.Sequential(*layers), nn.Linear(32, rows)
        self.AuxLogits = nn.Linear(32, rows) if auxiliary else None

    def forward(self, x):
        x = self.body(x)
        if self.training and self.AuxLogits:
            return InceptionOutputs(self.fc(x), self.AuxLogits(x))
        return self.fc(x)


def loaded(path, vocabulary=None):
    options = Options("s", classifier=str(path), device="cpu")
    return character_network(options, Samples("s", [], vocabulary))


@pytest.fixture
def small(monkeypatch):
    for module in ("classifier", "classifier_training"):
        monkeypatch.setattr(f"evaluation.networks.{module}.build_inception", Small)


def write_labelled(folder, frames=60, seed=0, **changes):
    """One frame a story; every tenth is held out."""
    pictures, labels = toy_frames(frames, seed)
    entries = write_samples(folder, [(0, 0, 0)], stories=frames, references=False)
    for number, entry in enumerate(entries):
        entry |= {"labels": labels[number : number + 1], **changes}
        Image.fromarray(pictures[number]).save(folder / entry["frames"][0])
    write_manifest(folder, entries)
    vocabulary = {key: VOCABULARY[key] for key in ("characters", "places")}
    (folder / "label_vocabulary.json").write_text(json.dumps(vocabulary))
    return folder


def test_it_learns_what_it_is_shown_and_reads_held_out_frames(tmp_path, small, capsys):
    data, out = write_labelled(tmp_path / "data"), tmp_path / "classifier.safetensors"
    how = {"epochs": 6, "batch_size": 6, "image_size": 80, "init_lr": 1e-2, "device": "cpu"}
    assert train(Training(str(data), str(out), **how)) == {"cast": 0, "place": 0}
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert len(said) == 6 and "held-out stories {'cast': 0.0, 'place': 0.0}" in said[-1]
    options = Options(str(data), ["classifier"], classifier=str(out), device="cpu", draws=10)
    options.cache, options.pictures = str(tmp_path / "cache.sqlite"), False
    found = evaluate(options)["metrics"]
    assert {name: entry["value"] for name, entry in found.items()} == {
        "character_f1": 1, "frame_accuracy": 1, "background_accuracy": 1, "background_f1": 1,
    }  # fmt: skip
    assert found["character_f1"]["shuffled"] < 0.9
    said = found["frame_accuracy"]["protocol"]
    assert "own error 0.00%" in said and "at 80 instead of 299 pixels" in said


def test_without_places_there_is_no_error_of_theirs(tmp_path, small):
    data = write_labelled(tmp_path / "data", frames=10)
    (data / "label_vocabulary.json").write_text(json.dumps({"characters": ["ann", "bob"]}))
    how = {"epochs": 1, "batch_size": 4, "image_size": 80, "device": "cpu"}
    assert set(train(Training(str(data), str(tmp_path / "c.safetensors"), **how))) == {"cast"}


def test_a_handful_of_frames_is_enough_for_a_step(tmp_path, small):
    """Fewer than a batch are one batch. At 299 pixels there is an auxiliary head, too."""
    data, out = write_labelled(tmp_path / "data", frames=3), tmp_path / "classifier.safetensors"
    changed = []
    for epochs in (1, 2):
        assert train(Training(str(data), str(out), epochs=epochs, device="cpu")) is None
        changed.append(loaded(out).encoders["logits"]([data / "story0/0000.png"]))
    assert not np.allclose(*changed)
    heads = InceptionOutputs(torch.zeros(2, 4), torch.ones(2, 4))
    weights, logits = zip(*classifier_training._answers(heads), strict=True)
    assert weights == (1, 0.4) and torch.equal(logits[1], heads.aux_logits)
    picture = data / "story0/0000.png"
    pixels = np.asarray(Image.open(picture).resize((299, 299), Image.Resampling.BILINEAR))
    by_hand = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert np.allclose(prepare(picture), by_hand.transpose(2, 0, 1), atol=1e-5)


def test_inception_is_trained_from_labels_and_carries_its_own_error(tmp_path):
    """At 75 pixels, where the real network takes seconds; it then has no auxiliary head."""
    labelled, out = write_labelled(tmp_path / "data", frames=10), tmp_path / "c.safetensors"
    how = {"epochs": 1, "batch_size": 4, "image_size": 75, "device": "cpu"}
    error = train(Training(str(labelled), str(out), **how))
    network = loaded(out)
    assert set(error) == {"cast", "place"} and network.known_error == error
    assert network.vocabulary["characters"] == ["ann", "bob"] and "at 75" in network.title
    frames = sorted(labelled.glob("story9/0*.png"))  # the held-out story
    (row,) = network.encoders["logits"](frames)
    assert row.shape == (4,) and network.encoders["logits"].load(frames[0]).shape == (3, 75, 75)
    entry = json.loads((labelled / "manifest.jsonl").read_text().splitlines()[9])
    read = [name for name, there in zip(("ann", "bob"), row > 0, strict=False) if there]
    assert error["cast"] == (read != sorted(entry["labels"][0]["cast"]))


def test_only_what_labels_tell_is_counted(tmp_path):
    """Of several backgrounds any is right; frames without one, or without a cast, do not count."""
    labels = [{"cast": ["ann"], "place": "sea"}, {"cast": ["ann", "bob"], "place": ["sea", "hill"]},
              {"cast": [], "place": []}, {"place": "hill"}]  # fmt: skip
    write_samples(tmp_path, [(0, 0, 0)] * 4, stories=1, labels=labels)
    samples = read_samples(tmp_path)
    material = Material.of("s", samples.stories)
    logits = np.array([[1, -1, 0, 1], [1, 1, 0, 1], [1, -1, 1, 0], [1, 1, 0, 1]])
    network = Network("c", "c", "", {"logits": None}, vocabulary=VOCABULARY)
    found = {
        count: count(material, network, lambda items, encoder: logits)[0].tolist()
        for count in (background_accuracy, frame_accuracy, character_f1)
    }
    assert found[background_accuracy] == [[0, 1], [1, 1], [0, 0], [1, 1]]
    assert found[frame_accuracy] == [[1, 1], [1, 1], [0, 1], [0, 0]]
    assert found[character_f1] == [[2, 2], [4, 4], [0, 1], [0, 0]]
    check_backgrounds(samples, network)
    write_samples(tmp_path, [(0, 0, 0)] * 4, stories=1, labels=[{"place": "sea"}] * 4)
    with pytest.raises(ValueError, match="has no labels that say the characters"):
        check_labels(read_samples(tmp_path), network)


def test_what_cannot_be_trained_is_said(tmp_path, small):
    data = write_labelled(tmp_path / "data", frames=4)

    def refused(message, *more):
        with pytest.raises(ValueError, match=message):
            train(parse(Training, [f"data={data}", f"out={tmp_path / 'c'}", *more]))

    refused("image_size=64 is too small: give 75", "image_size=64")
    torch.save({"features.0.weight": torch.zeros(2, 2)}, tmp_path / "vgg.pth")
    refused("vgg.pth is no Inception v3 of torchvision", f"init={tmp_path / 'vgg.pth'}")
    write_labelled(data, frames=4, labels=[{"cast": ["eve"], "place": "sea"}])
    refused("'story0' has label 'eve', which is not in label_vocabulary.json")
    write_labelled(data, frames=4, labels=[{"cast": ["ann"]}])
    refused("no frame with one known background")
    write_labelled(data, frames=1)
    refused("1 frames to train on")
    assert not (tmp_path / "c").exists()


def test_training_starts_from_a_given_inception_and_other_files_do_not_fit(tmp_path):
    torch.manual_seed(3)
    weights = Inception3(3, aux_logits=False, init_weights=False).state_dict()
    torch.save(weights, tmp_path / "inception.pth")
    network = build_inception(2, False)
    classifier_training._start_from(network, str(tmp_path / "inception.pth"))
    name = "Mixed_6b.branch1x1.conv.weight"
    assert torch.equal(network.state_dict()[name], weights[name])
    assert network.fc.out_features == 2  # the answers' layers stay new
    with pytest.raises(FileNotFoundError, match="classifier=gone"):
        loaded("gone")
    with pytest.raises(ValueError, match="3 outputs for 2 characters and 2 backgrounds"):
        loaded(tmp_path / "inception.pth", VOCABULARY)
    torch.save({"fc.weight": torch.zeros(2, 2048)}, tmp_path / "two.pth")
    with pytest.raises(ValueError, match="does not fit Inception v3"):
        loaded(tmp_path / "two.pth", VOCABULARY)
