from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from sample_folders import VOCABULARY, label, story

from evaluation.metrics.bootstrap import interval, ratio, story_weights
from evaluation.metrics.cartoon import ROWS as METRICS
from evaluation.metrics.cartoon import chance, check_labels, count_frames, story_note
from evaluation.metrics.choice import choose, load_networks
from evaluation.metrics.material import Material
from evaluation.metrics.measure import number
from evaluation.metrics.table import METRICS as RECORDS
from evaluation.metrics.table import named_metrics
from evaluation.networks.judge import Judge, JudgeNetwork
from evaluation.options import Options
from evaluation.samples import Samples

NO_WEATHER = {"weather_accuracy": None, "object_accuracy": None}  # in the small world


def score(stories, readings, draws=1000, seed=0):
    """{metric: value, …, "interval": {metric: …}} over stories of any length."""
    pairs = zip(stories, readings, strict=True)
    counts = np.array([count_frames(*pair).sum(0) for pair in pairs])
    values = ratio(np.tensordot(story_weights(len(stories), draws, seed), counts, 1))
    intervals = [interval(column) for column in values.T]
    found = dict(zip(METRICS, map(number, values[0]), strict=True))
    return {**found, "interval": dict(zip(METRICS, intervals, strict=True))}


def example():
    """Two stories. Repeated shirts: a1 ann; a2 ann, bob; b1 bob: four in all."""
    a = story([
        label("sea", {"ann": "red"}, place_named=True),
        label("sea", {"ann": "red", "bob": "blue"}, "run"),
        label("hill", {"bob": "blue", "ann": "red"}, pronoun_only=True, held_out=True),
    ], "a")  # fmt: skip
    b = story([
        label("hill", {"bob": "red"}, place_named=True),
        label("hill", {"bob": "red"}, "run", pronoun_only=True),
    ], "b")  # fmt: skip
    return [a, b]


def perfect(stories):
    return [copy.deepcopy(one.labels) for one in stories]


def test_fixed_damage_gives_the_numbers_worked_out_by_hand():
    stories = example()
    read = perfect(stories)
    read[0][1].update(place="hill", clothes={"ann": "blue", "bob": "blue"})  # ann changes shirt
    read[0][2].update(cast=["ann"], clothes={"ann": "red"})  # bob is not seen
    read[1][0].update(clothes={"bob": "blue"})  # first drawn blue, whatever the label says ...
    read[1][1].update(action="sit", clothes={"bob": "blue"})  # ... so blue is kept
    result = score(stories, read)
    expected = {
        "place_accuracy": 2 / 3,  # a1 wrong; a2, b1 right
        "place_named_accuracy": 1.0,
        "frame_accuracy": 4 / 5,  # a2 wrong
        "character_f1": 2 * 6 / (7 + 6),  # 7 true, 6 seen, all 6 right
        "pronoun_accuracy": 1 / 2,  # a2 wrong, b1 right
        "action_accuracy": 4 / 5,  # b1 wrong
        "clothes_accuracy": 2 / 4,  # a1 ann wrong, a2 ann right, a2 bob unseen, b1 bob kept
        "all_right": 2 / 5,  # a0, b0
        "held_out_frame_accuracy": 0.0,  # a2
        **NO_WEATHER,
    }
    assert {metric: result[metric] for metric in METRICS} == pytest.approx(expected)
    read[1][1]["place"] = "sea"
    note = story_note(stories[1], read[1])
    assert note == "cast 2/2 · place 1/2 · action 1/2 · shirts 1/1"


def test_given_frame_is_not_counted_but_its_true_shirt_is_the_one_to_keep():
    labels = [label("sea", {"ann": "red"}, place_named=True), label("sea", {"ann": "red"})]
    one = story(labels, given=1)
    wrong = [label("hill", {"ann": "blue"}, "run"), label("sea", {"ann": "red"})]
    assert score([one], [wrong])["all_right"] == 1.0
    wrong[1]["clothes"] = {"ann": "blue"}
    result = score([one], [wrong])
    assert result["clothes_accuracy"] == 0.0
    assert result["place_named_accuracy"] is None  # the only such frame was given
    assert result["interval"]["place_named_accuracy"] is None
    json.dumps(result, allow_nan=False)


def test_a_character_not_seen_at_first_has_no_shirt_to_keep():
    one = story([label("sea", {"ann": "red"}), label("sea", {"ann": "red"})])
    read = [label("sea", {}), label("sea", {"ann": "red"})]
    assert score([one], [read])["clothes_accuracy"] == 0.0


