"""Labels of the published sets: from the raw files to the story file and on to a samples folder."""

from __future__ import annotations

import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import raw_sets
from PIL import Image
from raw_sets import SPLITS

from data_script import pororo_labels
from data_script.column_names import agreement, name_columns
from data_script.export_frames import export
from data_script.flintstones_hdf5 import build_flintstones_file
from data_script.pororo_hdf5 import CHARACTERS, build_pororo_file
from datasets.story_hdf5 import StoryFile
from evaluation.networks.classifier_training import UNKNOWN, LabelledFrames
from evaluation.samples import read_samples

FLINTSTONES = ["wilma", "fred", "betty", "barney", "dino", "pebbles", "mr slate"]
NINE = [f"character_{n}" for n in range(9)]


def pororo_pictures(raw: Path) -> list[list[str]]:
    """The pictures of every story by its number, without `.png`."""
    first, rest = (np.load(raw / f"{name}_cache4.npy") for name in ("img", "following"))
    names = np.concatenate([first[:, None], rest], 1).astype(str)
    return [[name.removesuffix(".png") for name in story] for story in names]


@pytest.fixture
def pororo(tmp_path):
    raw_sets.pororo(tmp_path / "raw")
    return tmp_path / "raw"


@pytest.fixture
def flintstones(tmp_path):
    raw_sets.flintstones(tmp_path / "raw")
    return tmp_path / "raw"


@pytest.mark.parametrize("kind", ["floats", "list"])
def test_pororo_labels_are_those_of_the_storys_pictures(pororo, kind):
    labels, target = raw_sets.pororo_labels(pororo, kind=kind), pororo.parent / "s.h5"
    names = [f"name {n}" for n in range(9)]
    report = build_pororo_file(pororo, target, num_process=1, characters=names)
    assert report.notes == []
    told, seen = pororo_pictures(pororo), 0
    for split in SPLITS:
        file = StoryFile(target, split)
        assert file.label_vocabulary == {"characters": names}
        for i in range(len(file)):
            pictures = told[int(file.story_id(i))]
            for picture, label in zip(pictures, file.labels(i), strict=True):
                cast = [names[n] for n, there in enumerate(labels[picture]) if there]
                assert label == {"cast": cast}
                seen += 1
    assert seen == 35


def test_flintstones_labels_say_who_is_where(flintstones):
    labels, target = raw_sets.flintstones_labels(flintstones), flintstones.parent / "s.h5"
    report = build_flintstones_file(flintstones, target, num_process=1)
    assert report.notes == []
    places = []
    for split in SPLITS:
        file = StoryFile(target, split)
        assert file.label_vocabulary["characters"] == FLINTSTONES
        assert len(file.label_vocabulary["places"]) == 323
        for i in range(len(file)):
            for k, label in enumerate(file.labels(i)):
                who, where = labels[file.story_id(i).removesuffix("_0") + f"_{k}"]
                assert label["cast"] == [FLINTSTONES[n] for n in who]
                names = [f"background_{n:03d}" for n in where]
                assert label["place"] == (names[0] if len(names) == 1 else names)
                places.append(label["place"])
    assert ["background_003", "background_322"] in places and [] in places
    assert sum(isinstance(place, str) for place in places) == 33


def test_pictures_without_labels_are_counted_and_stay_unknown(flintstones):
    labels, target = raw_sets.flintstones_labels(flintstones), flintstones.parent / "s.h5"
    rows = pickle.loads((flintstones / "labels.pkl").read_bytes())
    gone = [shot for shot in labels if "_train_" in shot and shot.endswith("3")]
    assert len(gone) == 3
    kept = {shot: row for shot, row in rows.items() if shot not in gone}
    (flintstones / "labels.pkl").write_bytes(pickle.dumps(kept))
    (flintstones / "labels_bg.pkl").unlink()
    report = build_flintstones_file(flintstones, target, num_process=1)
    assert str(report).endswith(
        f"3 pictures are not in labels.pkl, such as '{min(gone)}': metrics of the cast do not "
        "count them"
    )
    file = StoryFile(target, "train")
    assert file.label_vocabulary == {"characters": FLINTSTONES}
    for i in range(3):
        assert [set(label) for label in file.labels(i)] == [{"cast"}] * 3 + [set(), {"cast"}]


