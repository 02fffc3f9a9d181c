"""Where masks keep tokens, by the true motion, and the time that they save."""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jaxvsr.console import work_seconds
from jaxvsr.data.sources import ClipSource
from jaxvsr.distributed.mesh import make_mesh, replicate_here
from jaxvsr.evaluation.markdown import markdown, save_report
from jaxvsr.evaluation.mask_pictures import masks_by_block
from jaxvsr.evaluation.protocol import scorers
from jaxvsr.pixels import to_integers

STILL = 0.05  # low-resolution pixels per frame: less motion counts as none
ROUNDS = 3  # timed calls of each program per clip; the fastest counts
EXTREME = 0.02  # a block that keeps less than this, or drops less than this, does not choose


@dataclasses.dataclass(frozen=True)
class Kept:
    """Tokens that masks keep in clips of one kind, and time and quality with and without masks.

    Attributes:
        kind: of the clips.
        still, moving: fraction of tokens kept in still and in other areas; None without such areas.
        time: of gated over unmasked computation, whole network; processor time on a CPU.
        psnr, psnr_unmasked: in dB, mean over the clips.
    """

    kind: str
    still: float | None
    moving: float | None
    time: float
    psnr: float
    psnr_unmasked: float


@dataclasses.dataclass(frozen=True)
class MaskReport:
    """Measurements of a masked network.

    Attributes:
        rows: by kind of clip.
        blocks: "branch/group/block" -> fraction of tokens kept, mean over the clips.
    """

    rows: Sequence[Kept]
    blocks: Mapping[str, float]

    @property
    def extreme(self) -> float:
        """Fraction of blocks that keep almost all or almost no tokens."""
        return float(np.mean([not EXTREME <= x <= 1 - EXTREME for x in self.blocks.values()]))

    def table(self) -> str:
        """Formats the measurements in Markdown."""
        heads = ["clips", "kept: still", "moving", "time / unmasked", "PSNR (dB)", "unmasked"]
        rows = [
            [
                row.kind,
                *("-" if x is None else f"{x:.0%}" for x in (row.still, row.moving)),
                f"{row.time:.2f}",
                *(f"{x:.2f}" for x in (row.psnr, row.psnr_unmasked)),
            ]
            for row in self.rows
        ]
        low, high = min(self.blocks.values()), max(self.blocks.values())
        return (
            f"Masks: tokens kept in still and moving areas, gated over unmasked computation\n"
            f"{markdown(heads, rows)}\n"
            f"{len(self.blocks)} blocks keep {low:.0%} to {high:.0%} of all tokens"
        )

    def save(self, path: pathlib.Path) -> pathlib.Path:
        """Writes <path>.md and <path>.json, and returns the path."""
        facts = {**dataclasses.asdict(self), "extreme_blocks": self.extreme}
        return save_report(path, self.table(), facts)


def whole_clips(protocol: ml_collections.ConfigDict) -> bool:
    """Whether a protocol restores whole clips as they are, which `measure` needs."""
    changed = protocol.gt_frames or protocol.degradation or protocol.noise
    plain = protocol.input == "plain" and not changed
    return plain and not any(protocol.tile) and protocol.space == 1


def still_area(flow: Mapping[str, np.ndarray], direction: str) -> np.ndarray:
    """Finds pixels that show the same surface at the same place as in the frame before.

    Args:
        flow: of `ClipSource.read_flow`.
        direction: of a branch: "forward" compares with the previous frame, "backward" with the
            next one.

    Returns:
        (t, h, w) bool; False in a branch's first frame.
    """
    motion = np.abs(flow[f"flow_{direction}"]).max(-1)
    return (motion < STILL) & (flow[f"visible_{direction}"] > 0)


def measure(
    model: nn.Module, source: ClipSource, protocol: ml_collections.ConfigDict, variables: Any
) -> MaskReport:
    """Measures a masked network on clips with true flow, on one device.

    Args:
        model: with masks.
        source: of the clips.
        protocol: the `eval` section of a config.
        variables: of the model.
    """
    masked = functools.partial(_masked, model.clone(gating="bucketed"))
    unmasked = functools.partial(_unmasked, model.clone(use_mask=False, gating="dense"))
    programs = [jax.jit(masked), jax.jit(unmasked)]
    psnr, scored = scorers(protocol)["psnr"], list(protocol.frames) or slice(None)
    variables = replicate_here(variables, make_mesh(jax.local_devices()[:1]))
    counts: dict[str, Any] = collections.defaultdict(lambda: np.zeros((2, 2)))
    figures, blocks = collections.defaultdict(list), collections.defaultdict(list)
    for i in range(protocol.clips or len(source.clips))[: len(source.clips)]:
        clip = source.clips[i]
        frames, flow = source.read(i, range(clip.length)), source.read_flow(i)
        lq = jax.device_put(frames["lq"])
        outputs, seconds = _timed(programs, variables, lq)
        (sr, masks), sr_unmasked = outputs
        scores = [psnr(x[scored], frames["gt"][scored]).mean() for x in (sr, sr_unmasked)]
        figures[clip.kind].append([*seconds, *scores])
        for name, mask in masks.items():
            direction = name.partition("_")[0]
            # A branch's first frame is computed whole and says nothing about the masks.
            rest = slice(1, None) if direction == "forward" else slice(None, -1)
            kept, still = mask[rest], still_area(flow, direction)[rest]
            counts[clip.kind] += [[(kept & area).sum(), area.sum()] for area in (still, ~still)]
            blocks[name].append(kept.mean())
    rows = []
    for kind, table in figures.items():
        gated, dense, masked_psnr, unmasked_psnr = np.array(table).T
        of_still, of_moving = (float(kept / of) if of else None for kept, of in counts[kind])
        rows.append(
            Kept(
                kind=kind,
                still=of_still,
                moving=of_moving,
                time=float(gated.sum() / dense.sum()),
                psnr=float(masked_psnr.mean()),
                psnr_unmasked=float(unmasked_psnr.mean()),
            )
        )
    return MaskReport(rows, {name: float(np.mean(kept)) for name, kept in blocks.items()})


def _masked(model: nn.Module, variables: Any, lq: jax.Array) -> tuple[jax.Array, Any]:
    sr, state = model.apply(variables, lq.astype(jnp.float32)[None] / 255, mutable="aux")
    return to_integers(sr[0]), masks_by_block(state.get("aux", {}))


def _unmasked(model: nn.Module, variables: Any, lq: jax.Array) -> jax.Array:
    return to_integers(model.apply(variables, lq.astype(jnp.float32)[None] / 255)[0])


def _timed(programs: Sequence[Any], *args: Any) -> tuple[list[Any], list[float]]:
    """Calls compiled functions alternately.

    Returns:
        Their outputs, on the host, and the shortest time of each in seconds.
    """
    outputs = [jax.device_get(program(*args)) for program in programs]  # compiles
    seconds = np.empty((ROUNDS, len(programs)))
    for entry in np.ndindex(*seconds.shape):
        begin = work_seconds()
        jax.block_until_ready(programs[entry[1]](*args))
        seconds[entry] = work_seconds() - begin
    return outputs, seconds.min(0).tolist()
