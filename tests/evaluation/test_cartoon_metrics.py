from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from sample_folders import VOCABULARY, label, story

from evaluation.metrics.bootstrap import interval, ratio, story_weights
from evaluation.metrics.cartoon import ROWS as METRICS
from evaluation.metrics.cartoon import chance, check_labels, count_frames, story_note
from evaluation.metrics.material import Material
from evaluation.metrics.measure import number
from evaluation.networks.judge import Judge, JudgeNetwork, judge_network
from evaluation.options import Options
from evaluation.samples import Samples


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


def test_bootstrap_interval_against_resampling_story_by_story():
    stories, read = example() * 15, perfect(example() * 15)
    for reading in read[::4]:
        reading[1]["place"] = "nowhere"
    found = score(stories, read, draws=1000)["interval"]["place_accuracy"]
    random, values = np.random.default_rng(9), []
    for _ in range(1000):
        chosen = random.integers(0, len(stories), len(stories))
        right = [
            read[i][k]["place"] == stories[i].labels[k]["place"]
            for i in chosen
            for k in range(len(read[i]))
            if not stories[i].labels[k]["place_named"]
        ]
        values.append(np.mean(right))
    assert found == pytest.approx(np.percentile(values, [2.5, 97.5]).tolist(), abs=0.01)


def test_chance_agrees_with_guessing_at_random():
    stories = example()
    drawn = [one for each in stories for one in each.labels]
    random, rounds = np.random.default_rng(1), 1500
    sums = {metric: 0.0 for metric in METRICS}
    counted = {
        "place_accuracy": 3, "place_named_accuracy": 2, "frame_accuracy": 5, "pronoun_accuracy": 2,
        "action_accuracy": 5, "clothes_accuracy": 4, "all_right": 5, "held_out_frame_accuracy": 1,
    }  # fmt: skip
    both = sizes = 0
    for _ in range(rounds):
        for each in stories:
            met = set()
            for truth in each.labels:
                cast = set(drawn[random.integers(len(drawn))]["cast"])
                place = random.choice(VOCABULARY["places"]) == truth["place"]
                action = random.choice(VOCABULARY["actions"]) == truth["action"]
                same = cast == set(truth["cast"])
                kept = [random.random() < 1 / 2 for name in truth["cast"] if name in met]
                met |= set(truth["cast"])
                both += len(cast & set(truth["cast"]))
                sizes += len(cast) + len(truth["cast"])
                sums["place_named_accuracy" if truth["place_named"] else "place_accuracy"] += place
                sums["frame_accuracy"] += same
                sums["pronoun_accuracy"] += same and truth["pronoun_only"]
                sums["action_accuracy"] += action
                sums["clothes_accuracy"] += sum(kept)
                sums["all_right"] += same and place and action and all(kept)
                sums["held_out_frame_accuracy"] += same and place and action and truth["held_out"]
    simulated = {metric: sums[metric] / rounds / count for metric, count in counted.items()}
    simulated["character_f1"] = 2 * both / sizes
    assert chance(stories, VOCABULARY) == pytest.approx(simulated, abs=0.03)


def test_stories_without_labels_and_without_drawn_frames(tmp_path):
    bare = story([label("sea", {"ann": "red"})])
    lacking = story([{"place": "sea", "cast": [], "clothes": {}}])
    with pytest.raises(ValueError, match="'s0' has a frame without label 'action'"):
        check_labels(Samples(tmp_path, [lacking]), None)
    with pytest.raises(ValueError, match="every frame was given"):
        Material.of("s", [story(bare.labels, given=1)])


def test_judge_of_another_world_is_refused(tmp_path):
    Judge(JudgeNetwork(VOCABULARY), VOCABULARY).save(tmp_path / "judge.safetensors")
    options = Options("s", judge=str(tmp_path / "judge.safetensors"))
    other = {**VOCABULARY, "places": ["moon", "mars"]}
    with pytest.raises(ValueError, match="is not that of"):
        judge_network(options, Samples(tmp_path, example(), other))
    judge_network(options, Samples(tmp_path, example(), VOCABULARY))
