"""Mirrored frames before each scene, and what they settle."""

import itertools

import numpy as np
import pytest
from clips import finish, moving, start
from videos import Trail

from jaxvsr import presets, upscale
from jaxvsr.upscaling.stream import Settings
from jaxvsr.upscaling.warm_up import insert_mirrored, number_frames
from jaxvsr.video.reading import Frame


def scenes(*lengths):
    """Frames of scenes of different brightness; the pixel says which frame it is."""
    shades = itertools.chain.from_iterable(
        (100 * (i % 2) + j for j in range(length)) for i, length in enumerate(lengths)
    )
    return [Frame(np.full((8, 8, 3), shade, np.uint8), i) for i, shade in enumerate(shades)]


@pytest.mark.parametrize(
    ("lengths", "count", "lookahead", "expected"),
    [
        ((5,), 2, 1, [2, 1, 0, 1, 2, 3, 4]),
        ((2,), 3, 1, [1, 0, 1, 0, 1]),  # a short scene is mirrored back and forth
        ((1,), 2, 0, [0, 0, 0]),
        ((4, 3), 2, 0, [2, 1, 0, 1, 2, 3, 102, 101, 100, 101, 102]),
        ((4, 3), 2, 1, [2, 1, 0, 1, 2, 3, 3, 101, 100, 101, 102]),  # the last sees itself
        ((), 2, 1, []),
    ],
)
def test_the_first_frames_of_a_scene_are_mirrored(lengths, count, lookahead, expected):
    frames = scenes(*lengths)
    seen = list(insert_mirrored(number_frames(frames), count, lookahead))
    assert [int(frame.pixels[0, 0, 0]) for frame in seen] == expected
    kept = [frame for frame in seen if not frame.mirrored]
    assert [frame.index for frame in kept] == list(range(len(frames)))
    assert [frame.time for frame in kept] == [frame.time for frame in frames]


def two_scenes():
    return np.concatenate([moving(21, 40, 72), 255 - moving(15, 40, 72, seed=5) // 4])


@pytest.mark.parametrize("whole", [True, False])
def test_outputs_are_those_of_a_clip_that_goes_on_before_each_scene(whole):
    first, second = two_scenes()[:21], two_scenes()[21:]
    chunk, overlap = (8, None) if whole else (40, 20)
    settings = Settings(chunk=chunk, overlap=overlap, warm_up=True)
    frames = (Frame(pixels, i) for i, pixels in enumerate(two_scenes()))
    stream = upscale.Stream(Trail(), {}, frames, settings, whole=whole, say=lambda line: None)
    found = finish(stream)
    assert len(found) == 36
    for scene, output in ((first, found[:21]), (second, found[21:])):
        longer = np.concatenate([scene[9:0:-1], scene])
        plain = finish(start(Trail(), {}, longer, [], chunk=64))[9:]
        assert np.abs(output.astype(int) - plain).max() <= 1


@pytest.mark.parametrize("done", [8, 16, 24, 32])
def test_a_stream_with_scenes_continues_from_a_state(done):
    how = {"chunk": 4, "warm_up": True}
    outputs = list(start(Trail(), {}, two_scenes(), [], **how).outputs(every=8))
    assert [output.index for output in outputs] == list(range(36))
    states = {o.index + 1: o.state for o in outputs if o.state is not None}
    assert list(states) == [8, 16, 24, 32]
    again = finish(start(Trail(), {}, two_scenes(), [], **how), done, states[done])
    np.testing.assert_array_equal(again, np.stack([output.sr for output in outputs[done:]]))


def test_a_still_clip_stays_still():
    """Of the built-in network, whose state differs most from zero."""
    model, variables, _ = presets.load("swrn")
    still = np.repeat(moving(1, 40, 64), 12, axis=0)
    still = np.concatenate([still, np.repeat(255 - moving(1, 40, 64, seed=3) // 3, 9, axis=0)])

    def change(**how):
        sr = finish(start(model, variables, still, [], **how)).astype(int)
        return max(np.abs(np.diff(scene, axis=0)).max() for scene in (sr[:12], sr[12:]))

    assert change(warm_up=True) <= 1 < change(warm_up=False)