def one(value):
    """A change: the first picture gets another row."""
    return lambda rows: {**rows, min(rows): value}


AGAIN = "get it again, or take it out of the folder to build without labels"
BAD_LABELS = {
    "eight columns": ("labels.npy", lambda rows: {k: v[:8] for k, v in rows.items()},
                      "labels.npy has 8 labels for 'Pororo_.*', not 9: " + AGAIN),
    "counts": ("labels.npy", one([2] * 9), "labels.npy has 2 for 'Pororo_.*', not 0 or 1: get"),
    "NaN": ("labels.npy", one([float("nan")] + [0] * 8), "has nan for 'Pororo_.*', not 0 or 1"),
    "words": ("labels.npy", one([b"a"] * 9), "labels.npy is not a dict of lists of zeros and ones"),
    "a list": ("labels.npy", lambda rows: [list(v) for v in rows.values()],
               "labels.npy is not a dict of lists of zeros and ones: " + AGAIN),
    "other pictures": ("labels.npy", lambda rows: {b"x/" + k: v for k, v in rows.items()},
                       "labels.npy knows none of the stories' pictures, such as 'Pororo_.*/.*'"),
    "other backgrounds": ("labels_bg.pkl", lambda rows: {"labels": rows["label"]},
                          "labels_bg.pkl is not a dict with labels under 'label': " + AGAIN),
    "ten backgrounds": ("labels_bg.pkl", lambda rows: {"label": {k: v[:10] for k, v in
                                                                 rows["label"].items()}},
                        "labels_bg.pkl has 10 labels for 's_01_.*', not 323"),
}  # fmt: skip


@pytest.mark.parametrize("name, change, message", BAD_LABELS.values(), ids=BAD_LABELS)
def test_labels_that_are_something_else_are_refused(tmp_path, name, change, message):
    raw, pororo = tmp_path / "raw", name == "labels.npy"
    if pororo:
        raw_sets.pororo(raw)
        rows = {key.encode(): row for key, row in raw_sets.pororo_labels(raw).items()}
        raw_sets.save_python2(raw / name, change(rows))
    else:
        raw_sets.flintstones(raw)
        raw_sets.flintstones_labels(raw)
        (raw / name).write_bytes(pickle.dumps(change(pickle.loads((raw / name).read_bytes()))))
    with pytest.raises(ValueError, match=message) as caught:
        (build_pororo_file if pororo else build_flintstones_file)(raw, tmp_path / "s.h5", False, 1)
    assert "\n" not in str(caught.value) and not (tmp_path / "s.h5").exists()


def scene(random, order, twins=False):
    """Captions of 400 pictures that leave out a third of who is there, columns in another order."""
    there = random.random((400, 9)) < 0.3
    there[:, 1] |= (random.random(400) < 0.4) & there[:, 0]  # who is often together
    if twins:
        there[:, 1] = there[:, 0]
    told = there & (random.random((400, 9)) < 2 / 3)
    captions = [
        " and ".join(name.title() for name, says in zip(CHARACTERS, row, strict=True) if says)
        + "'s friend is out." for row in told
    ]  # fmt: skip
    return there[:, order], captions


