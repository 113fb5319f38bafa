"""A new metric is one file that measures it and one record; CONTRIBUTING.md shows this one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from sample_folders import write_samples

from evaluation.__main__ import main
from evaluation.metrics.table import METRICS, Metric, load, own_story_metrics

FILE = '''
from evaluation.samples import read_picture


def contrast(material, network, features):
    """Standard deviation of a frame's pixels, out of 255."""
    values = [read_picture(path).std() for path in material.pictures[material.drawn]]
    return material.per_frame(material.drawn, values)
'''
RECORD = Metric("contrast", "standard deviation of pixels, out of 255", "contrast:contrast")


def test_one_file_and_one_record_make_a_metric(tmp_path, monkeypatch, capsys):
    (tmp_path / "contrast.py").write_text(FILE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(METRICS, RECORD.name, RECORD)

    folder = tmp_path / "samples"
    write_samples(folder, stories=3, given=1)
    half = np.zeros((128, 128, 3), np.uint8)
    half[64:] = 100
    Image.fromarray(half).save(folder / "story1" / "0001.png")
    main([f"samples={folder}", "metrics=contrast", f"cache={tmp_path / 'c.sqlite'}", "draws=20"])

    entry = json.loads((folder / "metrics.json").read_text())["metrics"]["contrast"]
    plain = np.std([30, 30, 200])
    assert entry["value"] == pytest.approx((plain + 50 + plain) / 3)
    assert entry["n"] == 3 and entry["by_frame"][0] is None  # the given frame does not count
    assert entry["real"] == 0 and entry["interval"][0] < entry["value"] < entry["interval"][1]
    assert entry["protocol"] == RECORD.protocol and entry["higher_is_better"]
    assert "contrast" in own_story_metrics()
    assert RECORD.protocol in capsys.readouterr().out
    assert "contrast 50.00" in (folder / "storyboard.html").read_text("utf-8")


def test_a_metric_without_a_protocol_is_refused():
    with pytest.raises(TypeError, match="protocol"):
        Metric("contrast", measure="contrast:contrast")
    with pytest.raises(ValueError, match="contrast has no protocol"):
        Metric("contrast", " ", "contrast:contrast")
    with pytest.raises(ValueError, match="needs=.'reference',. is unknown"):
        Metric("contrast", "how", "contrast:contrast", needs=("reference",))


def test_records_name_functions_that_exist_and_say_what_a_story_of_ones_own_lacks():
    for metric in METRICS.values():
        for name in filter(None, (metric.measure, metric.network, metric.check)):
            assert callable(load(name)), metric
    own = own_story_metrics()
    assert {"clip_t", "clip_i_adjacent", "lpips_self", "dino_cross", "clip_t_mrr"} < set(own)
    assert not {"clip_i", "fid@64", "character_f1", "csd_self"} & set(own)
