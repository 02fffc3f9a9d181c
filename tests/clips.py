"""Moving clips, tiny networks, and their outputs for whole clips."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvsr import models
from jaxvsr.upscaling.stream import Settings, Stream
from jaxvsr.video.reading import Frame


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


def whole_clip(model, variables, clip):
    sr = jax.jit(model.apply)(variables, clip[None] / np.float32(255))[0]
    return np.round(np.clip(sr, 0, 1) * 255)


def difference(sr, expected):
    return np.abs(sr.astype(np.float32) - expected)


class Neighbors(nn.Module):
    """Upsamples the mean of the frames around each frame; the ends are repeated."""

    lookahead: int = 2
    scale: int = 2

    def __call__(self, lq, train=False):
        reach = self.lookahead
        padded = jnp.pad(lq, ((0, 0), (reach, reach), (0, 0), (0, 0), (0, 0)), "edge")
        shifts = [padded[:, i : i + lq.shape[1]] for i in range(2 * reach + 1)]
        return jnp.repeat(jnp.repeat(sum(shifts) / len(shifts), 2, axis=2), 2, axis=3)


def start(model, variables, clip, said, **settings):
    """A stream on one device; its messages are appended to `said`."""
    frames = (Frame(pixels, i) for i, pixels in enumerate(clip))
    one = jax.devices()[:1]
    return Stream(model, variables, frames, Settings(**settings), devices=one, say=said.append)


def finish(stream, *begun):
    return np.stack([output.sr for output in stream.outputs(*begun)])


def waves(frames=4, height=48, width=64):
    """Moving waves with some texture, nearly grey, (t, h, w, 3) uint8."""
    t, y, x = np.mgrid[:frames, :height, :width]
    wave = np.sin(0.2 * (x + y) + t) + np.sin(0.3 * x - t) * np.cos(0.1 * y * t)
    grey = 50 * wave + np.random.default_rng(0).normal(0, 6, wave.shape)
    return np.clip(128 + grey[..., None] * [1, 0.9, 0.8], 0, 255).astype(np.uint8)


def psnr(x, y):
    return 10 * np.log10(255**2 / np.mean((x.astype(float) - y) ** 2))