def test_chance_is_that_of_guessing_worked_out_by_hand():
    """Any frame's cast at random, one of two places, actions and shirts."""
    assert chance(example(), VOCABULARY) == pytest.approx({
        "place_accuracy": 1 / 2, "place_named_accuracy": 1 / 2, "action_accuracy": 1 / 2,
        "clothes_accuracy": 1 / 2,
        "frame_accuracy": (1 + 2 + 2 + 2 + 2) / 25,  # how many of the five casts are the frame's
        "pronoun_accuracy": 2 / 5,
        # Ann is in three casts of five, Bob in four; seven characters are there, and seven guessed.
        "character_f1": 2 * (3 + 7 + 7 + 4 + 4) / 5 / 14,
        "held_out_frame_accuracy": 2 / 5 / 4,
        # a1 and b1 have one shirt to keep, a2 two
        "all_right": (1 + 2 / 2 + 2 / 4 + 2 + 2 / 2) / 5 / 4 / 5,
        **NO_WEATHER,
    })  # fmt: skip


def test_weather_and_objects_count_where_captions_leave_them_open():
    nothing = {"object": "none", "colour": None, "carrier": None}
    ball = {"object": "ball", "colour": "red", "carrier": "ann"}
    both = {"ann": "red", "bob": "blue"}
    one = story([
        label("sea", both, weather="rain", weather_named=True, **nothing),
        label("sea", both, weather="rain", **ball, object_named=True),
        label("sea", both, weather="rain", **ball),
        label("sea", both, weather="rain", **ball, held_out=True),
        label("sea", {"bob": "blue"}, weather="rain", **nothing),
    ])  # fmt: skip
    assert score([one], perfect([one]))["all_right"] == 1.0
    (read,) = perfect([one])
    read[0]["weather"] = read[1]["object"] = "snow"  # named, both: neither counts but in all_right
    read[2]["weather"] = "snow"
    read[3]["carrier"] = "bob"  # the right object in the wrong hands
    read[4] |= ball  # out of thin air
    result = score([one], [read])
    assert result["weather_accuracy"] == 3 / 4 and result["object_accuracy"] == 1 / 2
    assert result["all_right"] == result["held_out_frame_accuracy"] == 0.0
    assert story_note(one, read).endswith("weather 3/5 · object 2/5 · shirts 7/7")
    wide = {**VOCABULARY, "weathers": ["rain", "snow"], "objects": ["none", "ball"],
            "colours": ["red", "blue"]}  # fmt: skip
    found = chance([one], wide)
    assert found["weather_accuracy"] == 1 / 2
    assert found["object_accuracy"] == pytest.approx(1 / 2 / 2 / 2)  # kind, colour, carrier
    lacking = {key: value for key, value in one.labels[0].items() if key != "carrier"}
    samples = Samples(None, [story([lacking])])
    with pytest.raises(ValueError, match="without label 'carrier'"):
        check_labels(samples, Judge(JudgeNetwork(wide), wide))
    check_labels(samples, Judge(JudgeNetwork(VOCABULARY), VOCABULARY))


def test_each_world_has_its_own_metrics_unless_they_are_asked_for_by_name():
    small = story([label("sea", {"ann": "red"})])
    wide = story([label("sea", {"ann": "red"}, weather="rain")])
    ask = Options("s", judge="judge.safetensors")
    here = {name: {one.name for one in choose(ask, [Material.of("s", [world])])[0]}
            for name, world in (("small", small), ("wide", wide))}  # fmt: skip
    assert here["small"] - here["wide"] == {
        f"cartoon/{name}{suffix}"
        for name in ("psnr", "ssim", "figure_psnr")
        for suffix in ("", "_one", "_two")
    }
    assert here["wide"] - here["small"] == {"cartoon/weather_accuracy", "cartoon/object_accuracy"}
    ask.metrics = ["cartoon/psnr"]
    with pytest.raises(ValueError, match="cartoon/psnr needs characters in fixed places"):
        choose(ask, [Material.of("s", [wide])])


def test_stories_without_labels_and_without_drawn_frames(tmp_path):
    bare = story([label("sea", {"ann": "red"})])
    lacking = story([{"place": "sea", "cast": [], "clothes": {}}])
    with pytest.raises(ValueError, match="'s0' has a frame without label 'action'"):
        check_labels(Samples(tmp_path, [lacking]), Judge(JudgeNetwork(VOCABULARY), VOCABULARY))
    with pytest.raises(ValueError, match="every frame was given"):
        Material.of("s", [story(bare.labels, given=1)])


def test_judge_of_another_world_is_refused(tmp_path):
    Judge(JudgeNetwork(VOCABULARY), VOCABULARY).save(tmp_path / "judge.safetensors")
    options = Options("s", judge=str(tmp_path / "judge.safetensors"))
    other = {**VOCABULARY, "places": ["moon", "mars"]}
    runs = [Samples(tmp_path, example(), vocabulary) for vocabulary in (VOCABULARY, other)]
    for metrics in ("cartoon", "judge_frechet"):
        chosen = [RECORDS[name] for name in named_metrics(metrics)]
        options.metrics = [metrics]
        assert load_networks(list(chosen), options, runs[:1], {})
        with pytest.raises(ValueError, match="judge=judge.safetensors: its label .* not that of"):
            load_networks(list(chosen), options, runs, {})
