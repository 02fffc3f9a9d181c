"""From a file to a file: reading, restoring and writing at once, and going on after a stop."""

import dataclasses
import itertools
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxvsr.console import counted, say
from jaxvsr.errors import InputError
from jaxvsr.upscaling import compare, segments
from jaxvsr.upscaling.stream import Output, Settings, Stream
from jaxvsr.upscaling.threads import Ahead
from jaxvsr.video import container, encoder, reader
from jaxvsr.video.colour import is_deep
from jaxvsr.video.reader import Span

SEGMENT = 240  # frames of a segment
AROUND = 8  # frames before and after one that is shown first
HELD = 2**27  # bytes of frames that wait between two stages
COPIES = {"sound": "audio", "subtitles": "subtitle", "attachments": "attachment", "data": "data"}


@dataclasses.dataclass(frozen=True)
class Request:
    """What the command line says, beside the input, the output and the network.

    Attributes:
        settings: how time and frames are cut.
        wish: of a video's coding.
        span: the part that is restored.
        rate: frames a second of a folder of images; None: 25.
        copy: of COPIES: what goes into the output as it is.
        images: "png" or "jpg", of a folder.
        quality: of JPEG, up to 100.
        compare: "side", "split" or "".
        preview: number of a frame that is written first; None: none.
        segment: frames of a segment.
        resume, overwrite: what is done with what is there.
    """

    settings: Settings = dataclasses.field(default_factory=Settings)
    wish: encoder.Wish = dataclasses.field(default_factory=encoder.Wish)
    span: Span = dataclasses.field(default_factory=Span)
    rate: Fraction | None = None
    copy: Sequence[str] = ("sound", "subtitles", "attachments")
    images: str = "png"
    quality: int = 95
    compare: str = ""
    preview: int | None = None
    segment: int = SEGMENT
    resume: bool = False
    overwrite: bool = False


