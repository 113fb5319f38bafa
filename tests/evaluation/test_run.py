from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image
from sample_folders import VOCABULARY, toy_frames, write_manifest, write_samples

from evaluation.__main__ import main
from evaluation.metrics.bootstrap import ratio
from evaluation.metrics.cartoon import ROWS, count_frames
from evaluation.metrics.choice import choose, preflight
from evaluation.metrics.material import Material, shuffled_rows
from evaluation.metrics.table import own_story_metrics
from evaluation.networks.judge import Judge
from evaluation.options import Options
from evaluation.pictures.plots import plot_by_frame
from evaluation.published import TF_2015, published_table
from evaluation.run import evaluate
from evaluation.samples import open_samples, read_samples

STORIES, FRAMES = 6, 3


def write_stories(folder, wrong=0, seed=3, **changes):
    """Stories with true pictures as references; the last frame of the first `wrong` is noise."""
    frames, labels = toy_frames(STORIES * FRAMES, seed)
    entries = write_samples(folder, [(0, 0, 0)] * FRAMES, stories=STORIES)
    random = np.random.default_rng(0)
    for number, entry in enumerate(entries):
        part = slice(number * FRAMES, (number + 1) * FRAMES)
        entry |= {"labels": labels[part], **changes}
        for k, frame in enumerate(frames[part]):
            Image.fromarray(frame).save(folder / f"story{number}/reference_{k:04d}.png")
            if number < wrong and k == FRAMES - 1:
                frame = random.integers(0, 256, frame.shape, np.uint8)
            Image.fromarray(frame).save(folder / entry["frames"][k])
    write_manifest(folder, entries)
    (folder / "label_vocabulary.json").write_text(json.dumps(VOCABULARY))
    return folder


@pytest.fixture
def measured(judge_file, tmp_path):
    """Evaluates a folder, without pictures unless asked."""

    def measure(folder, **changes):
        return evaluate(Options(
            str(folder), judge=str(judge_file), cache=str(tmp_path / "cache.sqlite"),
            **{"device": "cpu", "draws": 50, "frechet_draws": 4, "pictures": False, **changes},
        ))  # fmt: skip

    return measure


def test_command_writes_values_with_everything_needed_to_repeat_them(tmp_path, judge_file, capsys):
    folder = write_stories(tmp_path / "s", wrong=2)
    main([f"samples={folder}", f"judge={judge_file}", "stories=2", "draws=50", "device=cpu",
          "metrics=cartoon,judge_frechet,judge_kernel", f"cache={tmp_path / 'c.sqlite'}",
          "frechet_draws=4"])  # fmt: skip
    found = json.loads((folder / "metrics.json").read_text())
    entry = found["metrics"]["cartoon/frame_accuracy"]
    assert entry["n"] == found["frames"] == STORIES * FRAMES and found["stories"] == STORIES
    assert entry["value"] == pytest.approx(1 - 2 / 18, abs=0.06)
    assert entry["interval"][0] <= entry["value"] <= entry["interval"][1]
    assert entry["by_frame"][:2] == [1.0, 1.0] and entry["by_frame"][2] < 1
    assert entry["real"] == 1.0 > entry["value"] > entry["shuffled"]
    assert re.fullmatch(r"[0-9a-f]{64}", entry["weights"]["sha256"])
    assert "own error" in entry["protocol"] and found["libraries"]["torch"]
    distance = found["metrics"]["judge_frechet"]
    assert 0 < distance["value"] and distance["real"] > 0 and distance["shuffled"] > 0
    assert distance["interval"][0] <= distance["value"] <= distance["interval"][1]  # moved back
    assert any("fewer than the 128 features" in warning for warning in found["warnings"])
    printed = capsys.readouterr().out
    assert "cartoon/frame_accuracy" in printed and "warning: judge_frechet" in printed
    page = (folder / "storyboard.html").read_text("utf-8")
    assert page.count("<h2>") == STORIES and 'class="plot"' in page
    ranks = re.findall(r"<span>(worst|best)</span>", page)
    assert ranks == ["worst", "best"]  # of the two asked for, before the others
    worst, best = re.findall(r"<h2>(\w+)", page)[:2]
    assert worst in ("story0", "story1") and best not in ("story0", "story1")
    assert page.count("<figcaption>") == STORIES * FRAMES and "wrong: " in page
    assert Image.open(folder / "metrics_by_frame.png").width > 700
    assert (folder / "storyboard.png").is_file()


