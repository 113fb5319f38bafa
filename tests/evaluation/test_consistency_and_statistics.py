"""All pairs of frames, several systems and seeds, the paired test, and the table for a paper."""

from __future__ import annotations

import csv
import itertools
import re
from dataclasses import replace
from zlib import crc32

import numpy as np
import pytest
from PIL import Image
from sample_folders import label, write_manifest, write_samples

from evaluation.comparison_table import comparison_table
from evaluation.metrics import clip_scores, consistency
from evaluation.metrics.bootstrap import paired_p, story_weights
from evaluation.metrics.material import Material
from evaluation.metrics.measure import Measurement
from evaluation.metrics.table import METRICS, Metric
from evaluation.networks.features import Network
from evaluation.options import Options
from evaluation.run import evaluate
from evaluation.samples import SampledStory, read_samples

NETWORK = Network("n", "n", "", {"picture": "picture", "text": "text", "distance": "distance"})
CONTRAST = Metric("contrast", "mean of pixels", "brightness:contrast")


def unit(items, encoder):
    """A unit vector of every item, the same at every call; of two pictures their distance."""

    def one(item):
        vector = np.random.default_rng(crc32(str(item).encode())).standard_normal(6)
        return vector / np.linalg.norm(vector)

    items = list(items)
    if encoder == "distance":
        return np.array([[np.abs(one(a) - one(b)).sum()] for a, b in items]).reshape(-1, 1)
    return np.array([one(item) for item in items]).reshape(-1, 6)


@pytest.fixture
def stories():
    """Three stories of 4, 3 and 1 frames; the first two given one, the second without labels."""

    def made(name, frames, **more):
        names = [f"{name}{k}" for k in range(frames)]
        return SampledStory(name, [f"text {n}" for n in names], names, **more)

    casts = [["a"], ["a", "b"], ["b"], ["a"]]
    return [made("x", 4, given=1, labels=[{"cast": cast} for cast in casts]),
            made("y", 3, given=1), made("z", 1)]  # fmt: skip


def wanted_pairs(story):
    drawn = range(story.given, len(story.frames))
    for m, n in itertools.combinations(drawn, 2):
        casts = [set(label["cast"]) for label in story.labels] if story.labels else None
        if casts is None or casts[m] & casts[n]:
            yield story.frames[m], story.frames[n], n - m


@pytest.mark.parametrize("name, alike", [
    ("cosine", lambda a, b: float(unit([a], "picture")[0] @ unit([b], "picture")[0])),
    ("lpips", lambda a, b: float(unit([(a, b)], "distance")[0, 0])),
])  # fmt: skip
def test_pairs_and_first_frames_are_those_of_plain_loops(stories, name, alike):
    material = Material.of("s", stories)
    table = getattr(consistency, f"{name}_self")(material, NETWORK, unit)
    pairs = [(alike(a, b), apart) for story in stories for a, b, apart in wanted_pairs(story)]
    assert table.sum((0, 1, 2)) == pytest.approx([sum(v for v, _ in pairs), len(pairs)])
    assert len(pairs) == 3  # x: 1-2 and 1-3, not 2-3; y: 1-2
    metric = METRICS["clip_i_self" if name == "cosine" else "lpips_self"]
    found = Measurement(metric, NETWORK, unit, np.ones((1, 3)))([material], {"real": None})
    by_distance = [np.mean([v for v, apart in pairs if apart == d] or [np.nan]) for d in (1, 2, 3)]
    assert found.entry["by_distance"][:2] == pytest.approx(by_distance[:2])
    assert found.entry["by_distance"][2] is None and found.entry["n"] == 3
    cross = getattr(consistency, f"{name}_cross")(material, NETWORK, unit)
    first = [alike(s.frames[0], frame) for s in stories for frame in s.frames[1:]]
    assert cross.sum((0, 1)) == pytest.approx([sum(first), len(first)]) and len(first) == 5


def test_reciprocal_rank_is_that_of_plain_loops(stories, monkeypatch):
    stories = [*stories, SampledStory("w", ["text x1"], ["w0"])]  # a caption that two frames share
    drawn = [(f, c) for s in stories for f, c in zip(s.frames, s.captions, strict=True)][1:]
    drawn = [pair for pair in drawn if pair[0] != "y0"]
    texts = sorted({caption for _, caption in drawn})
    for most in (100, 2):
        monkeypatch.setattr(clip_scores, "CANDIDATES", most)
        total = 0
        for frame, caption in drawn:
            near = {t: float(unit([frame], "")[0] @ unit([t], "")[0]) for t in texts}
            rank = sorted(texts, key=near.get, reverse=True).index(caption)
            total += 1 / (rank + 1) if rank < most else 0
        counts = clip_scores.clip_t_mrr(Material.of("s", stories), NETWORK, unit)
        assert counts.sum((0, 1)) == pytest.approx([total, len(drawn)])


