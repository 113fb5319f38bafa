"""Stories somebody wrote by hand: captions, and perhaps a first picture, in a YAML or JSON file.

    captions:
      - Pip is in the meadow.
      - He waves, yawns and falls asleep.
    first_frame: pip.png        # only for continuation; its path is relative to this file

Several stories: a list of such entries under `stories:`, each with an optional `story_id`. What
YAML would cut or take for something else than text is asked to be put in quotes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from common.documents import check_yaml, parse_json, parse_yaml
from common.picture_files import read_picture
from datasets.story_hdf5 import is_story_id
from datasets.story_prompts import StoryPrompt

_KEYS = {"captions", "first_frame", "story_id"}


def read_written_stories(path: str | Path, continuation: bool) -> list[StoryPrompt]:
    """The stories of a file, with their first frames in continuation.

    Raises:
        ValueError: the file, an entry or a picture is not as described above.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a mark before the text
        content = parse_json(text) if path.suffix.lower() == ".json" else _parse(text)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as YAML or JSON ({error}); mend it") from error
    entries = _entries(content, path)
    numbered, stories = len(entries) > 1, []
    for i, entry in enumerate(entries, 1):
        where = f"{path}, story {i}" if numbered else str(path)
        name = f"{path.stem}-{i:03d}" if numbered else path.stem
        stories.append(_story(entry, where, name, path.parent, continuation))
    ids = [story.story_id for story in stories]
    twice = next((i for i in ids if ids.count(i) > 1), None)
    if twice is not None:
        raise ValueError(f"{path}: story_id {twice!r} is used twice; give each story its own")
    return stories


def _parse(text: str) -> object:
    """YAML whose ids and file names are text as written, and whose captions are whole."""
    root = check_yaml(text)
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            written = isinstance(value, yaml.ScalarNode) and not value.tag.endswith(":null")
            if key.value in ("story_id", "first_frame") and written:
                value.tag = "tag:yaml.org,2002:str"  # 007, no
            elif key.value == "captions" and isinstance(value, yaml.SequenceNode):
                _refuse_cut_captions(value, text)
            waiting.append(value)
    return parse_yaml(text, root)


def _refuse_cut_captions(captions: yaml.SequenceNode, text: str) -> None:
    for one in captions.value:
        if not isinstance(one, yaml.ScalarNode) or one.style is not None:
            continue  # in quotes, or no text
        rest = text[one.end_mark.index :].partition("\n")[0].strip()
        inside = captions.flow_style and one.value[-1:].isalnum()
        if rest.startswith("#") or inside:
            why = (
                "in brackets a comma would end it"
                if inside
                else f"{rest[:20]!r} would be a comment"
            )
            raise ValueError(
                f"line {one.start_mark.line + 1}: put the caption {one.value!r} in quotes, as {why}"
            )


def _entries(content: object, path: Path) -> list:
    """The list under `stories`, the file if it is a list, or its one story."""
    if isinstance(content, dict) and "stories" in content:
        beside = next((key for key in content if key != "stories"), None)
        if beside is not None:
            raise ValueError(f"{path}: {beside!r} stands beside stories; move it into a story")
        content = content["stories"]
    elif isinstance(content, dict):
        content = [content]
    if not isinstance(content, list) or not content:
        raise ValueError(f"{path} holds no story; give captions: [...], or a list under stories:")
    return content


def _story(entry: object, where: str, name: str, folder: Path, continuation: bool) -> StoryPrompt:
    if not isinstance(entry, dict) or "captions" not in entry:
        raise ValueError(f"{where} has no captions: give captions: ['first', 'second', …]")
    unknown = next((key for key in entry if key not in _KEYS), None)
    if unknown is not None:
        raise ValueError(f"{where}: {unknown!r} is unknown; use {', '.join(sorted(_KEYS))}")
    captions = entry["captions"]
    good = isinstance(captions, list) and captions
    if not good or not all(isinstance(c, str) and c.strip() for c in captions):
        raise ValueError(
            f"{where}: captions is {captions!r}; it must be a list of sentences, in quotes where "
            f"they hold a colon"
        )
    fewest = 1 + continuation
    if len(captions) < fewest:
        raise ValueError(
            f"{where} has {len(captions)} captions; give {fewest} or more"
            f"{', as the first frame is given' * continuation}"
        )
    given_id = entry.get("story_id")
    story_id = name if given_id is None else str(given_id)
    if isinstance(given_id, bool) or not is_story_id(story_id):
        raise ValueError(
            f"{where}: story_id {story_id!r} cannot name a folder; give a story_id of plain letters"
        )
    first = entry.get("first_frame")
    if continuation and first is None:
        raise ValueError(
            f"{where} has no first_frame, which task=continuation starts from; add one, "
            f"or use task=visualization"
        )
    if first is not None and not continuation:
        raise ValueError(f"{where} has a first_frame; set task=continuation to start from it")
    captions = [" ".join(caption.split()) for caption in captions]
    first_frame = None if first is None else _picture(folder / str(first), where)
    return StoryPrompt(story_id, captions, first_frame)


def _picture(path: Path, where: str) -> np.ndarray:
    if not path.is_file():
        raise ValueError(f"{where}: first_frame {path} does not exist; give a picture's path")
    try:
        return read_picture(path)
    except ValueError as error:
        raise ValueError(f"{where}: first_frame: {error}") from error
