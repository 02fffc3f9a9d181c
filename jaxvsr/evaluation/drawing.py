"""Pictures of an evaluation: frames side by side, a temporal profile, masks."""

from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np

from jaxvsr.data.degradations import imresize
from jaxvsr.data.sources import ClipSource
from jaxvsr.distributed.mesh import make_mesh, replicate_here
from jaxvsr.evaluation import mask_areas, mask_pictures, pictures

FILM_FRAMES = 32  # largest number of frames in the video of masks


def comparison(
    scale: int,
    t: int,
    lq: np.ndarray,
    gt: np.ndarray,
    sr: np.ndarray,
    computed: np.ndarray | None,
) -> np.ndarray:
    """Draws frame t of a clip: input, bicubic, sr, gt, and the fraction of blocks per token."""
    upsampled = {"bicubic": imresize(lq[t], scale)} if scale > 1 else {}
    panels = {"input": pictures.repeat_pixels(lq[t], scale), **upsampled, "sr": sr[t], "gt": gt[t]}
    if computed is not None:
        share = pictures.repeat_pixels(computed[t], scale)
        panels[f"computed: {computed[t].mean():.0%}"] = pictures.heat(share, panels["input"])
    return pictures.side_by_side(panels)


def temporal_profile(scale: int, lq: np.ndarray, gt: np.ndarray, sr: np.ndarray) -> np.ndarray:
    """Draws the middle column of the frames over time, where flicker makes lines ragged."""
    column = gt.shape[2] // 2
    marked = gt[len(gt) // 2].copy()
    marked[:, column - 1 : column + 1] = (255, 60, 0)
    # Pixels per frame, which together are half as wide as the frame.
    wide = -(-marked.shape[1] // (2 * len(gt)))
    unrestored = "bicubic" if scale > 1 else "input"
    clips = {unrestored: imresize(lq, scale), "sr": sr, "gt": gt}
    return pictures.side_by_side(
        {
            f"column {column}": marked,
            **{
                name: clip[:, :, column].swapaxes(0, 1).repeat(wide, axis=1)
                for name, clip in clips.items()
            },
        }
    )


def draw_masks(
    model: nn.Module, source: ClipSource, protocol: ml_collections.ConfigDict, variables: Any
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Draws the masks of each block for the first clip with a still camera, or the first clip.

    Of tiles, the first one is drawn.

    Returns:
        {"masks": (h, w, 3) uint8}, the middle frame, and the frames of a video; both empty for a
        network without masks.
    """
    if not getattr(model, "use_mask", False):
        return {}, []
    frames, height, width = (side or None for side in protocol.tile)
    clips = source.clips
    chosen = next((i for i, clip in enumerate(clips) if clip.kind == "tripod"), 0)
    length = min(clips[chosen].length, frames or FILM_FRAMES, FILM_FRAMES)
    height = height or clips[chosen].height // source.scale // protocol.space
    lq = source.read(chosen, range(length))["lq"][:, :height, :width]
    here = make_mesh(jax.local_devices()[:1])
    masks = mask_pictures.masks_of(model, replicate_here(variables, here), lq)
    film = [mask_pictures.draw_frame(masks, lq, t) for t in range(length)]
    t, moving = length // 2, None
    if source.has_flow:
        flow = source.read_flow(chosen)
        still = [mask_areas.still_area(flow, way)[t] for way in ("forward", "backward")]
        moving = ~np.logical_and(*still)[:height, :width]
    return {"masks": mask_pictures.draw_blocks(masks, lq, t, moving)}, film
