"""Published FIDs to stand beside one's own, and what keeps them from being comparable.

The numbers are as the papers' abstracts and public leaderboards state them; look a number up in
its paper before citing it. Splits: PororoSV 2,208 and FlintstonesSV 2,309 test stories.
"""

from __future__ import annotations

__all__ = ["PUBLISHED", "published_table"]

AR_LDM = "Pan et al., arXiv 2211.10950"
TF_2015 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"  # of FID's weights
CAUSAL_STORY = "Song et al., arXiv 2309.09553"
OTHERS = {name: "as quoted on leaderboards" for name in
          ("StoryDALL-E", "Mega-StoryDALL-E", "ACM-VSG", "ContextualStory")}  # fmt: skip
SOURCES = {"AR-LDM": AR_LDM, "Causal-Story": CAUSAL_STORY, **OTHERS}
AT_64 = "fid@64"
# How a system's number came about, as far as its code or paper tells; "?": not known.
PROTOCOLS = {
    "AR-LDM": f"{AT_64}, random real frames; its repository misread pictures before April 2023",
    "Causal-Story": f"AR-LDM's code: {AT_64}, random real frames",
    "StoryDALL-E": AT_64,
    "Mega-StoryDALL-E": AT_64,
    "ACM-VSG": "?",
    "ContextualStory": "trained on train and val, frames filtered",
}
IN_NO_COLUMN = (
    "in no column: VLCStoryGAN, whose authors have corrected their values; StoryGPT-V, whose FID "
    "takes ImageNet-normalised crops of 299 pixels, against random real frames"
)
# Column: (test frames that were scored, or None if not known; {system: FID}).
PUBLISHED = {
    "pororo-visualization": (
        2208 * 5,
        {"AR-LDM": 16.59, "Causal-Story": 16.28, "ACM-VSG": 15.48, "ContextualStory": 14.07},
    ),
    "pororo-continuation": (
        2208 * 4,
        {
            "StoryDALL-E": 25.90,
            "Mega-StoryDALL-E": 23.48,
            "AR-LDM": 17.40,
            "Causal-Story": 16.98,
            "ACM-VSG": 15.36,
            "ContextualStory": 14.20,
        },
    ),
    "flintstones-continuation": (2309 * 4, {"AR-LDM": 19.28, "ContextualStory": 16.33}),
    "vist-sis": (None, {"AR-LDM": 16.95}),
    "vist-dii": (None, {"AR-LDM": 17.03}),
}


def published_table(column: str, result: dict) -> tuple[str, list[str]]:
    """Lines with the published numbers and the user's, and warnings where protocols differ."""
    frames, systems = PUBLISHED[column]
    protocol = "FID; AR-LDM's code: fid@64" if "AR-LDM" in systems else "FID"
    lines = [f"{column}, FID (lower is better)", f"{'':18}{'value':>8}{'n':>8}  source; protocol"]
    rows = [
        (name, fid, frames or "–", f"{SOURCES[name]}; {PROTOCOLS[name]}")
        for name, fid in systems.items()
    ]
    measured = {k: result["metrics"].get(k) for k in ("fid@64", "fid")}
    own = {k: entry for k, entry in measured.items() if entry and entry["value"] is not None}
    rows += [(f"yours, {k}", one["value"], one["n"], one["protocol"]) for k, one in own.items()]
    lines += [f"{name:18}{fid:8.2f}{n:>8}  {source}" for name, fid, n, source in rows]
    if not column.startswith("vist"):
        lines.append(IN_NO_COLUMN)
    return "\n".join(lines), _differences(column, frames, own, protocol)


def _differences(column: str, frames: int | None, own: dict, protocol: str) -> list[str]:
    warnings = [
        f"papers={column}: published values are {protocol}; whether every paper scored so is not "
        "known, and FIDs of different protocols do not compare"
    ]
    if "fid@64" not in own:
        warnings.append(f"papers={column}: fid@64 was not measured: add it to metrics")
    elif own["fid@64"]["weights"]["sha256"] != TF_2015:
        warnings.append("your fid@64 did not use the TensorFlow-2015 weights: it does not compare")
    warnings += [
        f"your {name} is over {one['n']} frames, the published over {frames}: FID falls with n"
        for name, one in own.items()
        if frames and one["n"] != frames
    ]
    if "fid" in own:
        warnings.append("your fid is at native size, the published values at 64x64")
    others = [name for name in PUBLISHED[column][1] if AT_64 not in PROTOCOLS[name]]
    if "fid@64" in own and others:
        known = "; ".join(f"{name}: {PROTOCOLS[name]}" for name in others)
        warnings.append(f"papers={column}: another protocol than your fid@64, or unknown: {known}")
    if "fid@64" in own:
        warnings.append(
            "AR-LDM's code draws one real frame of each shot at random, anew in every run; yours "
            "are those of the samples folder, always the same"
        )
    return warnings
