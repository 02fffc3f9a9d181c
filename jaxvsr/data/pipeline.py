"""From a config to batches: which samples, in which order, read by whom."""

import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence

import grain
import ml_collections
import numpy as np
from absl import flags

from jaxvsr.data import transforms
from jaxvsr.data.sources import TFDSClips


@dataclasses.dataclass(frozen=True)
class Sample:
    """One draw: frames of a clip, a square of them in input pixels, and how it is turned."""

    clip: int
    frames: range
    top: int
    left: int
    hflip: bool
    vflip: bool
    transpose: bool


class Draw:
    """Draws samples: every (clip, start) that holds the frames alike, crops and turns at random.

    Source: the published recipes of BasicVSR and its successors (BasicSR, REDSRecurrentDataset).
    """

    def __init__(
        self,
        source: TFDSClips,
        frames: int,
        crop: int,
        intervals: Sequence[int] = (1,),
        reverse: bool = False,
    ) -> None:
        """Of `frames` frames each, cropped to squares of `crop` target pixels.

        A sample's frames are one of the intervals apart, each alike; with reverse every other
        sample goes backwards in time. Clips that cannot hold the largest interval are left out.
        """
        self._frames = frames
        self._intervals = tuple(intervals)
        self._reverse = reverse
        self._lengths = [clip.length for clip in source.clips]
        longest, shortest = frames * max(intervals), frames * min(intervals)
        counts = [length - shortest + 1 if length >= longest else 0 for length in self._lengths]
        self._starts = np.cumsum(counts)
        self._sizes = [
            (clip.height // source.scale, clip.width // source.scale) for clip in source.clips
        ]
        self._crop = crop // source.scale

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __call__(self, window: int, rng: np.random.Generator) -> Sample:
        """The sample of a window's number and a random generator."""
        clip = int(np.searchsorted(self._starts, window, side="right"))
        start = window - int(self._starts[clip - 1]) if clip else window
        height, width = self._sizes[clip]
        top = int(rng.integers(height - self._crop + 1))
        left = int(rng.integers(width - self._crop + 1))
        hflip, vflip, transpose = (bool(turn) for turn in rng.random(3) < 0.5)
        interval = self._intervals[int(rng.integers(len(self._intervals)))]
        # The published bound, which leaves interval - 1 frames of the clip unused.
        last = self._lengths[clip] - self._frames * interval
        if start > last:
            start = int(rng.integers(last + 1))
        frames = range(start, start + self._frames * interval, interval)
        if self._reverse and rng.random() < 0.5:
            frames = frames[::-1]
        return Sample(clip, frames, top, left, hflip, vflip, transpose)


@dataclasses.dataclass(frozen=True)
class Read:
    """Reads samples.

    Attributes:
        source: of the clips.
        crop: side of a sample in target pixels.
        mirror: whether the reversed sample is appended to it.
        chosen: of "lq" and of "gt", the numbers of a sample's frames that are kept; (): all.
    """

    source: TFDSClips
    crop: int
    mirror: bool
    chosen: Mapping[str, Sequence[int]]

    def __call__(self, sample: Sample) -> dict:
        """Sample -> {"lq" (t, h, w, 3) uint8, "gt" (t, H, W, 3) uint8, "key" str}."""
        size = self.crop // self.source.scale
        window = self.source.read(sample.clip, sample.frames, sample.top, sample.left, (size, size))
        out: dict = {"key": f"{self.source.clips[sample.clip].name}/{sample.frames[0]}"}
        for key, x in window.items():
            x = x[list(self.chosen[key])] if self.chosen[key] else x
            x = transforms.augment(x, sample.hflip, sample.vflip, sample.transpose)
            x = transforms.contiguous(x)
            out[key] = transforms.mirror(x) if self.mirror else x
        return out


def training_batches(
    data: ml_collections.ConfigDict,
    source: TFDSClips,
    *,
    seed: int,
    position: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches; which samples are in one depends on the seed and its position alone.

    Whatever the number of worker processes and of hosts, the samples numbered position to
    position + batch make the next global batch, so that a run resumes by its position.

    Args:
        data: `frames`, `crop`, `intervals`, `reverse`, `mirror`, `lq_frames`, `gt_frames`, `batch`
            (of all hosts together) and `workers`.
        source: of the clips, which hold such samples (`preflight.check_samples`).
        seed: of the order and of every draw.
        position: how many samples were drawn before, by all hosts together.
        process_index, process_count: this host's place among the hosts; each gets an equal
            share of every batch.

    Yields:
        {"lq" (b, t, h, w, 3) uint8, "gt" (b, t, H, W, 3) uint8, "key" (b,) str}.
    """
    draw = Draw(source, data.frames, data.crop, data.intervals, data.reverse)
    samples = grain.MapDataset.range(len(draw)).seed(seed).shuffle().repeat().random_map(draw)
    share = samples[position + process_index :: process_count]
    chosen = {name: tuple(data.get(f"{name}_frames", ())) for name in ("lq", "gt")}
    read = Read(source, data.crop, data.mirror, chosen)
    # Endless as it is, to Grain it has a length, which it would round up beyond the largest one.
    batches = share.map(read).batch(data.batch // process_count, drop_remainder=True)
    # Prefetched are whole batches: few, or they fill the memory.
    threads = 1 if data.workers else 2
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2)
    dataset = batches.to_iter_dataset(options)
    if data.workers:
        if not flags.FLAGS.is_parsed():  # outside of absl's main: notebooks, tests
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(
            grain.MultiprocessingOptions(data.workers, per_worker_buffer_size=2),
            worker_init_fn=_live_with_parent,
        )
    return iter(dataset)


def _live_with_parent(worker: int, workers: int) -> None:
    """A reading process is stopped by the training one alone, and ends with it in any case."""
    del worker, workers
    # Schedulers signal a whole group of processes, but the training one still wants its batches.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
