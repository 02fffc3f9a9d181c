"""SSIM of a clip: `jaxvsr.metrics.ssim` beside the usual way, in one run.

    python benchmarks/ssim.py

The usual way is BasicSR's calculate_ssim in outline: a frame at a time, a channel at a time, five
11x11 filters by OpenCV's filter2D in float64. Both are timed in turn and several times over, since
other work on the machine slows either; the best time of each counts. Frames are scored on all
cores, the usual way on one: where others hold the cores, the first ratio falls to the second, which
is of processor time. Needs `jaxvsr[metrics]`.
"""

import pathlib
import platform
import time
import tracemalloc
from collections.abc import Callable

import cv2
import numpy as np

from jaxvsr.metrics import ssim

FRAMES, HEIGHT, WIDTH = 4, 720, 1280
ROUNDS = 40
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def plain_ssim(sr: np.ndarray, gt: np.ndarray, crop: int, channel: str) -> np.ndarray:
    """SSIM of clips (t, h, w, 3) uint8, as most code computes it."""
    scores = []
    for frame, reference in zip(sr, gt, strict=True):
        x, y = plain_planes(frame, crop, channel), plain_planes(reference, crop, channel)
        scores.append(np.mean([plain_map(x[..., c], y[..., c]).mean() for c in range(x.shape[2])]))
    return np.array(scores)


def plain_planes(frame: np.ndarray, crop: int, channel: str) -> np.ndarray:
    """What is compared of a frame (h, w, 3) uint8: (h, w, 3 or 1) float64."""
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


def make_clips() -> tuple[np.ndarray, np.ndarray]:
    """A smooth random clip (t, h, w, 3) uint8 and the same with noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (FRAMES, HEIGHT // 16, WIDTH // 16, 3), np.uint8)
    gt = np.stack([cv2.resize(f, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for f in coarse])
    return np.clip(gt + rng.normal(0, 8, gt.shape), 0, 255).astype(np.uint8), gt


def times(function: Callable, sr: np.ndarray, *args: object) -> tuple[float, float]:
    """Wall and processor time of a call, seconds a frame."""
    wall, work = time.perf_counter(), time.process_time()
    function(sr, *args)
    return (time.perf_counter() - wall) / len(sr), (time.process_time() - work) / len(sr)


def compare(sr: np.ndarray, gt: np.ndarray, channel: str) -> str:
    """A row of the table."""
    difference = np.abs(ssim(sr, gt, 0, channel) / plain_ssim(sr, gt, 0, channel) - 1).max()
    plain, ours = [], []
    for _ in range(ROUNDS):
        plain.append(times(plain_ssim, sr[:1], gt[:1], 0, channel))
        ours.append(times(ssim, sr, gt, 0, channel))
    wall, work = np.min(plain, axis=0) / np.min(ours, axis=0)
    return f"| {channel.upper():3} | {wall:.1f} | {work:.1f} | {difference:.0e} |"


def peak(frames: int, gt: np.ndarray) -> float:
    """MiB that the scoring of so many frames takes, besides the frames themselves."""
    clip = np.broadcast_to(gt[0], (frames, *gt.shape[1:]))
    tracemalloc.start()
    ssim(clip, clip)
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return highest / 2**20


def machine() -> str:
    """The processor, its cores and the libraries' versions."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    name = f"{len(models)} cores of {models[0]}" if models else platform.processor()
    versions = (
        f"Python {platform.python_version()}, NumPy {np.__version__}, OpenCV {cv2.__version__}"
    )
    return f"{name}; {versions}"


def main() -> None:
    sr, gt = make_clips()
    rows = "\n".join(compare(sr, gt, channel) for channel in ("rgb", "y"))
    memory = ", ".join(f"{count} frames {peak(count, gt):.0f} MiB" for count in (2, 10, 100))
    print(f"""# SSIM

`jaxvsr.metrics.ssim` beside a plain one (a frame and a channel at a time, OpenCV's filter2D with
the 11x11 window, float64), uint8 frames of {HEIGHT}x{WIDTH}: how many times as many it scores, by
the best of {ROUNDS} times of each, taken in turn.

| on  | frames per second | per second of processor time | relative difference of the values |
|-----|-------------------|------------------------------|-----------------------------------|
{rows}

Memory at its highest, besides the frames: {memory}.

Command: `python benchmarks/ssim.py`. Machine: {machine()}.""")


if __name__ == "__main__":
    main()
