"""Streams: what is restored in chunks and tiles, against whole clips."""

import functools
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from videos import Mean, Trail

from jaxvsr import models, upscale
from jaxvsr.errors import InputError
from jaxvsr.upscaling import chunks, engine, memory
from jaxvsr.upscaling.chunks import Plan
from jaxvsr.upscaling.grid import Grid
from jaxvsr.upscaling.stream import Settings, Stream, windows
from jaxvsr.video.reader import Frame


def moving(length, height=24, width=32, seed=0):
    """A smooth texture that moves, (t, h, w, 3) uint8."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    t = np.arange(length)[:, None, None, None]
    waves = rng.uniform(-0.5, 0.5, (3, 3, 5))  # frequencies in x, y and t, phase, height
    clip = sum(
        np.sin(
            np.stack([wx * x + wy * y for wx, wy, *_ in wave], -1) + t * wave[:, 2] + 9 * wave[:, 3]
        )
        for wave in waves
    )
    return np.round(127.5 + 40 * clip).clip(0, 255).astype(np.uint8)


@functools.cache
def network(name, **fields):
    """A tiny network of random weights."""
    model = models.create(name, **fields)
    return model, jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 2, 64, 64, 3)))


def swrn():
    return network("swrn", dim=4, num_blocks=1)


@functools.cache
def basicvsr():
    """A network that sees the whole clip, of weights so large that what is far away counts."""
    model, variables = network("basicvsr", dim=8, depth=1, features_hr=8, align=False)
    return model, jax.tree.map(lambda x: 2 * x, variables)


def whole_clip(model, variables, clip):
    sr = jax.jit(model.apply)(variables, clip[None] / np.float32(255))[0]
    return np.round(np.clip(sr, 0, 1) * 255)


def difference(sr, expected):
    return np.abs(sr.astype(np.float32) - expected)


@pytest.mark.parametrize(("name", "length"), [("swrn", 1), ("swrn", 8), ("mobile_rrn", 7)])
def test_a_network_with_state_streams_exactly(name, length):
    model, variables = network(name, dim=4, num_blocks=1)
    clip = moving(length)
    sr = upscale.upscale(clip, model, variables, Settings(chunk=4), jax.devices()[:1])
    assert sr.shape == (length, 96, 128, 3) and sr.dtype == np.uint8
    # But for values that lie within the rounding errors of float32 of a half.
    wrong = difference(sr, whole_clip(model, variables, clip))
    assert wrong.max() <= 1 and wrong.mean() < 1e-3


class Neighbours(nn.Module):
    """The mean of the frames around one, each `scale` times as large; the ends repeat."""

    lookahead: int = 2
    scale: int = 2

    def __call__(self, lq, train=False):
        reach = self.lookahead
        padded = jnp.pad(lq, ((0, 0), (reach, reach), (0, 0), (0, 0), (0, 0)), "edge")
        shifts = [padded[:, i : i + lq.shape[1]] for i in range(2 * reach + 1)]
        return jnp.repeat(jnp.repeat(sum(shifts) / len(shifts), 2, axis=2), 2, axis=3)


@pytest.mark.parametrize("length", [1, 7, 8, 25])
@pytest.mark.parametrize("chunk", [8, 11])
def test_a_network_without_state_sees_all_that_it_needs(length, chunk):
    model, clip = Neighbours(), moving(length)
    sr = upscale.upscale(clip, model, {}, Settings(chunk=chunk))
    assert difference(sr, whole_clip(model, {}, clip)).max() <= 1


def test_chunks_of_a_long_clip_are_nearly_the_whole():
    """The figures of docs/upscale.md."""
    model, variables = basicvsr()
    clip = moving(100, 16, 24)
    expected = whole_clip(model, variables, clip)
    wrong = difference(upscale.upscale(clip, model, variables, Settings(chunk=40)), expected)
    apart = Settings(chunk=40, overlap=0)
    seams = difference(upscale.upscale(clip, model, variables, apart), expected)
    assert wrong.mean() < 0.05 and wrong.max() <= 8
    assert seams.mean() > 5 * wrong.mean() and seams.max() > 5 * wrong.max()


def test_a_short_clip_is_restored_whole():
    clip = moving(9, 16, 24)
    sr = upscale.upscale(clip, Mean(), {})
    assert difference(sr, whole_clip(Mean(), {}, clip)).max() <= 1


def test_a_scene_is_restored_for_itself():
    """Nothing of one reaches the other; a short one is made as long as a chunk by its mirror."""
    model, variables = Mean(), {}
    first, second = moving(24, 16, 24), 255 - moving(14, 16, 24, seed=5) // 4
    settings = Settings(chunk=16, overlap=4)
    sr = upscale.upscale(np.concatenate([first, second]), model, variables, settings)
    alone = upscale.upscale(first, model, variables, settings)
    np.testing.assert_array_equal(sr[:24], alone)
    mirrored = np.concatenate([second, second[:-3:-1]])
    expected = whole_clip(model, variables, mirrored)[:14]
    assert difference(sr[24:], expected).max() <= 1


def test_sixteen_bits_go_in_and_out():
    model, variables = Mean(), {}
    deep = moving(3).astype(np.uint16) * 257 + 100
    sr = upscale.upscale(deep, model, variables, Settings(deep=True))
    exact = model.apply(variables, deep[None] / np.float32(65535))[0]
    assert sr.dtype == np.uint16
    np.testing.assert_allclose(sr, np.clip(exact, 0, 1) * 65535, atol=2)


def start(model, variables, clip, said, **settings):
    """A stream on one device, and what it says."""
    frames = (Frame(pixels, i) for i, pixels in enumerate(clip))
    one = jax.devices()[:1]
    return Stream(model, variables, frames, Settings(**settings), devices=one, say=said.append)


def finish(stream, *begun):
    return np.stack([output.sr for output in stream.outputs(*begun)])


def test_tiles_leave_no_seam():
    model, variables = swrn()
    clip = moving(8, 70, 100)
    said = []
    how = {"tile": (40, 56), "tile_overlap": 24, "chunk": 4}
    sr = finish(start(model, variables, clip, said, **how))
    assert "tiles of 56x40 pixels" in said[0]
    # Beyond what they share, a tile knows nothing of the frame.
    assert difference(sr, whole_clip(model, variables, clip)).mean() < 0.05


def test_what_has_no_neighbourhood_is_the_same_in_tiles():
    clip = moving(2, 30, 50)
    for tile in ((16, 24), (16, 99)):
        settings = Settings(tile=tile, tile_overlap=5)
        sr = upscale.upscale(clip, Neighbours(lookahead=0), {}, settings)
        np.testing.assert_array_equal(sr, clip.repeat(2, 1).repeat(2, 2))


def test_the_tile_is_the_largest_that_fits(monkeypatch):
    model, variables = swrn()
    clip = moving(2, 200, 160)
    lq = jax.ShapeDtypeStruct((6, 200, 160, 3), np.uint8)
    how = {"stream": True, "devices": jax.devices()[:1], "overlap": 16}
    said = []
    whole = engine.Engine(model, variables, lq, np.uint8, say=said.append, **how)
    assert whole.tile == (200, 160) and "whole frames" in said[0]
    enough = memory.needed_memory(whole._program)
    monkeypatch.setattr(engine, "free_memory", lambda device: enough / engine.SHARE / 3)
    said = []
    small = start(model, variables, clip, said, chunk=4, tile_overlap=16)
    tile = small.settings.tile
    assert tile[0] * tile[1] < 200 * 160 / 2 and min(tile) >= 64
    found = float(said[-1].split()[-5]), float(said[-1].split()[-3])
    assert found[0] <= found[1], said
    monkeypatch.setattr(engine, "free_memory", lambda device: 1000)
    with pytest.raises(InputError, match="memory of a device is too small for 6 frames"):
        start(model, variables, clip, said, chunk=4)


@pytest.mark.parametrize("model", [Trail(), Mean()])
def test_a_full_memory_makes_tiles_smaller_and_the_work_goes_on(model, monkeypatch):
    """The program fails when it has run twice, as one does beside another that takes the memory."""
    clip = moving(12, 128, 96)
    compile_ = engine.Engine._compile
    runs = []

    def failing(self, tile):
        program, needed = compile_(self, tile)

        def run(*args):
            runs.append(tile)
            if len(runs) > 2 and tile == (128, 96):
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
            return program(*args)

        return run, needed

    monkeypatch.setattr(engine.Engine, "_compile", failing)
    said = []
    how = {"chunk": 4, "overlap": 2, "tile_overlap": 24}
    sr = finish(start(model, {}, clip, said, **how))
    assert "the memory of a device is full" in said and "tiles of" in said[-1]
    assert runs.count((128, 96)) == 3
    monkeypatch.undo()
    undisturbed = finish(start(model, {}, clip, [], **how))
    np.testing.assert_array_equal(sr, undisturbed)


@pytest.mark.parametrize("tile", [(0, 0), (40, 48)])
def test_a_stream_goes_on_from_a_state(tile):
    clip = moving(14, 40, 72)
    how = {"chunk": 4, "tile": tile, "tile_overlap": 16}
    outputs = list(start(Trail(), {}, clip, [], **how).outputs(every=4))
    states = {output.number + 1: output.state for output in outputs}
    assert [n for n, state in states.items() if state is not None] == [4, 8, 12]
    again = finish(start(Trail(), {}, clip, [], **how), 8, states[8])
    np.testing.assert_array_equal(again, np.stack([output.sr for output in outputs[8:]]))


CODE = """
import jax, numpy as np
import test_upscale_stream as t
from jaxvsr import upscale
from jaxvsr.upscaling.stream import Settings
assert jax.local_device_count() == 4
tiled = Settings(chunk=8, overlap=4, tile=(16, 16), tile_overlap=8)
for model, settings in ((t.Mean(), tiled), (t.Trail(), Settings(chunk=32, overlap=16))):
    clip = t.moving(80, 16, 24)
    four = upscale.upscale(clip, model, {}, settings)
    one = upscale.upscale(clip, model, {}, settings, jax.devices()[:1])
    print(np.abs(four.astype(int) - one).max())
