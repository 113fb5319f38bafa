"""Stories written by hand: what is read, and what the sentence says when it cannot be."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from datasets.story_file import read_story_file
from datasets.story_prompts import StoryPrompt

CAPTIONS = ["Pip is in the meadow.", "He waves.", "He falls asleep."]
RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture
def write(tmp_path):
    """Writes a story file (text as it is, anything else as YAML or JSON) and returns its path."""

    def write_file(content, name="mine.yaml"):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif name.endswith(".json"):
            path.write_text(json.dumps(content, indent="\t"), encoding="utf-8")
        else:
            path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        return path

    return write_file


@pytest.fixture
def picture(tmp_path):
    """Writes 6x4 pixels, left half red and right half blue, and returns the file's name."""

    def write_picture(name, **how):
        pixels = np.zeros((4, 6, 3), np.uint8)
        pixels[:, :3], pixels[:, 3:] = RED, BLUE
        Image.fromarray(pixels).save(tmp_path / name, **how)
        return name

    return write_picture


def read(path, continuation=False, longest=6):
    return read_story_file(path, continuation, longest)


@pytest.mark.parametrize("name", ["mine.yaml", "mine.yml", "mine.json", "mine.JSON", "mine"])
def test_one_story_takes_its_id_from_the_file(write, name):
    content = {"captions": CAPTIONS}
    path = write(json.dumps(content, indent="\t") if "JSON" in name else content, name)
    assert read(path) == [StoryPrompt("mine", CAPTIONS)]


def test_the_form_of_the_docstring_reads(write, picture):
    picture("pip.png")
    path = write(
        "captions: [Pip is in the meadow., He waves., He falls asleep.]\n"
        "first_frame: pip.png        # only for continuation\n"
    )
    (story,) = read(path, continuation=True)
    assert story.captions == CAPTIONS
    assert story.first_frame.shape == (4, 6, 3)


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("name", ["two.yaml", "two.json"])
def test_several_stories_with_and_without_ids(write, wrapped, name):
    entries = [{"captions": CAPTIONS, "story_id": "pip"}, {"captions": CAPTIONS[:2]}]
    stories = read(write({"stories": entries} if wrapped else entries, name))
    assert [story.story_id for story in stories] == ["pip", "two-002"]
    assert [len(story.captions) for story in stories] == [3, 2]


def test_ids_may_be_numbers_and_null_means_none(write):
    entries = [{"captions": CAPTIONS, "story_id": 7}, {"captions": CAPTIONS, "story_id": None}]
    assert [story.story_id for story in read(write(entries))] == ["7", "mine-002"]


def test_captions_lose_line_breaks_and_keep_other_alphabets(write):
    path = write({"captions": ["Pip\n  geht   über\tdie Brücke. ", "他挥手。"]})
    assert read(path)[0].captions == ["Pip geht über die Brücke.", "他挥手。"]


@pytest.mark.parametrize("name", ["mine.yaml", "mine.json"])
def test_the_mark_some_editors_put_first_is_no_text(write, name):
    path = write(b"\xef\xbb\xbf" + json.dumps({"captions": CAPTIONS}).encode(), name)
    assert read(path)[0].captions == CAPTIONS


def test_json_is_read_by_its_own_rules(write):
    path = write('{"captions": ["A \\ud83d\\ude00 face\\/smile."]}', "mine.json")
    assert read(path)[0].captions == ["A 😀 face/smile."]


def test_first_frame_is_relative_to_the_file_not_to_the_working_folder(
    write, picture, tmp_path, monkeypatch
):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "elsewhere").mkdir()
    picture("pictures/pip.png")
    path = write({"captions": CAPTIONS, "first_frame": "pictures/pip.png"})
    monkeypatch.chdir(tmp_path / "elsewhere")
    frame = read(path, continuation=True)[0].first_frame
    assert frame.dtype == np.uint8 and frame.flags.writeable
    assert tuple(frame[0, 0]) == RED and tuple(frame[0, -1]) == BLUE


def test_first_frame_may_be_absolute(write, picture, tmp_path):
    picture("pip.png")
    path = write({"captions": CAPTIONS, "first_frame": str(tmp_path / "pip.png")})
    assert read(path, continuation=True)[0].first_frame.shape == (4, 6, 3)


