"""Small folders of PNG frames in the layout of public data sets, and builds of them."""

import io
import pathlib

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


def pixels(seed, height, width) -> np.ndarray:
    """A frame of random pixels; the seed is one number or several."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def png(array: np.ndarray) -> bytes:
    """The bytes of a PNG file."""
    data = io.BytesIO()
    Image.fromarray(array).save(data, "PNG")
    return data.getvalue()


def write(path: pathlib.Path, array: np.ndarray) -> None:
    """Writes a PNG file and creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(array))


def write_video(path: pathlib.Path, frames: np.ndarray) -> None:
    """Writes a lossless video."""
    import av

    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def build(builder, manual_dir=None, **config):
    """Prepares a data set, and opens it from the disk."""
    settings = tfds.download.DownloadConfig(manual_dir=manual_dir, **config)
    builder.download_and_prepare(download_config=settings)
    return tfds.builder_from_directory(builder.data_dir)


def left_behind(data_dir: pathlib.Path) -> list[pathlib.Path]:
    """The data files that a failed build left."""
    return [path for path in data_dir.rglob("*") if path.is_file() and path.suffix != ".json"]