"""


def test_chunks_are_spread_over_devices():
    """What is whole-clip or in tiles is the same; a stream becomes chunks that begin before."""
    paths = os.pathsep.join(path for path in sys.path if path)
    env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env={**os.environ, **env}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [int(line) <= 1 for line in done.stdout.split()] == [True] * 2


@hypothesis_settings(max_examples=80, deadline=None)
@given(st.integers(1, 8), st.integers(0, 4), st.booleans(), st.lists(st.booleans(), max_size=30))
def test_every_frame_comes_out_once_and_in_order(frames, overlap, scenes, cuts):
    plan = Plan(max(frames, 2 * overlap), overlap, overlap // 2, scenes)
    found = list(chunks.cut(enumerate(cuts), plan))
    assert all(len(chunk.items) <= plan.frames for chunk in found)
    pairs = [(chunk, np.array(chunk.items).reshape(-1, 1, 1, 1)) for chunk in found]
    joined = list(chunks.join(pairs, plan))
    assert [number for number, _, _ in joined] == list(range(len(cuts)))
    assert all(number == item == pixels.item() for number, item, pixels in joined)
    if scenes:
        for chunk in found:
            assert not any(cuts[chunk.first + 1 : chunk.end])


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.integers(0, 12), st.integers(1, 5), st.integers(0, 3), st.integers(0, 2))
def test_windows_hold_what_a_step_sees(length, count, lookahead, skipped):
    frames = [Frame(np.full((1, 1, 3), i, np.uint8), i) for i in range(length)]
    seen = []
    for job in windows(frames, count, lookahead, skipped * count):
        assert len(job.lq) == 1 + count + lookahead
        for i, frame in enumerate(job.chunk.items):
            assert frame.time == job.chunk.first + i
            after = [min(frame.time + k, length - 1) for k in range(1, lookahead + 1)]
            expected = [max(frame.time - 1, 0), frame.time, *after]
            assert job.lq[i : i + 2 + lookahead, 0, 0, 0].tolist() == expected
            seen.append(frame.time)
    assert seen == list(range(min(skipped * count, length), length))


def test_cuts_are_found_and_flashes_are_none():
    scenes = [moving(12, 36, 64, seed) for seed in (0, 3)]
    clip = np.concatenate(scenes)
    flash = clip.copy()
    flash[5] = 255
    for frames in (clip, flash):
        marked = list(chunks.mark_cuts((i, chunks.small(x)) for i, x in enumerate(frames)))
        assert [i for i, begins in marked if begins] == [0, 12]
    assert list(chunks.mark_cuts([])) == []


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(4, 20), st.integers(4, 20)),
    st.tuples(st.integers(3, 20), st.integers(3, 20)),
    st.integers(0, 6),
    st.sampled_from([1, 2, 3]),
)
def test_a_grid_puts_together_what_it_cuts(size, tile, overlap, scale):
    grid = Grid(size, tuple(map(min, tile, size)), overlap)
    whole = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    large = whole.repeat(scale, 1).repeat(scale, 2)
    put = np.zeros(0)
    for i in range(len(grid.places)):
        put = grid.put(put, large[:, *grid.window(i, scale)], i, scale)
    np.testing.assert_array_equal(put, large)
    tree = {"a": whole, "b": whole[..., :1].astype(np.float32)}
    merged = grid.merge(grid.cut(tree))
    jax.tree.map(np.testing.assert_array_equal, merged, tree)


def test_memory_that_is_free():
    assert 2**20 < memory.host_memory() < 2**50
    assert memory.free_memory(jax.devices()[0]) <= memory.host_memory() * 1.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chunk": 8, "overlap": 5}, "chunks of 8 frames cannot share 5 .* --chunk=10 at least"),
    ],
)
def test_impossible_cuts_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        upscale.upscale(moving(9), Mean(), {}, Settings(**settings))


def test_no_frames_are_refused():
    with pytest.raises(InputError, match="no frames to restore"):
        next(upscale.stream([], Mean(), {}))


class Demanding(Neighbours):
    """One that takes no small frames."""

    def __call__(self, lq, train=False):
        if min(lq.shape[2:4]) < 64:
            raise ValueError("frames must have 64 pixels")
        return super().__call__(lq)


def test_frames_too_small_for_a_network_are_enlarged_at_their_border():
    clip = moving(2, 12, 16)
    sr = upscale.upscale(clip, Demanding(lookahead=0), {})
    np.testing.assert_array_equal(sr, clip.repeat(2, 1).repeat(2, 2))


class Impossible(Neighbours):
    """One that takes no frames."""

    def __call__(self, lq, train=False):
        raise ValueError("no frames please")


class Between(Neighbours):
    """One that makes the frames between frames."""

    def __call__(self, lq, train=False):
        return super().__call__(lq)[:, 1:]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Impossible(), "cannot restore frames of 16x12: no frames please"),
        (Between(), "the network makes 1 frames of 2"),
    ],
)
def test_networks_that_do_not_restore_frames_are_refused(model, message):
    with pytest.raises(InputError, match=message):
        upscale.upscale(moving(2, 12, 16), model, {})


class Long(Neighbours):
    """One that takes no short clips."""

    lookahead: int | None = None
    min_frames: int = 6

    def __call__(self, lq, train=False):
        if lq.shape[1] < self.min_frames:
            raise ValueError("too short")
        return jnp.repeat(jnp.repeat(lq, 2, axis=2), 2, axis=3)


def test_a_clip_too_short_for_a_network_is_mirrored():
    clip = moving(2, 12, 16)
    np.testing.assert_array_equal(upscale.upscale(clip, Long(), {}), clip.repeat(2, 1).repeat(2, 2))
