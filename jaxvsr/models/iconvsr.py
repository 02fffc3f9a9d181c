"""IconVSR: BasicVSR with information-refill at keyframes and coupled propagation.

Source: Chan et al., "BasicVSR: The Search for Essential Components in Video Super-Resolution and
Beyond", CVPR 2021, section 3.2.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int32

from jaxvsr.distributed import spatial_sharding
from jaxvsr.layers.blocks import ResidualBlocks, conv
from jaxvsr.layers.propagation import frame_by_frame
from jaxvsr.layers.upsample import PixelShuffleHead, resize
from jaxvsr.layers.warp import flow_warp
from jaxvsr.models.basicvsr import BasicVSR
from jaxvsr.models.edvr import EDVRFeatures
from jaxvsr.models.inputs import AnyArray, check_lq
from jaxvsr.models.spynet import SpyNet, clip_flows


class RefillCell(nn.Module):
    """One propagation step: as BasicVSR's, with EDVR features fused in at keyframes.

    Attributes:
        dim: channels of the features.
        depth: residual blocks.
        dtype: of the computation.

    Source: section 3.2, "Information-refill".
    """

    dim: int
    depth: int
    dtype: Any

    @nn.compact
    def __call__(
        self, feat: Float[Array, "b h w {self.dim}"], step: Int32[Array, ""], inputs: Any
    ) -> tuple[Float[Array, "b h w {self.dim}"], Float[Array, "b h w {self.dim}"]]:
        """One step of `scan_frames`.

        Args:
            feat: (b, h, w, dim) features of the previous step; zeros before the first.
            step: () int32, the number of previous steps.
            inputs: features (b, h, w, c) of the current frame, its refill features (b, h, w, dim)
                and whether it is a keyframe, (b,) bool; and its flow (b, h, w, 2) to the previous
                frame of the recurrence; None: no alignment.

        Returns:
            The refined features (b, h, w, dim), twice.
        """
        (current, refill, is_key), flow = inputs
        if flow is not None:
            feat = flow_warp(feat, flow)
        mixed = jnp.concatenate([feat, refill], axis=-1)
        mixed = conv(mixed, self.dim, name="fusion", dtype=self.dtype)
        feat = jnp.where(is_key[:, None, None, None], mixed, feat)
        feat = jnp.concatenate([current.astype(feat.dtype), feat], axis=-1)
        feat = ResidualBlocks(self.dim, self.depth, self.dtype, name="trunk")(feat)
        return feat, feat


class IconVSR(BasicVSR):
    """IconVSR: a backward branch, and a forward branch that takes its features as an input.

    Attributes:
        keyframe_stride: distance of keyframes; the last frame is always a keyframe.
        temporal_padding: neighboring frames on each side from which EDVR computes features.
    """

    keyframe_stride: int = 5
    temporal_padding: int = 2

    cell: ClassVar[type[nn.Module]] = RefillCell

    @nn.compact
    def __call__(
        self, lq: Float[AnyArray, "b t h w 3"], train: bool = False
    ) -> Float32[Array, "b t {self.scale}*h {self.scale}*w 3"]:
        """Upsamples clips.

        Args:
            lq: (b, t, h, w, 3) RGB in [0, 1], h and w at least 4.
            train: changes memory and time, not the result.

        Returns:
            (b, t, scale*h, scale*w, 3) float32, not clipped.
        """
        lq = check_lq(lq)
        height, width = lq.shape[2:4]
        # EDVR downsamples by four.
        lq = spatial_sharding.pad_bottom_right(lq, -height % 4, -width % 4, "reflect")
        flows_forward = flows_backward = None
        if self.align:
            flows_forward, flows_backward = clip_flows(SpyNet(name="spynet"), lq)

        refill, is_key = self.refill(lq, train)
        backward = self.propagate((lq, refill, is_key), flows_backward, "backward")
        known = jnp.concatenate([lq.astype(self.dtype), backward], axis=-1)
        feats = self.propagate((known, refill, is_key), flows_forward, "forward")

        head = PixelShuffleHead(self.scale, self.features_hr, self.dtype, name="head")
        x = frame_by_frame(head, feats, train)
        sr = x + resize(lq.astype(jnp.float32), (x.shape[2], x.shape[3]))
        return spatial_sharding.first(sr, self.scale * height)[..., : self.scale * width, :]

    def refill(
        self, lq: Float[Array, "b t h w 3"], train: bool
    ) -> tuple[Float[Array, "b t h w {self.dim}"], Bool[Array, "b t"]]:
        """Computes EDVR's features of the keyframes.

        Args:
            lq: (b, t, h, w, 3).
            train: as in `frame_by_frame`.

        Returns:
            Features (b, t, h, w, dim), zero for other frames, and the keyframes as (b, t) bool.
        """
        b, t, h, w, _ = lq.shape
        keys = np.union1d(np.arange(0, t, self.keyframe_stride), [t - 1])
        frames = lq[:, neighbor_indices(t, self.temporal_padding)[keys]]
        edvr = EDVRFeatures(self.dim, self.dtype, name="edvr")
        feats = frame_by_frame(edvr, frames, train)
        self.sow("intermediates", "feat_edvr", feats)
        is_key = jnp.broadcast_to(np.isin(np.arange(t), keys), (b, t))
        return jnp.zeros((b, t, h, w, self.dim), feats.dtype).at[:, keys].set(feats), is_key


def neighbor_indices(length: int, padding: int) -> np.ndarray:
    """Indices of the frames in a window around each frame of a clip.

    Indices beyond an end are replaced by the nearest frames inside that the window of the end does
    not hold yet; in a clip too short for that, by the frame at the other end.

    Args:
        length: number of frames.
        padding: neighboring frames on each side.

    Returns:
        (length, 2*padding + 1) int64.
    """
    before = np.minimum(2 * padding - np.arange(padding), length - 1)
    clip = np.concatenate([before, np.arange(length), length - 1 - before[::-1]])
    return clip[np.arange(length)[:, None] + np.arange(2 * padding + 1)]
