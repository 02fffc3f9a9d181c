"""Crops of a video frame: input, bicubic, a built-in network and the original, side by side.

    python -m benchmarks.picture bigbuckbunny.mp4                # docs/images/upscaled.png
    python -m benchmarks.picture my.mp4 --frame=40 --crops 100,200 --out=mine.png

The frames of the video are the ground truth. The input is their bicubic reduction by the network's
scale; the network sees `--context` frames on each side. Prints PSNR on Y of the whole frame. Needs
`jaxvsr[video]`.
"""

import itertools
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.common import make_parser
from jaxvsr import metrics, presets
from jaxvsr.data.degradations import imresize
from jaxvsr.upscale import upscale
from jaxvsr.video.reading import TimeRange, open_source

OUT = pathlib.Path(__file__).parents[1] / "docs" / "images" / "upscaled.png"
HEIGHT, WIDTH, GAP, HEADER = 160, 248, 4, 26
CROPS = ((72, 360), (76, 900))  # top, left: for frame 96 of Big Buck Bunny


def read(path: pathlib.Path, first: int, last: int) -> np.ndarray:
    """Frames first..last (t, h, w, 3) uint8 of a video."""
    frames = itertools.islice(open_source(path).frames(TimeRange(), print), first, last + 1)
    clip = [frame.pixels for frame in frames]
    if len(clip) < last + 1 - first:
        raise SystemExit(f"{path} ends before frame {last}; choose an earlier --frame")
    return np.stack(clip)


def panels(gt: np.ndarray, index: int, preset: str) -> dict[str, np.ndarray]:
    """Title to frame (h, w, 3) uint8, all of the size of the ground truth `gt` (t, h, w, 3)."""
    model, variables, _ = presets.load(preset)
    scale = model.scale
    height, width = (side // scale * scale for side in gt.shape[1:3])
    gt = gt[:, :height, :width]
    lq = imresize(gt, 1 / scale)
    frames = {
        "input": lq[index].repeat(scale, axis=0).repeat(scale, axis=1),
        "bicubic": imresize(lq[index], scale),
        f"jaxvsr, {preset}": upscale(lq, model, variables)[index],
        "original": gt[index],
    }
    scores = {
        title: float(metrics.psnr(frame, gt[index], channel="y"))
        for title, frame in list(frames.items())[1:3]
    }
    print("PSNR on Y:", ", ".join(f"{title} {score:.2f} dB" for title, score in scores.items()))
    return {
        f"{title} ({scores[title]:.1f} dB)" if title in scores else title: frame
        for title, frame in frames.items()
    }


def draw(frames: dict[str, np.ndarray], crops: Sequence[tuple[int, int]]) -> Image.Image:
    """One column per frame, one row per crop, with the titles above."""
    size = (len(frames) * (WIDTH + GAP) - GAP, HEADER + len(crops) * (HEIGHT + GAP) - GAP)
    picture = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    for column, (title, frame) in enumerate(frames.items()):
        left = column * (WIDTH + GAP)
        pen.text((left + WIDTH // 2, HEADER // 2), title, fill="black", font=font, anchor="mm")
        for row, (y, x) in enumerate(crops):
            window = Image.fromarray(frame[y : y + HEIGHT, x : x + WIDTH])
            picture.paste(window, (left, HEADER + row * (HEIGHT + GAP)))
    return picture


def pair(text: str) -> tuple[int, int]:
    """ "64,360" -> (64, 360)."""
    top, left = text.split(",")
    return int(top), int(left)


def main(argv: Sequence[str] | None = None) -> None:
    """Draws the picture and writes it as PNG."""
    parser = make_parser("picture", __doc__)
    parser.add_argument("video", type=pathlib.Path)
    parser.add_argument("--frame", type=int, default=96, help="frame index")
    parser.add_argument("--context", type=int, default=8, help="frames before and after it")
    parser.add_argument("--crops", type=pair, nargs="+", default=CROPS, metavar="TOP,LEFT")
    parser.add_argument("--preset", default="swrn")
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    options = parser.parse_args(argv)
    first = max(options.frame - options.context, 0)
    gt = read(options.video, first, options.frame + options.context)
    picture = draw(panels(gt, options.frame - first, options.preset), options.crops)
    picture.save(options.out, optimize=True)
    print(f"{options.out}: {options.out.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
