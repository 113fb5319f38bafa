"""The stages of a base: each is kept when it is done, and goes on where it was cut off."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from common.files import replacing, writing_folder
from pretraining.schedule import Plan
from pretraining.source import Source

__all__ = ["STAGES", "Settings", "Stage", "StageRun"]


@dataclass(frozen=True)
class Stage:
    """steps: of the cartoon base; share: of other numbers of steps. least: of fewer expect nothing.
    cost: of a step, relatively."""

    folder: str
    steps: int
    batch: int
    share: float
    least: int
    cost: float

    @property
    def state(self) -> str:
        return f"{self.folder}.state.pt"

    @property
    def sheet(self) -> str:
        return f"{self.folder}.png"


STAGES = {
    "autoencoder": Stage("1-autoencoder", 1800, 32, 0.13, 200, 0.65),
    "text to image: bind words": Stage("2-bind", 1400, 24, 0.42, 400, 0.55),
    "text to image: summarise": Stage("3-summarise", 900, 24, 0.21, 200, 0.62),
    "align": Stage("4-align", 1000, 32, 0.19, 100, 0.33),
    "decoder": Stage("5-decoder", 650, 32, 0.05, 50, 0.65),
}
_COST = sum(stage.share * stage.cost for stage in STAGES.values())


@dataclass(frozen=True)
class Settings:
    """What a base is made like; start: another base to start from. Of steps and minutes, which
    count all stages together, one may be given."""

    image_size: int = 128
    size: str = "tiny"
    seed: int = 0
    start: Path | None = None
    steps: int | None = None
    minutes: float | None = None
    batch_size: int | None = None  # of every stage; None: each its own
    device: torch.device = torch.device("cpu")

    def plan(self, name: str, state: Path) -> Plan:
        """Of a stage: its share of what is to be spent."""
        stage = STAGES[name]
        steps = max(1, round(self.steps * stage.share)) if self.steps else stage.steps
        seconds = self.minutes and 60 * self.minutes * stage.share * stage.cost / _COST
        return Plan(steps, self.batch_size or stage.batch, seconds, state)


class StageRun:
    """Stages under `work`: what is done there is loaded, what was cut off goes on."""

    def __init__(self, source: Source, settings: Settings, work: Path) -> None:
        self.settings, self.work = settings, work
        self.figures: dict[str, dict] = {}
        self._spent = {"seconds": 0.0, "cost": 0.0}
        chosen = {
            key: str(getattr(settings, key)) for key in ("image_size", "size", "seed", "start")
        }
        chosen["stories"] = _fingerprint(source)
        file = work / "settings.json"
        if file.exists() and (before := json.loads(file.read_text("utf-8"))) != chosen:
            other = next(key for key in chosen if before.get(key) != chosen[key])
            raise ValueError(
                f"--work {work} holds stages of a run with {other} {before.get(other)}, this one "
                f"has {chosen[other]}: give another --work, or delete that folder"
            )
        work.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(chosen), "utf-8")

    def stage(
        self,
        name: str,
        build: Callable[[], dict[str, nn.Module]],
        train: Callable[[dict[str, nn.Module], Plan], int],
        preview: Callable[[Path, dict[str, nn.Module]], None],
    ) -> dict[str, nn.Module]:
        """The trained parts; `build` makes them untrained, `train` returns the steps it took."""
        stage, path = STAGES[name], self.work / STAGES[name].folder
        state = self.work / stage.state
        plan = self.settings.plan(name, state)
        torch.manual_seed(self.settings.seed)
        device = self.settings.device
        parts = {part: model.to(device) for part, model in build().items()}
        there = path.exists()
        if not there:
            number = list(STAGES).index(name) + 1
            print(f"stage {number} of {len(STAGES)}, {name}: {self._left(plan)}")
            if plan.seconds is None:
                _warn_if_short(name, plan.steps)
            start = time.monotonic()
            for part in parts.values():
                part.train()
            steps = train(parts, plan)
            seconds = round(time.monotonic() - start)
            if plan.seconds is not None:
                _warn_if_short(name, steps)
            done = {"steps": steps, "batch": plan.batch_size, "seconds": seconds}
            with writing_folder(path) as temporary:
                for part, model in parts.items():
                    model.save_pretrained(temporary / part)
                (temporary / "done.json").write_text(json.dumps(done), "utf-8")
            state.unlink(missing_ok=True)
        figures = json.loads((path / "done.json").read_text("utf-8"))
        if there:
            how = f"{figures['steps']} steps of {figures['batch']}"
            print(f"{name}: done before, in {path}: {how}; delete that to train it anew")
        parts = {
            part: type(model).from_pretrained(path / part).to(device).eval()
            for part, model in parts.items()
        }
        self.figures[name] = figures
        self._spent["seconds"] += figures["seconds"]
        self._spent["cost"] += figures["steps"] * stage.cost
        preview(self.work / "previews" / stage.sheet, parts)
        return parts

    def _left(self, plan: Plan) -> str:
        """What a stage is going to do, and how long all that is left will take."""
        left = [name for name in STAGES if name not in self.figures]
        plans = {name: self.settings.plan(name, self.work) for name in left}
        if plan.seconds is not None:
            minutes = sum(one.seconds for one in plans.values()) / 60
            return f"{plan.seconds / 60:.1f} minutes; {minutes:.0f} minutes to go in all"
        if not self._spent["cost"]:
            return f"{plan.steps} steps"
        cost = sum(one.steps * STAGES[name].cost for name, one in plans.items())
        minutes = cost * self._spent["seconds"] / self._spent["cost"] / 60
        return f"{plan.steps} steps; about {minutes:.0f} minutes to go in all"


def _warn_if_short(name: str, steps: int) -> None:
    if steps < STAGES[name].least:
        print(f"{name}: {steps} steps: expect nothing; {STAGES[name].least} are the least")


def _fingerprint(source: Source) -> str:
    """What tells the stories that stages were trained on from others."""
    digest = hashlib.sha256(source.frames.numpy().tobytes())
    for example in source.examples:
        digest.update(repr(example).encode())
    return digest.hexdigest()[:16]
