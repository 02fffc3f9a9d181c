"""Restores clips with a trained model: input rules, tiles, all devices of this host."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from jaxvsr.console import AnnouncedFunction
from jaxvsr.distributed.mesh import enough_memory, make_mesh, replicate_here, split_batch
from jaxvsr.distributed.spatial_sharding import by_rows
from jaxvsr.evaluation import tiles
from jaxvsr.layers.self_ensemble import self_ensemble
from jaxvsr.layers.sown import sown
from jaxvsr.models import network_input
from jaxvsr.pixels import to_integers

Restorer = Callable[[Any, jax.Array], tuple[jax.Array, jax.Array | None]]
Item = TypeVar("Item")

# Rules of `as_input`.
INPUTS = ("plain", "mirror", "repeat")


def make_restorer(model: nn.Module, space: int = 1, ensemble: bool = False) -> Restorer:
    """Makes a function that restores clips on the devices of this host, each device its own clips.

    Args:
        model: the network.
        space: number of devices that share each clip, by rows of its frames.
        ensemble: whether outputs are means over eight orientations of the input.

    Returns:
        A function of variables and lq (b, t, h, w, 3) uint8, or as `network_input` takes it. It
        returns sr (b, t, H, W, 3) float32, not clipped, and, for a model with masks, the fraction
        of blocks that computed each token (b, t, h, w). Shared frames end with padding rows.
    """
    mesh = make_mesh(jax.local_devices(), space)

    def restore(variables: Any, lq: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        def once(lq: jax.Array) -> list[jax.Array]:
            sr, state = model.apply(variables, lq, mutable="aux")
            masks = sown(state.get("aux", {}), "mask")  # each (t, b, h, w)
            return [sr, jnp.moveaxis(sum(masks) / len(masks), 0, 1)[..., None]] if masks else [sr]

        lq = network_input(model, lq)
        sr, *computed = self_ensemble(once, lq) if ensemble else once(lq)
        return sr, computed[0][..., 0] if computed else None

    def describe(variables: Any, lq: jax.Array) -> str:
        clips, frames, height, width, _ = lq.shape
        count = f"{clips} clips" if clips > 1 else "a clip"
        return f"the network for {count} of {frames} frames of {height}x{width}"

    if space > 1:
        return AnnouncedFunction(jax.jit(by_rows(restore, mesh)), describe)
    # shard_map, not automatic partitioning: the length of loops over kept tokens differs by clip.
    clips = PartitionSpec("data")
    specs = PartitionSpec(), clips
    mapped = jax.shard_map(restore, mesh=mesh, in_specs=specs, out_specs=clips, check_vma=False)
    return AnnouncedFunction(jax.jit(mapped), describe)


def as_input(lq: np.ndarray, rule: str) -> np.ndarray:
    """Makes the input of a network from a clip.

    Args:
        lq: (t, h, w, 3).
        rule: "plain": the clip; "mirror": the clip and its reverse, whose outputs are averaged
            (BasicVSR and RVRT on Vimeo-90K); "repeat": the clip with its last frame repeated (VRT
            on Vimeo-90K).

    Returns:
        (t', h, w, 3).

    Raises:
        ValueError: unknown rule.
    """
    match rule:
        case "mirror":
            return np.concatenate([lq, lq[::-1]])
        case "repeat":
            return np.concatenate([lq, lq[-1:]])
        case "plain":
            return lq
    raise ValueError(f"unknown input rule {rule!r}; expected one of: {', '.join(INPUTS)}")


def as_output(sr: Any, rule: str) -> Any:
    """Converts the output for `as_input` to one output per frame of the clip.

    Args:
        sr: (..., t', h, w, c) of NumPy or JAX.
        rule: of `as_input`.

    Returns:
        (..., t, h, w, c).
    """
    match rule:
        case "mirror":
            length = sr.shape[-4] // 2
            return (sr[..., :length, :, :, :] + sr[..., : -length - 1 : -1, :, :, :]) / 2
        case "repeat":
            return sr[..., :-1, :, :, :]
    return sr


def restore_clips(
    restore: Restorer,
    variables: Any,
    clips: Iterable[tuple[np.ndarray, Item]],
    *,
    rule: str = "plain",
    rounded: bool = True,
    tile: tiles.Triple = (0, 0, 0),
    overlap: tiles.Triple = (0, 0, 0),
    multiple: tiles.Triple = (1, 1, 1),
    space: int = 1,
    done: Callable[[float], None] = lambda fraction: None,
) -> Iterator[tuple[Item, np.ndarray, np.ndarray | None]]:
    """Restores clips, or tiles of clips, one per device of this host at a time.

    Args:
        restore: of `make_restorer`.
        variables: of the model, replicated.
        clips: pairs of lq (t, h, w, 3) uint8, or as `network_input` takes it, and any item.
        rule: of `as_input`.
        rounded: whether outputs are rounded to 8 bits.
        tile: frames, height and width of a tile, in input pixels; 0: all.
        overlap: of neighboring tiles, likewise.
        multiple: axes without tiles are padded to multiples of these by mirroring at the end; the
            output is cropped.
        space: as in `make_restorer`.
        done: called with the fraction of a clip's tiles that are restored.

    Yields:
        For each clip: its item, sr (t, H, W, 3) uint8, or float32 if not rounded, and the fraction
        of blocks that computed each token (t, h, w), or None.

    Raises:
        InputError: a device's memory is too small for a clip or a tile.
    """
    mesh = make_mesh(jax.local_devices(), space)
    at_once = mesh.shape["data"]
    variables = replicate_here(variables, mesh)
    whole = [1 if side else n for side, n in zip(tile, multiple, strict=True)]

    def restore_together(lq: list[np.ndarray], finish: Callable = list) -> list[np.ndarray]:
        # Devices without a clip repeat the last one.
        whole = np.stack(lq + lq[-1:] * (at_once - len(lq)))
        advice = "let more devices share each frame (eval.space), or restore smaller tiles than"
        with enough_memory(f"{advice} {whole.shape[1:4]}: eval.tile"):
            sr, computed = restore(variables, jax.device_put(whole, split_batch(mesh)))
            outputs = [sr] if computed is None else [sr, computed[..., None]]
            outputs = jax.device_get(finish(outputs))
        return [tiles.crop_ends(x, whole.shape[1:], whole.shape[1:]) for x in outputs]

    if any(tile):
        for lq, item in clips:
            given = as_input(lq, rule)
            padded = tiles.mirror_ends(given, whole)
            outputs = tiles.by_tiles(restore_together, padded, tile, overlap, at_once, done)
            outputs = [tiles.crop_ends(x, padded.shape, given.shape) for x in outputs]
            sr, *computed = (as_output(output, rule) for output in outputs)
            sr = to_integers(sr) if rounded else sr
            yield item, sr, computed[0][..., 0] if computed else None
        return
    for _, alike in itertools.groupby(clips, key=lambda clip: clip[0].shape):
        while group := list(itertools.islice(alike, at_once)):
            inputs = [as_input(lq, rule) for lq, _ in group]
            mirrored = [tiles.mirror_ends(lq, whole) for lq in inputs]
            finish = functools.partial(_finish, rule=rule, length=len(inputs[0]), rounded=rounded)
            outputs = restore_together(mirrored, finish)
            for i, (_, item) in enumerate(group):
                shapes = mirrored[i].shape, inputs[i].shape
                sr, *computed = (tiles.crop_ends(x[i], *shapes) for x in outputs)
                yield item, sr, computed[0][..., 0] if computed else None


@functools.partial(jax.jit, static_argnames=("rule", "length", "rounded"))
def _finish(outputs: list[jax.Array], rule: str, length: int, rounded: bool) -> list[jax.Array]:
    """Crops the outputs to `length` frames and rounds sr before it goes to the host."""
    sr, *computed = (as_output(x[:, :length], rule) for x in outputs)
    return [to_integers(sr) if rounded else sr, *computed]
