"""Pictures and a video of the tokens that the blocks of a masked network compute."""

import collections
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvsr.evaluation import pictures

WIDTH = 3840  # largest width of a row of panels, pixels
NARROW = 160  # smallest width of a panel that fits a row, pixels
WIDE = 640  # smallest width of a panel of the video, pixels


def masks_of(model: nn.Module, variables: Any, lq: np.ndarray) -> dict[str, np.ndarray]:
    """Computes the masks of each block of a network.

    Args:
        model, variables: the network.
        lq: a clip (t, h, w, 3) uint8.

    Returns:
        "branch/group/block" -> (t, h, w) bool, True for computed tokens; {} without masks.
    """

    @jax.jit
    def compute(variables: Any, lq: jax.Array) -> dict[str, jax.Array]:
        lq = lq.astype(jnp.float32)[None] / 255
        return masks_by_block(model.apply(variables, lq, mutable="aux")[1].get("aux", {}))

    if not jax.eval_shape(compute, variables, lq):
        return {}
    return jax.device_get(compute(variables, lq))


def masks_by_block(aux: Any) -> dict[str, jax.Array]:
    """The masks of the first clip in the collection "aux": "branch/group/block" -> (t, h, w)."""
    return {
        "/".join(key.key for key in path if hasattr(key, "key")).removesuffix("/mask"): leaf[:, 0]
        > 0
        for path, leaf in jax.tree_util.tree_leaves_with_path(aux)
        if any(getattr(key, "key", None) == "mask" for key in path)
    }


def draw_blocks(
    masks: Mapping[str, np.ndarray], lq: np.ndarray, t: int, moving: np.ndarray | None = None
) -> np.ndarray:
    """Draws a row per branch: the fraction of its blocks that computed a token, then each block.

    Args:
        masks: of `masks_of`.
        lq: the clip (t, h, w, 3) uint8.
        t: the frame.
        moving: (h, w) bool, where the frame's surfaces truly move or appear; drawn beside the frame
            in a row above. None: no such row.

    Returns:
        (h', w', 3) uint8.
    """
    branches = by_branch(masks)
    columns = 1 + max(len(blocks) for blocks in branches.values())
    factor = -(-NARROW // lq.shape[2])  # repeats the pixels of small frames, to fit the titles
    step = -(-factor * lq.shape[2] * columns // WIDTH)

    def panel(picture: np.ndarray) -> np.ndarray:
        return pictures.repeat_pixels(picture, factor)[::step, ::step]

    rows = []
    if moving is not None:
        share = moving.astype(float)
        title = f"true motion: {share.mean():.0%}"
        frame = {f"input, frame {t}": panel(lq[t]), title: panel(pictures.heat(share, lq[t]))}
        rows.append(pictures.side_by_side(frame))
    for branch, blocks in branches.items():
        shares = {branch: np.mean([mask[t] for mask in blocks.values()], axis=0)}
        shares |= {name: mask[t].astype(float) for name, mask in blocks.items()}
        panels = {
            f"{name}: {share.mean():.0%}": panel(pictures.heat(share, lq[t]))
            for name, share in shares.items()
        }
        rows.append(pictures.side_by_side(panels))
    return _below(rows)


def draw_frame(masks: Mapping[str, np.ndarray], lq: np.ndarray, t: int) -> np.ndarray:
    """Draws a frame of the video: the input, and fractions of all blocks and of each branch's.

    Args and returns: as for `draw_blocks`.
    """
    factor = -(-WIDE // lq.shape[2])

    def panel(share: np.ndarray) -> np.ndarray:
        return pictures.repeat_pixels(pictures.heat(share, lq[t]), factor)

    branches = by_branch(masks)
    shares = {"all blocks": np.mean([mask[t] for mask in masks.values()], axis=0)} | {
        branch: np.mean([mask[t] for mask in blocks.values()], axis=0)
        for branch, blocks in branches.items()
    }
    panels = {"input": pictures.repeat_pixels(lq[t], factor)} | {
        f"{name}: {share.mean():.0%}": panel(share) for name, share in shares.items()
    }
    names, wide = list(panels), 3
    return _below(
        [
            pictures.side_by_side({name: panels[name] for name in names[i : i + wide]})
            for i in range(0, len(names), wide)
        ]
    )


def by_branch(masks: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Groups masks by branch: {"branch/group_0/block_1": mask} -> {"branch": {"0.1": mask}}."""
    branches: dict[str, dict[str, np.ndarray]] = collections.defaultdict(dict)
    for name, mask in masks.items():
        branch, group, block = name.split("/")
        branches[branch][f"{group.split('_')[-1]}.{block.split('_')[-1]}"] = mask
    return branches


def _below(rows: list[np.ndarray]) -> np.ndarray:
    """Stacks pictures (h_i, w_i, 3) uint8 vertically, padded with white on the right."""
    width = max(row.shape[1] for row in rows)
    ends = [((0, 0), (0, width - row.shape[1]), (0, 0)) for row in rows]
    return np.concatenate(
        [np.pad(row, end, constant_values=255) for row, end in zip(rows, ends, strict=True)]
    )
