"""ViStoryBench's metrics against plain loops, with boxes and features made up."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from common.vistorybench import Character
from evaluation.metrics import vistorybench as bench
from evaluation.metrics.material import Material
from evaluation.metrics.table import GROUPS, METRICS
from evaluation.networks.clip import crop_name
from evaluation.networks.features import Network
from evaluation.samples import SampledStory

NETWORK = Network("n", "n", "", {"picture": "picture", "boxes": "boxes", "score": "score"})


def vector(item):
    values = np.random.default_rng(crc32(str(item).encode())).standard_normal(5)
    return values / np.linalg.norm(values)


@dataclass(eq=False)
class Made:
    """Features of a world in which every box of a picture is told."""

    boxes: dict
    batch_size: int = 32

    def __call__(self, items, encoder):
        if encoder == "boxes":
            assert self.batch_size == 1
            return np.array([self.rows(path).ravel() for path in items])
        return np.array([vector(item) for item in items])

    def rows(self, path):
        rows = np.zeros((4, 5))
        for n, row in enumerate(self.boxes.get(path.name, ())):
            rows[n] = row
        return rows


def box(sure, left):
    return [sure, left, 0.0, left + 0.25, 1.0]


@pytest.fixture
def world():
    """Fox and Owl are drawn, Ada is a realistic human, Moss has no pictures and Bee is never found;
    shot s3 shows nobody, s4 lets only one box pass, s5 none."""
    people = (
        Character("Fox", "non_human", (Path("fox0.jpg"), Path("fox1.jpg"))),
        Character("Owl", "unrealistic_human", (Path("owl.jpg"),)),
        Character("Ada", "realistic_human", (Path("ada.jpg"),)),
        Character("Moss", "non_human", ()),
        Character("Bee", "non_human", (Path("bee.jpg"),)),
    )
    casts = [["Fox", "Owl", "Ada"], ["Owl", "Fox"], ["Fox"], [], ["Owl", "Moss"], ["Bee"]]
    frames = [Path(f"s{k}.png") for k in range(len(casts))]
    boxes = {
        "s0.png": [box(0.9, 0), box(0.8, 0.25), box(0.7, 0.5), box(0.6, 0.75)],
        "s1.png": [box(0.9, 0.5), box(0.4, 0.25)], "s2.png": [box(0.5, 0)],
        "s3.png": [box(0.9, 0)], "s4.png": [box(0.3, 0), box(0.25, 0.5)],
        "fox0.jpg": [box(0.9, 0.25)], "ada.jpg": [box(0.26, 0)], "bee.jpg": [box(0.9, 0)],
    }  # fmt: skip
    labels = [{"cast": cast} for cast in casts]
    story = SampledStory("01", ["text"] * 6, frames, labels=labels, characters=people)
    return Material.of("s", [story]), Made(boxes)


def crops_by_hand(material, features):
    """Every way to give boxes to characters is tried for the greatest total."""
    (story,) = material.stories
    near = {
        one.key: [vector((path, crop_name(features.rows(path)[0][1:]))) if path.name != "fox1.jpg"
                  and path.name != "owl.jpg" else vector((path, crop_name((0, 0, 1, 1))))
                  for path in one.pictures]
        for one in story.characters
    }  # fmt: skip
    found, counts = {"Fox": [], "Owl": [], "Bee": []}, []
    for path, label in zip(story.frames, story.labels, strict=True):
        cast = label["cast"]
        rows = [row for row in features.rows(path) if row[0] > 0.25][: len(cast)]
        counts.append((len(rows), len(cast)))
        seen = [vector((path, crop_name(row[1:]))) for row in rows]
        known = [key for key in cast if near[key]]
        ways = itertools.permutations([*range(len(rows)), *[None] * len(known)], len(known))
        best = max(
            (way for way in ways if len(known) - way.count(None) == min(len(known), len(rows))),
            key=lambda way: sum(np.mean([seen[b] @ r for r in near[key]])
                                for key, b in zip(known, way, strict=True) if b is not None),
        )  # fmt: skip
        for key, b in zip(known, best, strict=True):
            if b is not None and key in found:
                found[key].append(seen[b])
    return found, near, counts


def test_identity_count_and_copying_are_those_of_plain_loops(world):
    material, features = world
    found, near, counts = crops_by_hand(material, features)
    assert [len(found[key]) for key in ("Fox", "Owl", "Bee")] in ([3, 3, 0], [3, 2, 0])
    cross, alike, copied = [], [], []
    for key, crops in found.items():
        cross.append(np.mean([c @ r for c in crops for r in near[key]]) if crops else 0)
        pairs = [a @ b for a, b in itertools.combinations(crops, 2)]
        alike.append(np.mean(pairs) if pairs else float(len(crops)))
    for one in material.stories[0].characters:
        if one.key in found and found[one.key]:
            degrees = []
            for path in one.pictures:
                row = features.rows(path)[0]
                part = row[1:] if row[0] > 0.25 else (0, 0, 1, 1)
                plain, turned = (vector((path, crop_name(part, m))) for m in (False, True))
                for crop in found[one.key]:
                    one_way, other = np.exp(crop @ plain / 0.01), np.exp(crop @ turned / 0.01)
                    degrees.append(one_way / (one_way + other))
            copied.append(np.mean(degrees))
    expected = {
        "cids_cross": np.mean(cross), "cids_self": np.mean(alike), "copy_paste": np.mean(copied),
        "onstage_count": np.mean([100 * np.exp(-abs(d - e) / (1e-6 + e)) for d, e in counts]),
    }  # fmt: skip
    for name, value in expected.items():
        counted = getattr(bench, name)(material, NETWORK, features)
        assert counted.tolist() == [[pytest.approx(value), 1]], name
    worse = [name for name in GROUPS["vistorybench"] if not METRICS[name].higher_is_better]
    assert worse == ["copy_paste"]  # 1 is a copy
    assert counts[3] == (0, 0) and counts[0] == (3, 3)  # a fourth box is not asked for


def test_edge_cases_of_the_benchmark(world):
    material, features = world
    features.boxes = {}  # nobody is ever found
    assert bench.cids_cross(material, NETWORK, features)[0, 0] == 0
    assert bench.cids_self(material, NETWORK, features)[0, 0] == 0
    assert bench.copy_paste(material, NETWORK, features).tolist() == [[0, 0]]  # does not count
    shots = bench.onstage_count(material, NETWORK, features)[0, 0]
    assert shots == pytest.approx((100 + 500 * np.exp(-1)) / 6, abs=1e-3)
    once = Made({"s2.png": [box(0.9, 0)]})  # Fox, a single time
    assert bench.cids_self(material, NETWORK, once)[0, 0] == pytest.approx(1 / 3)


def test_each_story_counts_once_in_the_aesthetic_score():
    long, short = ([Path(f"{name}{k}.png") for k in range(n)] for name, n in (("a", 5), ("b", 2)))
    material = Material.of("s", [
        SampledStory("a", ["text"] * 5, long, given=1), SampledStory("b", ["text"] * 2, short),
        SampledStory("c", ["text"], [Path("c.png")], given=1),
    ])  # fmt: skip
    counts = bench.aesthetic(material, NETWORK, Made({}))
    scores = [[vector(path)[0] for path in paths] for paths in (long[1:], short)]
    value = counts[..., 0].sum() / counts[..., 1].sum()
    assert value == pytest.approx(np.mean([np.mean(one) for one in scores]))
    assert counts[0, 1, 0] / counts[0, 1, 1] == pytest.approx(scores[0][0])  # below its frame


def test_style_over_all_pairs_and_against_the_first_picture(world):
    material, features = world
    (story,) = material.stories
    pairs = [vector(a) @ vector(b) for a, b in itertools.combinations(story.frames, 2)]
    assert bench.csd_self(material, NETWORK, features)[0, 0] == pytest.approx(np.mean(pairs))
    # Nobody in s3, so the story's first character; Owl before Moss in s4.
    first = ["fox0", "owl", "fox0", "fox0", "owl", "bee"]
    near = [vector(f) @ vector(Path(f"{n}.jpg")) for f, n in zip(story.frames, first, strict=True)]
    assert bench.csd_cross(material, NETWORK, features)[0, 0] == pytest.approx(np.mean(near))
    single = Material.of("s", [SampledStory("80", ["text"], [Path("s0.png")])])
    assert bench.csd_self(single, NETWORK, features).tolist() == [[0, 1]]  # as the benchmark