def run(
    source: pathlib.Path,
    output: pathlib.Path,
    model: nn.Module,
    variables: Any,
    request: Request,
    origin: dict[str, Any],
) -> None:
    """Restores a video or a folder of images into another.

    Args:
        source, output: paths; an output without a suffix is a folder of images.
        model, variables: the network.
        request: the rest.
        origin: of the network, which a run that goes on has to share.

    Raises:
        InputError: something cannot be done as asked, mostly before any long work.
    """
    media = reader.find(source, request.rate)
    _check_places(source, output, request)
    info = media.info()
    coding, settings = None, request.settings
    if output.suffix:
        coding = _coding(output, info, model.scale, request)
        settings = dataclasses.replace(settings, deep=is_deep(coding.pixel_format))
    total, segment = _total(info, request.span), request.segment
    share = _share(-(-total // segment))
    asked = _asked(source, request, settings, info, origin)
    work = segments.Work(output, asked, share, share.start * segment)
    begun, leads = work.exists and request.resume, jax.process_index() == 0
    if work.exists and not (request.resume or request.overwrite):
        raise InputError(
            f"{work.folder} is of a run that was broken off: go on with --resume, or start anew "
            "with --overwrite"
        )
    _meet("all have looked")
    if begun and leads:
        work.resume()
        say(f"going on after {work.done} frames")
    elif leads:
        work.begin()
    copied = _copied(media, request)
    try:
        if coding and leads:
            container.rehearse(work.folder, output.suffix, coding, copied)
        if request.preview is not None and leads:
            _preview(media, output, model, variables, request, settings, info)
        _restore(media, info, model, variables, settings, request, work, coding)
    except BaseException:
        if not work.done and jax.process_count() == 1:
            work.remove()
        raise
    _meet("all segments are whole")
    if leads:
        work = segments.Work(output, asked)
        work.resume()
        if work.done < total:
            say(f"warning: the input says that it has {total} frames, {work.done} could be read")
        _finish(output, work, coding, copied, info)
    _meet("the output is written")


def _share(count: int) -> range:
    """The numbers of the segments that are this host's, of so many or a few more."""
    hosts, host = jax.process_count(), jax.process_index()
    first, after = (-(-count * i // hosts) for i in (host, host + 1))
    return range(first, segments.ALL.stop if host + 1 == hosts else after)


def _meet(where: str) -> None:
    """Waits for all other hosts, if there are any."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def _restore(
    media: reader.Folder | reader.Video,
    info: reader.Info,
    model: nn.Module,
    variables: Any,
    settings: Settings,
    request: Request,
    work: segments.Work,
    coding: encoder.Coding | None,
) -> None:
    """Reads, restores and writes at the same time, into segments."""
    height, width = info.size
    leads = jax.process_index() == 0
    if not leads:  # the first host chooses
        _meet("it is known how frames are cut")
        if not work.exists:
            raise InputError(f"{work.folder} is not here: hosts need a disk that all of them see")
        work.resume()
    frames = Ahead(media.frames(request.span, say), _depth(height * width * 3))
    settings = dataclasses.replace(settings, **_chosen(work.chosen))
    alone = jax.process_count() == 1
    restorer = Stream(model, variables, frames, settings, whole=alone, say=say)
    settings = restorer.settings
    segment = request.segment
    if restorer.streams:
        segment = -(-segment // settings.chunk) * settings.chunk
    state = None
    if work.done and restorer.streams:
        state = work.state(restorer.like_state)
    if leads:
        work.chosen = {"chunk": settings.chunk, "tile": settings.tile}
        work.save()
        _meet("it is known how frames are cut")
    end = work.share.stop * segment
    restored = restorer.outputs(work.done, state, segment if restorer.streams else 0)
    ours = itertools.takewhile(lambda output: output.number < end, restored)
    outputs = Ahead(ours, _depth(height * width * 3 * model.scale**2))
    total = min(_total(info, request.span), end) - work.before
    begin, done = time.perf_counter(), work.done
    work.write(
        _pictures(counted(outputs, total, "frames", 5, done - work.before), request.compare),
        _open_part(coding, work.folder, request),
        segment,
    )
    seconds, count = time.perf_counter() - begin, work.done - done
    waited = (frames.starved + outputs.blocked) / seconds
    say(f"{count} frames in {seconds:.0f} s; the devices waited for {waited:.0%} of it")


def _finish(
    output: pathlib.Path,
    work: segments.Work,
    coding: encoder.Coding | None,
    copied: container.Copied,
    info: reader.Info,
) -> None:
    """Makes the output of the segments, and gives it its name."""
    whole = work.folder / f"whole{output.suffix}"
    with segments.explained(work.folder):
        if coding:
            container.write(
                whole, coding, copied, work.packets(), work.delay, work.times(), info.time_base
            )
        else:
            work.gather(whole)
        segments.replace(whole, output)
        work.remove()
    say(f"written: {output}")


def _pictures(outputs: Iterable[Output], kind: str) -> Iterator[tuple[int, np.ndarray, Any]]:
    """The time of each frame, what is written of it, and the network's state."""
    for output in outputs:
        picture = output.sr
        if kind:
            picture = compare.compare(kind, output.frame.pixels, output.sr)
        yield output.frame.time, picture, output.state


def _preview(
    media: reader.Folder | reader.Video,
    output: pathlib.Path,
    model: nn.Module,
    variables: Any,
    request: Request,
    settings: Settings,
    info: reader.Info,
) -> None:
    """Writes a frame as a PNG, restored among the few around it."""
    number = request.preview or 0
    first = max(number - AROUND, 0)
    frames = itertools.islice(media.frames(request.span, say), first, number + AROUND + 1)
    small = dataclasses.replace(settings, chunk=0, deep=False)
    for shown in Stream(model, variables, frames, small, say=say).outputs():
        if shown.number == number - first:
            path = output.with_name(f"{output.name}.preview.png")
            compare.preview(shown.frame.pixels, shown.sr, path)
            say(f"frame {number}: {path}")
            return
    raise InputError(f"--preview={number}: there is no such frame")


def _check_places(source: pathlib.Path, output: pathlib.Path, request: Request) -> None:
    """Raises InputError if the output cannot be where it is asked to be."""
    if output.exists() and not request.overwrite:
        raise InputError(f"{output} is there already: name another, or ask for --overwrite")
    if output.exists() and output.samefile(source):
        raise InputError(f"{output} is the input itself: name another output")
    if output.exists() and output.is_dir() == bool(output.suffix):
        kind = "folder" if output.is_dir() else "file"
        raise InputError(f"{output} is a {kind}: a video has a suffix, a folder of images none")
    if not output.parent.is_dir():
        raise InputError(f"there is no folder {output.parent} to write into")
    if not os.access(output.parent, os.W_OK):
        raise InputError(f"the folder {output.parent} cannot be written into")
    if request.compare not in ("", *compare.KINDS):
        raise InputError(f"--compare={request.compare} is none of {', '.join(compare.KINDS)}")
    unknown = [kind for kind in request.copy if kind not in COPIES]
    if unknown:
        raise InputError(f"--copy={','.join(unknown)}: there are {', '.join(COPIES)}")
    if request.span.end is not None and request.span.end <= request.span.start:
        raise InputError("--end must be later than --start")
    if request.images not in ("png", "jpg"):
        raise InputError(f"--images={request.images} is neither png nor jpg")


def _coding(
    output: pathlib.Path, info: reader.Info, scale: int, request: Request
) -> encoder.Coding:
    height, width = (side * scale for side in info.size)
    size = height, width * 2 if request.compare == "side" else width
    return encoder.choose(
        output, request.wish, size, info.rate, info.pixel_format, info.colour, info.aspect
    )


def _copied(media: reader.Folder | reader.Video, request: Request) -> container.Copied:
    path = media.path if isinstance(media, reader.Video) else None
    return container.Copied(path, request.span, tuple(COPIES[kind] for kind in request.copy))


def _asked(
    source: pathlib.Path,
    request: Request,
    settings: Settings,
    info: reader.Info,
    origin: dict[str, Any],
) -> dict[str, Any]:
    """What the frames of an output depend on."""
    status = source.stat()
    return {
        "input": str(source.resolve()),
        "size": info.size,
        "changed": status.st_mtime_ns,
        **{f"network.{key}": value for key, value in origin.items()},
        **{key: str(value) for key, value in dataclasses.asdict(settings).items()},
        **{key: str(value) for key, value in dataclasses.asdict(request.wish).items()},
        "start": str(request.span.start),
        "end": str(request.span.end),
        "images": request.images,
        "compare": request.compare,
        "segment": request.segment,
        "devices": jax.device_count(),
        "hosts": jax.process_count(),
    }


def _chosen(chosen: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it -> as Settings do."""
    return {key: tuple(value) if key == "tile" else value for key, value in chosen.items()}


def _open_part(
    coding: encoder.Coding | None, folder: pathlib.Path, request: Request
) -> Callable[[pathlib.Path], segments.Part]:
    """Opens segments of a video, or of a folder of images."""
    if coding:
        return lambda path: segments.PacketsPart(path, coding)
    suffix, height = f".{request.images}", request.wish.height
    return lambda path: segments.ImagesPart(folder, suffix, request.quality, height)


def _depth(size: int) -> int:
    """How many frames of some bytes wait between two stages."""
    return min(max(HELD // size, 2), 64)


def _total(info: reader.Info, span: Span) -> int:
    """Frames of a span, as far as is known."""
    last = info.length if span.end is None else min(math.ceil(span.end * info.rate), info.length)
    return max(last - math.ceil(span.start * info.rate), 0)
