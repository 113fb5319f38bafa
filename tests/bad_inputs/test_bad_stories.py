"""Folders of pictures, written stories and story files that are not right: one sentence each.

Each row: a program, what spoils a good input of it, and a part of the sentence.
"""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest
from good_inputs import build, draw_data, go_on, look, tell, tell_json
from spoils import (
    ANIMATION,
    BOMB,
    CAPTIONS,
    DEEP,
    HEAD,
    JUNK,
    LIST,
    MINUS,
    POSTSCRIPT,
    G,
    Spoil,
    both,
    cells,
    column,
    content,
    edited,
    elsewhere,
    fifo,
    gone,
    jsonl,
    picture,
    png_bytes,
    rows,
    saved,
    story,
    table,
    told,
    written,
)

FOLDERS: dict[str, tuple[Spoil, str]] = {
    "no folder": (lambda h: shutil.rmtree(h / "d"), "d is not a folder: correct the path"),
    "no captions": (gone("d/captions.jsonl"), "holds no captions.jsonl or captions.csv: name one"),
    "two files": (content("d/captions.csv", HEAD), "holds both captions.jsonl and captions.csv"),
    "nothing told": (jsonl("", ""), "captions.jsonl tells no story: write some"),
    "not json": (jsonl(story("x"), "{story"), "line 2 is not .*: correct it, see --h"),
    "a list": (jsonl("[1]"), "line 1 is not .*TypeError"),
    "zero frames": (jsonl(story("x", ())), "line 1: 'image' is missing or empty: fill"),
    "deep json": (jsonl(DEEP), "line 1 is not .*nested too deeply"),
    "key twice": (jsonl('{"story": "x", "frames": [], "frames": []}'), "'frames' is there twice"),
    "no name": (jsonl(story(None)), "line 1: 'story' is missing or empty: fill it in"),
    "id twice": (
        jsonl(story("x"), "", story("y"), story(" x ", ["b.png", "a.png"])),
        "line 4: story 'x' is told by .*, line 1: give it another id, or put all its frames on",
    ),
    "path name": (jsonl(story("../x")), "line 1: story '../x': use 1-100 letters"),
    "one frame": (jsonl(story("x", ["a.png"])), "'x' has 1 frames .* 2 or more"),
    "uneven": (
        jsonl(story("x"), story("y", ["a.png", "b.png", "c.png"])),
        "captions.jsonl: story 'y' has 3 frames and 'x' 2: give every story the same number",
    ),
    "no picture": (jsonl(story("x", ["a.png", "no.png"])), "no.png does not exist: correct the"),
    "pipe as picture": (both(fifo("d/f.png"), jsonl(story("x", ["f.png"]))), "does not exist"),
    "caption is a list": (jsonl(told(["A.", "B."])), r"'caption' is \[.A.*, not a text: put it in"),
    "caption is NaN": (jsonl(told(float("nan"))), "NaN is no number"),
    "half a letter": (jsonl(told("A \ud83d frog")), "half a letter"),
    "separator": (jsonl(told("a|b")), r"line 1: remove '\|' from the caption 'a\|b'"),
    "split": (jsonl(story("x", split="dev")), "split 'dev' is unknown: use train, val"),
    "half split": (
        jsonl(story("x", split="train"), story("y")),
        "story 'y' names no split: add it or say --split hash",
    ),
    "csv head": (table("name,picture\nx,a.png\n"), "begin with the line 'story,image,caption'"),
    "csv semicolons": (table("story;image;caption\n"), "commas, not semicolons.*: add it"),
    "csv short": (table(HEAD + "x,a.png,A.\nx,b.png\n"), "line 3: 'caption' is missing or empty"),
    "csv comma": (table(HEAD + "x,a.png,A frog, green\n"), "line 2 has 4 fields, more than the 3"),
    "csv huge": (table(HEAD + 'x,a.png,"' + "A" * 200_000), "line 2: .*"),
    "csv giant head": (table("story," * 40_000 + "A" * 200_000), "captions.csv, line 1: field la"),
    "csv column twice": (table("story,image,caption,caption\n"), "line 1: column 'caption' is th"),
    "csv open quote": (
        table(HEAD + 'x,a.png,A.\nx,b.png,"B.\ny,a.png,"C."\ny,b.png,D.\n'),
        "line 3: a quote that opens here is not closed on its line",
    ),
    "csv rows twice": (table(HEAD + "x,a.png,A\n" * 2), "line 3 says again what .*, line 2 says"),
    "csv two splits": (
        table("story,image,caption,split\nx,a.png,A,val\nx,b.png,B,test\n"),
        "line 3: story 'x' is in two splits: choose one",
    ),
    "csv utf-16": (table((HEAD + "x,a.png,A").encode("utf-16")), "is not UTF-8"),
    "zero bytes": (picture(b""), "picture .*bad.png cannot be used .*: replace it"),
    "cut short": (picture(png_bytes(64, 64)), "bad.png cannot be used .*truncated"),
    "bomb": (picture(png_bytes(9_000, 9_000)), "9000x9000 pixels are too many"),
    "huge bomb": (picture(png_bytes(90_000, 90_000)), "bad.png .*bomb.*replace"),
    "postscript": (picture(POSTSCRIPT), "bad.png cannot be used .cannot identify"),
    "an animation": (picture(ANIMATION.getvalue()), "bad.png .*it is an animation of 3 frames"),
    "negative floats": (picture(MINUS.getvalue()), "its values go from -7 to -7, not from 0 to 1"),
    "a picture as target": (content("s.h5", saved("PNG")), "s.h5 is there and is no story file"),
    "a folder as target": (lambda h: (h / "s.h5").mkdir(), "s.h5 is a folder: give the name of a"),
}

