"""Upscales a file or folder into another: reads, computes and writes at the same time."""

import contextlib
import dataclasses
import itertools
import math
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxvsr.console import be_silent, counted, say
from jaxvsr.errors import InputError
from jaxvsr.files import sync_file, sync_folder
from jaxvsr.pixels import to_8_bits, to_16_bits
from jaxvsr.upscaling import compare, segments
from jaxvsr.upscaling.prefetch import Prefetch
from jaxvsr.upscaling.request import (
    COPY,
    QUALITY,
    STREAM_KINDS,
    Request,
    Target,
    check_images,
    check_request,
    find_target,
)
from jaxvsr.upscaling.segments import SegmentFolder, SegmentWriter
from jaxvsr.upscaling.stream import Output, Settings, Stream, check_noise, check_overlap
from jaxvsr.video.color import is_deep
from jaxvsr.video.copying import CopiedStreams
from jaxvsr.video.encoding import Encoding, choose_encoding, has_variable_rate
from jaxvsr.video.images import (
    WITH_16_BITS,
    WITH_ALPHA,
    WITH_PROFILE,
    Picture,
    resize_plane,
)
from jaxvsr.video.reading import ImageFolder, TimeRange, VideoFile, VideoInfo, open_source
from jaxvsr.video.writing import mux, try_encoding

PREVIEW_CONTEXT = 8  # frames before and after the previewed one that the network sees
QUEUED_BYTES = 2**27  # of frames in the queue between two stages


@dataclasses.dataclass(frozen=True)
class Work:
    """An upscaling: input, network and output.

    Attributes:
        media: the input.
        info: of the input.
        model, variables: the network.
        request: the options.
        settings: how the stream is split.
        target: kind of the output.
        encoding: of a video; None: images.
    """

    media: ImageFolder | VideoFile
    info: VideoInfo
    model: nn.Module
    variables: Any
    request: Request
    settings: Settings
    target: Target
    encoding: Encoding | None


