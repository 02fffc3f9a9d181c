"""Time and memory of `jaxvsr.metrics.ssim` against a plain implementation.

    python -m benchmarks.ssim

The plain one follows BasicSR's calculate_ssim: one frame and one channel at a time, five 11x11
filters by OpenCV's filter2D in float64, on one core; ours uses all cores. The two are timed
alternately; the best time of each counts. Needs `jaxvsr[metrics]`.
"""

import time
import tracemalloc
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from benchmarks.common import machine, make_parser
from jaxvsr.evaluation.markdown import markdown
from jaxvsr.metrics import ssim

C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def plain_ssim(sr: np.ndarray, gt: np.ndarray, crop: int, channel: str) -> np.ndarray:
    """SSIM of clips (t, h, w, 3) uint8: one float64 per frame."""
    scores = []
    for frame, reference in zip(sr, gt, strict=True):
        x, y = plain_planes(frame, crop, channel), plain_planes(reference, crop, channel)
        scores.append(np.mean([plain_map(x[..., c], y[..., c]).mean() for c in range(x.shape[2])]))
    return np.array(scores)


def plain_planes(frame: np.ndarray, crop: int, channel: str) -> np.ndarray:
    """The compared channels of a frame (h, w, 3) uint8: (h, w, 3 or 1) float64."""
    frame = frame[crop : len(frame) - crop, crop : frame.shape[1] - crop]
    if channel == "y":
        luma = np.dot(frame.astype(np.float32) / 255, [65.481, 128.553, 24.966]) + 16
        return luma[..., None]
    return frame.astype(np.float64)


def plain_map(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """SSIM at each pixel of a plane (h, w) float64 where the window fits in whole."""
    taps = cv2.getGaussianKernel(11, 1.5)
    window = taps @ taps.T

    def mean(z: np.ndarray) -> np.ndarray:
        return cv2.filter2D(z, -1, window)[5:-5, 5:-5]

    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x**2) - mean_x**2, mean(y**2) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    return top / ((mean_x**2 + mean_y**2 + C1) * (variance_x + variance_y + C2))


def make_clips(frames: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth random clip (t, h, w, 3) uint8 with noise, and without."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (frames, height // 16, width // 16, 3), np.uint8)
    gt = np.stack([cv2.resize(f, (width, height), interpolation=cv2.INTER_CUBIC) for f in coarse])
    return np.clip(gt + rng.normal(0, 8, gt.shape), 0, 255).astype(np.uint8), gt


def times(function: Callable, sr: np.ndarray, *args: object) -> tuple[float, float]:
    """Wall and processor time of a call, seconds per frame."""
    wall, work = time.perf_counter(), time.process_time()
    function(sr, *args)
    return (time.perf_counter() - wall) / len(sr), (time.process_time() - work) / len(sr)


def compare(sr: np.ndarray, gt: np.ndarray, channel: str, rounds: int) -> list[str]:
    """A row of the table: speed relative to the plain implementation, difference of the values."""
    difference = np.abs(ssim(sr, gt, 0, channel) / plain_ssim(sr, gt, 0, channel) - 1).max()
    plain, ours = [], []
    for _ in range(rounds):
        plain.append(times(plain_ssim, sr[:1], gt[:1], 0, channel))
        ours.append(times(ssim, sr, gt, 0, channel))
    wall, work = np.min(plain, axis=0) / np.min(ours, axis=0)
    return [channel.upper(), f"{wall:.1f}", f"{work:.1f}", f"{difference:.0e}"]


def peak(frames: int, gt: np.ndarray) -> float:
    """Peak MiB of scoring `frames` frames, without the frames themselves."""
    clip = np.broadcast_to(gt[0], (frames, *gt.shape[1:]))
    tracemalloc.start()
    ssim(clip, clip)
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return highest / 2**20


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints the tables."""
    parser = make_parser("ssim", __doc__)
    parser.add_argument("--frames", type=int, default=4, help="frames of the clip")
    parser.add_argument("--size", type=int, nargs=2, default=(720, 1280), help="height, width")
    parser.add_argument("--rounds", type=int, default=40, help="timed calls of each")
    parser.add_argument("--lengths", type=int, nargs="+", default=(2, 10, 100))
    options = parser.parse_args(argv)
    sr, gt = make_clips(options.frames, *options.size)
    heads = ["channel", "frames per second", "frames per processor second", "relative difference"]
    rows = [compare(sr, gt, channel, options.rounds) for channel in ("rgb", "y")]
    print(f"Relative to the plain implementation, best of {options.rounds}:\n")
    print(markdown(heads, rows))
    print("\nPeak memory, without the frames:")
    for count in options.lengths:
        print(f"- {count} frames: {peak(count, gt):.0f} MiB")
    print(f"\n{machine()}, NumPy {np.__version__}, OpenCV {cv2.__version__}")


if __name__ == "__main__":
    main()