def test_first_frame_is_turned_as_the_camera_was(write, picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned clockwise by 90 degrees
    path = write({"captions": CAPTIONS, "first_frame": picture("turned.png", exif=exif)})
    frame = read(path, continuation=True)[0].first_frame
    assert frame.shape == (6, 4, 3)
    assert tuple(frame[0, 0]) == RED and tuple(frame[-1, 0]) == BLUE


@pytest.mark.parametrize("transparent", [False, True])
def test_palette_pictures_become_rgb_over_white(write, tmp_path, transparent):
    palette = Image.new("P", (3, 2), 1)
    palette.putpalette([*BLUE, *RED])
    palette.putpixel((2, 0), 0)
    palette.save(tmp_path / "palette.png", **({"transparency": 0} if transparent else {}))
    path = write({"captions": CAPTIONS, "first_frame": "palette.png"})
    frame = read(path, continuation=True)[0].first_frame
    assert tuple(frame[0, 0]) == RED
    assert tuple(frame[0, 2]) == ((255, 255, 255) if transparent else BLUE)


def test_half_transparent_pictures_lie_on_white(write, tmp_path):
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    path = write({"captions": CAPTIONS, "first_frame": "clear.png"})
    assert (read(path, continuation=True)[0].first_frame == 255).all()


@pytest.mark.parametrize("mode", ["L", "LA", "1", "CMYK"])
def test_other_kinds_of_picture_become_rgb(write, tmp_path, mode):
    name = "other.jpg" if mode == "CMYK" else "other.png"
    Image.new("RGB", (4, 4), "white").convert(mode).save(tmp_path / name)
    path = write({"captions": CAPTIONS, "first_frame": name})
    frame = read(path, continuation=True)[0].first_frame
    assert frame.shape == (4, 4, 3) and (frame > 250).all()


GOOD = {"captions": CAPTIONS}
BAD = {
    "empty file": ("", "holds no story"),
    "only a text": ("He waves.", "holds no story"),
    "a number": ("5", "holds no story"),
    "empty list": ([], "holds no story"),
    "no stories": ({"stories": []}, "holds no story"),
    "stories is null": ({"stories": None}, "holds no story"),
    "stories is one story": ({"stories": GOOD}, "holds no story"),
    "key beside stories": ({"stories": [GOOD], "title": "Pip"}, "'title' stands beside stories"),
    "broken YAML": ("captions: [He waves.", "cannot be read as YAML or JSON"),
    "YAML with a tab": ("captions:\n\t- He waves.", "cannot be read as YAML or JSON"),
    "YAML that runs code": ("!!python/object/apply:os.system ['true']", "cannot be read"),
    "no captions": ({"first_frame": "a.png"}, "has no captions"),
    "entry is a text": (["He waves."], "has no captions"),
    "second has none": ([GOOD, {"story_id": "b"}], "story 2 has no captions"),
    "captions is null": ({"captions": None}, "captions is None"),
    "captions is a text": ({"captions": "He waves."}, "must be a list of sentences"),
    "captions is empty": ({"captions": []}, "captions is []"),
    "empty caption": ({"captions": ["He waves.", "  "]}, "must be a list of sentences"),
    "caption is a number": ({"captions": ["He waves.", 5]}, "must be a list of sentences"),
    "caption with a colon": ("captions:\n- Pip says: hello\n", "in quotes where they hold a colon"),
    "YAML's yes": ("captions:\n- yes\n", "must be a list of sentences"),
    "too long": ({"captions": ["He waves."] * 7}, "has 7 captions; give 1 to 6"),
    "unknown key": ({**GOOD, "first_picture": "a.png"}, "'first_picture' is unknown"),
    "key is a number": ({**GOOD, 5: "a.png"}, "5 is unknown"),
    "id with a path": ({**GOOD, "story_id": "../pip"}, "'../pip' cannot name a folder"),
    "empty id": ({**GOOD, "story_id": ""}, "story_id '' cannot name a folder"),
    "id is a list": ({**GOOD, "story_id": ["a"]}, "cannot name a folder"),
    "same id twice": ([{**GOOD, "story_id": "a"}] * 2, "'a' is used twice"),
    "first frame unasked": ({**GOOD, "first_frame": "a.png"}, "set task=continuation"),
}


@pytest.mark.parametrize("content, says", BAD.values(), ids=BAD)
def test_bad_files_end_in_one_sentence(write, content, says):
    path = write(content)
    with pytest.raises(ValueError) as caught:
        read(path)
    message = str(caught.value)
    assert says in message and message.startswith(str(path)) and "\n" not in message


def test_bad_bytes_and_bad_json(write):
    for path in (write(b"captions: [\xff]"), write("{'captions': []}", "mine.json")):
        with pytest.raises(ValueError, match="cannot be read as YAML or JSON"):
            read(path)


def test_a_file_name_that_cannot_name_a_folder_asks_for_an_id(write):
    path = write(GOOD, "my story (1).yaml")
    with pytest.raises(ValueError, match="give a story_id of plain letters"):
        read(path)
    assert read(write({**GOOD, "story_id": "pip"}, "b (1).yaml"))[0].story_id == "pip"


@pytest.fixture
def continued(write, tmp_path):
    """Reads a story for continuation that starts from the file `name`."""

    def read_continued(name, captions=CAPTIONS):
        return read(write({"captions": captions, "first_frame": name}), continuation=True)

    return read_continued


def test_continuation_needs_a_first_frame(write):
    with pytest.raises(ValueError, match="has no first_frame, which task=continuation starts from"):
        read(write(GOOD), continuation=True)


def test_continuation_needs_something_to_draw(continued, picture):
    with pytest.raises(ValueError, match="has 1 captions; give 2 to 6"):
        continued(picture("pip.png"), CAPTIONS[:1])


def test_a_first_frame_of_16_bits_is_scaled_not_clipped(continued, tmp_path):
    grey = np.full((5, 4), 130 * 256 + 99, np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert (continued("grey.png")[0].first_frame == 130).all()


@pytest.mark.parametrize("name", ["missing.png", "", ".", 5])
def test_first_frames_that_are_no_file(continued, name):
    with pytest.raises(ValueError, match="does not exist; give a picture's path"):
        continued(name)


def test_first_frames_that_are_no_picture(continued, picture, tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "damaged.png").write_bytes(whole[:60] + bytes(30) + whole[90:])
    picture("drawing.eps")  # reading one would start a program
    for name in ("text.png", "empty.png", "cut.png", "damaged.png", "drawing.eps"):
        with pytest.raises(ValueError, match=f"first_frame: picture .*{name} cannot be used"):
            continued(name)
