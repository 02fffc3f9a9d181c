"""Small videos with chosen properties, stand-ins for networks, and the contents of videos."""

import dataclasses
import pathlib
from fractions import Fraction

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxvsr.upscaling.pipeline import upscale_file
from jaxvsr.upscaling.request import Request
from jaxvsr.video.encoding import EncoderOptions

LOSSLESS = EncoderOptions(lossless=True)


class Repeat(nn.Module):
    """A stand-in for a network: repeats pixels."""

    lookahead: int = 0
    scale: int = 2

    def __call__(self, lq, train=False):
        return jnp.repeat(jnp.repeat(lq, self.scale, axis=2), self.scale, axis=3)


class Trail(nn.Module):
    """A stand-in for a network with a state: earlier frames fade, and the next one is seen."""

    lookahead: int = 1
    scale: int = 2

    def __call__(self, lq, train=False):
        ahead = jnp.concatenate([lq[:, 1:], lq[:, -1:]], axis=1)
        windows = jnp.moveaxis(jnp.stack([lq, lq, ahead], axis=2), 1, 0)
        _, sr = jax.lax.scan(lambda *x: self.step(*x)[::-1], jnp.zeros_like(lq[:, 0]), windows)
        return jnp.moveaxis(sr, 0, 1)

    def initial_state(self, shape):
        return jnp.zeros(shape)

    def step(self, state, frames):
        state = (state + frames[:, 1]) / 2
        return jnp.repeat(jnp.repeat((state + frames[:, 2]) / 2, 2, axis=1), 2, axis=2), state


class Mean(nn.Module):
    """A stand-in for a network that sees the whole clip: distant frames count less."""

    lookahead: int | None = None
    scale: int = 2

    def __call__(self, lq, train=False):
        distance = jnp.abs(jnp.arange(lq.shape[1])[:, None] - jnp.arange(lq.shape[1]))
        weights = 0.5**distance
        mean = jnp.einsum("ij,bjhwc->bihwc", weights / weights.sum(1, keepdims=True), lq)
        return jnp.repeat(jnp.repeat(mean, self.scale, axis=2), self.scale, axis=3)


def larger(frames):
    """What `Repeat` makes of frames."""
    return frames.repeat(2, 1).repeat(2, 2)


def upscale(source, output, model=None, variables=None, origin=None, **request):
    """Upscales a file, by default with `Repeat`; returns the video."""
    model = Repeat() if model is None else model
    upscale_file(source, output, model, variables or {}, Request(**request), origin or {})
    assert not output.with_name(output.name + ".parts").exists()
    return read(output) if output.suffix else None


def blocks(length=20, height=48, width=64):
    """Frames (t, h, w, 3) uint8 of blocks of 16 pixels, whose colors change."""
    rng = np.random.default_rng(0)
    colors = rng.integers(30, 220, (1, height // 16, width // 16, 3))
    moved = colors + 2 * np.arange(length)[:, None, None, None] % 30
    return moved.astype(np.uint8).repeat(16, 1).repeat(16, 2)


def write(
    path,
    frames,
    *,
    codec="ffv1",
    pix_fmt="bgr0",
    times=None,
    start=0,
    unit=Fraction(1, 1000),
    sound=False,
    sound_after=0,
    rate=25,
    container_options=None,
    metadata=None,
    **set_,
):
    """Writes frames (t, h, w, 3), uint8 or uint16, perhaps with sound, in seconds `times`.

    Args:
        start: seconds at which the video and the sound start.
        sound: whether there is sound, in AAC; or its encoder.
        sound_after: seconds of sound after the last frame.
        container_options: of the muxer.
        metadata: of the file, besides the title.
        unit: of the encoder's times, seconds.
        **set_: attributes of the encoder's context, and "title".
    """
    import av

    with av.open(path, "w", options=container_options or {}) as container:
        container.metadata.update(metadata or {})
        container.metadata["title"] = set_.pop("title", "a test")
        video = container.add_stream(codec, rate=rate)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = pix_fmt
        video.codec_context.time_base = unit
        for name, value in set_.items():
            setattr(video.codec_context, name, value)
        if sound:
            audio = container.add_stream(
                "aac" if sound is True else sound, rate=44100, layout="mono"
            )
        for i, pixels in enumerate(frames):
            name = "rgb24" if pixels.dtype == np.uint8 else "rgb48le"
            frame = av.VideoFrame.from_ndarray(pixels, format=name)
            color = {"dst_colorspace": 1} if set_.get("colorspace") == 1 else {}
            frame = frame.reformat(format=pix_fmt, dst_color_range=set_.get("color_range"), **color)
            frame.pts = round((start + (i / rate if times is None else times[i])) / unit)
            frame.time_base = unit
            container.mux(video.encode(frame))
            if sound:
                container.mux(audio.encode(tone(i, rate, start)))
        container.mux(video.encode())
        if sound:
            for i in range(len(frames), len(frames) + sound_after * rate):
                container.mux(audio.encode(tone(i, rate, start)))
            container.mux(audio.encode())
    return path


def tone(index, rate, start):
    """The sound during a frame, as an AudioFrame."""
    import av

    first, after = (i * 44100 // rate for i in (index, index + 1))
    wave = np.sin(np.arange(first, after) / 10).astype(np.float32)[None] / 4
    piece = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
    piece.sample_rate, piece.pts = 44100, start * 44100 + first
    return piece


@dataclasses.dataclass
class Contents:
    """The contents of a video."""

    frames: np.ndarray
    times: list[float]
    sound: list[tuple[float, bytes]]
    metadata: dict[str, str]
    context: dict
    rotation: int


def read(path: pathlib.Path) -> Contents:
    """Reads a video. YCbCr is converted as the command does, since FFmpeg's default is coarse."""
    import av

    from jaxvsr.video import reading

    with av.open(f"file:{path}") as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        context = stream.codec_context
        names = ["color_range", "colorspace", "color_primaries", "color_trc", "pix_fmt", "name"]
        found = {name: getattr(context, name) for name in names}
        found["aspect"] = stream.sample_aspect_ratio
        deep = context.format.components[0].bits > 8
        if context.format.is_rgb:
            pixels = [frame.to_ndarray(format="rgb48le" if deep else "rgb24") for frame in frames]
        else:
            pixels = [f.pixels for f in reading.VideoFile(path).frames(reading.TimeRange(), print)]
        times = [frame.time for frame in frames]
        metadata = dict(container.metadata)
    with av.open(f"file:{path}") as container:
        packets = container.demux(audio=0) if container.streams.audio else ()
        sound = [(float(p.pts * p.time_base), bytes(p)) for p in packets if p.size]
    return Contents(np.stack(pixels), times, sound, metadata, found, frames[0].rotation)


def write_png(path: pathlib.Path, frame: np.ndarray) -> None:
    """Writes a PNG file and creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(frame).save(path)


def rotate(path: pathlib.Path) -> None:
    """Marks the frames of an mp4 as rotated clockwise by 90 degrees for display."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    one, minus = (65536).to_bytes(4, "big"), (-65536).to_bytes(4, "big", signed=True)
    zero = bytes(4)
    data[matrix : matrix + 20] = zero + one + zero + minus + zero
    path.write_bytes(data)
