"""Classifier files as StoryGPT-V publishes them, on another system's pictures with labels."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.models.inception import Inception3

from evaluation.networks.classifier import prepare
from evaluation.options import Options
from evaluation.run import evaluate
from evaluation.samples import open_samples

CAST = ["wilma", "fred", "betty", "barney", "dino", "pebbles", "slate"]  # in the file's order
PLACES = ["cave", "road", "house"]
PREPARE = transforms.Compose([
    transforms.Resize(299), transforms.CenterCrop(299), transforms.ToTensor(),
    transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
])  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two random state dicts, balanced so that half of all answers are yes."""
    folder = tmp_path_factory.mktemp("classifiers")
    for name, rows in (("classifier_char.pt", 7), ("classifier_bg.pt", 3)):
        torch.manual_seed(rows)
        network = Inception3(rows, init_weights=False)
        torch.nn.init.zeros_(network.fc.bias)
        torch.save(network.state_dict(), folder / name)
    return folder


def write_pictures(folder, stories="abc", each=2):
    """Stories of wide pictures, so that squashing and cropping differ."""
    random = np.random.default_rng(0)
    for story in stories:
        (folder / story).mkdir(parents=True)
        for k in range(each):
            small = random.integers(0, 256, (4, 7, 3), dtype=np.uint8)
            Image.fromarray(small).resize((320, 180)).save(folder / story / f"{k}.png")
    return sorted(folder.glob("*/*.png"))


def logits_by_hand(file, rows, paths):
    """As eval_cls.py does: stock network, stock transforms."""
    with torch.device("meta"):
        network = Inception3(rows, init_weights=False)
    network.load_state_dict(torch.load(file, weights_only=True), assign=True)
    network.transform_input = True  # what torchvision sets with pretrained weights
    pictures = torch.stack([PREPARE(Image.open(path)) for path in paths])
    assert torch.equal(torch.stack([prepare(path, crop="centre") for path in paths]), pictures)
    with torch.inference_mode():
        return network.eval()(pictures).numpy()


def f1(true, read):
    hits = sum(t and r for a, b in zip(true, read) for t, r in zip(a, b))  # noqa: B905
    return 2 * hits / (true.sum() + read.sum())


@pytest.mark.long
def test_the_published_pair_reads_as_its_own_code_does(files, tmp_path, capsys):
    paths = write_pictures(tmp_path / "theirs", each=1)
    random = np.random.default_rng(1)
    cast, place = random.random((3, 7)) > 0.6, random.random((3, 3)) > 0.6
    lines = []
    for path, there, where in zip(paths, cast, place, strict=True):
        names = {"cast": [n for n, t in zip(CAST, there, strict=True) if t],
                 "place": [n for n, t in zip(PLACES, where, strict=True) if t]}  # fmt: skip
        name = f"{path.parent.name}/{path.name}"
        lines.append(json.dumps({"picture": name, **names}))
    random.shuffle(lines)  # the order of lines does not matter
    (tmp_path / "labels.jsonl").write_text("\n".join(lines), "utf-8")
    vocabulary = {"characters": CAST, "places": PLACES}
    (tmp_path / "label_vocabulary.json").write_text(json.dumps(vocabulary))
    options = Options(
        str(tmp_path / "theirs"), "classifier", labels=str(tmp_path / "labels.jsonl"),
        classifier=str(files / "classifier_char.pt"), device="cpu", draws=10,
        background_classifier=str(files / "classifier_bg.pt"), pictures=False,
        cache=str(tmp_path / "c.sqlite"), out=str(tmp_path / "results"),
    )  # fmt: skip
    found = evaluate(options)["metrics"]
    read = logits_by_hand(files / "classifier_char.pt", 7, paths) > 0
    where = logits_by_hand(files / "classifier_bg.pt", 3, paths) > 0
    assert found["character_f1"]["value"] == pytest.approx(f1(cast, read))
    assert found["frame_accuracy"]["value"] == np.mean((cast == read).all(1))
    assert found["background_f1"]["value"] == pytest.approx(f1(place, where))
    assert found["background_accuracy"]["value"] == np.mean((place == where).all(1))
    assert 0 < found["character_f1"]["value"] < 1 and 0 < found["background_f1"]["value"]
    hashes = {found[name]["weights"]["file"] for name in ("character_f1", "background_f1")}
    assert hashes == {"classifier_char.pt", "classifier_bg.pt"}
    assert "Resize + CenterCrop, at 299" in found["background_f1"]["protocol"]
    assert (tmp_path / "results" / "metrics.json").is_file()  # and nothing among their pictures
    assert not (tmp_path / "theirs" / "metrics.json").exists()
    options.classifier_crop, options.background_classifier = "squash", None
    options.metrics = "all"
    capsys.readouterr()
    found = evaluate(options)
    assert "squashed, at 299" in found["metrics"]["character_f1"]["protocol"]
    reason = found["not_measured"]["background_f1"]
    assert "classifier_char.pt reads no backgrounds: give back" in reason
    printed = capsys.readouterr().out
    assert "not measured: fid@64, fid, kid, " in printed and "needs real frames" in printed
    assert "character_f1" in printed.split("not measured")[0]


