"""Parts of a data set: some of its clips, as a data set with a name of its own.

The first eight clips of "reds/sharp_bicubic" are the data set "reds/sharp_bicubic-first8"; clips
000 and 011 are "reds/sharp_bicubic-000+011". `info.metadata["part"]` names the whole and counts the
clips of its splits.
"""

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Container, Mapping, Sequence
from typing import Any, TypeVar

import tensorflow_datasets as tfds

from jaxvsr.errors import InputError

Clips = int | Sequence[str]  # the first n, or these; (): all
Lists = Mapping[str, Sequence[str]]

REDS4 = ("000", "011", "015", "020")  # the training clips of REDS that papers test on
BY_HAND = ("reds", "vimeo90k", "test_sets")  # data sets that must be downloaded by hand
MAX_LABEL = 60  # characters of clip names in the name of a part


# TFDS's config class is not frozen, and a frozen class cannot extend it.
@dataclasses.dataclass(eq=False, kw_only=True)
class PartConfig(tfds.core.BuilderConfig):
    """A config whose data set may be built in part.

    Attributes:
        clips: the first n, or the names of these; (): all.
        whole: name of the config with all clips, if this is one of a part.
    """

    clips: Clips = ()
    whole: str = ""

    def __post_init__(self):
        if bool(self.clips) != bool(self.whole):
            raise ValueError("choose clips by --clips, which names the data set after them")


Config = TypeVar("Config", bound=PartConfig)


def part_of(config: Config, clips: Clips) -> Config:
    """Returns the config of a part, named after its clips."""
    changes: dict[str, Any] = {"name": f"{config.name}-{_label(clips)}"}  # unknown to mypy
    return dataclasses.replace(config, clips=clips, whole=config.name, **changes)


def _label(clips: Clips) -> str:
    if isinstance(clips, int):
        return f"first{clips}"
    label = "+".join(clips)
    if len(label) <= MAX_LABEL and all(re.fullmatch(r"\w+", name) for name in clips):
        return label
    digest = hashlib.sha256("\n".join(clips).encode()).hexdigest()
    return f"{len(clips)}clips.{digest[:8]}"


def parse_clips(text: str) -> Clips:
    """Parses "8", the first eight clips, or "000,011", these clips ("240,": only clip 240).

    Raises:
        InputError: it is neither, or no clip.
    """
    if re.fullmatch(r"[1-9][0-9]{0,8}", text.strip()):
        return int(text)
    names = list(dict.fromkeys(filter(None, (name.strip() for name in text.split(",")))))
    if not names or text.strip() == "0":
        raise InputError(
            f"--clips must be names of clips, such as 000,011, or a number of clips; got {text!r}"
        )
    return tuple(sorted(names))


def flag_of(name: str) -> tuple[str, str]:
    """Splits the name of a part's config into that of the whole and the value of --clips.

    Returns:
        ("sharp_bicubic", "8") of "sharp_bicubic-first8"; for any other name, the name and "".
        Where the name does not hold the clips' names, --clips is "...".
    """
    whole, _, label = name.rpartition("-")
    if not whole:
        return name, ""
    if match := re.fullmatch(r"first(\d+)", label):
        return whole, match[1]
    if re.fullmatch(r"\d+clips\.[0-9a-f]{8}", label):
        return whole, "..."
    names = label.replace("+", ",")
    return whole, names if "," in names else f"{names},"


def command_for(dataset: str, data_dir: str = "") -> str:
    """Returns the command line that prepares a data set, "name" or "name/config"."""
    name, _, config = dataset.partition("/")
    words = dataset
    if name == "frames":
        where = '"gt": "/folder/of/your/clips", "val": ["one_of_them"]'
        fields = f'{{"name": "{config or "mine"}", {where}}}'
        words = f"frames --config='{fields}'"
    elif name in BY_HAND:
        whole, clips = flag_of(config)
        words = f"{name}/{whole} --clips={clips}" if clips else dataset
        words += " --manual_dir=/where/you/downloaded/it/to"
    return f"jaxvsr data {words}" + (f" --data_dir={data_dir}" if data_dir else "")


def select(lists: Lists, clips: Clips, *, of_each: bool = True) -> dict[str, list[str]]:
    """Selects clips.

    Args:
        lists: of all clips: {split: names}.
        clips: the first n, or names; (): all.
        of_each: whether the first n are those of each list, rather than of all lists in their
            order.

    Returns:
        The lists of the selected clips, in the same order, without those that are empty.

    Raises:
        InputError: there is no such clip, or there are not more clips than that.
    """
    names = list(itertools.chain(*lists.values()))
    if isinstance(clips, int):
        most = max(map(len, lists.values())) if of_each else len(names)
        if clips >= most:
            raise InputError(f"--clips={clips}: there are {most} clips; leave out --clips for all")
        first = set(names[:clips])
        chosen = {
            split: list(some[:clips]) if of_each else [name for name in some if name in first]
            for split, some in lists.items()
        }
    else:
        wanted = set(clips or names)
        if unknown := sorted(wanted.difference(names)):
            raise InputError(
                f"--clips: there is no clip {unknown[0]!r}; clips have names from "
                f"{min(names)!r} to {max(names)!r}"
            )
        chosen = {split: [name for name in some if name in wanted] for split, some in lists.items()}
    return {split: some for split, some in chosen.items() if some}


def narrow(
    views: Mapping[str, Lists], stored: Mapping[str, Container[str]]
) -> dict[str, dict[str, list[str]]]:
    """Leaves clips that are not stored out of views, and views without clips.

    Args:
        views: splits that are lists of clips of other splits: {view: {split: names}}.
        stored: the clips of those splits.
    """
    narrowed = {
        view: {
            split: found
            for split, names in lists.items()
            if (found := [name for name in names if name in stored.get(split, ())])
        }
        for view, lists in views.items()
    }
    return {view: lists for view, lists in narrowed.items() if lists}
