"""What evaluation writes into a folder of the user's leaves what else is there."""

from __future__ import annotations

import json
import shutil

import pytest
from sample_folders import write_samples

from evaluation.metrics.table import METRICS, Metric
from evaluation.options import Options
from evaluation.pictures.story_files import StoryFiles, write_story_files
from evaluation.run import evaluate


def size(material, network, features):
    return material.per_frame(material.drawn, [1.0] * int(material.drawn.sum()))


@pytest.fixture
def judged(tmp_path, monkeypatch):
    monkeypatch.setitem(METRICS, "size", Metric("size", "their size", f"{__name__}:size"))
    write_samples(tmp_path / "s")

    def judge(metrics=None, **options):
        cache = str(tmp_path / "c.sqlite")
        options = {"samples": str(tmp_path / "s"), "device": "cpu", "draws": 20, **options}
        return evaluate(Options(metrics=metrics, cache=cache, **options))

    return judge


EVALUATED = ["metrics.json", "metrics_by_frame.png", "storyboard.html", "storyboard.png"]


def test_an_evaluation_writes_over_its_own_files_alone(judged, tmp_path):
    out = tmp_path / "out"
    for form in ("latex", "markdown", "csv", "csv", "latex", "markdown"):
        judged(["size"], out=str(out), format=form)
    names = sorted(path.name for path in out.iterdir())
    assert names == [*EVALUATED, "table.csv", "table.md", "table.tex"]
    for name in names:
        ours = (out / name).read_bytes()
        (out / name).write_bytes(b"somebody's own table, or page")
        form = {".tex": "latex", ".md": "markdown"}.get((out / name).suffix, "csv")
        with pytest.raises(ValueError, match=f"out: {out / name} is there, and no evaluation made"):
            judged(["size"], out=str(out), format=form)
        assert (out / name).read_bytes() == b"somebody's own table, or page"
        (out / name).write_bytes(ours)


def test_pictures_without_a_manifest_are_shown_beside_nothing_of_others(judged, tmp_path):
    plain = tmp_path / "plain"
    shutil.copytree(tmp_path / "s", plain)
    for path in (plain / "manifest.jsonl", *plain.glob("*/reference*")):
        path.unlink()
    for _ in range(2):
        judged(samples=str(plain))
    (plain / "storyboard.html").write_text("somebody's own page")
    with pytest.raises(ValueError, match="storyboard.html is there, and no evaluation made it"):
        judged(samples=str(plain))


def test_a_samples_folder_shows_its_own_stories(judged, tmp_path):
    write_samples(tmp_path / "other")
    with pytest.raises(ValueError, match="other is a samples folder of its own: give another"):
        judged(out=str(tmp_path / "other"))
    for _ in range(2):
        judged(out=str(tmp_path / "s"))


def test_numbers_of_other_stories_beside_the_pictures_are_said(judged, tmp_path):
    out, words = str(tmp_path / "out"), f"{tmp_path / 'out' / 'metrics.json'} stays, but measures"
    judged(["size"], out=out)
    assert judged(out=out)["warnings"] == []
    assert judged(samples=f"{tmp_path}/./s", out=out)["warnings"] == []
    write_samples(tmp_path / "other")
    (said,) = judged(samples=str(tmp_path / "other"), out=out)["warnings"]
    assert said.startswith(f"{words} {tmp_path / 's'} as it was then")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["samples"].endswith("s")


@pytest.mark.parametrize("name", ["0001_story1.gif", "0000_story0.png", "stories.pdf"])
def test_story_files_are_written_over_alone(tmp_path, name):
    write_samples(tmp_path / "s", size=8)
    options = StoryFiles(str(tmp_path / "s"), str(tmp_path / "out"))
    for _ in range(2):
        assert len(write_story_files(options)) == 5
    (tmp_path / "out" / name).write_bytes(b"somebody's own")
    with pytest.raises(ValueError, match=f"{name} is there, and no evaluation made it: move it aw"):
        write_story_files(options)
    assert (tmp_path / "out" / name).read_bytes() == b"somebody's own"