def test_values_are_those_of_the_cartoon_metrics(tmp_path, judge_file, measured):
    folder = write_stories(tmp_path / "s", wrong=3, given=1)  # the given frame is not counted
    found = measured(folder, metrics="cartoon,judge_kernel")["metrics"]
    assert found["judge_kernel"]["n"] == found["cartoon/frame_accuracy"]["n"] == STORIES * 2
    assert found["cartoon/frame_accuracy"]["by_frame"][0] is None
    stories, judge = read_samples(folder).stories, Judge.load(judge_file)
    readings = [
        judge.read(np.stack([np.asarray(Image.open(p)) for p in one.frames])) for one in stories
    ]
    counts = [count_frames(*pair).sum(0) for pair in zip(stories, readings, strict=True)]
    for name, value in zip(ROWS, ratio(np.sum(counts, 0)), strict=True):
        if name in ("weather_accuracy", "object_accuracy"):  # the wide world's alone
            assert f"cartoon/{name}" not in found and np.isnan(value)
            continue
        expected = None if np.isnan(value) else pytest.approx(value)
        assert found[f"cartoon/{name}"]["value"] == expected, name


def test_second_folder_is_compared_story_by_story(tmp_path, measured):
    good, bad = write_stories(tmp_path / "a"), write_stories(tmp_path / "b", wrong=4)
    names = ["cartoon", "judge_frechet"]
    found = measured(good, metrics=names, compare=str(bad))
    entry = found["compare"][0]["metrics"]["cartoon/frame_accuracy"]
    assert entry["value"] < 1 == found["metrics"]["cartoon/frame_accuracy"]["value"]
    assert entry["difference"] == pytest.approx(1 - entry["value"])
    assert 0 <= entry["difference_interval"][0] < entry["difference_interval"][1]
    assert found["compare"][0]["metrics"]["judge_frechet"]["difference"] < 0
    same = measured(good, metrics=names, compare=str(good))["compare"][0]["metrics"]
    apart = {tuple(e["difference_interval"]) for e in same.values() if e["difference_interval"]}
    assert apart == {(0.0, 0.0)}


def test_comparison_keeps_to_shared_stories_and_refuses_other_tasks(tmp_path, measured):
    one, two = write_stories(tmp_path / "a"), write_stories(tmp_path / "b")
    lines = (two / "manifest.jsonl").read_text().splitlines()
    (two / "manifest.jsonl").write_text("\n".join(lines[:4]))
    found = measured(one, compare=str(two))
    assert found["stories"] == 4 and "only the 4 stories" in found["warnings"][0]
    third = write_stories(tmp_path / "c", given=1)
    with pytest.raises(ValueError, match="other given in"):
        measured(one, compare=str(third))


def test_pictures_alone_are_compared_by_the_other_folders_captions(tmp_path, measured):
    ours, theirs = write_stories(tmp_path / "a"), write_stories(tmp_path / "b", wrong=4)
    for name in ("manifest.jsonl", "label_vocabulary.json"):
        (theirs / name).unlink()
    for real in theirs.glob("*/reference_*.png"):
        real.unlink()
    found = measured(ours, compare=str(theirs))
    entry = found["compare"][0]["metrics"]["cartoon/frame_accuracy"]
    assert entry["value"] < 1 == found["metrics"]["cartoon/frame_accuracy"]["value"]
    next(theirs.glob("*/0001.png")).unlink()
    with pytest.raises(ValueError, match="other captions in"):
        measured(ours, compare=str(theirs))


def test_shuffled_stories_share_no_frame_with_their_own():
    for stories, frames in ((6, 5), (4, 3)):
        rows = shuffled_rows(stories, frames)
        for s, row in enumerate(rows):
            assert s not in row and len(set(row)) == frames
        assert all(len(set(column)) == stories for column in rows.T)  # each picture once
    assert shuffled_rows(5, 5) is None


def test_plain_folders_of_another_system(tmp_path, measured):
    write_stories(tmp_path / "s")
    for kind, prefix in (("drawn", "0"), ("real", "reference")):
        (tmp_path / kind).mkdir()
        for number, path in enumerate(sorted((tmp_path / "s").glob(f"story*/{prefix}*.png"))):
            (tmp_path / kind / f"frame{number}.png").write_bytes(path.read_bytes())
    (tmp_path / "captions.txt").write_text("\n".join(f"Caption {n}." for n in range(18)))
    for _ in range(2):  # what the first run wrote there is no picture of the second
        found = measured(
            tmp_path / "drawn", metrics=["judge_frechet"], reference=str(tmp_path / "real"),
            captions=str(tmp_path / "captions.txt"), story_length=FRAMES, pictures=True, stories=1,
        )  # fmt: skip
        assert found["stories"] == STORIES and found["frames"] == 18
        assert found["metrics"]["judge_frechet"]["value"] == pytest.approx(0, abs=1e-3)
    page = (tmp_path / "drawn" / "storyboard.html").read_text("utf-8")
    assert page.count("<h2>") == STORIES and page.count("<img") == 2 * 18
    assert "<p>Caption 17.</p>" in page


