"""Every metric in one record. Adding one takes a file that measures it, and a record in this table.

Nothing heavy is imported here: a record names its functions, and `load` imports them when they are
needed. So names can be checked at once, by the configuration too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module

__all__ = [
    "FILES", "GROUPS", "METRICS", "NEEDS", "Metric", "given", "load", "named_metrics",
    "own_story_metrics",
]  # fmt: skip

NEEDS = {  # what a metric may need of every story, in words, and the option that gives it
    "captions": ("a caption for every frame", "captions=FILE"),
    "sets": ("a second drawn frame", "more stories"),  # what is `of` sets
    "neighbours": ("two frames a story", "story_length=N, the pictures a story has"),
    "references": ("real frames", "reference=DIR"),
    "labels": ("labels for every story", "labels=FILE"),
    # What one of the two cartoon worlds has, and the other has not.
    "weather": ("labels of weather", "cartoon.world=wide"),
    "slots": ("characters in fixed places", "cartoon.world=small"),
    "characters": ("a benchmark's characters", "benchmark=DIR"),
}
FILES = {  # options that a metric may need, and where to get the file
    "judge": "make demo saves one",
    "classifier": "python -m evaluation.classifier train makes one",
    "background_classifier": "or classifier=FILE that reads backgrounds too",
    "csd_weights": "csd_vit-large.pth of ViStoryBench, or CSD's own checkpoint",
    "aesthetic_head": "aesthetic_predictor_v2_5.pth of discus0434/aesthetic-predictor-v2-5",
    "detector": "a folder with IDEA-Research/grounding-dino-tiny",
}
INSTEAD = {"background_classifier": "classifier"}  # an option whose file may serve as well


@dataclass(frozen=True)
class Metric:
    """One metric; functions are named as "module:function".

    protocol: how the number comes about, in words; {network} is the network's own title.
    measure: of frames, `measure(material, network, features)` -> (S, K, 2), a numerator and a
        denominator of every frame, zeros where a frame does not count; of pairs, the same of every
        frame and one before it, (S, K, K, 2); of stories, of every story, (S, 2); of sets, a class
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
    of: str = "frames"  # pairs, stories, sets
    group: str | None = None

    def __post_init__(self) -> None:
        if not self.protocol.strip():
            raise ValueError(f"metric {self.name} has no protocol: say how it is measured")
        known = self.of in ("frames", "pairs", "stories", "sets") and self.file in (None, *FILES)
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
_JUDGE = {
    "network": "evaluation.networks.judge:judge_network",
    "file": "judge",
    "check": "evaluation.networks.judge:check_world",
}
_CLASSIFIER = {
    "network": "evaluation.networks.classifier:character_network",
    "file": "classifier",
    "check": "evaluation.metrics.classified:check_labels",
    "needs": ("labels",),
    "group": "classifier",
}
_BACKGROUNDS = {
    **_CLASSIFIER,
    "network": "evaluation.networks.classifier:background_network",
    "file": "background_classifier",
    "check": "evaluation.metrics.classified:check_backgrounds",
}
_CLIP = {"network": "evaluation.networks.clip:clip_network", "group": "clip"}
_CLIP_L14 = {"network": "evaluation.networks.clip:clip_l14_network", "group": "vinabench"}
_LPIPS = {"network": "evaluation.networks.lpips:lpips_network", "higher_is_better": False}
_DINO = {"network": "evaluation.networks.dino:dino_network"}
_SELF = {"of": "pairs", "needs": ("neighbours",), "group": "consistency"}
_CROSS = {"needs": ("neighbours",), "group": "consistency"}
_ALL_PAIRS = "all pairs of a story's drawn frames that share a character"
_FIRST = "a frame and the story's given or first one"
_BENCH = {"needs": ("characters",), "of": "stories", "group": "vistorybench"}
_CSD = {**_BENCH, "network": "evaluation.networks.csd:csd_network", "file": "csd_weights"}
_CIDS = {**_BENCH, "network": "evaluation.networks.detector:detector_network", "file": "detector"}
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
        "judge_frechet", "the cartoon judge's last features, Fréchet: not an FID",
        **_FRECHET, **_JUDGE,
    ),
    Metric(
        "judge_kernel", "the cartoon judge's last features, cubic kernel: not a KID",
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
        "evaluation.metrics.consistency:cosine_adjacent", needs=("neighbours",), **_CLIP,
    ),
    Metric(
        "lpips_adjacent", "LPIPS ({network}) of a frame and the one before, native size",
        "evaluation.metrics.consistency:lpips_adjacent", needs=("neighbours",), **_LPIPS,
    ),
    *(
        Metric(f"{name}_{how}", f"{text}, {which}",
               f"evaluation.metrics.consistency:{function}_{how}", **{**network, **kind})
        for name, text, function, network in (
            ("clip_i", "cosine, {network}", "cosine", _CLIP),
            ("dino", "cosine, {network}", "cosine", _DINO),
            ("lpips", "LPIPS ({network}), native size", "lpips", _LPIPS),
        )
        for how, which, kind in (("self", _ALL_PAIRS, _SELF), ("cross", _FIRST, _CROSS))
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
        "evaluation.metrics.classified:background_accuracy", errors=("place",), **_BACKGROUNDS,
    ),
    Metric(
        "background_f1", "{network}, micro F1 of backgrounds",
        "evaluation.metrics.classified:background_f1", errors=("place",), **_BACKGROUNDS,
    ),
    Metric(
        "clip_t@l14", "cosine of frame and caption, {network}",
        "evaluation.metrics.clip_scores:clip_t", needs=("captions",), **_CLIP_L14,
    ),
    Metric(
        "clip_i@l14", "cosine of drawn and real frame, {network}",
        "evaluation.metrics.clip_scores:clip_i", needs=("references",), **_CLIP_L14,
    ),
    Metric(
        "clip_t_mrr", "reciprocal rank of the frame's caption among all, {network}",
        "evaluation.metrics.clip_scores:clip_t_mrr", needs=("captions",), **_CLIP_L14,
    ),
    Metric(
        "csd_self", "cosine of style, {network}, all pairs of a story's shots; mean of stories",
        "evaluation.metrics.vistorybench:csd_self", **_CSD,
    ),
    Metric(
        "csd_cross", "cosine of style, {network}, a shot and the first picture of its first "
        "character; mean of stories", "evaluation.metrics.vistorybench:csd_cross", **_CSD,
    ),
    Metric(
        "aesthetic", "Aesthetic Predictor 2.5, {network}, from 1 to 10; mean of stories",
        "evaluation.metrics.vistorybench:aesthetic", group="vistorybench",
        network="evaluation.networks.aesthetic:aesthetic_network", file="aesthetic_head",
    ),
    Metric(
        "inception_score", "Resize + CenterCrop to 299, {network}, one split",
        "evaluation.metrics.inception_score:InceptionScore", of="sets", group="vistorybench",
        network="evaluation.networks.classifier:imagenet_network",
    ),
    *(
        Metric(name, f"{text}; mean of stories", f"evaluation.metrics.vistorybench:{name}", **_CIDS)
        for name, text in (
            ("cids_cross", "cosine of a character's crops and reference crops, {network}, "
             "Hungarian matching, never found 0, all characters but realistic humans"),
            ("cids_self", "cosine of pairs of a character's crops, {network}, Hungarian matching, "
             "never found 0, found once 1, all characters but realistic humans"),
            ("onstage_count", "100 exp(-|D - E| / E), D of E expected characters found, {network}"),
        )
    ),
    Metric(
        "copy_paste", "softmax of cosines of crop with reference and mirrored reference, over "
        "0.01, {network}; 0.5 is no preference, 1 a copy; mean of stories",
        "evaluation.metrics.vistorybench:copy_paste", higher_is_better=False, **_CIDS,
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
    *(
        Metric(f"cartoon/{name}", f"judge, {text}", f"evaluation.metrics.cartoon:{name}",
               errors=errors, **{**_CARTOON, "needs": ("labels", "weather")})
        for name, text, errors in (
            ("weather_accuracy", "right weather where the caption does not name it", ("weather",)),
            ("object_accuracy", "who carries what, where someone does and the caption does not say",
             ("object",)),
        )
    ),
    *(
        Metric(f"cartoon/{name}{suffix}",
               f"{text}, against the renderer's picture of what the judge reads{among}",
               f"evaluation.metrics.fidelity:{name}{suffix}",
               errors=("place", "cast", "clothes", "action"),
               **{**_CARTOON, "needs": ("labels", "slots")})
        for name, text in (
            ("psnr", "dB, mean of frames, 50 at most"), ("ssim", "SSIM"),
            ("figure_psnr", "dB where its characters are, mean of frames, 50 at most"),
        )
        for suffix, among in (
            ("", ""), ("_one", ", of one character"), ("_two", ", of two characters")
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

    ["all"] where that is among them: what it means depends on the samples.
    """
    asked = asked.split(",") if isinstance(asked, str) else list(asked or ())
    names = [name for one in asked for name in GROUPS.get(one, [one])]
    if unknown := [name for name in names if name not in (*METRICS, "all")]:
        near = get_close_matches(unknown[0], [*METRICS, *GROUPS, "all"], 1)
        known = f"{', '.join(METRICS)}, or the groups {', '.join(GROUPS)}, all"
        hint = f"did you mean {near[0]}?" if near else f"choose among {known}"
        raise ValueError(f"metrics: {unknown[0]!r} is not known; {hint}")
    return ["all"] if "all" in names else list(dict.fromkeys(names))


def given(metric: Metric, options: object) -> bool:
    """Whether the file that a metric needs is named."""
    names = (metric.file, INSTEAD.get(metric.file))
    return metric.file is None or any(getattr(options, name) for name in names if name)


def own_story_metrics(benchmark: bool = False) -> list[str]:
    """Metrics of a story of one's own, which has neither real pictures nor labels; of a benchmark's
    stories with their characters."""
    own = {"captions", "neighbours", *(["characters"] if benchmark else [])}
    return [name for name, one in METRICS.items() if own.issuperset(one.needs)]
