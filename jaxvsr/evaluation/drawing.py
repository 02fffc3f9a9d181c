"""Pictures of an evaluation: frames side by side, a temporal profile, masks."""

import dataclasses
from collections.abc import Mapping, Sequence
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
NEAR = 16  # frames kept of those with the scores nearest to the median
Panels = Mapping[str, np.ndarray]  # title -> (h, w, 3) uint8


@dataclasses.dataclass(frozen=True)
class Frame:
    """A frame of a restored clip.

    Attributes:
        lq, gt, sr: (h, w, 3) and (H, W, 3) uint8.
        computed: (h, w), fraction of blocks that computed each token, or None.
    """

    lq: np.ndarray
    gt: np.ndarray
    sr: np.ndarray
    computed: np.ndarray | None

    def panels(self, scale: int) -> Panels:
        """Draws input, bicubic, sr, gt, and the fraction of blocks per token."""
        lq, computed = self.lq, self.computed
        upsampled = {"bicubic": imresize(lq, scale)} if scale > 1 else {}
        given = pictures.repeat_pixels(lq, scale)
        panels = {"input": given, **upsampled, "sr": self.sr, "gt": self.gt}
        if computed is not None:
            fraction = pictures.repeat_pixels(computed, scale)
            panels[f"computed: {computed.mean():.0%}"] = pictures.heat(fraction, given)
        return panels


class Gallery:
    """Keeps the frames of an evaluation to be drawn, in the memory of a few frames.

    Attributes:
        drawn: once a clip was added, "frame", the middle frame of the first clip, and its
            "profile".
    """

    def __init__(self, scale: int) -> None:
        """Starts without frames, for outputs `scale` times as large as the inputs."""
        self.drawn: dict[str, Panels] = {}
        self._scale, self._scores = scale, np.zeros(0)
        self._kept: dict[float, Frame] = {}

    def add(
        self,
        lq: np.ndarray,
        gt: np.ndarray,
        sr: np.ndarray,
        computed: np.ndarray | None,
        scored: Sequence[int],
        psnr: np.ndarray,
    ) -> None:
        """Keeps the best, the worst and the middle frames so far.

        Args:
            lq, gt, sr, computed: a clip, as `Frame` with the axis t in front.
            scored: indices of the scored frames.
            psnr: their scores.
        """

        def frame(t: int) -> Frame:
            copies = (None if x is None else x[t].copy() for x in (lq, gt, sr, computed))
            return Frame(*copies)  # type: ignore[arg-type]

        if not self.drawn:
            self.drawn["frame"] = frame(len(gt) // 2).panels(self._scale)
            self.drawn["profile"] = {"profile": temporal_profile(self._scale, lq, gt, sr)}
        new = dict(zip(map(float, psnr), scored, strict=True))
        self._scores = np.sort(np.concatenate([self._scores, psnr]))
        near = sorted({*self._kept, *new}, key=self._from_median)[:NEAR]
        self._kept = {
            score: self._kept[score] if score in self._kept else frame(new[score])
            for score in (self._scores[-1], self._scores[0], *near)
        }

    def _from_median(self, score: float) -> float:
        return abs(score - self._scores[len(self._scores) // 2])

    def panels(self) -> dict[str, Panels]:
        """Draws "best", "median" and "worst" by the score, beside those of `drawn`.

        The median is exact for up to NEAR frames, else the nearest of the frames kept.
        """
        if not self._kept:
            return {}
        chosen = {
            "best": self._scores[-1],
            "median": min(self._kept, key=self._from_median),
            "worst": self._scores[0],
        }
        return {
            **self.drawn,
            **{kind: self._kept[score].panels(self._scale) for kind, score in chosen.items()},
        }


def temporal_profile(scale: int, lq: np.ndarray, gt: np.ndarray, sr: np.ndarray) -> np.ndarray:
    """Draws the middle column of the frames over time, where flicker makes lines ragged."""
    column = gt.shape[2] // 2
    # Bicubic interpolation needs two input pixels to each side of the column.
    left = max(column // scale - 2, 0)
    around = lq[:, :, left : column // scale + 3]
    marked = gt[len(gt) // 2].copy()
    marked[:, column - 1 : column + 1] = (255, 60, 0)
    # Pixels per frame, which together are half as wide as the frame.
    wide = -(-marked.shape[1] // (2 * len(gt)))
    unrestored = "bicubic" if scale > 1 else "input"
    columns = {unrestored: imresize(around, scale)[:, :, column - scale * left]}
    columns |= {"sr": sr[:, :, column], "gt": gt[:, :, column]}
    return pictures.side_by_side(
        {
            f"column {column}": marked,
            **{
                name: pixels.swapaxes(0, 1).repeat(wide, axis=1) for name, pixels in columns.items()
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
