"""How fast are drawing and training, beside the original's computation? One table.

    python -m benchmarks.speed                    a U-Net of 142 M, CLIP and BLIP-B, at random
    python -m benchmarks.speed --latents 32       at 256 pixels only
    python -m benchmarks.speed --device cuda --size full

Same weights and inputs; parts of the work take turns, round by round, and are put together to
stories of any number of steps, as drawing is nothing but them one after the other. The reference is
`benchmarks/reference.py`.
"""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path

import diffusers
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.random_parts import Sizes, random_parts
from benchmarks.reference import Reference
from benchmarks.speed_training import training_table
from benchmarks.timing import has_bf16, ratio, seconds_of, take_turns
from building import drawing_precision
from common.terminal import script_parser
from models.components import Components
from models.conditioning import Context
from models.cross_attention import context_projected_once
from models.frames import decode_latents
from models.fused_attention import fuse_attention, unfuse_attention
from models.pipeline import StoryPipeline

__all__ = ["Stories", "main"]

SIZES = {
    "minute": Sizes((32, 32), (8, 8), (32, 1, 2), (32, 1, 2), 32, 16, 8, 100, 100),
    "middle": Sizes((128, 256, 512, 512), (64, 128, 256, 256), (768, 12, 12), (768, 12, 12)),
    "full": Sizes(),
}
TOKENS, FRAMES, REAL = 85, 5, 25  # a caption's room, a story's frames, a caption's tokens
OURS, REFERENCE, PLAIN = "ours", "reference", "plain Stable Diffusion"
HALF = "in bf16"  # ours with precision=bf16-mixed


class Stories:
    """The parts of drawing one story of five frames with guidance: name -> work, for each way."""

    def __init__(self, parts: Components, side: int, device: torch.device) -> None:
        self.parts, self.side, self.device = parts, side, device
        parts.modules().to(device)
        self.reference = Reference(parts, copy=True)
        for network in (parts.unet, parts.vae):
            network.to(memory_format=torch.channels_last)
        self.pipeline = StoryPipeline.from_components(parts)
        mask = torch.arange(TOKENS, device=device) < REAL
        self.ids = torch.ones(FRAMES, TOKENS, dtype=torch.long, device=device)
        self.mask = mask.expand(FRAMES, -1)
        picture = parts.history_transform.size
        self.images = torch.randn(FRAMES, 3, picture, picture, device=device)
        self.latents = torch.randn(2, 4, side, side, device=device)
        self.step = torch.tensor(500, device=device)
        with torch.no_grad():
            self.states = parts.conditioner.encode_history(self.images, self.ids, self.mask)
            self.null = parts.conditioner.null_states()
            self.captions = parts.conditioner.encode_captions(self.ids, self.mask)

    def context(self, k: int) -> Context:
        """Of frame `k`, as drawing makes it."""
        history = list(self.states[:k, None])
        return self.pipeline._context(
            self.captions[k : k + 1], self.mask[k : k + 1], history, self.mask[None, :k],
            self.null, 0, None, False,
        )  # fmt: skip

    def padded(self, k: int) -> Context:
        """The same with all slots of the story, those to come hidden."""
        own = self.context(k)
        room = (FRAMES - k) * TOKENS
        states = torch.nn.functional.pad(own.states, (0, 0, 0, room))
        return Context(states, torch.nn.functional.pad(own.mask, (0, room)))

    def call(self, unet, context: Context) -> Callable[[], object]:
        return lambda: unet(self.latents, self.step, **context.unet_arguments()).sample

    def unet_works(self, k: int) -> dict[str, Callable[[], object]]:
        """A U-Net call of frame k in both ways, and with one speed-up off."""
        unet, live, whole = self.parts.unet, self.context(k), self.padded(k)
        once = context_projected_once(unet)

        def ours() -> None:
            with ExitStack() as stack:
                for layer, memo in kept.items():
                    layer.forward = memo
                    stack.callback(lambda layer=layer: layer.__dict__.pop("forward"))
                self.call(unet, live)()

        with once:
            self.call(unet, live)()  # keys and values, once a frame
            kept = {layer: layer.forward for layer in unet.modules() if "forward" in layer.__dict__}
        works = {
            OURS: ours,
            REFERENCE: self.call(self.reference.unet, whole),
            "without: keys and values once a frame": self.call(unet, live),
            "without: only tokens that are there": self.call(unet, whole),
        }
        if 0 < k < FRAMES - 1:  # the speed-ups are shown for the first and the last frame
            return {OURS: ours, REFERENCE: works[REFERENCE]}
        if k == 0:
            plain = {"encoder_hidden_states": self.captions[:1].expand(2, -1, -1)}
            works[PLAIN] = lambda: unet(self.latents, self.step, **plain).sample
        return works

    def other_works(self) -> dict[str, dict[str, Callable[[], object]]]:
        """What is no U-Net call: captions, frames as history, pictures."""
        own, theirs = self.parts.conditioner, self.reference
        one = self.images[:1], self.ids[:1], self.mask[:1]
        latents = self.latents[:1]

        def one_by_one() -> None:
            for k in range(FRAMES):
                own.encode_captions(self.ids[k : k + 1], self.mask[k : k + 1])

        def unfused() -> None:
            unfuse_attention(own)
            own.encode_history(*one)
            fuse_attention(own)

        contiguous = deepcopy(self.parts.vae).to(memory_format=torch.contiguous_format)
        captions = {
            OURS: lambda: own.encode_captions(self.ids, self.mask),
            REFERENCE: lambda: theirs.conditioner.text_encoder(
                self.ids, attention_mask=self.mask.long()
            ),
            "without: all captions at once": one_by_one,
        }
        history = {
            OURS: lambda: own.encode_history(*one),
            REFERENCE: lambda: theirs.encode_history(*one),
            "without: fused attention": unfused,
        }
        pictures = {
            OURS: lambda: decode_latents(self.parts.vae, latents),
            REFERENCE: lambda: decode_latents(theirs.vae, latents),
            "without: channels last": lambda: decode_latents(contiguous, latents),
        }
        return {"captions": captions, "history": history, "picture": pictures}


