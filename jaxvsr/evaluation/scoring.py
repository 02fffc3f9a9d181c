"""Scores of a model over a data set."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from jaxvsr.config import plain
from jaxvsr.console import reporting
from jaxvsr.data.degradations import add_noise, imresize, parse_degradation, with_noise_map
from jaxvsr.data.sources import ClipSource
from jaxvsr.evaluation.drawing import Gallery
from jaxvsr.evaluation.progress import ClipProgress
from jaxvsr.evaluation.protocol import degradation_of, scorers
from jaxvsr.evaluation.reports import Evaluation
from jaxvsr.evaluation.restoring import Restorer, restore_clips
from jaxvsr.pixels import to_integers


class Stopped(Exception):
    """The evaluation was interrupted."""


def evaluate(
    restore: Restorer,
    source: ClipSource,
    protocol: ml_collections.ConfigDict,
    variables: Any,
    *,
    name: str = "model",
    dtype: str = "",
    baseline: bool = False,
    known: Mapping[str, Any] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Scores a model. Clips are divided among the hosts, and there among the devices.

    Args:
        restore: of `make_restorer`.
        source: of the clips.
        protocol: the `eval` section of a config.
        variables: of the model, replicated.
        name: of the model.
        dtype: of the model's computation, for the report; "": not reported.
        baseline: whether bicubic upsampling (at scale 1, the input) is scored too.
        known: scores of an earlier `Evaluation` by the same protocol, whose baseline is copied.
        stop: called after each clip; True ends the evaluation.

    Returns:
        The scores of all clips, on every host, and pictures of this host's clips.

    Raises:
        Stopped: `stop` returned True.
    """
    clips = range(protocol.clips or len(source.clips))[: len(source.clips)]
    own = clips[jax.process_index() :: jax.process_count()]
    unrestored = "bicubic" if source.scale > 1 else "input"
    copied = {m: known[m] for m in (unrestored,) if m != name and known and m in known}
    methods = dict.fromkeys((unrestored, name) if baseline and not copied else (name,))
    metrics = scorers(protocol)
    scores: dict = {method: {metric: {} for metric in metrics} for method in methods}
    gallery = Gallery(source.scale)

    def upsample(lq: np.ndarray) -> np.ndarray:
        return imresize(lq if protocol.rounded else lq / np.float32(255), source.scale)

    def compiling() -> float:  # once for each size of clips
        return getattr(restore, "compile_seconds", 0.0)

    progress = ClipProgress([source.clips[i] for i in own], compiling)
    restored = restored_clips(restore, source, protocol, variables, own, progress.restored)
    with reporting(progress.line):
        for i, lq, gt, sr, computed in restored:
            scored, clip = list(protocol.frames) or range(len(gt)), source.clips[i].name
            for method in methods:
                output = sr if method == name else upsample(lq)
                for metric, score in metrics.items():
                    scores[method][metric][clip] = score(output[scored], gt[scored])
            shown = sr if protocol.rounded else to_integers(sr)
            gallery.add(lq, gt, shown, computed, scored, scores[name]["psnr"][clip])
            progress.finished()
            if stop():
                raise Stopped
    if jax.process_count() > 1:
        scores = _of_all_hosts(scores, [source.clips[i].name for i in clips])
    scores = {**copied, **scores}
    fields = plain(protocol).items()
    said = {key: value for key, value in fields if key not in ("every", "space", "best")}
    said |= {"degradation": degradation_of(source, protocol), "dtype": dtype}
    whole = f"part of {protocol.dataset} ({len(source.clips)} clips)"
    said["part"] = source.part or (whole if len(clips) < len(source.clips) else "")
    kind_of = {source.clips[i].name: source.clips[i].kind for i in clips if source.clips[i].kind}
    return Evaluation(said, scores, gallery.panels(), kind_of)


def _of_all_hosts(scores: dict, names: list[str]) -> dict:
    """Gathers the scores of all hosts, in the form of `Evaluation.scores`."""
    own = [
        by_clip.get(name, ())
        for by_metric in scores.values()
        for by_clip in by_metric.values()
        for name in names
    ]
    counts = multihost_utils.process_allgather(np.array([len(frames) for frames in own]))
    table = np.zeros((len(own), counts.max()))
    for row, frames in zip(table, own, strict=True):
        row[: len(frames)] = frames
    # As integers, since JAX would round float64 to 32 bits.
    tables = multihost_utils.process_allgather(table.view(np.uint32)).view(np.float64)
    owners = counts.argmax(0)  # the one host that has scores
    found = iter(tables[host, i, : counts[host, i]] for i, host in enumerate(owners))
    return {
        method: {metric: {name: next(found) for name in names} for metric in by_metric}
        for method, by_metric in scores.items()
    }


def restored_clips(
    restore: Restorer,
    source: ClipSource,
    protocol: ml_collections.ConfigDict,
    variables: Any,
    clips: Iterable[int],
    done: Callable[[float], None] = lambda fraction: None,
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]]:
    """Restores clips by a protocol.

    Args:
        restore, source, protocol, variables: as for `evaluate`.
        clips: their indices.
        done: as for `restore_clips`.

    Yields:
        For each clip: its index, lq, gt and sr (t, h, w, 3) uint8, and the fraction of blocks
        that computed each token (t, h, w), or None. Not rounded, sr is float32. For interpolated
        frames, lq is the nearest input frame.
    """

    chosen = protocol.degradation
    degradation = parse_degradation(chosen, source.scale) if chosen else None

    def read(i: int) -> tuple[np.ndarray, tuple[int, dict[str, np.ndarray]]]:
        frames = source.read(i, range(source.clips[i].length))
        if degradation:
            rng = np.random.default_rng(0)  # the same draws for every clip
            frames["lq"] = degradation.lq(frames["gt"], frames["lq"], rng)
        lq = frames["lq"]
        if protocol.noise:
            # The same noise for every clip, as in KAIR, and the same in all tiles of a clip. The
            # network's input is neither rounded nor clipped.
            lq = add_noise(lq, protocol.noise, np.random.default_rng(0))
            frames["lq"] = to_integers(lq)
            lq = with_noise_map(lq, protocol.noise)
        if protocol.gt_frames:
            inputs, targets = np.array(protocol.lq_frames), np.array(protocol.gt_frames)
            nearest = inputs[np.abs(inputs - targets[:, None]).argmin(1)]
            lq, frames = lq[inputs], {"lq": frames["lq"][nearest], "gt": frames["gt"][targets]}
        return lq, (i, frames)

    restored = restore_clips(
        restore,
        variables,
        map(read, clips),
        rule=protocol.input,
        rounded=protocol.rounded,
        tile=tuple(protocol.tile),
        overlap=tuple(protocol.overlap),
        multiple=tuple(protocol.multiple),
        space=protocol.space,
        done=done,
    )
    for (i, frames), sr, computed in restored:
        yield i, frames["lq"], frames["gt"], sr, computed
