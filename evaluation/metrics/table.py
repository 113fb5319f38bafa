"""Every metric in one record. Adding one takes a file that measures it, and a record in this table.

Nothing heavy is imported here: a record names its functions, and `load` imports them when they are
needed. So names can be checked at once, by the configuration too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

__all__ = [
    "FILES",
    "GROUPS",
    "METRICS",
    "NEEDS",
    "Metric",
    "load",
    "named_metrics",
    "own_story_metrics",
]

NEEDS = {  # what a metric may need of every story, in words
    "captions": "a caption for every frame",
    "neighbours": "two frames a story",
    "references": "real frames",
    "labels": "labels for every story",
}
FILES = {  # options that a metric may need, and where to get the file
    "judge": "make demo saves one",
    "classifier": "python -m evaluation.classifier train makes one",
}


@dataclass(frozen=True)
class Metric:
    """One metric; functions are named as "module:function".

    protocol: how the number comes about, in words; {network} is the network's own title.
    measure: of frames, `measure(material, network, features)` -> (S, K, 2), a numerator and a
        denominator of every frame, zeros where a frame does not count; of sets, a class
        `measure(real)` with `(drawn, sizes, weights)` -> distances, see `frechet.py`.
    network: `network(options, samples)` -> `networks.features.Network`; samples is None before
        stories are drawn, to check that the files are there. None: `measure` needs no network.
    file: the option that must name the network's file, where there is no published one.
    check: `check(samples, network)` raises ValueError where the labels do not fit.
    errors: the network's own errors that bear on the metric; the worst is told with it.
    """

    name: str
    protocol: str
    measure: str
    network: str | None = None
    file: str | None = None
    check: str | None = None
    needs: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    higher_is_better: bool = True
    of: str = "frames"  # or sets
    group: str | None = None

    def __post_init__(self) -> None:
        if not self.protocol.strip():
            raise ValueError(f"metric {self.name} has no protocol: say how it is measured")
        known = self.of in ("frames", "sets") and self.file in (None, *FILES)
        if not known or not set(self.needs) <= set(NEEDS):
            raise ValueError(
                f"metric {self.name}: of={self.of!r}, file={self.file!r} or needs={self.needs} is "
                "unknown"
            )


_FRECHET = {
    "measure": "evaluation.metrics.frechet:FrechetAgainst",
    "needs": ("references",),
    "of": "sets",
    "higher_is_better": False,
}
_KERNEL = {**_FRECHET, "measure": "evaluation.metrics.kid:KernelAgainst"}
_JUDGE = {"network": "evaluation.networks.judge:judge_network", "file": "judge"}
_CLASSIFIER = {
    "network": "evaluation.networks.classifier:classifier_network",
    "file": "classifier",
    "check": "evaluation.metrics.classified:check_labels",
    "needs": ("labels",),
    "group": "classifier",
}
_CLIP = {"network": "evaluation.networks.clip:clip_network", "group": "clip"}
_CARTOON = {
    **_JUDGE,
    "check": "evaluation.metrics.cartoon:check_labels",
    "needs": ("labels",),
    "group": "cartoon",
}
_POOL3 = "299x299 bilinear, TensorFlow-2015 Inception pool3"

_RECORDS = (
    Metric(
        "fid@64", f"64x64 (PIL, antialiased), {_POOL3}, Fréchet", **_FRECHET,
        network="evaluation.networks.inception:inception_at_64",
    ),
    Metric(
        "fid", f"native size, {_POOL3}, Fréchet", **_FRECHET,
        network="evaluation.networks.inception:inception_at_native_size",
    ),
    Metric(
        "kid", f"native size, {_POOL3}, cubic kernel, all pairs", **_KERNEL,
        network="evaluation.networks.inception:inception_at_native_size",
    ),
    Metric(
        "judge_frechet", "the cartoon judge's 128 last features, Fréchet: not an FID",
        **_FRECHET, **_JUDGE,
    ),
    Metric(
        "judge_kernel", "the cartoon judge's 128 last features, cubic kernel: not a KID",
        **_KERNEL, **_JUDGE,
    ),
    Metric(
        "clip_t", "cosine of frame and caption, {network}",
        "evaluation.metrics.clip_scores:clip_t", needs=("captions",), **_CLIP,
    ),
    Metric(
        "clip_i", "cosine of drawn and real frame, {network}",
        "evaluation.metrics.clip_scores:clip_i", needs=("references",), **_CLIP,
    ),
    Metric(
        "clip_i_adjacent", "cosine of a frame and the one before, {network}",
        "evaluation.metrics.clip_scores:clip_i_adjacent", needs=("neighbours",), **_CLIP,
    ),
    Metric(
        "lpips_adjacent", "LPIPS ({network}) of a frame and the one before, native size",
        "evaluation.metrics.lpips_adjacent:lpips_adjacent", needs=("neighbours",),
        network="evaluation.networks.lpips:lpips_network", higher_is_better=False,
    ),
    Metric(
        "character_f1", "{network}, micro F1, sigmoid > 0.5",
        "evaluation.metrics.classified:character_f1", errors=("cast",), **_CLASSIFIER,
    ),
    Metric(
        "frame_accuracy", "{network}, all characters right",
        "evaluation.metrics.classified:frame_accuracy", errors=("cast",), **_CLASSIFIER,
    ),
    Metric(
        "background_accuracy", "{network}, background right",
        "evaluation.metrics.classified:background_accuracy", errors=("place",),
        **{**_CLASSIFIER, "check": "evaluation.metrics.classified:check_backgrounds"},
    ),
    *(
        Metric(f"cartoon/{name}", f"judge, {text}", f"evaluation.metrics.cartoon:{name}",
               errors=errors, **_CARTOON)
        for name, text, errors in (
            ("place_accuracy", "right place where the caption does not name it", ("place",)),
            ("place_named_accuracy", "right place where the caption names it", ("place",)),
            ("frame_accuracy", "exactly the right cast", ("cast",)),
            ("character_f1", "micro F1 of characters", ("cast",)),
            ("pronoun_accuracy", "right cast where the caption names nobody", ("cast",)),
            ("action_accuracy", "right action", ("action",)),
            ("clothes_accuracy", "shirt as at the character's first appearance", ("clothes",)),
            ("all_right", "place, cast, action and all shirts right",
             ("place", "cast", "clothes", "action")),
            ("held_out_frame_accuracy", "place, cast, action right, in combinations never trained",
             ("place", "cast", "action")),
        )
    ),
)  # fmt: skip
METRICS = {metric.name: metric for metric in _RECORDS}
GROUPS = {
    group: [one.name for one in _RECORDS if one.group == group]
    for group in dict.fromkeys(one.group for one in _RECORDS if one.group)
}


def load(name: str) -> Callable:
    """The function or class that "module:function" names."""
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


def named_metrics(asked: Sequence[str] | str | None) -> list[str]:
    """Names as given or with commas between them, groups spelled out; ValueError for an unknown.

    ["all"] stays as it is: what it means depends on the samples.
    """
    asked = asked.split(",") if isinstance(asked, str) else list(asked or ())
    if asked == ["all"]:
        return asked
    names = [name for one in asked for name in GROUPS.get(one, [one])]
    if unknown := [name for name in names if name not in METRICS]:
        raise ValueError(
            f"metrics: {unknown[0]!r} is not known; choose among {', '.join(METRICS)}, or the "
            f"groups {', '.join(GROUPS)}, all"
        )
    return list(dict.fromkeys(names))


def own_story_metrics() -> list[str]:
    """Metrics of a story of one's own, which has neither real pictures nor labels."""
    own = {"captions", "neighbours"}
    return [name for name, one in METRICS.items() if own.issuperset(one.needs)]
