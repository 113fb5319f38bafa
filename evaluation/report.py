"""What was measured, in words: the table on the terminal and the protocol of every metric."""

from __future__ import annotations

from evaluation.metrics import Tools
from evaluation.options import Options

_INCEPTION = "TensorFlow-2015 Inception pool3"
PROTOCOLS = {
    "fid@64": f"64x64 (PIL, antialiased), 299x299 bilinear, {_INCEPTION}, Fréchet",
    "fid": f"native size, 299x299 bilinear, {_INCEPTION}, Fréchet",
    "kid": f"native size, 299x299 bilinear, {_INCEPTION}, cubic kernel, all pairs",
    "judge_frechet": "the cartoon judge's 128 last features, Fréchet: not an FID",
    "judge_kernel": "the cartoon judge's 128 last features, cubic kernel: not a KID",
    "clip_t": "cosine of frame and caption, {clip}",
    "clip_i": "cosine of drawn and real frame, {clip}",
    "clip_i_adjacent": "cosine of a frame and the one before, {clip}",
    "lpips_adjacent": "LPIPS ({lpips_net}) of a frame and the one before, native size",
    "character_f1": "classifier, micro F1, sigmoid > 0.5",
    "frame_accuracy": "classifier, all characters right",
    "background_accuracy": "classifier, background right",
}
# Whose error of the judge bears on a cartoon metric.
JUDGED = {
    "place_accuracy": ["place"],
    "place_named_accuracy": ["place"],
    "frame_accuracy": ["cast"],
    "character_f1": ["cast"],
    "pronoun_accuracy": ["cast"],
    "action_accuracy": ["action"],
    "clothes_accuracy": ["clothes"],
    "all_right": ["place", "cast", "action", "clothes"],
    "held_out_frame_accuracy": ["place", "cast", "action"],
}


def protocol(name: str, options: Options, tools: Tools) -> str:
    """How a number came about; with the own error of whoever read the frames."""
    reader, words, labels = tools.vocabulary or {}, PROTOCOLS.get(name, "judge"), []
    if name.startswith("cartoon/"):
        reader, labels = {"known_error": tools.judge.known_error}, JUDGED[name[len("cartoon/") :]]
    elif words.startswith("classifier"):
        labels = ["place" if name == "background_accuracy" else "cast"]
        if (side := reader.get("image_size", 299)) != 299:
            words += f", at {side} instead of 299 pixels"
    if not labels:
        return words.format(**vars(options), clip=clip_name(options))
    known = reader.get("known_error") or {}
    error = f"{max(known[key] for key in labels):.2%}" if {*labels} <= {*known} else "unknown"
    return f"{words}, own error {error}"


def clip_name(options: Options) -> str:
    """The model and its weights; a folder or a hub model brings its own."""
    if options.clip_model.startswith(("local-dir:", "hf-hub:")):
        return options.clip_model
    return f"{options.clip_model} {options.clip_weights}"


def table(result: dict) -> str:
    """Metrics of `evaluate` as lines: value, interval, floor, ceiling, N, protocol."""
    if not result["metrics"]:
        return f"{result['samples']}: {result['stories']} stories, {result['frames']} drawn frames"
    wide = max(map(len, result["metrics"])) + 2
    lines = [
        f"{result['samples']}: {result['stories']} stories, {result['frames']} drawn frames",
        f"{'':{wide}}{'value':>9}{'95 % interval':>22}{'floor':>9}{'ceiling':>9}{'chance':>8}"
        f"{'n':>7}  protocol",
    ]
    for name, entry in result["metrics"].items():
        lines.append(
            f"{name:{wide}}{_cell(entry['value']):>9}{_range(entry['interval']):>22}"
            f"{_cell(entry.get('floor')):>9}{_cell(entry.get('ceiling')):>9}"
            f"{_cell(entry.get('chance')):>8}{entry['n']:>7}  {entry['protocol']}"
        )
    if "compare" in result:
        lines += [
            "",
            f"against {result['compare']['samples']}, story by story",
            f"{'':{wide}}{'other':>9}{'95 % interval':>22}{'difference':>12}{'95 % interval':>22}",
        ]
        for name, entry in result["compare"]["metrics"].items():
            lines.append(
                f"{name:{wide}}{_cell(entry['value']):>9}{_range(entry['interval']):>22}"
                f"{_cell(entry['difference']):>12}{_range(entry['difference_interval']):>22}"
            )
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.0f}"


def _range(bounds: list[float] | None) -> str:
    return "–" if bounds is None else f"[{_cell(bounds[0])}, {_cell(bounds[1])}]"
