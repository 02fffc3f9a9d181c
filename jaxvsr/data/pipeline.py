"""The input pipeline: draws, reads and batches training samples."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence

import grain
import ml_collections
import numpy as np
from absl import flags

from jaxvsr.data import transforms
from jaxvsr.data.degradations import Degradation, parse_degradation
from jaxvsr.data.sources import ClipSource

# Signals to a process group, from the keyboard and from schedulers. Training needs its next batches
# after them, so only the training process reacts.
GROUP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclasses.dataclass(frozen=True)
class Sample:
    """One training sample.

    Attributes:
        clip: index of the clip.
        frames: frame indices.
        top, left: corner of the crop, input pixels.
        hflip, vflip, transpose: augmentations.
        seed: of the degradation, if the inputs are made while reading.
    """

    clip: int
    frames: range
    top: int
    left: int
    hflip: bool
    vflip: bool
    transpose: bool
    seed: int = 0


class Sampler:
    """Draws samples: every (clip, first frame) equally often, with random crop and augmentation.

    Source: BasicSR, REDSRecurrentDataset, the recipe of BasicVSR and its successors.
    """

    def __init__(
        self,
        source: ClipSource,
        frames: int,
        crop: int,
        intervals: Sequence[int] = (1,),
        reverse: bool = False,
        seeds: bool = False,
    ) -> None:
        """Counts the samples.

        Args:
            source: of the clips. Clips too short for the largest interval are left out.
            frames: per sample.
            crop: height and width of a sample, target pixels.
            intervals: between frames, drawn uniformly per sample.
            reverse: whether half of the samples are reversed in time.
            seeds: whether samples have seeds.
        """
        self._seeds = seeds
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
        """Draws the sample with a given index of (clip, first frame)."""
        clip = int(np.searchsorted(self._starts, window, side="right"))
        start = window - int(self._starts[clip - 1]) if clip else window
        height, width = self._sizes[clip]
        top = int(rng.integers(height - self._crop + 1))
        left = int(rng.integers(width - self._crop + 1))
        hflip, vflip, transpose = (bool(turn) for turn in rng.random(3) < 0.5)
        interval = self._intervals[int(rng.integers(len(self._intervals)))]
        # The official bound, which leaves interval - 1 frames of the clip unused.
        last = self._lengths[clip] - self._frames * interval
        if start > last:
            start = int(rng.integers(last + 1))
        frames = range(start, start + self._frames * interval, interval)
        if self._reverse and rng.random() < 0.5:
            frames = frames[::-1]
        seed = int(rng.integers(2**63)) if self._seeds else 0
        return Sample(clip, frames, top, left, hflip, vflip, transpose, seed)


@dataclasses.dataclass(frozen=True)
class SampleReader:
    """Reads samples.

    Attributes:
        source: of the clips.
        crop: height and width of a sample, target pixels.
        mirror: whether the reversed sample is appended to it.
        chosen: for "lq" and "gt", the indices of the sample's frames that are kept; (): all.
        degradation: by which lq is made; None: that of the data set.
        flow: whether the true flow is read, too.
    """

    source: ClipSource
    crop: int
    mirror: bool
    chosen: Mapping[str, Sequence[int]]
    degradation: Degradation | None = None
    flow: bool = False

    def __call__(self, sample: Sample) -> dict:
        """Reads a sample: "lq" (t, h, w, 3) uint8, "gt" (t, H, W, 3) uint8, "key" str.

        With `flow` also "flow_forward" and "flow_backward" (t, h, w, 2) float32, from each frame to
        the one before and after it in the sample, in input pixels, and "visible_forward" and
        "visible_backward" (t, h, w) uint8. The first forward and the last backward flow lead out of
        the sample.
        """
        size = self.crop // self.source.scale
        window = self.source.read(sample.clip, sample.frames, sample.top, sample.left, (size, size))
        if self.degradation:
            rng = np.random.default_rng(sample.seed)
            window["lq"] = self.degradation.lq(window["gt"], window["lq"], rng)
        out: dict = {"key": f"{self.source.clips[sample.clip].name}/{sample.frames[0]}"}
        for key, x in window.items():
            x = x[list(self.chosen[key])] if self.chosen[key] else x
            x = transforms.augment(x, sample.hflip, sample.vflip, sample.transpose)
            x = transforms.contiguous(x)
            out[key] = transforms.mirror(x) if self.mirror else x
        return out | (self._flows(sample) if self.flow else {})

    def _flows(self, sample: Sample) -> dict[str, np.ndarray]:
        size = self.crop // self.source.scale
        window = self.source.read_flow(
            sample.clip, sample.frames, sample.top, sample.left, (size, size)
        )
        turns = sample.hflip, sample.vflip, sample.transpose
        reverse = sample.frames.step < 0
        out = {}
        for way, back in (("forward", "backward"), ("backward", "forward")):
            source = back if reverse else way
            flow = transforms.augment_flow(window[f"flow_{source}"], *turns)
            visible = transforms.augment(window[f"visible_{source}"][..., None], *turns)
            out[f"flow_{way}"] = np.ascontiguousarray(flow)
            out[f"visible_{way}"] = np.ascontiguousarray(visible[..., 0])
        return out


def training_batches(
    data: ml_collections.ConfigDict,
    source: ClipSource,
    *,
    seed: int,
    position: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Generator[dict[str, np.ndarray], None, None]:
    """Yields batches endlessly; their samples depend only on the seed and the position.

    Samples position to position + batch make the next global batch, for any number of worker
    processes and hosts, so that a run resumes by its position.

    Args:
        data: `frames`, `crop`, `intervals`, `reverse`, `mirror`, `lq_frames`, `gt_frames`,
            `degradation`, `flow`, `batch` (of all hosts together) and `workers`.
        source: of the clips, checked by `preflight.check_samples`.
        seed: of the order and of all draws.
        position: number of samples drawn before, by all hosts together.
        process_index, process_count: of this host; each host gets an equal part of every batch.

    Yields:
        {"lq" (b, t, h, w, 3) uint8, "gt" (b, t, H, W, 3) uint8, "key" (b,) str}, and what
        `SampleReader` reads with `data.flow`.
    """
    degrading = data.degradation
    degradation = parse_degradation(degrading, source.scale) if degrading else None
    sampler = Sampler(
        source, data.frames, data.crop, data.intervals, data.reverse, seeds=bool(degradation)
    )
    samples = grain.MapDataset.range(len(sampler)).seed(seed).shuffle().repeat().random_map(sampler)
    own = samples[position + process_index :: process_count]
    chosen = {name: tuple(data.get(f"{name}_frames", ())) for name in ("lq", "gt")}
    flow = bool(data.get("flow"))
    read = SampleReader(source, data.crop, data.mirror, chosen, degradation, flow)
    # For Grain the endless data set has a length, which it would round up beyond the largest int.
    batches = own.map(read).batch(data.batch // process_count, drop_remainder=True)
    # Whole batches are prefetched: more than a few would fill the memory.
    threads = 1 if data.workers else 2
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2)
    dataset = batches.to_iter_dataset(options)
    if data.workers:
        if not flags.FLAGS.is_parsed():  # outside of absl's main: notebooks, tests
            flags.FLAGS.mark_as_parsed()
        # Batches go through pipes: shared memory would stay behind after a SIGKILL, and containers
        # have little of it.
        piped = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)
        dataset = grain.experimental.WithOptionsIterDataset(dataset, piped).mp_prefetch(
            grain.MultiprocessingOptions(data.workers, per_worker_buffer_size=2),
            worker_init_fn=_live_with_parent,
        )
    return _batches(iter(dataset))


def _batches(
    batches: grain.DatasetIterator[dict[str, np.ndarray]],
) -> Generator[dict[str, np.ndarray], None, None]:
    """Yields the batches; the processes that read them start with the first one."""
    with contextlib.closing(batches):
        with _signals_blocked():
            first = next(batches)
        yield first
        yield from batches


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Lets processes that start meanwhile begin with blocked signals; other threads get them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows has no such signals
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _live_with_parent(worker: int, workers: int) -> None:
    """Lets a reading process ignore signals to the group and end with the training process."""
    del worker, workers
    for number in GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
