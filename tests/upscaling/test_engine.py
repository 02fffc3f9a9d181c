"""The engine: tiles that fit, a full memory, and frames that a network cannot take."""

import importlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clips import Neighbors, difference, finish, moving, start, swrn, whole_clip
from videos import Mean, Trail

from jaxvsr import models, upscale
from jaxvsr.errors import InputError
from jaxvsr.upscaling import engine, memory
from jaxvsr.upscaling.stream import Settings


def test_tiles_leave_no_seam():
    model, variables = swrn()
    clip = moving(8, 70, 100)
    said = []
    how = {"tile": (40, 56), "tile_overlap": 24, "chunk": 4}
    sr = finish(start(model, variables, clip, said, **how))
    assert "tiles of 56x40 pixels" in said[-1]
    # Beyond what they share, a tile knows nothing of the frame.
    assert difference(sr, whole_clip(model, variables, clip)).mean() < 0.05


def test_networks_are_traced_in_the_mesh_of_the_devices():
    meshes = []

    class Traced(Neighbors):
        def __call__(self, lq, train=False):
            meshes.append(jax.sharding.get_abstract_mesh().axis_names)
            return super().__call__(lq, train)

    upscale.upscale(moving(2, 30, 50), Traced(lookahead=0), {})
    assert set(meshes) == {("data",)}


def test_pixelwise_networks_are_exact_in_tiles():
    clip = moving(2, 30, 50)
    for tile in ((16, 24), (16, 99)):
        settings = Settings(tile=tile, tile_overlap=5)
        sr = upscale.upscale(clip, Neighbors(lookahead=0), {}, settings)
        np.testing.assert_array_equal(sr, clip.repeat(2, 1).repeat(2, 2))


def test_the_tile_is_the_largest_that_fits(monkeypatch):
    model, variables = swrn()
    clip = moving(2, 200, 160)
    lq = jax.ShapeDtypeStruct((6, 200, 160, 3), np.uint8)
    how = {"stream": True, "devices": jax.devices()[:1], "overlap": 16}
    said = []
    needed = []
    with monkeypatch.context() as patch:
        patch.setattr(engine, "needed_memory", lambda program: needed.append(program) or 0)
        whole = engine.Engine(model, variables, lq, np.uint8, say=said.append, **how)
    assert whole.tile == (200, 160) and "whole frames" in said[-1]
    enough = memory.needed_memory(needed[0]) / engine.MEMORY_FRACTION
    monkeypatch.setattr(engine, "free_memory", lambda device: enough / 3)
    said = []
    small = start(model, variables, clip, said, chunk=4, tile_overlap=16)
    tile = small.settings.tile
    assert tile[0] * tile[1] < 200 * 160 / 2 and min(tile) >= 64
    found = float(said[-1].split()[-5]), float(said[-1].split()[-3])
    assert found[0] <= found[1], said
    monkeypatch.setattr(engine, "free_memory", lambda device: 1000)
    with pytest.raises(InputError, match="memory of a device is too small for 6 frames"):
        start(model, variables, clip, said, chunk=4)


class Crowded:
    """A device whose memory gets full: frames of 128x96 can be computed a few times only."""

    def __init__(self, times):
        self.left = times

    def check(self, x):
        """Returns 1, or fails as a program does that runs out of memory."""

        def count():
            self.left -= 1
            if self.left < 0:
                raise MemoryError("RESOURCE_EXHAUSTED: Out of memory")
            return np.float32(1)

        full = x.shape[-3:-1] == (128, 96)
        return jax.pure_callback(count, jax.ShapeDtypeStruct((), np.float32)) if full else 1


class CrowdedTrail(Trail):
    device: Crowded | None = None

    def step(self, state, frames):
        sr, state = super().step(state, frames)
        return sr * self.device.check(frames), state


class CrowdedMean(Mean):
    device: Crowded | None = None

    def __call__(self, lq, train=False):
        return super().__call__(lq) * self.device.check(lq)


@pytest.mark.parametrize(
    ("crowded", "model", "overlap"), [(CrowdedTrail, Trail(), None), (CrowdedMean, Mean(), 2)]
)
def test_a_full_memory_makes_tiles_smaller_and_the_work_continues(crowded, model, overlap):
    clip = moving(12, 128, 96)
    said = []
    how = {"chunk": 4, "overlap": overlap, "tile_overlap": 24}
    device = Crowded(times=2)
    sr = finish(start(crowded(device=device), {}, clip, said, **how))
    assert device.left < 0
    assert "the memory of a device is full" in said and "tiles of" in said[-1]
    undisturbed = finish(start(model, {}, clip, [], **how))
    np.testing.assert_array_equal(sr, undisturbed)