def upscale_file(
    source: pathlib.Path,
    output: pathlib.Path,
    model: nn.Module,
    variables: Any,
    request: Request,
    origin: dict[str, Any],
) -> None:
    """Upscales a video, a folder of images or a single image.

    Args:
        source: path of the input.
        output: path of the output, whose kind `request.find_target` tells.
        model, variables: the network.
        request: all other options.
        origin: where the network came from; a resumed run must have the same.

    Raises:
        InputError: the request is impossible; found before long work where that can be.
    """
    media = open_source(source, request.rate)
    placed = request.resume and SegmentFolder(output, {}).placed
    check_request(
        media, output, dataclasses.replace(request, overwrite=request.overwrite or placed)
    )
    check_overlap(model, request.settings, whole=jax.process_count() == 1)
    check_noise(model, request.settings)
    target = find_target(output, request)
    media = _adapted(media, output, target, request)
    info = media.info()
    encoding, settings = None, request.settings
    if target.kind == "video":
        encoding = _choose_encoding(output, info, model.scale, request)
        deep = is_deep(encoding.pixel_format)
    else:
        deep = info.deep and target.suffix in WITH_16_BITS
        check_images(target, _size(info, model.scale, request), request.encoder.height)
    settings = dataclasses.replace(settings, deep=deep)
    work = Work(media, info, model, variables, request, settings, target, encoding)
    own = _own_segments(-(-_count_frames(info, request.part) // request.segment))
    described = _describe(work, origin)
    folder = SegmentFolder(output, described, own, own.start * request.segment)
    leads = jax.process_index() == 0
    with folder.held() if leads else contextlib.nullcontext():
        if output.exists() and not (request.overwrite or placed):  # since the first check
            raise InputError(f"{output} exists already: another process has just written it")
        resumes, finished = folder.exists and request.resume, folder.finished
        if folder.exists and not (request.resume or request.overwrite):
            raise InputError(
                f"{folder.folder} belongs to an interrupted run: continue it with --resume, or "
                "start anew with --overwrite"
            )
        _wait_for_hosts("all have looked for an earlier run")
        if resumes and leads:
            folder.resume()
        elif leads:
            folder.create()
        if not (resumes and finished):
            if resumes and folder.damage:
                say(f"{folder.damage}: computing again from frame {folder.done}")
            if resumes:
                say(f"resuming after {folder.done} frames")
            _write(work, folder)
            _wait_for_hosts("all segments are complete")
            if leads:
                folder = SegmentFolder(output, described)
                _join(work, folder)
        if leads:
            with folder.explained():
                folder.place()
                folder.remove()
            say(f"written: {output}")
        _wait_for_hosts("the output is written")


def _own_segments(count: int) -> range:
    """Indices of this host's segments; the last host's are open-ended, as counts are estimates."""
    hosts, host = jax.process_count(), jax.process_index()
    first, after = (-(-count * i // hosts) for i in (host, host + 1))
    return range(first, segments.ALL_SEGMENTS.stop if host + 1 == hosts else after)


def _wait_for_hosts(event: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(event)


def _write(work: Work, folder: SegmentFolder) -> None:
    """Writes the preview and this host's segments; leaves nothing if none is complete."""
    leads = jax.process_index() == 0
    try:
        if work.encoding and leads:
            with folder.explained():
                copied = _copied_streams(work)
                try_encoding(folder.folder, folder.output.suffix, work.encoding, copied)
        if work.request.preview is not None and leads:
            _write_preview(work, folder.output, work.request.preview)
        _write_segments(work, folder)
    except BaseException:
        if not folder.done and jax.process_count() == 1:
            folder.remove()
        raise


def _write_segments(work: Work, folder: SegmentFolder) -> None:
    """Reads, upscales and writes this host's segments."""
    request, (height, width), model = work.request, work.info.size, work.model
    leads = jax.process_index() == 0
    if not leads:  # takes the first host's choices
        _wait_for_hosts("the first host has chosen chunks and tiles")
        if not folder.exists:
            raise InputError(
                f"{folder.folder} is missing here: all hosts need access to the output's disk"
            )
        folder.resume()
    settings = dataclasses.replace(work.settings, **_from_json(folder.choices))
    alone = jax.process_count() == 1
    read = Prefetch(work.media.frames(request.part, say), _queue_size(height * width * 3))
    with read as frames:
        stream = Stream(model, work.variables, frames, settings, whole=alone, say=say)
        settings = stream.settings
        size = request.segment
        if stream.streams:
            size = -(-size // settings.chunk) * settings.chunk
        state = None
        if folder.done and stream.streams:
            state = folder.state(stream.like_state)
        if leads:
            chosen = ("chunk", "tile", "gated")
            folder.choices = {name: getattr(settings, name) for name in chosen}
            with folder.explained():
                folder.save_settings()
            _wait_for_hosts("the first host has chosen chunks and tiles")
        end = folder.own.stop * size
        upscaled = stream.outputs(folder.done, state, size if stream.streams else 0)
        own = itertools.takewhile(lambda output: output.index < end, upscaled)
        total = min(_count_frames(work.info, request.part), end) - folder.before
        begin, done = time.perf_counter(), folder.done
        written = Prefetch(own, _queue_size(height * width * 3 * model.scale**2))
        with written as outputs:
            progress = counted(outputs, total, "frames", 5, done - folder.before)
            open_segment = _segment_opener(work, folder.whole)
            folder.write(_pictures(progress, request.compare), open_segment, size)
    seconds, count = time.perf_counter() - begin, folder.done - done
    waited = (read.starved + written.blocked) / max(seconds, 1e-9)
    say(f"{count} frames in {seconds:.0f} s; the devices waited for {waited:.0%} of it")


def _join(work: Work, folder: SegmentFolder) -> None:
    """Joins the segments of all hosts, and notes that this is done."""
    folder.resume()
    if folder.damage:
        raise InputError(f"{folder.damage}: continue with --resume, which computes it again")
    with folder.explained():
        if work.encoding:
            mux(
                folder.whole,
                work.encoding,
                _copied_streams(work),
                folder.packets(),
                folder.delay,
                folder.times(),
                work.info.time_base,
            )
            sync_file(folder.whole)
        elif work.target.kind == "folder":
            folder.remove_other_images()
            sync_folder(folder.whole)
        folder.save_settings(joined=True)


def _pictures(outputs: Iterable[Output], kind: str) -> Iterator[tuple[int, Picture, Any]]:
    """Yields each frame's time, the picture to be written, and the network's state."""
    for output in outputs:
        frame, pixels = output.frame, output.sr
        if kind:
            pixels = compare.compare(kind, frame.pixels, output.sr)
        alpha = frame.alpha
        if alpha is not None:
            depth = to_8_bits if pixels.dtype == np.uint8 else to_16_bits
            alpha = resize_plane(depth(alpha), pixels.shape[:2])
        yield frame.time, Picture(pixels, alpha, frame.profile), output.state


def _write_preview(work: Work, output: pathlib.Path, index: int) -> None:
    """Upscales the frame of an index with a few around it, and writes it as a PNG."""
    first = max(index - PREVIEW_CONTEXT, 0)
    frames = itertools.islice(
        work.media.frames(work.request.part, be_silent), first, index + PREVIEW_CONTEXT + 1
    )
    settings = dataclasses.replace(work.settings, chunk=0, deep=False)
    for shown in Stream(work.model, work.variables, frames, settings, say=say).outputs():
        if shown.index == index - first:
            path = output.with_name(f"{output.name}.preview.png")
            compare.write_preview(shown.frame.pixels, shown.sr, path)
            say(f"frame {index}: {path}")
            return
    raise InputError(f"--preview={index}: the input has no such frame")


def _adapted(
    media: ImageFolder | VideoFile, output: pathlib.Path, target: Target, request: Request
) -> ImageFolder | VideoFile:
    """Adapts the input to the output: constant rates, and what images can keep."""
    if isinstance(media, VideoFile):
        constant = target.kind == "video" and not has_variable_rate(output)
        return dataclasses.replace(media, constant=constant)
    if target.kind == "video":
        return media
    return dataclasses.replace(
        media,
        keep_alpha=target.suffix in WITH_ALPHA and not request.compare,
        keep_profile=target.suffix in WITH_PROFILE,
    )


def _size(info: VideoInfo, scale: int, request: Request) -> tuple[int, int]:
    """(H, W) of the network's output, and of the bicubic one beside it."""
    height, width = (side * scale for side in info.size)
    return height, width * 2 if request.compare == "side" else width


def _choose_encoding(
    output: pathlib.Path, info: VideoInfo, scale: int, request: Request
) -> Encoding:
    size = _size(info, scale, request)
    return choose_encoding(
        output, request.encoder, size, info.rate, info.pixel_format, info.color, info.aspect
    )


def _copied_streams(work: Work) -> CopiedStreams:
    path = work.media.path if isinstance(work.media, VideoFile) else None
    kinds = COPY if work.request.copy is None else work.request.copy
    return CopiedStreams(path, work.request.part, tuple(STREAM_KINDS[kind] for kind in kinds))


def _describe(work: Work, origin: dict[str, Any]) -> dict[str, Any]:
    """Everything that an output's frames depend on."""
    request = work.request
    return {
        "input": str(work.media.path.resolve()),
        "size": work.info.size,
        "contents": work.media.fingerprint(),
        **{f"network.{key}": value for key, value in origin.items()},
        **{key: str(value) for key, value in dataclasses.asdict(work.settings).items()},
        **{key: str(value) for key, value in dataclasses.asdict(request.encoder).items()},
        "start": str(request.part.start),
        "end": str(request.part.end),
        "output": work.target.suffix,
        "quality": request.quality,
        "compare": request.compare,
        "segment": request.segment,
        "devices": jax.device_count(),
        "hosts": jax.process_count(),
    }


def _from_json(choices: dict[str, Any]) -> dict[str, Any]:
    """The choices of an earlier run as fields of Settings."""
    return {key: tuple(value) if key == "tile" else value for key, value in choices.items()}


def _segment_opener(work: Work, whole: pathlib.Path) -> Callable[[pathlib.Path], SegmentWriter]:
    """A function that opens a segment of a video, or of images."""
    if encoding := work.encoding:
        return lambda path: segments.PacketWriter(path, encoding)
    target, quality = work.target, work.request.quality or QUALITY
    height = work.request.encoder.height

    def place(index: int) -> pathlib.Path:
        return whole if target.kind == "image" else whole / f"{index:08d}{target.suffix}"

    return lambda path: segments.ImageWriter(place, quality, height)


def _queue_size(frame_bytes: int) -> int:
    """Number of frames in the queue between two stages."""
    return min(max(QUEUED_BYTES // frame_bytes, 2), 64)


def _count_frames(info: VideoInfo, part: TimeRange) -> int:
    """Number of frames in a time range, estimated."""
    last = info.length if part.end is None else min(math.ceil(part.end * info.rate), info.length)
    return max(last - math.ceil(part.start * info.rate), 0)