STORY_FILES: dict[str, tuple[Spoil, str]] = {
    "empty file": (written(""), "holds no story"),
    "no stories": (written({"stories": []}), "holds no story"),
    "stories is one story": (written({"stories": G}), "holds no story"),
    "key beside stories": (written({"stories": [G], "title": "a"}), "'title' stands beside"),
    "broken YAML": (written("captions: [He waves."), "cannot be read as YAML or JSON"),
    "YAML that runs code": (written("!!python/object/apply:os.system ['true']"), "cannot be read"),
    "deep": (written("captions: " + DEEP), "nested too deeply"),
    "aliases": (written("a0: &a0 [a]\n" + BOMB), "has more than 100,000 entries"),
    "alias of itself": (written("captions: &a [*a]"), "has more than 100,000 entries"),
    "key twice": (
        written("captions: [A.]\ncaptions: [B.]"),
        "'captions' is there twice",
    ),
    "half a letter": (written('captions: ["Luna \\ud83d waves."]'), "has half a letter"),
    "second has none": (written([G, {"story_id": "b"}]), "story 2 has no captions"),
    "captions is a text": (written({"captions": "He waves."}), LIST),
    "empty caption": (written({"captions": ["He waves.", "  "]}), LIST),
    "caption is a number": (written({"captions": ["He waves.", 5]}), LIST),
    "caption with a colon": (
        written("captions:\n- Pip says: hello\n"),
        "in quotes where they",
    ),
    "caption with #": (
        written("captions:\n- Luna meets\n- cat #7 and\n- no. #1"),
        "in quotes|LIST",
    ),
    "caption in brackets": (
        written("captions: [He waves]"),
        "put the caption 'He waves' in quotes, as in brackets a comma would end it",
    ),
    "caption before #": (
        written("captions:\n- Luna is no. #1\n- Luna is # 1"),
        "would be a comment",
    ),
    "unknown key": (written({**G, "first_picture": "a"}), "'first_picture' is unknown"),
    "id with a path": (written({**G, "story_id": "../pip"}), "'../pip' cannot name a folder"),
    "same id twice": (written([{**G, "story_id": "a"}] * 2), "'a' is used twice"),
    "id of the manifest": (written({**G, "story_id": "manifest.jsonl"}), "would take the place of"),
    "first frame unasked": (written({**G, "first_frame": "pip.png"}), "set task=continuation"),
    "checkpoint is a text": (content("model.ckpt", "hello"), "test_model_file: .*is a text file"),
}

JSON_STORY_FILES: dict[str, tuple[Spoil, str]] = {
    "single quotes": (written("{'captions': []}"), "cannot be read as YAML or JSON"),
    "key twice": (written('{"captions": ["A."], "captions": ["B."]}'), "'captions' is there twice"),
    "NaN": (written('{"captions": [NaN]}'), "NaN is no number"),
    "deep": (written(DEEP), "nested too deeply"),
}


