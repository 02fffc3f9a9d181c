"""SpyNet, the optical flow network inside most recurrent video super-resolution systems.

Source: Ranjan and Black, "Optical Flow Estimation using a Spatial Pyramid Network", CVPR 2017.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvsr.distributed import spatial_sharding
from jaxvsr.layers.blocks import Conv, torch_uniform
from jaxvsr.layers.upsample import resize
from jaxvsr.layers.warp import flow_warp

MEAN = (0.485, 0.456, 0.406)  # of ImageNet
STD = (0.229, 0.224, 0.225)
LEVELS = 6


class FlowRefinement(nn.Module):
    """One pyramid level: five 7x7 convolutions from two frames and a flow to the flow's residual.

    The last one starts as zero, so that a network without weights gives the zero flow.
    """

    @nn.compact
    def __call__(self, ref: jax.Array, warped: jax.Array, flow: jax.Array) -> jax.Array:
        """(n, h, w, 3), (n, h, w, 3), (n, h, w, 2) -> (n, h, w, 2)."""
        x = jnp.concatenate([ref, warped, flow], axis=-1)
        for i, features in enumerate((32, 64, 32, 16)):
            init = torch_uniform(49 * x.shape[-1])
            x = nn.relu(
                Conv(features, (7, 7), kernel_init=init, bias_init=init, name=f"conv_{i}")(x)
            )
        return Conv(2, (7, 7), kernel_init=nn.initializers.zeros_init(), name="conv_4")(x)


class SpyNet(nn.Module):
    """Flow between frames, coarse to fine; always in float32."""

    def __call__(self, ref: jax.Array, supp: jax.Array) -> jax.Array:
        """Estimates where each pixel of `ref` is in `supp`.

        Args:
            ref: (n, h, w, 3) RGB in [0, 1].
            supp: (n, h, w, 3).

        Returns:
            (n, h, w, 2) float32, (dx, dy) in pixels.
        """
        return self.pyramid(ref, supp, 1)[0]

    @nn.compact
    def pyramid(self, ref: jax.Array, supp: jax.Array, scales: int) -> list[jax.Array]:
        """Estimates the flow at several scales, each from the output of a level of its own.

        Args:
            ref, supp: as above.
            scales: how many: the full size, and as many halves of it.

        Returns:
            (n, h // 2**i, w // 2**i, 2) float32, (dx, dy) in pixels of that size.
        """
        height, width = ref.shape[1:3]
        # The coarsest level halves five times.
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


def clip_flows(spynet: SpyNet, lq: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Flows between the neighbouring frames of clips, both ways in one batch.

    Args:
        spynet: the network.
        lq: (b, t, h, w, 3) RGB in [0, 1].

    Returns:
        flows_forward, current to previous, and flows_backward, current to next, each
        (b, t-1, h, w, 2).
    """
    b, t, h, w, _ = lq.shape
    early, late = lq[:, :-1], lq[:, 1:]
    ref, supp = jnp.concatenate([late, early], axis=1), jnp.concatenate([early, late], axis=1)
    merged = (2 * b * (t - 1), h, w, 3)
    flows = spynet(ref.reshape(merged), supp.reshape(merged)).reshape(b, 2, t - 1, h, w, 2)
    return flows[:, 0], flows[:, 1]
