"""Streams in chunks and with states, compared with whole clips."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clips import Neighbors, difference, finish, moving, network, start, whole_clip
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from videos import Mean, Trail

from jaxvsr import upscale
from jaxvsr.errors import InputError
from jaxvsr.upscaling.stream import Settings, split_into_windows
from jaxvsr.upscaling.warm_up import PlacedFrame


@functools.cache
def basicvsr():
    """A network that sees the whole clip, with weights so large that distant frames matter."""
    model, variables = network("basicvsr", dim=8, depth=1, features_hr=8, align=False)
    return model, jax.tree.map(lambda x: 2 * x, variables)


@pytest.mark.parametrize(("name", "length"), [("swrn", 1), ("swrn", 8), ("mobile_rrn", 7)])
def test_a_network_with_state_streams_exactly(name, length):
    model, variables = network(name, dim=4, num_blocks=1)
    clip = moving(length)
    sr = upscale.upscale(clip, model, variables, Settings(chunk=4), jax.devices()[:1])
    assert sr.shape == (length, 96, 128, 3) and sr.dtype == np.uint8
    # But for values that lie within the rounding errors of float32 of a half.
    wrong = difference(sr, whole_clip(model, variables, clip))
    assert wrong.max() <= 1 and wrong.mean() < 1e-3


@pytest.mark.parametrize("length", [1, 7, 8, 25])
@pytest.mark.parametrize("chunk", [8, 11])
def test_a_network_without_state_is_exact_in_chunks(length, chunk):
    model, clip = Neighbors(), moving(length)
    sr = upscale.upscale(clip, model, {}, Settings(chunk=chunk))
    assert difference(sr, whole_clip(model, {}, clip)).max() <= 1


def test_chunks_of_a_long_clip_are_close_to_the_whole_clip():
    """The figures of docs/upscale.md."""
    model, variables = basicvsr()
    clip = moving(100, 16, 24)
    expected = whole_clip(model, variables, clip)
    wrong = difference(upscale.upscale(clip, model, variables, Settings(chunk=40)), expected)
    apart = Settings(chunk=40, overlap=0)
    seams = difference(upscale.upscale(clip, model, variables, apart), expected)
    assert wrong.mean() < 0.05 and wrong.max() <= 8
    assert seams.mean() > 5 * wrong.mean() and seams.max() > 5 * wrong.max()


def test_a_short_clip_is_one_chunk():
    clip = moving(9, 16, 24)
    sr = upscale.upscale(clip, Mean(), {})
    assert difference(sr, whole_clip(Mean(), {}, clip)).max() <= 1


class Shade(Trail):
    """Darkens the top of what `Trail` makes."""

    def __call__(self, lq, train=False):
        sr = super().__call__(lq)
        return sr * jnp.linspace(0, 1, sr.shape[2])[:, None, None]


@pytest.mark.parametrize("tile", [(0, 0), (16, 16)])
def test_a_self_ensemble_sees_every_orientation(tile):
    """Darkened from each side equally often: by a half in the mean. The network has a state."""
    clip = moving(6, 16, 24)
    settings = Settings(tile=tile, tile_overlap=8, self_ensemble=True)
    sr = upscale.upscale(clip, Shade(), {}, settings, jax.devices()[:1])
    whole = 0.5 * Trail().apply({}, clip[None] / np.float32(255))[0]
    assert difference(sr, np.round(np.clip(whole, 0, 1) * 255)).max() <= 1


def test_scenes_are_upscaled_separately():
    """A scene does not affect the next; a short one is mirrored to the length of a chunk."""
    model, variables = Mean(), {}
    first, second = moving(24, 16, 24), 255 - moving(14, 16, 24, seed=5) // 4
    settings = Settings(chunk=16, overlap=4)
    sr = upscale.upscale(np.concatenate([first, second]), model, variables, settings)
    alone = upscale.upscale(first, model, variables, settings)
    np.testing.assert_array_equal(sr[:24], alone)
    mirrored = np.concatenate([second, second[:-3:-1]])
    expected = whole_clip(model, variables, mirrored)[:14]
    assert difference(sr[24:], expected).max() <= 1


def test_16_bits_in_and_out():
    model, variables = Mean(), {}
    deep = moving(3).astype(np.uint16) * 257 + 100
    sr = upscale.upscale(deep, model, variables, Settings(deep=True))
    exact = model.apply(variables, deep[None] / np.float32(65535))[0]
    assert sr.dtype == np.uint16
    np.testing.assert_allclose(sr, np.clip(exact, 0, 1) * 65535, atol=2)


@pytest.mark.parametrize("tile", [(0, 0), (40, 48)])
def test_a_stream_continues_from_a_state(tile):
    clip = moving(14, 40, 72)
    how = {"chunk": 4, "tile": tile, "tile_overlap": 16}
    outputs = list(start(Trail(), {}, clip, [], **how).outputs(every=4))
    states = {output.index + 1: output.state for output in outputs}
    assert [n for n, state in states.items() if state is not None] == [4, 8, 12]
    again = finish(start(Trail(), {}, clip, [], **how), 8, states[8])
    np.testing.assert_array_equal(again, np.stack([output.sr for output in outputs[8:]]))


CODE = """
import jax, numpy as np
import clips
import videos
from jaxvsr import upscale
from jaxvsr.upscaling.stream import Settings
assert jax.local_device_count() == 4
tiled = Settings(chunk=8, overlap=4, tile=(16, 16), tile_overlap=8)
for model, settings in ((videos.Mean(), tiled), (videos.Trail(), Settings(chunk=32))):
    clip = clips.moving(80, 16, 24)
    four = upscale.upscale(clip, model, {}, settings)
    one = upscale.upscale(clip, model, {}, settings, jax.devices()[:1])
    print(np.abs(four.astype(int) - one).max())
"""


def test_chunks_are_distributed_over_devices():
    """Whole clips and tiles are exact; a stream becomes overlapping chunks."""
    paths = os.pathsep.join(path for path in sys.path if path)
    env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env={**os.environ, **env}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [int(line) <= 1 for line in done.stdout.split()] == [True] * 2


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.integers(0, 12), st.integers(1, 5), st.integers(0, 3), st.integers(0, 2))
def test_windows_hold_the_frames_that_a_step_needs(length, count, lookahead, skipped):
    frames = [PlacedFrame(np.full((1, 1, 3), i, np.uint8), i, index=i) for i in range(length)]
    seen = []
    for job in split_into_windows(frames, count, lookahead, skipped * count):
        assert len(job.lq) == 1 + count + lookahead
        for i, frame in enumerate(job.chunk.items):
            assert frame.time == job.chunk.first + i
            after = [min(frame.time + k, length - 1) for k in range(1, lookahead + 1)]
            expected = [max(frame.time - 1, 0), frame.time, *after]
            assert job.lq[i : i + 2 + lookahead, 0, 0, 0].tolist() == expected
            seen.append(frame.time)
    assert seen == list(range(min(skipped * count, length), length))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"chunk": 8, "overlap": 5},
            "chunks of 8 frames are too short for an overlap of 5: set --chunk=10",
        ),
    ],
)
def test_impossible_chunks_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        upscale.upscale(moving(9), Mean(), {}, Settings(**settings))


def test_no_frames_are_refused():
    with pytest.raises(InputError, match="no frames to upscale"):
        next(upscale.stream([], Mean(), {}))
