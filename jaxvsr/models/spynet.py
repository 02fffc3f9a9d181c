"""SpyNet, the optical flow network in most recurrent video super-resolution networks.

Source: Ranjan and Black, "Optical Flow Estimation using a Spatial Pyramid Network", CVPR 2017.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from jaxvsr.distributed import spatial_sharding
from jaxvsr.layers.blocks import Conv, torch_uniform
from jaxvsr.layers.upsample import resize
from jaxvsr.layers.warp import flow_warp
from jaxvsr.models.bicubic import Bicubic
from jaxvsr.models.inputs import AnyArray, check_lq

MEAN = (0.485, 0.456, 0.406)  # of ImageNet
STD = (0.229, 0.224, 0.225)
LEVELS = 6
MIN_SIZE = 64  # pixels per side that the official networks on SpyNet's flow require


class FlowRefinement(nn.Module):
    """One pyramid level: predicts the residual flow by five 7x7 convolutions.

    The last convolution is zero-initialized, so that an untrained network returns zero flow.
    """

    @nn.compact
    def __call__(
        self,
        ref: Float32[Array, "n h w 3"],
        warped: Float32[Array, "n h w 3"],
        flow: Float32[Array, "n h w 2"],
    ) -> Float32[Array, "n h w 2"]:
        """Predicts the residual of `flow` (n, h, w, 2) from two frames, each (n, h, w, 3)."""
        x = jnp.concatenate([ref, warped, flow], axis=-1)
        for i, features in enumerate((32, 64, 32, 16)):
            init = torch_uniform(49 * x.shape[-1])
            x = nn.relu(
                Conv(features, (7, 7), kernel_init=init, bias_init=init, name=f"conv_{i}")(x)
            )
        return Conv(2, (7, 7), kernel_init=nn.initializers.zeros_init(), name="conv_4")(x)


class SpyNet(nn.Module):
    """SpyNet: optical flow by refinement on an image pyramid, coarse to fine, in float32."""

    def __call__(
        self, ref: Float[Array, "n h w 3"], supp: Float[Array, "n h w 3"]
    ) -> Float32[Array, "n h w 2"]:
        """Estimates the flow from `ref` to `supp`.

        Args:
            ref: (n, h, w, 3) RGB in [0, 1].
            supp: (n, h, w, 3).

        Returns:
            (n, h, w, 2) float32, (dx, dy) in pixels.
        """
        return self.pyramid(ref, supp, 1)[0]

    @nn.compact
    def pyramid(
        self, ref: Float[Array, "n h w 3"], supp: Float[Array, "n h w 3"], scales: int
    ) -> list[Float32[Array, "n _ _ 2"]]:
        """Estimates the flow at several scales, from the outputs of the last pyramid levels.

        Args:
            ref, supp: as in `__call__`.
            scales: number of scales, each half the previous one.

        Returns:
            (n, h // 2**i, w // 2**i, 2) float32 for each scale i, (dx, dy) in pixels of that scale.
        """
        height, width = ref.shape[1:3]
        # The coarsest level is at 1/32 of the resolution.
        padded = (-(-height // 32) * 32, -(-width // 32) * 32)
        ref, supp = (
            (resize(x.astype(jnp.float32), padded) - jnp.array(MEAN)) / jnp.array(STD)
            for x in (ref, supp)
        )
        pyramid = [(ref, supp)]
        for _ in range(LEVELS - 1):
            ref, supp = (
                spatial_sharding.split(nn.avg_pool(x, (2, 2), (2, 2))) for x in pyramid[-1]
            )
            pyramid.append((ref, supp))

        flow, levels = jnp.zeros((*pyramid[-1][0].shape[:3], 2), jnp.float32), []
        for level, (ref, supp) in enumerate(reversed(pyramid)):
            if level:
                flow = 2 * resize(flow, (ref.shape[1], ref.shape[2]), align_corners=True)
            warped = flow_warp(supp, flow, padding="border")
            flow = flow + FlowRefinement(name=f"level_{level}")(ref, warped, flow)
            self.sow("intermediates", "level", flow)
            levels.append(flow)

        flows = []
        for i, flow in enumerate(levels[: -scales - 1 : -1]):
            h, w = height // 2**i, width // 2**i
            scale = jnp.array([w / flow.shape[2], h / flow.shape[1]], jnp.float32)
            flows.append(resize(flow, (h, w)) * scale)
        return flows


class ClipSpyNet(nn.Module):
    """SpyNet as a network for clips, to train it and to measure its errors.

    Its output is each frame as SpyNet predicts it: the previous frame (for the first one, the next)
    warped along the flow, and upsampled. The collection "aux" receives "flows_forward" and
    "flows_backward" (b, t-1, h, w, 2), as `clip_flows` returns them, and "flow_levels", as
    `clip_pyramid` does.

    Attributes:
        scale: upsampling factor, that of the data set.
    """

    scale: int = 4

    dtype: ClassVar[Any] = jnp.float32
    lookahead: ClassVar[int | None] = 1
    min_frames: ClassVar[int] = 2

    @nn.compact
    def __call__(
        self, lq: Float[AnyArray, "b t h w 3"], train: bool = False
    ) -> Float32[Array, "b t {self.scale}*h {self.scale}*w 3"]:
        """Predicts frames (b, t, h, w, 3) in [0, 1] as (b, t, scale*h, scale*w, 3)."""
        lq = check_lq(lq)
        scales = min(LEVELS, min(lq.shape[2:4]).bit_length())  # the smallest has a pixel
        levels = clip_pyramid(SpyNet(name="spynet"), lq, scales)
        forward, backward = levels[0][:, 0], levels[0][:, 1]
        if not self.is_initializing():
            self.sow("aux", "flows_forward", forward)
            self.sow("aux", "flows_backward", backward)
            for level in levels:
                self.sow("aux", "flow_levels", level)
        neighbors = jnp.concatenate([lq[:, 1:2], lq[:, :-1]], axis=1)
        flows = jnp.concatenate([backward[:, :1], forward], axis=1)
        flat = flow_warp(
            neighbors.reshape(-1, *lq.shape[2:]),
            flows.reshape(-1, *flows.shape[2:]),
            padding="border",
        )
        return Bicubic(self.scale)(flat.reshape(lq.shape))


def clip_flows(
    spynet: SpyNet, lq: Float[Array, "b t h w 3"]
) -> tuple[Float32[Array, "b t-1 h w 2"], Float32[Array, "b t-1 h w 2"]]:
    """Estimates flows between neighboring frames in both directions, as one batch.

    Args:
        spynet: the network.
        lq: (b, t, h, w, 3) RGB in [0, 1].

    Returns:
        flows_forward, current to previous, and flows_backward, current to next, each
        (b, t-1, h, w, 2).
    """
    flows = clip_pyramid(spynet, lq, 1)[0]
    return flows[:, 0], flows[:, 1]


def clip_pyramid(
    spynet: SpyNet, lq: Float[Array, "b t h w 3"], scales: int
) -> list[Float32[Array, "b 2 t-1 _ _ 2"]]:
    """Estimates the flows of `clip_flows` at several scales.

    Args:
        spynet, lq: as in `clip_flows`.
        scales: as in `SpyNet.pyramid`.

    Returns:
        (b, 2, t-1, h // 2**i, w // 2**i, 2) for each scale i, forward and backward.
    """
    b, t, h, w, _ = lq.shape
    early, late = lq[:, :-1], lq[:, 1:]
    ref, supp = jnp.concatenate([late, early], axis=1), jnp.concatenate([early, late], axis=1)
    merged = (2 * b * (t - 1), h, w, 3)
    flows = spynet.pyramid(ref.reshape(merged), supp.reshape(merged), scales)
    return [flow.reshape(b, 2, t - 1, *flow.shape[1:]) for flow in flows]


def validate_size(height: int, width: int) -> None:
    """Raises ValueError if frames are smaller than the networks on SpyNet's flow require."""
    if min(height, width) < MIN_SIZE:
        raise ValueError(
            f"frames of {height}x{width} pixels are too small for SpyNet: expected at least "
            f"{MIN_SIZE}x{MIN_SIZE} (or set align=False)"
        )


def flows_for_patch_alignment(
    module: nn.Module, lq: Float[Array, "b t h w 3"]
) -> dict[str, Float[Array, "b t-1 h w 2"]]:
    """Flows between neighboring frames, by a SpyNet that is a submodule of the calling module.

    Sows them into "aux". No gradient reaches SpyNet, since patch alignment rounds the flow.

    Args:
        module: the calling module.
        lq: RGB in [0, 1].

    Returns:
        "forward": from each frame but the first to the previous one; "backward": from each but the
        last to the next one.

    Raises:
        ValueError: frames are too small.
    """
    validate_size(*lq.shape[2:4])
    forward, backward = jax.lax.stop_gradient(clip_flows(SpyNet(name="spynet"), lq))
    if not module.is_initializing():
        module.sow("aux", "flows_forward", forward)
        module.sow("aux", "flows_backward", backward)
    return {"forward": forward, "backward": backward}
