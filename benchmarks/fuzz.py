"""Opens damaged files of every kind: each must be read, or refused in one line.

    python -m benchmarks.fuzz --count=500 --out=benchmarks/results/fuzz.md

Images, videos, weights, configs, checkpoints of runs and data sets are damaged by seeded mutations
(flipped, inserted, deleted, repeated and zeroed bytes, truncation, huge numbers) and read by the
functions behind the commands. A traceback, the end of the process or more than a minute counts as
a fault.
"""

import collections
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import jax
import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from benchmarks.common import forked, machine, make_parser
from jaxvsr import prepare
from jaxvsr.config import differences, load_config, save_config
from jaxvsr.data.sources import TFDSClips
from jaxvsr.errors import InputError
from jaxvsr.evaluation.markdown import markdown
from jaxvsr.preflight import create_model
from jaxvsr.shipped import folder as shipped_folder
from jaxvsr.training.checkpoints import Checkpoints, load_best
from jaxvsr.training.state import initial_weights
from jaxvsr.video.reading import TimeRange, open_source
from jaxvsr.weights.files import read

LIMIT = 60  # seconds
HUGE = (b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x00" * 4, b"\xff\xff\xff\x7f", b"\x80\x00\x00\x00")


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
        name: in the plural.
        make: writes whole inputs into a folder.
        victims: pattern of the files that are damaged, one at a time.
        open: reads the input that a damaged file belongs to.
    """

    name: str
    make: Callable[[pathlib.Path], object]
    victims: str
    open: Callable[[pathlib.Path, pathlib.Path], object]


def damage(data: bytes, rng: random.Random) -> bytes:
    """Applies one to three mutations to the bytes of a file."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(found) + 1)
        if rng.random() < 0.4:  # headers are short, and matter most
            start = min(start, rng.randrange(64))
        end = start + rng.choice((1, 4, 16, 256))
        match rng.choice(("flip", "insert", "delete", "repeat", "zero", "truncate", "huge")):
            case "flip" if start < len(found):
                found[start] ^= 1 << rng.randrange(8)
            case "insert":
                found[start:start] = rng.randbytes(end - start)
            case "delete":
                del found[start:end]
            case "repeat":
                found[start:start] = found[start:end]
            case "zero":
                found[start:end] = bytes(len(found[start:end]))
            case "truncate":
                del found[start:]
            case "huge":
                found[start : start + 4] = rng.choice(HUGE)
    return bytes(found)


def make_images(folder: pathlib.Path) -> None:
    """Images of each format, of 8 and 16 bits."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 4), np.uint8)
    for suffix in ("png", "tif", "webp"):
        Image.fromarray(pixels).save(folder / f"alpha.{suffix}")
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("jpg", "bmp", "png"):
        Image.fromarray(pixels[..., :3]).save(folder / f"a.{suffix}", exif=exif)
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(folder / "grey16.png")


def make_videos(folder: pathlib.Path) -> None:
    """Videos of four containers with sound."""
    codecs = {"mkv": "ffv1", "mp4": "libx264", "avi": "mpeg4", "ts": "libx264"}
    for suffix, codec in codecs.items():
        with av.open(folder / f"a.{suffix}", "w") as container:
            video: Any = container.add_stream(codec, rate=25)
            video.height, video.width = 32, 48
            video.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
            audio: Any = container.add_stream(
                "aac" if suffix != "avi" else "libmp3lame", rate=44100
            )
            for i in range(8):
                pixels = np.full((32, 48, 3), 30 * i, np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                container.mux(video.encode(frame.reformat(format=video.pix_fmt)))
                sound = np.zeros((2, 1764), np.float32)
                piece = av.AudioFrame.from_ndarray(sound, format="fltp", layout="stereo")
                piece.sample_rate, piece.pts, piece.time_base = 44100, i * 1764, Fraction(1, 44100)
                container.mux(audio.encode(piece))
            container.mux([*video.encode(), *audio.encode()])


def make_weights(folder: pathlib.Path) -> None:
    """Weights of two tensors."""
    tensors: dict[str, Any] = {
        "conv.weight": np.ones((4, 3, 3, 3), np.float32),
        "conv.bias": np.ones(4, np.float32),
    }
    np.savez(folder / "a.npz", **tensors)
    np.savez_compressed(folder / "b.npz", **tensors)
    save_file(tensors, folder / "a.safetensors")


def make_configs(folder: pathlib.Path) -> None:
    """A config file, and the config and numbers of a run."""
    shutil.copy(shipped_folder("configs") / "swrn.py", folder / "own.py")
    save_config(load_config("swrn:tiny"), folder)


def make_run(folder: pathlib.Path) -> None:
    """A run with one checkpoint."""
    config = load_config("swrn:tiny")
    save_config(config, folder)
    init = functools.partial(initial_weights, create_model(config), ema=False)
    with contextlib.closing(Checkpoints(folder)) as checkpoints:
        checkpoints.save_weights(jax.jit(init)(jax.random.key(0)))


def make_data(folder: pathlib.Path) -> None:
    """The smallest embedded data set."""
    prepare.prepare("dead_leaves/test", data_dir=str(folder))


def open_media(folder: pathlib.Path, victim: pathlib.Path) -> None:
    """Reads all frames of a video, or an image."""
    del folder
    media = open_source(victim)
    media.info()
    for _ in media.frames(TimeRange(), lambda line: None):
        pass


def open_config(folder: pathlib.Path, victim: pathlib.Path) -> None:
    """Reads a config file, or compares a run's config."""
    if victim.suffix == ".py":
        load_config(f"{victim}:tiny")
    else:
        differences(load_config("swrn:tiny"), folder)


def open_run(folder: pathlib.Path, victim: pathlib.Path) -> None:
    """Loads the best checkpoint."""
    del victim
    config = load_config("swrn:tiny")
    load_best(config, create_model(config), folder)


def open_data(folder: pathlib.Path, victim: pathlib.Path) -> None:
    """Reads the first frame of each clip."""
    del victim
    source = TFDSClips("dead_leaves/test", "train", str(folder))
    for i in range(len(source.clips)):
        source.read(i, [0])


KINDS = (
    Kind("images", make_images, "*", open_media),
    Kind("videos", make_videos, "*", open_media),
    Kind("weights", make_weights, "*", lambda folder, victim: read(victim)),
    Kind("configs", make_configs, "*", open_config),
    Kind("checkpoints", make_run, "checkpoints/**/*", open_run),
    Kind("data sets", make_data, "**/*", open_data),
)


def attempt(kind: Kind, base: pathlib.Path, work: pathlib.Path, seed: int) -> str:
    """Damages one file and opens it.

    Args:
        kind: of the input.
        base: folder of `kind.make`, which stays as it is.
        work: folder for the damaged copy.
        seed: of the damage.

    Returns:
        "read", "refused", or the error that would have been a traceback.
    """
    rng = random.Random(f"{kind.name} {seed}")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(base, work)
    files = sorted(path for path in work.glob(kind.victims) if path.is_file())
    victim = rng.choice(files)
    victim.write_bytes(damage(victim.read_bytes(), rng))
    try:
        kind.open(work, victim)
    except InputError as error:
        return "refused" if str(error).count("\n") < 12 else f"a message of many lines: {error}"
    except OSError as error:  # one line on the command line
        return "refused" if error.strerror else f"{victim.name}: {error!r}"
    except Exception as error:
        return f"{victim.name}: {error!r}"
    return "read"


def fuzz(kind: Kind, seeds: range, folder: pathlib.Path) -> list[tuple[int, str]]:
    """Makes attempts in forked processes, so that a fault ends none but its own.

    Returns:
        (seed, result of `attempt`, or what ended the process).
    """
    base, work, results = folder / "base", folder / "work", folder / "results"
    base.mkdir(parents=True)
    forked(lambda: kind.make(base), folder / "make.log")
    found: list[tuple[int, str]] = []
    while len(found) < len(seeds):
        left = seeds[len(found) :]
        results.write_text("")

        def hangs(process: int) -> bool:  # the file is written after each attempt
            return time.time() - results.stat().st_mtime > LIMIT

        def work_through(left: range = left) -> None:
            for seed in left:
                line = json.dumps([seed, attempt(kind, base, work, seed)])
                with results.open("a") as file:
                    file.write(line + "\n")

        code = forked(work_through, folder / "log", hangs)
        found += [tuple(json.loads(line)) for line in results.read_text().splitlines()]
        if len(found) < len(seeds):
            end = "took more than a minute" if code == -signal.SIGKILL else f"exit code {code}"
            found.append((seeds[len(found)], end))
    return found


def main() -> None:
    """Damages and opens inputs of every kind, and prints a table."""
    parser = make_parser("fuzz", __doc__)
    parser.add_argument("--count", type=int, default=500, help="damaged inputs, all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a kind")
    parser.add_argument("--out", type=pathlib.Path, help="Markdown file to write")
    args = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    kinds = [kind for kind in KINDS if args.only in ("", kind.name)]
    each = -(-args.count // len(kinds))
    rows = []
    with tempfile.TemporaryDirectory(prefix="fuzz") as scratch:
        for kind in kinds:
            place = pathlib.Path(scratch) / kind.name
            place.mkdir()
            results = fuzz(kind, range(args.seed, args.seed + each), place)
            counts = collections.Counter(result for _, result in results)
            faults = [
                (seed, result) for seed, result in results if result not in ("read", "refused")
            ]
            for seed, result in faults:
                print(f"{kind.name} {seed}: {result[:600]}")
            rows.append([kind.name, str(each), *(str(counts[x]) for x in ("read", "refused"))])
            rows[-1].append(str(len(faults)))
            print(rows[-1], flush=True)
    heads = ["", "damaged", "read", "refused in one line", "faults"]
    rows.append(["all", *(str(sum(int(row[i]) for row in rows)) for i in range(1, 5))])
    text = (
        "# Damaged files\n\n"
        f"    python -m benchmarks.fuzz --count={args.count} --seed={args.seed}\n\n"
        f"{(__doc__ or '').split(chr(10) * 2, 3)[2]}\n\n{markdown(heads, rows)}\n\n{machine()}\n"
    )
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
