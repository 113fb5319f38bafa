"""Builds the networks that the chosen metrics need, and refuses before any work what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evaluation.classifier import classifier_encoder, classifier_file
from evaluation.clip_scores import clip_encoders
from evaluation.features import FeatureCache
from evaluation.inception import inception_encoder
from evaluation.judge import Judge, judge_encoders
from evaluation.lpips_adjacent import lpips_encoder
from evaluation.material import Material
from evaluation.metrics import GROUPS, METRICS, SET_METRICS, Tools
from evaluation.options import Options, check, option
from evaluation.paper_table import check_column
from evaluation.report import clip_name
from evaluation.samples import MANIFEST, Samples, places_of
from evaluation.weights import INCEPTION, LPIPS_BACKBONES, file_hash, find_weights

CLASSIFIER_MAKER = "python -m evaluation.classifier train makes one"


def preflight(options: Options) -> None:
    """Before stories are drawn: ValueError or FileNotFoundError for metrics and files that later
    could not be used."""
    check_column(options.papers)
    names = choose(options, None)
    if classified := [name for name in names if name in GROUPS["classifier"]]:
        _require(options.classifier, classified[0], "classifier", CLASSIFIER_MAKER)
        classifier_file(options.classifier)
    build_tools(check(replace(options)), [n for n in names if n not in classified], None)


def choose(options: Options, samples: Samples | None) -> list[str]:
    """The names asked for, groups spelled out; ValueError for an unknown one. `all` is what the
    given files and the samples allow."""
    asked = options.metrics
    if asked is None:
        asked = ["cartoon"] if options.judge else []
    asked = asked.split(",") if isinstance(asked, str) else list(asked)
    if asked == ["all"]:
        has = {"judge": options.judge is not None, "classifier": options.classifier is not None}
        if samples:
            first = samples.stories[0]
            has["references"] = bool(first.reference_frames)
            has["labels"] = bool(first.labels)
            has["captions"] = all(all(story.captions) for story in samples.stories)
            has["neighbours"] = len(first.frames) > 1
        return [n for n, one in METRICS.items() if all(has.get(need, True) for need in one.needs)]
    names = [name for one in asked for name in GROUPS.get(one, [one])]
    if unknown := [name for name in names if name not in METRICS]:
        raise ValueError(
            f"metrics: {unknown[0]!r} is not known; choose among {', '.join(METRICS)}, or the "
            f"groups {', '.join(GROUPS)}, all"
        )
    return list(dict.fromkeys(names))


def check_material(names: Sequence[str], material: Material) -> None:
    """ValueError when a metric needs what the samples do not have."""
    plain = not Path(material.folder, MANIFEST).is_file()  # then options may bring the rest
    real, captions = (": give reference=DIR", ": give captions=FILE") if plain else ("", "")
    missing = {
        "references": (material.references is None, f"real frames{real}"),
        "neighbours": (not material.drawn[:, 1:].any(), "two frames a story"),
        "captions": (not material.captions.all(), f"a caption for every frame{captions}"),
        "labels": (not all(one.labels for one in material.stories), "labels for every story"),
    }
    for name in names:
        for need in METRICS[name].needs:
            lacks, what = missing.get(need, (False, ""))
            if lacks:
                raise ValueError(f"{name} needs {what}; {material.folder} has none")


def build_tools(
    options: Options, names: Sequence[str], samples: Samples | None
) -> tuple[Tools, dict]:
    """The networks, and {metric: {file, sha256}} of their weights."""
    device = options.device
    tools = Tools(FeatureCache(options.cache))
    tools.batch_size, tools.processes = options.batch_size, options.processes
    weights: dict[str, dict] = {}

    def note(metrics: Sequence[str], file: str | Path, sha256: str | None = None) -> None:
        found = {"file": Path(file).name, "sha256": sha256 or file_hash(file)}
        weights.update(dict.fromkeys(metrics, found))

    wanted = {SET_METRICS[name].encoder for name in names if name in SET_METRICS}
    if wanted & {"inception64", "inception"}:
        key = option("inception_weights")
        path = find_weights(INCEPTION, options.inception_weights, key, options.allow_other_weights)
        for name, side in (("inception64", 64), ("inception", None)):
            if name in wanted:
                tools.encoders[name] = inception_encoder(path, side, key, device)
        note(("fid@64", "fid", "kid"), path)
    if set(GROUPS["clip"]) & set(names):
        picture, text, sha256 = clip_encoders(options.clip_model, options.clip_weights, device)
        tools.encoders |= {"clip image": picture, "clip text": text}
        note(GROUPS["clip"], clip_name(options), sha256)
    if "lpips_adjacent" in names:
        net, key = options.lpips_net, option("lpips_weights")
        published = LPIPS_BACKBONES[net]
        path = find_weights(published, options.lpips_weights, key, options.allow_other_weights)
        tools.encoders["lpips"] = lpips_encoder(net, path, key, device)
        note(["lpips_adjacent"], path)
    if classified := [name for name in GROUPS["classifier"] if name in names]:
        _require(options.classifier, classified[0], "classifier", CLASSIFIER_MAKER)
        encoder, about = classifier_encoder(options.classifier, samples.vocabulary, device)
        tools.encoders["classifier"], tools.vocabulary = encoder, about
        note(classified, options.classifier)
        _check_classifier(classified, samples, about)
    if judged := [name for name in names if "judge" in METRICS[name].needs]:
        _require(options.judge, judged[0], "judge", "make demo saves one")
        tools.judge = Judge.load(options.judge)
        if samples and samples.vocabulary not in (None, tools.judge.vocabulary):
            raise ValueError(
                f"{option('judge')}={options.judge}: its label vocabulary is not that of "
                f"{samples.folder}: train the judge on the world these stories come from"
            )
        tools.encoders |= judge_encoders(tools.judge, file_hash(options.judge))
        note(judged, options.judge)
    return tools, weights


def _require(path: str | None, metric: str, key: str, hint: str) -> None:
    if not path:
        raise ValueError(f"{metric} needs {option(key)}=FILE ({hint})")


def _check_classifier(names: Sequence[str], samples: Samples, about: dict) -> None:
    if "background_accuracy" in names and not about["places"]:
        raise ValueError("background_accuracy needs a classifier with backgrounds: train one")
    labels = [label for story in samples.stories for label in story.labels or ()]
    for name in names:
        what = "backgrounds" if name == "background_accuracy" else "characters"
        told = places_of if what == "backgrounds" else lambda label: "cast" in label
        if not any(map(told, labels)):
            raise ValueError(f"{name} needs labels that say the {what}; {samples.folder} has none")
    for story in samples.stories:
        for label in story.labels or ():
            strange = set(label.get("cast", ())) - set(about["characters"])
            if about["places"]:
                strange |= set(places_of(label)) - set(about["places"])
            if strange:
                raise ValueError(
                    f"story {story.story_id!r} has label {min(map(str, strange))!r}, which the "
                    "classifier does not know: train it on this data set"
                )