class Demanding(Neighbors):
    """Refuses small frames."""

    def __call__(self, lq, train=False):
        if min(lq.shape[2:4]) < 64:
            raise ValueError("frames must have 64 pixels")
        return super().__call__(lq)


def test_frames_too_small_for_a_network_are_padded():
    clip = moving(2, 12, 16)
    sr = upscale.upscale(clip, Demanding(lookahead=0), {})
    np.testing.assert_array_equal(sr, clip.repeat(2, 1).repeat(2, 2))


class Impossible(Neighbors):
    """Refuses all frames."""

    def __call__(self, lq, train=False):
        raise ValueError("no frames please")


class Between(Neighbors):
    """Interpolates frames."""

    def __call__(self, lq, train=False):
        return super().__call__(lq)[:, 1:]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Impossible(), "cannot take frames of 16x12: no frames please"),
        (Between(), "the network makes 1 frames of 2"),
    ],
)
def test_networks_that_cannot_upscale_are_refused(model, message):
    with pytest.raises(InputError, match=message):
        upscale.upscale(moving(2, 12, 16), model, {})


class Long(Neighbors):
    """Refuses short clips."""

    lookahead: int | None = None
    min_frames: int = 6

    def __call__(self, lq, train=False):
        if lq.shape[1] < self.min_frames:
            raise ValueError("too short")
        return jnp.repeat(jnp.repeat(lq, 2, axis=2), 2, axis=3)


def test_a_clip_too_short_for_a_network_is_mirrored():
    clip = moving(2, 12, 16)
    np.testing.assert_array_equal(upscale.upscale(clip, Long(), {}), clip.repeat(2, 1).repeat(2, 2))


class Pairs(Mean):
    """Takes an even number of frames, as RVRT."""

    frame_multiple: int = 2

    def __call__(self, lq, train=False):
        if lq.shape[1] % 2:
            raise ValueError("an odd number of frames")
        return super().__call__(lq)


@pytest.mark.parametrize(("frames", "chunk"), [(1, 0), (3, 0), (4, 3), (7, 5)])
def test_an_odd_clip_of_a_network_of_pairs_is_mirrored(frames, chunk):
    """Whole, as a preview and in chunks of an odd number of frames."""
    clip, settings = moving(frames, 64, 64), Settings(chunk=chunk, overlap=min(chunk // 2, 1))
    sr = upscale.upscale(clip, Pairs(), {}, settings)
    assert sr.shape == (frames, 128, 128, 3)
    if not chunk:
        mirrored = clip[[*range(frames), frames - 1]]
        np.testing.assert_array_equal(sr, whole_clip(Pairs(), {}, mirrored)[:frames])


@pytest.mark.parametrize("name", ["rvrt", "rvrt_light"])
def test_networks_of_pairs_say_so(name):
    model = models.create(**importlib.import_module(f"configs.{name}").get_config("tiny").model)
    assert [models.accepted_frames(model, frames) for frames in (1, 2, 7)] == [2, 2, 8]
    lq = models.example(model, 3)
    variables = jax.eval_shape(model.init, jax.random.key(0), lq)
    assert jax.eval_shape(model.apply, variables, lq).shape[1] == 4


class Denoiser(nn.Module):
    """Returns the noise level that it is given."""

    lookahead: int | None = None
    scale: int = 1
    noise_level: bool = True

    def __call__(self, lq, train=False):
        assert lq.shape[-1] == 4
        return jnp.repeat(lq[..., 3:], 3, axis=-1)


def test_a_denoising_network_gets_its_level():
    clip = moving(2, 64, 64)
    sr = upscale.upscale(clip, Denoiser(), {}, Settings(noise=30.0))
    np.testing.assert_array_equal(sr, np.full((2, 64, 64, 3), 30))
    with pytest.raises(InputError, match="add --noise=LEVEL"):
        upscale.upscale(clip, Denoiser(), {})
    with pytest.raises(InputError, match="--noise is for networks with model.noise_level"):
        upscale.upscale(clip, Neighbors(lookahead=0), {}, Settings(noise=30.0))
