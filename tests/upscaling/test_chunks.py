"""Splitting a stream into chunks and scenes, and joining them."""

import numpy as np
from clips import moving
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from jaxvsr.upscaling import chunks
from jaxvsr.upscaling.chunks import ChunkPlan


@hypothesis_settings(max_examples=80, deadline=None)
@given(st.integers(1, 8), st.integers(0, 4), st.booleans(), st.lists(st.booleans(), max_size=30))
def test_every_frame_is_yielded_once_and_in_order(frames, overlap, scenes, cuts):
    plan = ChunkPlan(max(frames, 2 * overlap), overlap, overlap // 2, scenes)
    found = list(chunks.split_into_chunks(enumerate(cuts), plan))
    assert all(len(chunk.items) <= plan.frames for chunk in found)
    pairs = [(chunk, np.array(chunk.items).reshape(-1, 1, 1, 1)) for chunk in found]
    joined = list(chunks.join_chunks(pairs, plan))
    assert [number for number, _, _ in joined] == list(range(len(cuts)))
    assert all(number == item == pixels.item() for number, item, pixels in joined)
    if scenes:
        for chunk in found:
            assert not any(cuts[chunk.first + 1 : chunk.end])


def test_scenes_start_at_cuts_and_not_at_flashes():
    scenes = [moving(12, 36, 64, seed) for seed in (0, 3)]
    clip = np.concatenate(scenes)
    flash = clip.copy()
    flash[5] = 255
    for frames in (clip, flash):
        marked = list(
            chunks.mark_scene_starts((i, chunks.thumbnail(x)) for i, x in enumerate(frames))
        )
        assert [i for i, begins in marked if begins] == [0, 12]
    assert list(chunks.mark_scene_starts([])) == []