def test_columns_of_a_csv_name_the_characters(tmp_path):
    write_pictures(tmp_path / "theirs")
    rows = [f"{story}/{k}.png,{k},1" for story in "abc" for k in range(2)]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(["\ufeffpicture,fred,wilma", *rows]), "utf-8")
    samples = open_samples(tmp_path / "theirs", labels=labels)
    assert samples.vocabulary == {"characters": ["fred", "wilma"]}
    assert samples.stories[2].labels == [{"cast": ["wilma"]}, {"cast": ["fred", "wilma"]}]
    listed = [f"{story}/{k}.png,fred;wilma,cave" for story in "abc" for k in range(2)]
    labels.write_text("\n".join(["picture,cast,place", *listed]), "utf-8")
    samples = open_samples(tmp_path / "theirs", labels=labels)
    assert samples.stories[0].labels[0] == {"cast": ["fred", "wilma"], "place": ["cave"]}
    for lines, message in (
        (["picture,fred", *(row[:9] for row in rows), "d/0.png,1"], "'d/0.png', which is not in"),
        (["picture,fred,wilma", *rows[:-1]], "has no label for 'c/1.png'"),
        (["picture,fred", *rows], "line 2 has 3 columns for 2 names"),
        (["picture,fred,wilma", *rows, rows[0]], "line 8 labels 'a/0.png' a second time"),
        (["picture,fred,wilma", "a/0.png,1,2"], "line 2 holds '2': give 0 or 1"),
        (["picture,fred,fred", *rows], "head it picture,cast,place"),
        (["picture,fred,wilma"], "holds no label"),
        (["picture,fred,wilma", '"a/0.png,1'], "is no CSV"),
    ):
        labels.write_text("\n".join(lines), "utf-8")
        with pytest.raises(ValueError, match=message):
            open_samples(tmp_path / "theirs", labels=labels)
    wrong = tmp_path / "labels.jsonl"
    for text, message in (
        ('{"picture": "a/0.png", "cast": "fred"}', "line 1: give a list of names as cast"),
        ('{"cast": ["fred"]}', "line 1 names no picture"),
        ("[" * 99999, "line 1 is not JSON .it is nested too deeply"),
    ):
        wrong.write_text(text, "utf-8")
        with pytest.raises(ValueError, match=message):
            open_samples(tmp_path / "theirs", labels=wrong)


def test_real_pictures_are_found_by_name(tmp_path):
    """The missing story does not pair its neighbour."""
    drawn = write_pictures(tmp_path / "theirs")
    for path in drawn:
        for name in {path.parent.name, "z"} - {"b"}:
            real = tmp_path / "real" / name / path.name
            real.parent.mkdir(parents=True, exist_ok=True)
            Image.open(path).save(real)
    with pytest.raises(ValueError, match="real has no 'b', though it has 2 other stories"):
        open_samples(tmp_path / "theirs", tmp_path / "real")
    (tmp_path / "real" / "z").rename(tmp_path / "real" / "b")
    extra = tmp_path / "real" / "b" / "extra.png"
    Image.new("RGB", (8, 8)).save(extra)  # more real frames than drawn ones: the names tell
    for story in open_samples(tmp_path / "theirs", tmp_path / "real").stories:
        drawn, real = ([p.parts[-2:] for p in ps] for ps in (story.frames, story.reference_frames))
        assert drawn == real
    (tmp_path / "real" / "b" / "1.png").rename(tmp_path / "real" / "b" / "2.png")
    with pytest.raises(ValueError, match="no picture of the name of .*1.png"):
        open_samples(tmp_path / "theirs", tmp_path / "real")
