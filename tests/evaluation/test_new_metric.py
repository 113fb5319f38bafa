"""Records of metrics: what they must say, and that they name what is there."""

from __future__ import annotations

import pytest

from evaluation.metrics.table import METRICS, Metric, load, own_story_metrics


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
