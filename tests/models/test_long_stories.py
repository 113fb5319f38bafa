"""Stories longer than the time table: a window of the last frames, numbered anew."""

from __future__ import annotations

import weakref

import pytest
import tiny_parts
import torch
from tiny_parts import SLOTS, ContextRecorder, S, build_parts, random_frames

from models.pipeline import StoryPipeline, frames_in_sight

CAPTIONS = [
    f"{name} {does}." for does in ("waves", "sleeps", "runs") for name in ("Luna", "Pip", "She")
]
K = len(CAPTIONS)


def draw(parts, captions=CAPTIONS, **how):
    return tiny_parts.draw(parts, captions, num_inference_steps=1, guidance_scale=1, **how)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("reach", [1, 2, 4])
def test_frames_in_sight(reach, keep):
    for frame in range(9):
        seen = frames_in_sight(frame, reach, keep)
        assert len(seen) == min(frame, reach) and seen == sorted(set(seen))
        rest = seen[1:] if keep else seen
        assert rest == list(range(frame - len(rest), frame))
        if keep and frame:
            assert seen[0] == 0


GIVEN = random_frames(1, 1, 16)[0, 0]


@pytest.mark.parametrize("reach, keep, image", [
    (2, False, None), (2, True, GIVEN), (None, True, None), (None, False, GIVEN),
])  # fmt: skip
def test_a_late_frame_sees_what_a_short_storys_last_frame_does(reach, keep, image):
    """Frame n's context is that of the last frame of a story made of the frames in its sight."""
    parts = build_parts()
    how = {"history_frames": reach, "keep_first_frame": keep, "image": image}
    with ContextRecorder(parts.unet) as recorder:
        frames = draw(parts, **how).frames[0]
    given = image is not None
    assert len(frames) == K and len(recorder.calls) == K - given
    conditioner, width = parts.conditioner, (reach or SLOTS - 1)
    pipeline = StoryPipeline.from_components(parts)
    for n in range(given, K):
        seen = [i for i in range(n) if i >= n - width]
        if keep and seen:
            seen = [0, *seen[1:]]
        captions = [CAPTIONS[i] for i in (*seen, n)]
        ids, mask = pipeline._tokens(parts.clip_tokenizer, [captions])
        history_ids, history_mask = pipeline._tokens(parts.blip_tokenizer, [captions])
        with torch.no_grad():
            own = conditioner.encode_captions(ids[:, -1], mask[:, -1])
            states = own + conditioner.type_embeddings.weight[0]
            for slot, i in enumerate(seen):
                picture = image if i == 0 and given else frames[i]
                looked = conditioner.encode_history(
                    parts.history_transform(picture[None]),
                    history_ids[:, slot],
                    history_mask[:, slot],
                )
                place = (
                    conditioner.type_embeddings.weight[1] + conditioner.time_embeddings.weight[slot]
                )
                states = torch.cat([states, looked + place], 1)
        there = torch.cat([mask[:, -1], history_mask[:, : len(seen)].flatten(1)], 1)[0]
        context, shown = recorder.calls[n - given]
        assert torch.allclose(context[0][shown[0]], states[0][there], atol=1e-5)
        assert there.sum() == shown.sum() and len(there) == (len(seen) + 1) * S


def test_short_stories_are_as_before():
    parts = build_parts()
    short, long = draw(parts, CAPTIONS[:SLOTS]).frames, draw(parts).frames
    assert torch.equal(long[:, :SLOTS], short)
    assert torch.equal(draw(parts, CAPTIONS[:SLOTS], keep_first_frame=True).frames, short)
    assert torch.equal(draw(parts, history_frames=SLOTS - 1).frames, long)


def test_states_out_of_sight_are_let_go():
    """Memory stays flat: never more history states alive than are in sight, and the first."""
    parts, alive, most = build_parts(), [], []
    encode = parts.conditioner.encode_history

    def keep(*arguments):
        states = encode(*arguments)
        alive.append(weakref.ref(states))
        most.append(sum(one() is not None for one in alive))
        return states

    parts.conditioner.encode_history = keep
    draw(parts, CAPTIONS * 3, history_frames=2)
    assert len(most) == 3 * K - 1 and max(most) <= 4


@pytest.mark.parametrize("reach", [0, SLOTS + 1])
def test_a_window_beyond_the_table_is_refused(reach):
    with pytest.raises(
        ValueError, match=f"history_frames={reach}: this model's time table tells 1"
    ):
        draw(build_parts(), history_frames=reach)


def test_frames_that_are_there_are_kept_and_seen():
    """What is drawn anew sees the kept pictures; with the same noise it is as it was."""
    parts = build_parts()
    whole = draw(parts, CAPTIONS[:4]).frames[0]
    keep = {0: [whole[0]], 1: [whole[1]], 3: [whole[3]]}
    with ContextRecorder(parts.unet) as recorder:
        redrawn = draw(parts, CAPTIONS[:4], frames=keep).frames[0]
    assert len(recorder.calls) == 1
    for k in keep:
        assert torch.equal(redrawn[k], whole[k])
    assert not torch.equal(redrawn[2], whole[2])  # its noise was the third of the story
    with ContextRecorder(parts.unet) as first:
        draw(parts, CAPTIONS[:3])
    assert torch.equal(recorder.calls[0][0], first.calls[2][0])
    for frames, says in (
        ({4: [whole[0]]}, "a story of 4 captions has no frame 4"),
        ({1: [whole[0]] * 2}, "2 pictures of frame 1 for 1 stories"),
        (dict.fromkeys(range(4), [whole[0]]), "every frame is there already"),
    ):
        with pytest.raises(ValueError, match=says):
            draw(parts, CAPTIONS[:4], frames=frames)
