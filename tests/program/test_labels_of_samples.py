"""Labels go all the way: raw FlintstonesSV, story file, drawn samples, the classifier's metrics.

The classifier has the field's form, and sees the same in every picture: what the first shot shows.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.inception import Inception3

import sample
from evaluation.networks.classifier import prepare
from evaluation.options import Options
from evaluation.run import evaluate

sys.path.insert(0, str(Path(__file__).parents[1] / "data_script"))
import raw_sets

from data_script.flintstones_hdf5 import BACKGROUNDS, CHARACTERS, build_flintstones_file

SIDE = 75  # the smallest that Inception v3 takes


def save_classifier(path: Path, cast: list[int], place: int) -> Inception3:
    """A network that sees these characters and this background, and its file."""
    torch.manual_seed(0)
    network = Inception3(7 + 323, aux_logits=False, init_weights=False).eval()
    with torch.no_grad():
        network.fc.bias[:7] = torch.tensor([10.0 if there else -10.0 for there in cast])
        network.fc.bias[7 + place] = 10.0
    about = {"characters": CHARACTERS, "places": BACKGROUNDS, "image_size": SIDE}
    about = {key: json.dumps(value) for key, value in about.items()}
    save_file(network.state_dict(), path, {**about, "known_error": "null"})
    return network


@pytest.mark.long
def test_from_the_raw_set_to_the_metrics(tmp_path, shrunk, trained):
    raw = tmp_path / "raw"
    raw_sets.flintstones(raw)
    raw_sets.flintstones_labels(raw)  # the first shot has two backgrounds, the second none
    cast = pickle.loads((raw / "labels.pkl").read_bytes())
    places = pickle.loads((raw / "labels_bg.pkl").read_bytes())["label"]
    del cast["s_01_e_00_shot_test_2"]
    (raw / "labels.pkl").write_bytes(pickle.dumps(cast))
    build_flintstones_file(raw, tmp_path / "f.h5", num_process=1)
    weights = tmp_path / "c.safetensors"
    network = save_classifier(weights, cast["s_01_e_00_shot_test_0"], 322)

    words = ["flintstones.new_tokens=[]", "flintstones.max_length=20"]  # as the checkpoint has them
    config = shrunk(
        "mode=sample", "dataset=flintstones", f"flintstones.hdf5_file={tmp_path / 'f.h5'}", *words,
        f"test_model_file={trained}", f"sample_output_dir={tmp_path / 'out'}",
    )  # fmt: skip
    folder = sample.sample(config)
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert [line["story_id"] for line in lines] == [f"s_01_e_0{i}_shot_test_0" for i in range(2)]
    labels = lines[0]["labels"]
    assert [label["place"] for label in labels[:2]] == [["background_003", "background_322"], []]
    assert ["cast" in label for label in labels] == [True, True, False, True, True]

    names = ["character_f1", "frame_accuracy", "background_accuracy"]
    options = Options(str(folder), names, classifier=str(weights), device="cpu", draws=10)
    options.cache, options.pictures = str(tmp_path / "cache.sqlite"), False
    found = evaluate(options)["metrics"]

    # The same, from the raw files and the pictures.
    hits = sizes = exact = casts = right = backgrounds = 0
    for line in lines:
        frames = torch.stack([prepare(folder / frame, SIDE) for frame in line["frames"]])
        with torch.inference_mode():
            logits = network(frames)
        for k, row in enumerate(logits):
            shot = line["story_id"][:-1] + str(k)
            seen, there = (row[:7] > 0).tolist(), cast.get(shot)
            if there is not None:
                hits += 2 * sum(a and b for a, b in zip(seen, there, strict=True))
                sizes += sum(seen) + sum(there)
                exact += seen == [bool(one) for one in there]
                casts += 1
            if any(places[shot]):
                right += bool(places[shot][int(row[7:].argmax())])
                backgrounds += 1
    assert (casts, backgrounds) == (9, 9) and min(hits, exact, right) > 0
    assert found["character_f1"]["value"] == pytest.approx(hits / sizes)
    assert found["frame_accuracy"]["value"] == pytest.approx(exact / casts)
    assert found["background_accuracy"]["value"] == pytest.approx(right / backgrounds)
    assert [found[name]["n"] for name in names[1:]] == [9, 9]
