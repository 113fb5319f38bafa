from __future__ import annotations

import json

import pytest
from PIL import Image
from sample_folders import write_samples

from evaluation.samples import open_samples, read_samples


def test_labels_and_vocabularies_of_another_form_are_refused(tmp_path):
    for label in ({"cast": "ann"}, {"cast": [["ann"]]}, {"place": 7}, {"place": [7]},
                  {"clothes": ["red"]}, {"clothes": {"ann": 1}}, {"action": ["sit"]}):  # fmt: skip
        write_samples(tmp_path, stories=1, labels=[{"cast": ["ann"], "place": ["sea"]}, label])
        with pytest.raises(ValueError, match="line 1: 'labels' is .*, not a list like"):
            read_samples(tmp_path)
    write_samples(tmp_path, stories=1)
    for names in ("ann", [1, None], ["ann", "ann"]):
        (tmp_path / "label_vocabulary.json").write_text(json.dumps({"characters": names}))
        with pytest.raises(ValueError, match="list of different names 'characters', not"):
            read_samples(tmp_path)


def test_line_separators_inside_captions_do_not_end_a_manifest_line(tmp_path):
    entry = write_samples(tmp_path, stories=1)[0]
    entry["captions"][0] = "one\u2028two"
    (tmp_path / "manifest.jsonl").write_text(json.dumps(entry, ensure_ascii=False), "utf-8")
    assert read_samples(tmp_path).stories[0].captions[0] == "one\u2028two"


def test_story_folders_named_by_signs_that_look_like_digits(tmp_path):
    for name in ("②", "10", "2", "①"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "0.png")
    stories = open_samples(tmp_path).stories
    assert [story.story_id for story in stories] == ["2", "10", "①", "②"]
