"""Inputs that nobody thought of: read as they are meant, or refused in one sentence."""

from __future__ import annotations

import csv
import io
import json
from copy import deepcopy

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from common.documents import parse_json, parse_yaml
from configuration import load_config
from configuration.composition import parse_words
from configuration.rules import RULES
from data_script.folder_hdf5 import read_stories
from datasets.written_stories import read_written_stories
from evaluation.samples import read_samples

settings.register_profile(
    "quick", max_examples=60, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
settings.load_profile("quick")

# as people write: any letters, among them those that mean something to a file format
letters = st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from(",;:#\"'[]{}|&*!%@\\ ")
texts = st.text(letters, min_size=1, max_size=30)
captions = texts.filter(lambda text: text.split() and "|" not in text)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner,
                                                                max_size=3),
    max_leaves=8,
)  # fmt: skip
names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)


def refused(error: Exception) -> None:
    """One line that says something."""
    assert isinstance(error, ValueError | OSError), repr(error)
    assert str(error).strip() and "\n" not in str(error), str(error)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(folder / name)
    return folder


def on_one_line(text: str) -> str:
    return " ".join(text.split())


@given(st.lists(captions, min_size=2, max_size=2), st.sampled_from(["csv", "jsonl"]))
def test_captions_of_a_table_come_back_as_they_were(home, told, kind):
    for name in ("captions.csv", "captions.jsonl"):
        (home / name).unlink(missing_ok=True)
    frames = [{"image": f"{name}.png", "caption": c} for name, c in zip("ab", told, strict=True)]
    if kind == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, ["story", "image", "caption"])
        writer.writeheader()
        writer.writerows({"story": "s", **frame} for frame in frames)
        content = text.getvalue()
    else:
        content = json.dumps({"story": "s", "frames": frames}, ensure_ascii=len(told[0]) % 2 == 0)
    (home / f"captions.{kind}").write_bytes(content.encode())
    try:
        (story,) = read_stories(home)
    except ValueError as error:  # a line separator of Unicode within a cell
        refused(error)
        assert kind == "csv" and any(c in "".join(told) for c in "\x85\u2028\u2029")
        return
    assert story.captions == [on_one_line(caption) for caption in told]


@given(st.text() | st.binary(), st.sampled_from(["csv", "jsonl"]), st.booleans())
def test_any_captions_file(home, content, kind, head):
    for name in ("captions.csv", "captions.jsonl"):
        (home / name).unlink(missing_ok=True)
    content = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    (home / f"captions.{kind}").write_bytes(b"story,image,caption\n" * head + content)
    try:
        read_stories(home)
    except (ValueError, OSError) as error:
        refused(error)


@given(st.fixed_dictionaries({}, optional={"story": values, "frames": values, "split": values}))
def test_any_line_of_a_captions_file(home, line):
    (home / "captions.csv").unlink(missing_ok=True)
    (home / "captions.jsonl").write_text(json.dumps(line))
    try:
        read_stories(home)
    except (ValueError, OSError) as error:
        refused(error)


@given(st.lists(captions, min_size=1, max_size=6), names, st.sampled_from(["yaml", "json"]))
def test_a_story_file_comes_back_as_it_was(home, told, name, kind):
    story = {"captions": told, "story_id": name}
    path = home / f"mine.{kind}"
    dumped = yaml.safe_dump(story, allow_unicode=True) if kind == "yaml" else json.dumps(story)
    path.write_text(dumped, encoding="utf-8")
    (read,) = read_written_stories(path, False)
    assert (read.captions, read.story_id) == ([on_one_line(text) for text in told], name)


@given(captions, st.booleans())
def test_a_caption_written_plainly_is_whole_or_refused(home, told, flow):
    path = home / "plain.yaml"
    told = on_one_line(told)
    text = f"captions: [{told}]\n" if flow else f"captions:\n- {told}\n"
    path.write_text(text, encoding="utf-8")
    try:
        (read,) = read_written_stories(path, False)
    except ValueError as error:
        refused(error)
        return
    # what else YAML has: its own quotes, marks and anchors, and commas after a full stop
    if told[0] not in "\"'&!|>" and not (flow and "," in told):
        assert read.captions == [told]


@given(values, st.sampled_from(["yaml", "json"]))
def test_any_story_file(home, content, kind):
    path = home / f"any.{kind}"
    dumped = yaml.safe_dump(content) if kind == "yaml" else json.dumps(content)
    path.write_text(dumped, encoding="utf-8")
    try:
        read_written_stories(path, False)
    except ValueError as error:
        refused(error)


@given(st.text(max_size=60))
def test_any_text_as_a_document(text):
    for parse in (parse_yaml, parse_json):
        try:
            parse(text)
        except ValueError as error:
            refused(error)


@given(values)
def test_documents_come_back_as_they_were(content):
    try:
        text = json.dumps(content)
        assert parse_json(text) == content
    except ValueError as error:  # NaN, half a letter
        refused(error)


ENTRY = {"story_id": "s", "captions": ["A.", "B."], "frames": ["a.png", "b.png"]}
KEYS = ("story_id", "captions", "frames", "reference_frames", "given", "seed", "checkpoint",
        "sampler", "labels", "history_weights", "captions_read")  # fmt: skip


@given(st.dictionaries(st.sampled_from(KEYS), values, max_size=2))
def test_any_manifest(home, changes):
    (home / "manifest.jsonl").write_text(json.dumps(ENTRY | changes) + "\n")
    try:
        samples = read_samples(home)
        assert samples.stories[0].shown_captions  # what reads it finds what it expects
    except (ValueError, OSError) as error:
        refused(error)


KEY = st.sampled_from([key for key in RULES if not isinstance(RULES[key], dict)])


@given(KEY | texts, texts)
def test_any_word_is_understood_or_refused(key, value):
    try:
        parse_words([f"{key}={value}"])
    except ValueError as error:
        refused(error)


@given(st.dictionaries(KEY, values, max_size=3))
@settings(max_examples=10)
def test_any_configuration_file(home, content):
    before = deepcopy(content)
    path = home / "config.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    try:
        config = load_config([f"config={path}", "mode=train"])
    except (ValueError, OSError) as error:
        refused(error)
        return
    for key, value in before.items():
        if key not in ("precision", "gpu_ids", "mode"):  # which have other spellings
            assert config[key] == value
