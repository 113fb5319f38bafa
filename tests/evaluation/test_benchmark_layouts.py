"""ViStoryBench's stories in, its and VinaBench's folders out and back in."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from bench_world import SHOTS, write_bench
from PIL import Image

from common.vistorybench import read_benchmark
from datasets.story_hdf5 import is_story_id
from datasets.story_prompts import StoryPrompt, in_parts, read_benchmark_prompts
from evaluation.export import main
from evaluation.options import Options
from evaluation.run import evaluate
from evaluation.samples import SamplesFolder, open_samples, read_samples
from evaluation.samples.benchmarks import write_vinabench


@pytest.fixture
def root(tmp_path):
    return write_bench(tmp_path / "ViStory")


def draw(prompts, folder, size=(24, 24)):
    """A stand-in for sampling: every frame of one colour, all different."""
    colours = np.random.default_rng(0).integers(0, 256, (99, 3), dtype=np.uint8)
    samples = SamplesFolder(folder, {"seed": 0, "given": 0, "checkpoint": "", "sampler": {}})
    for prompt in prompts:
        count = len(prompt.captions)
        frames = np.zeros((count, *size, 3), np.uint8) + colours[:count, None, None]
        colours = colours[count:]
        read = [1, *[None] * (count - 1)]  # the model has not read all of the first caption
        samples.add(prompt.story_id, prompt.captions, frames, captions_read=read)


def test_every_shot_goes_out_and_is_found_again(root, tmp_path, capsys):
    prompts = list(in_parts(read_benchmark_prompts(root), 5))
    assert [prompt.story_id for prompt in prompts] == ["01-part1", "01-part2", "02", "80"]
    assert all(is_story_id(prompt.story_id) for prompt in prompts)
    assert prompts[1].captions == ["Shot 9 of 01."]
    draw(reversed(prompts), tmp_path / "drawn")  # no order is promised
    main([f"samples={tmp_path / 'drawn'}", "layout=vistorybench", f"out={tmp_path / 'outputs'}",
          f"benchmark={root}", "method=ours", "timestamp=20260102-030405"])  # fmt: skip
    run = tmp_path / "outputs" / "ours" / "base" / "en" / "20260102-030405"
    assert capsys.readouterr().out == f"{run}\n"
    manifest = (tmp_path / "drawn" / "manifest.jsonl").read_text().splitlines()
    drawn = {entry["story_id"]: entry for entry in map(json.loads, manifest)}
    for name, indices in SHOTS.items():  # a plain reader of what the benchmark describes
        parts = sorted(part for part in drawn if part == name or part.startswith(f"{name}-part"))
        frames = [frame for part in parts for frame in drawn[part]["frames"]]
        captions = [caption for part in parts for caption in drawn[part]["captions"]]
        found = {int(path.stem.split("_")[-1]): path for path in (run / name / "shots").iterdir()}
        assert sorted(found) == indices
        for index, frame, caption in zip(indices, frames, captions, strict=True):
            assert caption == f"Shot {index} of {name}."
            wanted = np.asarray(Image.open(tmp_path / "drawn" / frame))
            assert np.array_equal(np.asarray(Image.open(found[index])), wanted)
    theirs = open_samples(run, benchmark=root)
    ours = open_samples(tmp_path / "drawn", benchmark=root)
    assert [story.story_id for story in theirs.stories] == list(SHOTS)
    for story in theirs.stories:
        (same,) = [one for one in ours.stories if one.story_id == story.story_id]
        assert (same.captions, same.labels) == (story.captions, story.labels)
        assert same.shown_captions == same.captions  # which now are the benchmark's
        for one, two in zip(same.frames, story.frames, strict=True):
            assert np.array_equal(np.asarray(Image.open(one)), np.asarray(Image.open(two)))
        assert [len(one.pictures) for one in story.characters] == (
            [2, 0] if story.story_id == "02" else [2, 2]
        )
    assert theirs.stories[0].labels[-1] == {"cast": []} != theirs.stories[0].labels[0]


TEMPLATES = ["{Static Shot Description}", "{Plot Correspondence} {Static Shot Description}"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_captions_are_of_the_language_that_was_drawn_from(root, tmp_path, template):
    for language, first in (("en", "Shot 1 of 01."), ("ch", "镜头1：Shot 1 of 01.")):
        drawn, now = tmp_path / f"drawn {language}", "20260102-030405"
        draw(read_benchmark_prompts(root, "full", language, template), drawn)
        main([f"samples={drawn}", "layout=vistorybench", f"out={tmp_path}", f"benchmark={root}",
              "method=ours", f"language={language}", f"timestamp={now}"])  # fmt: skip
        for folder in (drawn, tmp_path / "ours" / "base" / language / now):
            story = open_samples(folder, benchmark=root).stories[0]
            assert story.captions[0] == first and story.labels[0]["cast"] == ["Pip", "Ada"]


def test_a_benchmark_without_its_chinese_captions_is_read(root, tmp_path):
    draw(read_benchmark_prompts(root, caption="{Setting Description}"), tmp_path / "drawn")
    for path in root.glob("*/story.json"):
        told = json.loads(path.read_text("utf-8-sig"))
        for shot in told["Shots"]:
            del shot["Static Shot Description"]["ch"]
        path.write_text(json.dumps(told), "utf-8")
    samples = open_samples(tmp_path / "drawn", benchmark=root)
    assert samples.stories[0].captions[0] == "Shot 1 of 01."


def test_stories_that_were_drawn_in_parts_are_measured_by_their_parts(root, tmp_path):
    draw(in_parts(read_benchmark_prompts(root), 5), tmp_path / "drawn")
    options = Options(str(tmp_path / "drawn"), pictures=False, benchmark=str(root))
    found = evaluate(options, ["01-part1", "01-part2"])
    assert (found["stories"], found["frames"]) == (1, 6)
    assert evaluate(options)["stories"] == 3


def test_only_longer_stories_are_cut():
    first = np.zeros((4, 4, 3), np.uint8)
    long = StoryPrompt("a", list("123456"), first)
    assert list(in_parts([long], None)) == list(in_parts([long], 6)) == [long]
    parts = list(in_parts([long], 4))
    assert [(one.story_id, "".join(one.captions)) for one in parts] == [
        ("a-part1", "1234"), ("a-part2", "56"),
    ]  # fmt: skip
    assert parts[0].first_frame is first and parts[1].first_frame is None


def test_splits_languages_and_the_captions_template(root):
    assert [story.story_id for story in read_benchmark(root, "lite")] == ["01"]
    story = read_benchmark(root, "full", "ch")[2]
    assert story.shots[0].caption == "镜头3：Shot 3 of 80." and story.shots[0].cast == (
        "Pip",
        "Ada",
    )
    template = "{Characters Appearing}: {Plot Correspondence} {Static Shot Description}"
    (shot,) = read_benchmark(root, caption=template)[2].shots
    assert shot.caption == "Pip, Ada: They meet. Shot 3 of 80."
    assert read_benchmark(root)[0].characters[1].realistic


WRONG = [  # what becomes of a story, what is said
    (lambda told: told["Shots"][0].update({"Static Shot Description": {"en": " "}}),
     "02/story.json, shot 1 has no caption"),
    (lambda told: told["Shots"][0].update(index=1), "02/story.json has two shots of index 1"),
    (lambda told: told["Shots"][1].update(index="x"), "shot 2 has index 'x'"),
    (lambda told: told["Shots"][1]["Characters Appearing"].update(en=["Bo"]),
     "shot 2 shows 'Bo', who is not among the Characters"),
    (lambda told: told["Shots"][1]["Characters Appearing"].update(en="Pip"),
     "shot 2 shows 'Pip': give a list of names"),
    (lambda told: told["Characters"]["Pip"].update(tag="fox"),
     "'Pip' has tag 'fox', none of realistic_human"),
    (lambda told: told.pop("Shots"), "has no list of Shots"),
]  # fmt: skip


def test_what_is_wrong_with_a_story_is_said(root):
    path = root / "02" / "story.json"
    before = path.read_text("utf-8")
    for change, message in WRONG:
        change(told := json.loads(before))
        path.write_text(json.dumps(told), "utf-8")
        with pytest.raises(ValueError, match=message):
            read_benchmark(root)
    path.write_text("{", "utf-8")
    for folder, how, message in (
        (root, {}, "02/story.json cannot be read as JSON"),
        (root / "02", {}, "holds no NN/story.json of the full split"),
        (root, {"split": "light"}, "split 'light' is none of full, lite"),
        (root, {"language": "de"}, "language 'de' is none of en, ch"),
        (root, {"split": "lite", "caption": "{Mood}"}, "has no field 'Mood', which the caption"),
    ):
        with pytest.raises(ValueError, match=message):
            read_benchmark(folder, **how)


def test_what_is_wrong_with_drawn_folders_is_said(root, tmp_path):
    prompts = list(in_parts(read_benchmark_prompts(root), 5))
    draw([prompts[0], *prompts[2:]], tmp_path / "drawn")
    draw(prompts[1:], tmp_path / "late")
    third = StoryPrompt("01-part3", prompts[1].captions)
    draw([prompts[0], third], tmp_path / "gap")
    for name, message in (
        ("drawn", "story '01' has 5 frames for the 6 shots"), ("gap", "story '01' lacks part 2"),
        ("late", "has a story '01-part2', which is not in"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            open_samples(tmp_path / name, benchmark=root)
    words = ["layout=vistorybench", f"out={tmp_path / 'o'}", "method=ours"]
    words += [f"samples={tmp_path / 'drawn'}", f"benchmark={root}"]
    for more, message in (
        (words[:-1], "needs benchmark=ROOT"), (words, "5 frames, not 6 in"),
        ([*words, "timestamp=now"], "YYYYMMDD"), ([*words, "mode=../../x"], "mode=../../x ca"),
    ):  # fmt: skip
        with pytest.raises(SystemExit, match=message):
            main(more)
    assert not (tmp_path / "o").exists()
    theirs = tmp_path / "theirs"
    (theirs / "02" / "shots").mkdir(parents=True)
    for name, message in (
        ("02/shots/shot_1.png", "no picture shot_02"), ("02/shots/shot_2.jpg", None),
        ("03/shots/shot_01.png", "has a story '03', which is not in"),
        ("02/shots/again_02.png", "two pictures of shot 2"),
    ):  # fmt: skip
        (theirs / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(theirs / name)
        if message is None:
            assert len(open_samples(theirs, benchmark=root).stories[0].frames) == 2
            continue
        with pytest.raises(ValueError, match=message):
            open_samples(theirs, benchmark=root)


def test_vinabench_gets_every_frame_of_a_story_under_one_number(root, tmp_path):
    draw(list(in_parts(read_benchmark_prompts(root), 5)), tmp_path / "drawn", size=(64, 64))
    main([f"samples={tmp_path / 'drawn'}", "layout=vinabench", f"out={tmp_path / 'o'}",
          "method=ours", "subset=salon_short", "setting=pred"])  # fmt: skip
    paths = list((tmp_path / "o" / "salon_short_inf" / "ours" / "pred").iterdir())
    found = {tuple(map(int, re.fullmatch(r"(\d+)_(\d+)\.jpg", path.name).groups())): path
             for path in paths}  # fmt: skip
    assert sorted(found) == [(int(name), k) for name, shots in SHOTS.items()
                             for k in range(len(shots))]  # fmt: skip
    last = np.asarray(Image.open(found[1, 5]))
    assert last.shape == (224, 512, 3)
    entry = json.loads((tmp_path / "drawn" / "manifest.jsonl").read_text().splitlines()[1])
    colour = np.asarray(Image.open(tmp_path / "drawn" / entry["frames"][0]))[0, 0]
    assert entry["story_id"] == "01-part2" and np.abs(last[100, 100] - colour.astype(int)).max() < 9
    other = found[1, 5].with_name("9_0.jpg")
    found[1, 5].rename(other)
    with pytest.raises(SystemExit, match="9_0.jpg is there, which these samples do not have"):
        main([f"samples={tmp_path / 'drawn'}", "layout=vinabench", f"out={tmp_path / 'o'}",
              "method=ours", "subset=salon_short", "setting=pred"])  # fmt: skip
    assert not found[1, 5].exists()


def test_only_parts_of_one_story_are_joined_and_no_story_takes_the_place_of_another(tmp_path):
    for ids in (["counter-part2", "2"], ["01", "1"], ["a-part1-part1", "a-part1-part2", "a-part3"],
                ["b", "b-part1"]):  # fmt: skip
        prompts = [StoryPrompt(name, ["A caption."]) for name in ids]
        draw(prompts, folder := tmp_path / ids[0] / "drawn")
        run = write_vinabench(read_samples(folder), tmp_path / ids[0] / "o", "vwp", "ours", "gold")
        joined = ids[0] == "a-part1-part1"
        names = ["0_0.jpg", "0_1.jpg", "1_0.jpg"] if joined else ["0_0.jpg", "1_0.jpg"]
        assert sorted(path.name for path in run.iterdir()) == names, ids