def starts_from(name: object) -> Spoil:
    return written({**G, "first_frame": name})


FIRST_FRAMES: dict[str, tuple[Spoil, str]] = {
    "none": (written(G), "has no first_frame, which task=continuation starts from"),
    "nothing to draw": (
        written({"captions": CAPTIONS[:1], "first_frame": "pip.png"}),
        "has 1 captions; give 2 or more, as",
    ),
    "missing": (starts_from("missing.png"), "does not exist; give a picture's path"),
    "a pipe": (both(fifo("pip.png"), starts_from("pip.png")), "does not exist; give a picture's"),
    "text": (
        both(content("pip.png", "hello"), starts_from("pip.png")),
        "first_frame: picture ",
    ),
    "postscript": (both(content("pip.png", POSTSCRIPT), starts_from("pip.png")), "cannot be used"),
    "an animation": (
        both(content("pip.png", ANIMATION.getvalue()), starts_from("pip.png")),
        "first_frame: picture .*it is an animation of 3 frames; save some as pictures",
    ),
}

HDF5: dict[str, tuple[Spoil, str]] = {
    "missing": (gone("s.h5"), "does not exist|there is no file"),
    "empty": (content("s.h5", b""), "is not an HDF5 file"),
    "cut short": (
        lambda h: (h / "s.h5").write_bytes((h / "s.h5").read_bytes()[:-500]),
        "is cut short: copy or build the file again",
    ),
    "no group": (edited(lambda f: f.pop("test")), "no group 'test' .*build it again"),
    "no pictures": (
        edited(lambda f: (f.pop("test/image0"), f.pop("test/image1"))),
        "no data set 'image0' in 'test'",
    ),
    "no text": (edited(lambda f: f.pop("test/text")), "no data set 'text' in 'test' .*choose"),
    "numbers for text": (column("test/text", data=[1, 2]), "'text' in 'test' is no text: build"),
    "lengths": (cells("test/image1", JUNK), "'test' differ .*'image1': 1|is broken"),
    "captions": (cells("test/text", "a", "a|b|c"), "none of the 2 stories of 'test' is whole"),
    "html": (cells("test/image0", JUNK, JUNK), "story 0 of 'test': the picture cannot|is broken"),
    "bomb": (
        cells("test/image0", *[np.frombuffer(png_bytes(1_000, 100_000), np.uint8)] * 2),
        "1000x100000 pixels are too many",
    ),
    "left_out is text": (
        edited(lambda f: f["test"].create_dataset("left_out", (2,), h5py.string_dtype())),
        "'left_out' in 'test' is no list of numbers",
    ),
    "vocabulary": (edited(lambda f: f.attrs.update(label_vocabulary="[{")), "is damaged"),
    "labels are cut": (cells("test/labels/frames", "[{", "[{"), "is broken .its labels"),
    "labels of one picture": (cells("test/labels/frames", "[{}]", "[{}]"), "its labels: 1 of 2"),
    "external storage": (elsewhere("external storage"), "keeps its data in other files"),
    "external link": (elsewhere("external link"), "'text' of '/test' is a link to elsewhere"),
    "virtual": (elsewhere("virtual"), "keeps its data in other files"),
    "link to a group": (elsewhere("link to a group"), "'test' of '/' is a link to elsewhere"),
}  # fmt: skip

DRAWN_HDF5: dict[str, tuple[Spoil, str]] = {  # and what is no fault of a whole file
    **{name: HDF5[name] for name in ("missing", "empty", "captions", "html", "external link")},
    "no story": (
        edited(lambda f: [f["test"][key].resize((0,)) for key in f["test"] if key != "labels"]),
        "'test' holds no story; build|differ",
    ),
    "ids twice": (
        cells("test/story_id", "a", "a"),
        "story_id 'a' is there twice in the test",
    ),
    "an id of the manifest": (cells("test/story_id", "metrics.json", "b"), "would take the place"),
}


TABLES = {
    build: FOLDERS,
    tell: STORY_FILES,
    tell_json: JSON_STORY_FILES,
    go_on: FIRST_FRAMES,
    look: HDF5,
    draw_data: DRAWN_HDF5,
}


@pytest.mark.parametrize("program, spoil, says", rows(TABLES))
def test_a_bad_input_ends_in_one_sentence(program, spoil, says, ends_in_one_sentence):
    ends_in_one_sentence(program, spoil, says)