def story_seconds(times: dict, way: str, steps: int) -> list[float]:
    """Of a story of `steps` a frame, round by round, from its parts."""
    calls = [[times[f"frame {k}"][way][i] for k in range(FRAMES)] for i in range(rounds_of(times))]
    # The original encodes every slot first, and every drawn frame again; both the null ones, which
    # ours does only for the first story.
    history = 2 * FRAMES + 1 if way == REFERENCE else FRAMES - 1
    return [
        steps * sum(calls[i])
        + times["captions"][way][i] * (1 + (way == REFERENCE) / FRAMES)
        + history * times["history"][way][i]
        + FRAMES * times["picture"][way][i]
        for i in range(rounds_of(times))
    ]


def rounds_of(times: dict) -> int:
    return len(times["captions"][OURS])


@torch.no_grad()
def drawing_table(stories: Stories, rounds: int, peak: float) -> list[str]:
    """Lines of the table about drawing at one size of latents."""
    device = stories.device
    works = {f"frame {k}": stories.unet_works(k) for k in range(FRAMES)} | stories.other_works()
    side = f"{stories.side}×{stories.side} latents"
    times = {}
    # Around all of it, as around a run that draws, so that weights are cast once.
    with torch.autocast(device.type, torch.bfloat16, enabled=False):
        for name, ways in works.items():
            if has_bf16(device):
                ways[HALF] = in_half(ways[OURS], device)
            times[name] = take_turns(ways, rounds, device)
            print("\n".join(part_lines(f"{side}, {name}", times[name])), flush=True)
    lines = []
    for way in (OURS, HALF)[: 1 + has_bf16(device)]:
        for steps, theirs in ((250, 250), (20, 20), (4, 4), (20, 250)):
            seconds = story_seconds(times, way, steps), story_seconds(times, REFERENCE, theirs)
            lines.append(
                f"| story of {FRAMES} frames, {side}, {way}, {steps} steps beside {theirs} | "
                f"{ratio(*seconds)} |"
            )
    calls = {
        way: [sum(x) for x in zip(*(times[f"frame {k}"][way] for k in range(FRAMES)), strict=True)]
        for way in (OURS, REFERENCE)
    }
    plain = times["frame 0"][PLAIN]
    pictures = [FRAMES * (4 * a + b) for a, b in zip(plain, times["picture"][OURS], strict=True)]
    five = [FRAMES * x for x in plain]
    lines += [
        f"| the same against {FRAMES} pictures of plain Stable Diffusion, 4 steps | "
        f"{ratio(story_seconds(times, OURS, 4), pictures)} |",
        f"| and a step of it | {ratio(calls[OURS], five)} |",
    ]
    lines += profile(times, side)
    with FlopCounterMode(display=False) as flops:
        stories.unet_works(FRAMES - 1)["without: keys and values once a frame"]()
    reached = (
        flops.get_total_flops()
        / 2
        / statistics.median(times[f"frame {FRAMES - 1}"]["without: keys and values once a frame"])
    )
    lines.append(
        f"| {side}, share of the peak of matrix products that a U-Net call reaches | "
        f"{reached / peak:.2f} |"
    )
    return lines


