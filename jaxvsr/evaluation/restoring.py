"""A trained model over clips: how a clip becomes its input, tiles, all devices of this host."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from jaxvsr.console import announce_compiling
from jaxvsr.distributed.mesh import enough_memory, make_mesh, replicate_here, split_batch
from jaxvsr.distributed.spatial_sharding import by_rows
from jaxvsr.evaluation import tiles
from jaxvsr.layers.sown import sown
from jaxvsr.models import network_input
from jaxvsr.pixels import to_integers

Restorer = Callable[[Any, jax.Array], tuple[jax.Array, jax.Array | None]]
Item = TypeVar("Item")

# How a clip becomes what the network sees, by the name of the rule.
INPUTS = ("plain", "mirror", "repeat")


def make_restorer(model: nn.Module, space: int = 1) -> Restorer:
    """Compiles a model for inference on this host's devices, each of which restores its own clips.

    Args:
        model: the network.
        space: how many devices share each clip, each of which holds some of the frames' rows.

    Returns:
        A function of variables and lq (b, t, h, w, 3) uint8, or as `network_input` takes it. It
        returns sr (b, t, H, W, 3) float32, not clipped, and, for a model with masks, the fraction
        of blocks that computed each token (b, t, h, w). Shared frames end with padding rows.
    """
    mesh = make_mesh(jax.local_devices(), space)

    def restore(variables: Any, lq: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        sr, state = model.apply(variables, network_input(model, lq), mutable="aux")
        masks = sown(state.get("aux", {}), "mask")  # each (t, b, h, w)
        computed = jnp.moveaxis(sum(masks) / len(masks), 0, 1) if masks else None
        return sr, computed

    def describe(variables: Any, lq: jax.Array) -> str:
        clips, frames, height, width, _ = lq.shape
        count = f"{clips} clips" if clips > 1 else "a clip"
        return f"the network for {count} of {frames} frames of {height}x{width}"

    if space > 1:
        return announce_compiling(jax.jit(by_rows(restore, mesh)), describe)
    # shard_map, not automatic partitioning: the length of loops over kept tokens differs by clip.
    clips = PartitionSpec("data")
    specs = PartitionSpec(), clips
    mapped = jax.shard_map(restore, mesh=mesh, in_specs=specs, out_specs=clips, check_vma=False)
    return announce_compiling(jax.jit(mapped), describe)


def as_input(lq: np.ndarray, rule: str) -> np.ndarray:
    """What a network is given for a clip.

    Args:
        lq: (t, h, w, 3).
        rule: "plain", the clip; "mirror", the clip and its reverse, whose outputs are averaged
            (BasicVSR and RVRT on Vimeo-90K); "repeat", the last frame once more (VRT there).

    Returns:
        (t', h, w, 3).
    """
    match rule:
        case "mirror":
            return np.concatenate([lq, lq[::-1]])
        case "repeat":
            return np.concatenate([lq, lq[-1:]])
    return lq


def as_output(sr: Any, rule: str) -> Any:
    """What a network's output (..., t', h, w, c) says of the clip's own t frames; see `as_input`.

    Args:
        sr: of NumPy or JAX.
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
    tile: tiles.Triple = (0, 0, 0),
    overlap: tiles.Triple = (0, 0, 0),
    multiple: tiles.Triple = (1, 1, 1),
    space: int = 1,
) -> Iterator[tuple[Item, np.ndarray, np.ndarray | None]]:
    """Restores clips, or a clip's tiles, as many at once as this host's devices can.

    Args:
        restore: of `make_restorer`.
        variables: of the model, replicated.
        clips: lq (t, h, w, 3) uint8, or as `network_input` takes it, and an item to pass through.
        rule: of `as_input`.
        tile: frames, height and width of what is restored at once, in input pixels; 0: all.
        overlap: of neighbouring tiles, likewise.
        multiple: clips are mirrored at the end of each axis that is not tiled, to multiples of
            these; what comes out is cropped.
        space: as `make_restorer`'s.

    Yields:
        Of each clip: what came with it, sr (t, H, W, 3) uint8, and the share of blocks that
        computed each token (t, h, w), or None.

    Raises:
        InputError: a device's memory is too small for a clip, or a tile.
    """
    if rule not in INPUTS:
        raise ValueError(f"unknown input rule {rule!r}; expected one of: {', '.join(INPUTS)}")
    mesh = make_mesh(jax.local_devices(), space)
    at_once = mesh.shape["data"]
    variables = replicate_here(variables, mesh)
    whole = [1 if side else n for side, n in zip(tile, multiple, strict=True)]

    def run(lq: list[np.ndarray], finish: Callable = list) -> list[np.ndarray]:
        # Devices that are left without a clip do the last one again.
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
            outputs = tiles.by_tiles(run, padded, tile, overlap, at_once)
            outputs = [tiles.crop_ends(x, padded.shape, given.shape) for x in outputs]
            sr, *computed = (as_output(output, rule) for output in outputs)
            yield item, to_integers(sr), computed[0][..., 0] if computed else None
        return
    for _, alike in itertools.groupby(clips, key=lambda clip: clip[0].shape):
        while group := list(itertools.islice(alike, at_once)):
            inputs = [as_input(lq, rule) for lq, _ in group]
            mirrored = [tiles.mirror_ends(lq, whole) for lq in inputs]
            finish = functools.partial(_finish, rule=rule, length=len(inputs[0]))
            outputs = run(mirrored, finish)
            for i, (_, item) in enumerate(group):
                shapes = mirrored[i].shape, inputs[i].shape
                sr, *computed = (tiles.crop_ends(x[i], *shapes) for x in outputs)
                yield item, sr, computed[0][..., 0] if computed else None


@functools.partial(jax.jit, static_argnames=("rule", "length"))
def _finish(outputs: list[jax.Array], rule: str, length: int) -> list[jax.Array]:
    """What is sent to the host, of so many frames: sr in 8 bits, a fourth of what float32 takes."""
    sr, *computed = (as_output(x[:, :length], rule) for x in outputs)
    return [to_integers(sr), *computed]
