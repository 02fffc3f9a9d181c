"""IconVSR: BasicVSR with refill at key frames and coupled branches.

Source: Chan et al., "BasicVSR: The Search for Essential Components in Video Super-Resolution and
Beyond", CVPR 2021, section 3.2.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvsr.distributed import spatial_sharding
from jaxvsr.layers.blocks import ResidualBlocks, conv
from jaxvsr.layers.propagation import frame_by_frame
from jaxvsr.layers.upsample import PixelShuffleHead, resize
from jaxvsr.layers.warp import flow_warp
from jaxvsr.models.basicvsr import BasicVSR
from jaxvsr.models.edvr import EDVRFeatures
from jaxvsr.models.spynet import SpyNet, clip_flows


class RefillCell(nn.Module):
    """One step of a branch: as BasicVSR's, but at key frames new features are mixed in.

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
    def __call__(self, feat: jax.Array, step: jax.Array, inputs: Any) -> tuple[Any, jax.Array]:
        """One step of `scan_frames`.

        Args:
            feat: (b, h, w, dim) the output of the step before; zeros before the first.
            step: () int32, how many frames were met.
            inputs: what is known of the current frame, (b, h, w, c), its refill (b, h, w, dim) and
                whether it is a key frame, (b,) bool; and its flow (b, h, w, 2) to the frame met
                before, or None where nothing is aligned.

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
    """A backward branch, and a forward one that sees what the backward one made.

    Attributes:
        keyframe_stride: from one key frame to the next; the last frame is always one.
        temporal_padding: neighbours on each side that a key frame's features are made of.
    """

    keyframe_stride: int = 5
    temporal_padding: int = 2

    cell: ClassVar[type[nn.Module]] = RefillCell

    @nn.compact
    def __call__(self, lq: jax.Array, train: bool = False) -> jax.Array:
        """Restores clips.

        Args:
            lq: (b, t, h, w, 3) RGB in [0, 1], of 4 pixels a side at least.
            train: changes memory and time, not the result.

        Returns:
            (b, t, scale*h, scale*w, 3) float32, not clipped.
        """
        height, width = lq.shape[2:4]
        # EDVR halves twice.
        lq = spatial_sharding.extend(lq, -height % 4, -width % 4, "reflect")
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

    def refill(self, lq: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """EDVR's features of the key frames.

        Args:
            lq: (b, t, h, w, 3).
            train: as of `frame_by_frame`.

        Returns:
            (b, t, h, w, dim), zeros elsewhere, and which are key frames, (b, t) bool.
        """
        b, t, h, w, _ = lq.shape
        keys = np.union1d(np.arange(0, t, self.keyframe_stride), [t - 1])
        frames = lq[:, neighbours(t, self.temporal_padding)[keys]]
        edvr = EDVRFeatures(self.dim, self.dtype, name="edvr")
        feats = frame_by_frame(edvr, frames, train)
        self.sow("intermediates", "feat_edvr", feats)
        is_key = jnp.broadcast_to(np.isin(np.arange(t), keys), (b, t))
        return jnp.zeros((b, t, h, w, self.dim), feats.dtype).at[:, keys].set(feats), is_key


def neighbours(length: int, padding: int) -> np.ndarray:
    """Which frames stand around each frame of a clip.

    Beyond an end stand those from inside, farther than the window reaches, so that the end's own
    window holds no frame twice. In clips too short for that, the other end's frame stands in.

    Args:
        length: of the clip.
        padding: neighbours on each side.

    Returns:
        (length, 2*padding + 1) int64.
    """
    before = np.minimum(2 * padding - np.arange(padding), length - 1)
    clip = np.concatenate([before, np.arange(length), length - 1 - before[::-1]])
    return clip[np.arange(length)[:, None] + np.arange(2 * padding + 1)]