def test_plain_folders_are_ordered_naturally_and_captioned(tmp_path):
    write_samples(tmp_path / "s", [(n, 0, 0) for n in range(12)], stories=1)
    (tmp_path / "p").mkdir()
    for n in range(12):
        Image.new("RGB", (8, 8), (n, 0, 0)).save(tmp_path / "p" / f"f{n}.png")
    (tmp_path / "c.txt").write_text("\n".join(f"caption {n}" for n in range(12)))
    stories = open_samples(tmp_path / "p", captions=tmp_path / "c.txt", story_length=4).stories
    assert [path.name for path in stories[2].frames] == ["f8.png", "f9.png", "f10.png", "f11.png"]
    assert stories[2].captions[2] == "caption 10" and len(stories) == 3
    for name in ("r", "empty"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "r" / "0.png")
    (tmp_path / "c.txt").write_text("one")
    for message, folder, how in (
        ("12 pictures, not a multiple of story_length=5", "p", {"story_length": 5}),
        ("12 pictures but .* 1 pictures", "p", {"reference": tmp_path / "r"}),
        ("1 lines for 12 pictures", "p", {"captions": tmp_path / "c.txt"}),
        ("has a manifest", "s", {"reference": tmp_path / "r"}),
        ("has no manifest.jsonl", "empty", {}),
        ("empty holds no picture", "empty", {"reference": tmp_path / "r"}),
        ("empty holds no picture", "r", {"reference": tmp_path / "empty"}),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            open_samples(tmp_path / folder, **how)


def test_what_cannot_be_measured_is_said_before_any_work(tmp_path, judge_file):
    judge = str(judge_file)
    write_stories(tmp_path / "s", reference_frames=[])
    for message, options in (
        ("'fidd' is not known; did you mean fid", {"metrics": "fidd"}),
        ("'taste' is not known; choose among fid@64", {"metrics": "taste"}),
        ("cartoon/place_accuracy needs judge=FILE", {"metrics": "cartoon"}),
        ("frame_accuracy needs classifier=FILE", {"metrics": ["frame_accuracy"]}),
        ("judge_kernel needs real frames", {"metrics": "judge_kernel", "judge": judge}),
        ("csd_self needs a benchmark's characters: give benchmark=DIR", {"metrics": "csd_self"}),
        ("papers=pororo is none of", {"papers": "pororo"}),
        ("draws=0 is too small: give 1", {"draws": 0}),
        ("manifest.jsonl is a file: give the", {"out": str(tmp_path / "s" / "manifest.jsonl")}),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(Options(str(tmp_path / "s"), cache=str(tmp_path / "c"), **options))
    assert not (tmp_path / "s" / "metrics.json").exists()
    for metric, option in (  # and before stories are drawn
        ("fid@64", "inception_weights"), ("character_f1", "classifier"), ("cartoon", "judge"),
    ):  # fmt: skip
        options = Options("later", metrics=metric, cache=str(tmp_path / "c"), **{option: "gone"})
        with pytest.raises(FileNotFoundError, match=f"{option}=gone does not exist"):
            preflight(options)
    preflight(Options("later", metrics="cartoon", judge=judge, cache=str(tmp_path / "c")))


def test_what_cannot_be_written_is_said_before_any_work(tmp_path, measured, monkeypatch):
    folder = write_stories(tmp_path / "s")
    monkeypatch.setattr("evaluation.run._measure", lambda *_: pytest.fail("it measures"))
    for out in ("/proc/x", str(folder / "manifest.jsonl" / "x")):
        with pytest.raises(OSError, match=f"cannot write {out}/metrics.json: .*choose another"):
            measured(folder, metrics="cartoon", out=out)
    assert list(tmp_path.iterdir()) == [folder]


def test_all_is_what_the_samples_and_files_allow(tmp_path):
    write_samples(tmp_path / "s", references=False)
    material = Material.of("s", read_samples(tmp_path / "s").stories)

    def chosen(**more):
        return [metric.name for metric in choose(Options("s", **more), [material])[0]]

    assert chosen(metrics="all") == [
        "inception_score" if name == "aesthetic" else name  # whose file is not given
        for name in own_story_metrics() if name != "inception_score"
    ]  # fmt: skip
    skipped = choose(Options("s", "all"), [material])[1]
    assert skipped["clip_i"] == "needs real frames: give reference=DIR; s has none"
    assert "needs aesthetic_head=FILE" in skipped["aesthetic"]
    assert skipped["character_f1"].endswith("give labels=FILE; story 'story0' of s has none")
    assert choose(Options("s", "clip_t,all"), [material])[1] == skipped
    material.stories[1].captions[1] = ""
    with pytest.raises(ValueError, match="caption for .*; frame 2 of story 'story1' of s has none"):
        chosen(metrics="clip_t")
    with_judge = chosen(metrics="all", judge="x")
    assert not any(name.startswith("cartoon/") for name in with_judge)  # no labels
    assert chosen() == []
    write_samples(tmp_path / "one", [(0, 0, 0)] * 2, stories=1, given=1)
    material = Material.of("one", read_samples(tmp_path / "one").stories)
    found, skipped = choose(Options("one", "all", judge="x"), [material])
    assert "clip_i" in [metric.name for metric in found]
    for name in ("fid", "judge_frechet", "judge_kernel", "inception_score"):
        assert skipped[name] == "needs a second drawn frame: give more stories; one has none"
        with pytest.raises(ValueError, match=f"{name} needs a second drawn frame"):
            choose(Options("one", name, judge="x"), [material])


def test_published_table_says_protocols_and_warns_where_they_differ():
    entry = {"value": 20.0, "n": 500, "protocol": "mine", "weights": {"sha256": "0" * 64}}
    text, warnings = published_table("pororo-visualization", {"metrics": {"fid@64": entry}})
    assert "16.59" in text and "arXiv 2211.10950" in text and "yours, fid@64" in text
    assert any("500 frames, the published over 11040" in one for one in warnings)
    assert any("did not use the TensorFlow-2015 weights" in one for one in warnings)
    entry |= {"n": 11040, "weights": {"sha256": TF_2015}}
    _, warnings = published_table("pororo-visualization", {"metrics": {"fid@64": entry}})
    assert len(warnings) == 3 and "ContextualStory: trained on train and val" in warnings[1]
    text, warnings = published_table("pororo-continuation", {"metrics": {"fid@64": entry}})
    lines = {line[:18].strip(): line for line in text.splitlines()}
    for name, said in (
        ("ContextualStory", "trained on train and val, frames filtered"), ("ACM-VSG", "; ?"),
        ("Causal-Story", "fid@64, random real frames"), ("yours, fid@64", "20.00   11040  mine"),
    ):  # fmt: skip
        assert lines[name].endswith(said)
    assert "VLCStoryGAN, whose authors have corrected" in text
    assert any("one real frame of each shot at r" in warning for warning in warnings)
    _, warnings = published_table("vist-sis", {"metrics": {"fid": entry}})
    assert any("fid@64 was not measured" in one for one in warnings)
    assert any("at native size, the published values at 64x64" in one for one in warnings)


def test_charts_show_values_intervals_and_bounds():
    entry = {
        "by_frame": [None, 0.5, 0.6], "by_frame_interval": [None, [0.4, 0.55], [0.5, 0.8]],
        "real": 0.9, "shuffled": 0.2, "higher_is_better": False,
    }  # fmt: skip
    figure = plot_by_frame(
        {"cartoon/m_n": entry, "fid": {"value": 1}, "o": {**entry, "real": None}}
    )
    first, second = figure.axes
    assert (first.get_title("left"), first.get_title("right")) == ("m n, judge", "lower is better")
    *bounds, line = first.lines
    assert [bound.get_ydata()[0] for bound in bounds] == [0.9, 0.2]
    shown = [[text.get_text() for text in axes.texts] for axes in (first, second)]
    assert shown == [["real", "shuffled"], ["shuffled"]]
    assert np.array_equal(line.get_ydata(), [np.nan, 0.5, 0.6], equal_nan=True)
    band = first.collections[0].get_paths()[0].vertices
    assert band.min(0).tolist() == [2, 0.4] and band.max(0).tolist() == [3, 0.8]
    assert plot_by_frame({"m": {"value": 1}}) is None
