"""Times a network with bucketed against dense gating, for given masks by keep ratio."""

import contextlib
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import gaussian_filter

from jaxvsr.console import compiling, counted
from jaxvsr.evaluation import pictures
from jaxvsr.layers.gating import MaskPredictor
from jaxvsr.layers.window_transformer import split_windows

Program = Callable[[jax.Array], Any]

# Pixels. At a keep ratio of 0.3, about 45 % of 8x8 windows hold a kept token, as in trained masks.
BLOB = 11.0


@dataclasses.dataclass(frozen=True)
class Row:
    """Measurements for masks of one kind and keep ratio.

    Attributes:
        kind: of KINDS.
        share: fraction of tokens kept.
        windows: fraction of windows that hold a kept token.
        wall, work: wall time and processor time, relative to dense gating.
        difference: ||gated - dense|| / ||dense|| of the outputs.
    """

    kind: str
    share: float
    windows: float
    wall: float
    work: float
    difference: float


def blobs(share: float, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Draws a mask that keeps round areas, similar to trained masks.

    Args:
        share: fraction of tokens kept, 0..1.
        height, width: of the frame.
        seed: of the random numbers.

    Returns:
        (height, width) float32 of zeros and ones.
    """
    noise = np.random.default_rng(seed).normal(size=(height, width))
    return _highest(gaussian_filter(noise, BLOB, mode="wrap"), share)


def scattered(share: float, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Draws a mask of independent random tokens; arguments as for `blobs`."""
    return _highest(np.random.default_rng(seed).random((height, width)), share)


KINDS: Mapping[str, Callable[..., np.ndarray]] = {"blobs": blobs, "scattered": scattered}


@contextlib.contextmanager
def forced_masks(mask: jax.Array) -> Iterator[None]:
    """Replaces the masks of all masked blocks by this mask (h, w)."""

    def intercept(call: Callable, args: Any, kwargs: Any, context: Any) -> Any:
        if not isinstance(context.module, MaskPredictor) or context.method_name != "decide":
            return call(*args, **kwargs)
        clips, each, tokens, _ = args[0].shape
        block: Any = context.module.parent
        windows = split_windows(
            mask[None, None, ..., None], window_size=block.window_size, shifted=block.shifted
        )
        return jnp.broadcast_to(windows[None], (clips, each, tokens, 1))

    with nn.intercept_methods(intercept):
        yield


def network(model: nn.Module, variables: Any, lq: jax.Array) -> tuple[Program, Program]:
    """Compiles a masked network for a clip (b, t, h, w, 3), with dense and bucketed gating."""

    def program(gating: str) -> Program:
        @jax.jit
        def upscale(variables: Any, lq: jax.Array, mask: jax.Array) -> Any:
            with forced_masks(mask):
                return model.clone(gating=gating).apply(variables, lq)

        mask = jax.ShapeDtypeStruct(lq.shape[2:4], jnp.float32)
        with compiling(f"the network with {gating} gating"):
            return functools.partial(upscale.lower(variables, lq, mask).compile(), variables, lq)

    return program("dense"), program("bucketed")


def compare(
    dense: Program,
    gated: Program,
    size: tuple[int, int],
    wanted: Sequence[tuple[str, float]],
    rounds: int,
) -> list[Row]:
    """Times a gated program after a dense one, for each mask in each round.

    Args:
        dense, gated: functions of a mask (h, w) that return arrays.
        size: (h, w).
        wanted: kinds of masks and keep ratios.
        rounds: number of rounds.

    Returns:
        A row for each of `wanted`; ratios are medians over the rounds.
    """
    masks = [jnp.asarray(KINDS[kind](share, *size)) for kind, share in wanted]
    ratios, difference = np.empty((rounds, len(masks), 2)), np.empty(len(masks))
    pairs = itertools.product(range(rounds), range(len(masks)))
    for round_index, index in counted(pairs, rounds * len(masks), "pairs of calls"):
        full, reference = _timed(dense, masks[index])
        spared, found = _timed(gated, masks[index])
        ratios[round_index, index] = spared / full
        difference[index] = _difference(found, reference)
    return [
        Row(kind, share, _windows(np.asarray(mask)), wall, work, error)
        for (kind, share), mask, (wall, work), error in zip(
            wanted, masks, np.median(ratios, axis=0), difference, strict=True
        )
    ]


def table(rows: Sequence[Row]) -> str:
    """Formats rows in Markdown."""
    lines = [
        "| masks | tokens kept | windows with a kept token | relative time | relative processor "
        "time | relative difference |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.kind} | {row.share:.0%} | {row.windows:.0%} | {row.wall:.2f} | {row.work:.2f} | "
        f"{row.difference:.0e} |"
        for row in rows
    ]
    return "\n".join(lines)


def chart(rows: Sequence[Row]) -> np.ndarray:
    """Plots the time relative to dense gating by keep ratio: (h, w, 3) uint8."""
    lines = {
        kind: sorted((row.share, row.wall) for row in rows if row.kind == kind)
        for kind in dict.fromkeys(row.kind for row in rows)
    }
    lines |= {"dense": [(0.0, 1.0), (1.0, 1.0)]}
    return pictures.chart(lines, "fraction of tokens kept", "time / dense")


def _timed(program: Program, mask: jax.Array) -> tuple[np.ndarray, Any]:
    """Returns wall and processor time of a call in seconds, and its result."""
    begin = np.array([time.perf_counter(), time.process_time()])
    result = jax.block_until_ready(program(mask))
    return [time.perf_counter(), time.process_time()] - begin, result


def _difference(a: Any, b: Any) -> float:
    """||a - b|| / ||b|| of the first arrays of two trees."""
    a, b = (np.asarray(jax.tree.leaves(tree)[0], np.float64) for tree in (a, b))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def _windows(mask: np.ndarray, side: int = 8) -> float:
    """Returns the fraction of windows with a kept token."""
    mask = np.pad(mask, [(0, -length % side) for length in mask.shape])
    h, w = (length // side for length in mask.shape)
    return float(mask.reshape(h, side, w, side).any((1, 3)).mean())


def _highest(values: np.ndarray, share: float) -> np.ndarray:
    rank = values.ravel().argsort().argsort().reshape(values.shape)
    return (rank >= round((1 - share) * values.size)).astype(np.float32)