def test_captions_tell_who_a_column_is_and_one_in_doubt_stays_without_a_name():
    def named(shown, captions):
        return name_columns(agreement(shown, captions, CHARACTERS), CHARACTERS)

    random = np.random.default_rng(0)
    order = random.permutation(9)
    shown, captions = scene(random, order)
    assert named(shown, captions) == [CHARACTERS[n] for n in order]
    mentioned = ["Loopy" in caption for caption in captions]
    expected = [np.corrcoef(column, mentioned)[0, 1] for column in shown.T]
    found = agreement(shown, captions, CHARACTERS)[:, CHARACTERS.index("loopy")]
    assert found == pytest.approx(expected)
    assert named(*scene(random, np.arange(9), twins=True)) == [*NINE[:2], *CHARACTERS[2:]]
    shown, captions = scene(random, np.arange(9))
    quiet = [re.sub("Petty|Rody", "Somebody", caption) for caption in captions]
    quiet[:5] = ["Petty is here."] * 5  # too few to be believed
    shown[:5, 8], shown[:, 2] = True, True  # who is always there cannot be compared
    assert named(shown, quiet) == [*CHARACTERS[:2], NINE[2], *CHARACTERS[3:7], *NINE[7:]]
    assert (agreement(shown, ["A pororolike thing."] * 400, CHARACTERS) == 0).all()


def test_the_builder_takes_the_names_that_captions_tell_and_says_so(pororo, monkeypatch, capsys):
    labels = raw_sets.pororo_labels(pororo)
    told = {}
    for number, (picture, row) in enumerate(labels.items()):
        row[4], row[0] = 1 - number % 2, 0
        told[picture.encode()] = [b"Crong waves." if row[4] else b"Somebody waves."]
    raw_sets.save_python2(pororo / "labels.npy", {k.encode(): v for k, v in labels.items()})
    raw_sets.save_python2(pororo / "descriptions.npy", told)
    expected = [*NINE[:4], "crong", *NINE[5:]]
    report = build_pororo_file(pororo, pororo.parent / "s.h5", num_process=1)
    (note,) = report.notes
    assert note.startswith(f"columns of labels.npy: {' '.join(expected)}, as captions tell; python")
    file = StoryFile(pororo.parent / "s.h5", "train")
    assert file.label_vocabulary == {"characters": expected}

    (pororo.parent / "s.h5").unlink()
    for names, message in ((["a", "b"], "--characters is a b: give 9 different names"),
                           ([*NINE[:8], NINE[0]], "give 9 different names")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            build_pororo_file(pororo, pororo.parent / "s.h5", num_process=1, characters=names)
    monkeypatch.setattr(sys, "argv", ["pororo_labels", "--data_dir", str(pororo)])
    pororo_labels.main()
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "35 pictures with a caption and labels"
    assert shown[1].split() == ["column", "set", *CHARACTERS]
    assert shown[6].split()[:2] == ["4", "18"]
    assert shown[6].split()[2 + CHARACTERS.index("crong")] == "1.00"
    assert shown[-1] == f"to name them so: --characters {' '.join(expected)}"


def test_exported_labels_are_what_a_classifier_learns_from(flintstones):
    """Unknown casts are left out, and several or no backgrounds teach nothing of the background."""
    raw_sets.flintstones_labels(flintstones)
    rows = pickle.loads((flintstones / "labels.pkl").read_bytes())
    del rows["s_01_e_01_shot_test_2"]
    (flintstones / "labels.pkl").write_bytes(pickle.dumps(rows))
    target, out = flintstones.parent / "s.h5", flintstones.parent / "out"
    build_flintstones_file(flintstones, target, num_process=1)
    samples = read_samples(export(target, "test", out, "flintstones"))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    export(target, "test", out, "flintstones")  # again: all of it is there
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    with pytest.raises(ValueError, match="holds stories drawn with sampler .*choose another fold"):
        export(target, "train", out, "flintstones")
    told = StoryFile(target, "test")
    assert [story.labels for story in samples.stories] == [told.labels(n) for n in range(2)]
    assert "cast" not in samples.stories[1].labels[2]
    for story, n in zip(samples.stories, range(2), strict=True):
        assert story.captions == told.captions(n)
        for k, frame in enumerate(story.frames):
            assert np.array_equal(np.asarray(Image.open(frame)), told.picture(n, k)[:8])
    frames = LabelledFrames(samples, held_out=False, side=75)
    assert len(frames) == 9
    assert sum(place == UNKNOWN for _, _, place in frames) == 2  # of several and of none