def in_half(work: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """The same work as `precision=bf16-mixed` does it."""

    def halved() -> object:
        with drawing_precision("bf16-mixed", device):
            return work()

    return halved


def part_lines(label: str, times: dict[str, list[float]]) -> list[str]:
    """Lines of one part of the work: beside the reference, and with each speed-up off."""
    ours = times[OURS]
    lines = [f"| {label}: ours against the reference | {ratio(ours, times[REFERENCE])} |"]
    for way, seconds in times.items():
        if way not in (OURS, REFERENCE, PLAIN):
            lines.append(f"| {label}: {way} | {ratio(seconds, ours)} |")
    return lines


def profile(times: dict, side: str) -> list[str]:
    """Where the time of a 20-step story goes, before and after."""
    lines = []
    for way in (REFERENCE, OURS):
        middle = {name: statistics.median(ways[way]) for name, ways in times.items()}
        history = 2 * FRAMES + 1 if way == REFERENCE else FRAMES - 1
        seconds = {
            "U-Net": 20 * sum(middle[f"frame {k}"] for k in range(FRAMES)),
            "BLIP": history * middle["history"], "CLIP": middle["captions"],
            "VAE": FRAMES * middle["picture"],
        }  # fmt: skip
        total = sum(seconds.values())
        shares = ", ".join(f"{name} {value / total:.0%}" for name, value in seconds.items())
        lines.append(f"| {side}, 20 steps, {way}: {total:.1f} s | {shares} |")
    return lines


@torch.no_grad()
def together(stories: Stories, rounds: int) -> str:
    """Throughput of four stories at once against one after the other."""
    context, unet = stories.context(FRAMES - 1), stories.parts.unet
    four = Context(context.states.repeat(4, 1, 1), context.mask.repeat(4, 1))
    latents = stories.latents.repeat(4, 1, 1, 1)
    works = {
        "one": stories.call(unet, context),
        "four": lambda: unet(latents, stories.step, **four.unet_arguments()).sample,
    }
    times = take_turns(works, rounds, stories.device)
    alone = [4 * seconds for seconds in times["one"]]
    return f"| four stories at once, throughput of U-Net calls | {ratio(alone, times['four'])} |"


def matrix_peak(device: torch.device, size: int = 1536) -> float:
    """Multiply-adds a second of the best of some large matrix products."""
    a, b = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    return size**3 / min(seconds_of(lambda: a @ b, device) for _ in range(8))


def processor(device: torch.device) -> str:
    if device.type != "cpu":
        return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.is_file() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if "model name" in line]
    level = torch.backends.cpu.get_cpu_capability()
    return f"{(names or [platform.processor()])[0]}, {torch.get_num_threads()} threads, {level}"


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--size", choices=SIZES, default="middle")
    parser.add_argument("--latents", type=int, nargs="+", default=[32, 64], help="a side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=("drawing", "training"))
    args = parser.parse_args()
    device = torch.device(args.device)
    torch.manual_seed(0)
    peak = matrix_peak(device)
    print(
        f"{processor(device)}; torch {torch.__version__}, diffusers {diffusers.__version__}, "
        f"transformers {transformers.__version__}; {args.size}, {args.rounds} rounds; matrix "
        f"products reach {peak / 1e9:.0f} G multiply-adds a second\n\n"
        "| work | ratio: median (smallest–largest) |\n|---|---|", flush=True
    )  # fmt: skip
    for side in args.latents:
        sizes = SIZES[args.size]
        if args.only != "training":
            parts = random_parts(sizes, TOKENS)
            parts.modules().eval()
            stories = Stories(parts, side, device)
            lines = drawing_table(stories, args.rounds, peak)
            lines.append(together(stories, args.rounds))
            print("\n".join(lines), flush=True)
            del stories, parts
        if args.only != "drawing":
            for line in training_table(sizes, side, args.rounds, device):
                print(line, flush=True)


if __name__ == "__main__":
    main()