def test_paired_p_is_the_share_of_all_exchanges():
    random = np.random.default_rng(0)
    one, two = random.random((2, 7, 2))
    one[:, 0] += 0.3
    ratio = lambda c: c[:, 0].sum() / c[:, 1].sum()  # noqa: E731
    differences = []
    for swaps in itertools.product([False, True], repeat=7):
        swap = np.array(swaps)[:, None]
        a, b = np.where(swap, two, one), np.where(swap, one, two)
        differences.append(ratio(a) - ratio(b))
    differences = np.array(differences)
    share = np.mean(np.abs(differences) >= abs(differences[0]) - 1e-12)
    assert paired_p(one, two) == pytest.approx(share, abs=1e-12) and share < 0.5
    assert paired_p(one, one) == 1
    assert paired_p(np.zeros((7, 2)), one) is None


@pytest.fixture
def brightness(tmp_path, monkeypatch):
    (tmp_path / "brightness.py").write_text(
        "from evaluation.samples import read_picture\n\n"
        "def contrast(material, network, features):\n"
        "    values = [read_picture(path).mean() for path in material.pictures[material.drawn]]\n"
        "    return material.per_frame(material.drawn, values)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(METRICS, "contrast", CONTRAST)


def write_grey(folder, levels):
    """A story of two frames for every two levels."""
    entries = write_samples(folder, [(0, 0, 0)] * 2, stories=len(levels), references=False)
    for entry, pair in zip(entries, levels, strict=True):
        for name, level in zip(entry["frames"], pair, strict=True):
            Image.new("RGB", (8, 8), (int(level),) * 3).save(folder / name)
    return entries


def test_seeds_are_one_result_and_systems_are_columns(tmp_path, brightness, capsys):
    random = np.random.default_rng(0)
    base = random.integers(60, 120, (12, 2))
    seeds = [base + step for step in (0, 3, 9)]
    for number, levels in enumerate(seeds):
        write_grey(tmp_path / "ours" / f"seed{number}", levels)
    write_grey(tmp_path / "as_good", base + random.integers(0, 10, (12, 2)))
    write_grey(tmp_path / "worse_50%", base - 20)
    others = [str(tmp_path / name) for name in ("as_good", "worse_50%")]
    options = Options(
        str(tmp_path / "ours"), ["contrast"], ",".join(others), out=str(tmp_path / "out"),
        format="latex", pictures=False, cache=str(tmp_path / "c.sqlite"), draws=400,
    )  # fmt: skip
    found = evaluate(options)
    entry = found["metrics"]["contrast"]
    means = [levels.mean() for levels in seeds]
    assert entry["seeds"]["values"] == pytest.approx(means) and found["seeds"] == 3
    assert entry["value"] == pytest.approx(np.mean(means))
    assert entry["seeds"]["spread"] == pytest.approx(np.std(means, ddof=1))
    around = np.std(base.mean(1), ddof=1) / 12**0.5  # of the mean over stories
    assert np.diff(entry["interval"])[0] == pytest.approx(2 * 1.96 * around, rel=0.25)
    good, worse = (one["metrics"]["contrast"] for one in found["compare"])
    assert worse["difference"] == pytest.approx(24) and worse["p"] < 0.01 < good["p"]
    assert (entry["best"], good["best"], worse["best"]) == (True, True, False)
    text = (tmp_path / "out" / "table.tex").read_text()
    assert r"\textbf{" + f"{np.mean(means):.3f}" in text and r"worse\_50\%" in text
    assert text.count(r"\textbf") == 2 and text.startswith(r"\begin{tabular}{lrrr}")
    assert "3 seeds" in capsys.readouterr().out
    rows = list(csv.DictReader(comparison_table(found, "csv").splitlines()))
    assert [row["samples"] for row in rows] == ["ours", "as_good", "worse_50%"]
    assert float(rows[0]["value"]) == entry["value"] and float(rows[2]["p"]) == worse["p"]
    lines = comparison_table(found, "markdown").splitlines()
    assert lines[0] == "| | ours | as_good | worse_50% |" and lines[2].count("**") == 4
    found["samples"], found["compare"][0]["samples"] = "runs/a/samples", "runs/b/samples"
    heads = comparison_table(found, "markdown").splitlines()[0].split(" | ")
    assert heads[1:3] == ["a/samples", "b/samples"]


def test_a_single_story_has_no_interval_and_tells_no_systems_apart(tmp_path, brightness, capsys):
    for name, levels in (("a", [(60, 80)]), ("b", [(30, 40)])):
        write_grey(tmp_path / name, levels)
    options = Options(str(tmp_path / "a"), ["contrast"], str(tmp_path / "b"), draws=20,
                      cache=str(tmp_path / "c.sqlite"), format="csv")  # fmt: skip
    found = evaluate(options)
    entry, other = found["metrics"]["contrast"], found["compare"][0]["metrics"]["contrast"]
    assert (entry["value"], entry["interval"], entry["by_frame_interval"]) == (70, None, [None] * 2)
    assert (other["difference"], other["difference_interval"], other["p"]) == (35, None, None)
    assert entry["best"] and other["best"]
    assert re.search(r"contrast +35.000 +– +35.000 +– +–$", capsys.readouterr().out, re.M)
    assert "contrast,a,70.0,,,,2,,True" in (tmp_path / "a" / "table.csv").read_text()


def test_what_only_one_story_tells_has_no_interval_either(tmp_path, brightness):
    for name in ("a", "b"):
        entries = write_grey(tmp_path / name, [(10, 20), (30, 50), (60, 90)])
        for entry in entries[1:]:
            entry |= {key: entry[key][:1] for key in ("frames", "captions")}
        write_manifest(tmp_path / name, entries)
    options = Options(str(tmp_path / "a"), ["contrast"], str(tmp_path / "b"), draws=50,
                      cache=str(tmp_path / "c.sqlite"), pictures=False)  # fmt: skip
    entry = evaluate(options)["metrics"]["contrast"]
    assert entry["by_frame"][1] == 20 and entry["by_frame_interval"][1] is None
    assert entry["by_frame_interval"][0] and entry["interval"]
    for name in ("a", "b"):  # and of all that is drawn
        entries = write_grey(tmp_path / name, [(10, 20), (30, 50), (60, 90)])
        for entry in entries[1:]:
            entry["given"] = 2
        write_manifest(tmp_path / name, entries)
    found = evaluate(options)
    entry, other = found["metrics"]["contrast"], found["compare"][0]["metrics"]["contrast"]
    assert (entry["value"], entry["interval"], other["difference_interval"]) == (15, None, None)
    assert other["p"] is None


@pytest.mark.parametrize("name", ["fid", "kid"])
def test_a_distance_of_one_storys_frames_has_no_interval(name):
    def made(number, given):
        frames = [f"{number}{k}" for k in range(3)]
        return SampledStory(str(number), frames, frames, frames[::-1], given=given)

    material = Material.of("s", [made(0, 0), made(1, 3), made(2, 3)])
    network = Network("n", "n", "", {"features": "features"})
    measure = Measurement(METRICS[name], network, unit, story_weights(3, 20))
    entry = measure([material], {"real": None}).entry
    assert entry["interval"] is None and entry["n"] == 3


def test_real_frames_without_a_neighbour_tell_nothing(stories):
    """clip_i of real frames is with their neighbours; against itself a frame would have 1."""
    material = Material.of("s", [
        replace(story, reference_frames=[f"real {name}" for name in story.frames])
        for story in stories
    ])  # fmt: skip
    found = clip_scores.clip_i(material.real(), NETWORK, unit)
    assert found[..., 1].tolist() == [[0, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert found[2].sum() == 0 and (found[:2].sum((1, 2)) < 1 + found[:2, :, 1].sum(1)).all()
    alone = Material.of("s", material.stories[2:])
    measure = Measurement(METRICS["clip_i"], NETWORK, unit, np.ones((1, 1)))
    entry = measure([alone], {"real": alone.real()}).entry
    assert entry["real"] is None and entry["n"] == 1


def test_stories_of_several_lengths_are_judged_together(tmp_path, brightness):
    folder = tmp_path / "s"
    entries = write_grey(folder, [(10, 20), (30, 50), (60, 90)])
    entries[1] |= {key: entries[1][key][:1] for key in ("frames", "captions")}
    for entry in entries:
        entry["labels"] = [label("sea", {"ann": "red"})] * len(entry["frames"])
    write_manifest(folder, entries)
    options = Options(str(folder), ["contrast"], cache=str(tmp_path / "c.sqlite"), draws=20)
    entry = evaluate(options)["metrics"]["contrast"]
    assert entry["value"] == np.mean([10, 20, 30, 60, 90]) and entry["n"] == 5
    assert entry["by_frame"] == [pytest.approx(100 / 3), 55] and entry["shuffled"] is None
    assert Material.of("s", read_samples(folder).stories).drawn.tolist()[1] == [True, False]
