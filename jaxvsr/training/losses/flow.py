"""The end-point error of an estimated optical flow."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

HIDDEN = 0.2  # weight of pixels that are not visible in the other frame
POWER = 0.7  # of the error; below 1 small errors matter more
EPS = 1e-4  # smooths the error near zero, in pixels squared


def end_point_error(levels: Sequence[jax.Array], batch: Mapping[str, jax.Array]) -> jax.Array:
    """Computes the multi-scale end-point error of the flows of clips, weighted by visibility.

    Args:
        levels: as `models.spynet.clip_pyramid` returns them, (b, 2, t-1, h / 2**i, w / 2**i, 2).
        batch: true flows and visibility of the clips, as `data.pipeline.SampleReader` reads them.

    Returns:
        () float32.

    Raises:
        ValueError: the network estimates no flows, or the data have none.
    """
    if not levels:
        raise ValueError("the loss term epe needs a network that sows flow_levels: spynet")
    if "flow_forward" not in batch:
        raise ValueError("the loss term epe needs true flows: set data.flow=True")
    flow, visible = (
        jnp.stack([batch[f"{name}_forward"][:, 1:], batch[f"{name}_backward"][:, :-1]], axis=1)
        for name in ("flow", "visible")
    )
    return level_errors(levels, flow, HIDDEN + (1 - HIDDEN) * visible, POWER)


def level_errors(
    levels: Sequence[jax.Array], flow: jax.Array, weight: jax.Array, power: float
) -> jax.Array:
    """Sums the weighted means of the end-point error over the levels of a pyramid.

    Args:
        levels: (..., h / 2**i, w / 2**i, 2), fine to coarse, in pixels of the level.
        flow: (..., h, w, 2), true, in pixels.
        weight: (..., h, w) of each pixel.
        power: of the error.

    Returns:
        () float32.

    Raises:
        ValueError: h or w cannot be halved for each level.

    Source: Dosovitskiy et al., "FlowNet"; the power: Sun et al., "PWC-Net", equation 4.
    """
    coarsest = 2 ** (len(levels) - 1)
    if flow.shape[-3] % coarsest or flow.shape[-2] % coarsest:
        raise ValueError(
            f"inputs of {flow.shape[-3]}x{flow.shape[-2]} must be multiples of {coarsest} for the "
            f"{len(levels)} levels of the end-point error: choose data.crop accordingly"
        )
    total = jnp.zeros(())
    for level, estimate in enumerate(levels):
        if level:
            flow, weight = _half(flow, weight)
        error = (((estimate - flow) ** 2).sum(-1) + EPS) ** (power / 2)
        total += (error * weight).sum() / (weight.sum() + 1e-6)
    return total


def _half(flow: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weighted means of 2x2 pixels; the flow in pixels of the half size."""

    def pooled(x: jax.Array) -> jax.Array:
        *batch, h, w, c = x.shape
        return x.reshape(*batch, h // 2, 2, w // 2, 2, c).mean((-4, -2))

    mean = pooled(weight[..., None])
    return pooled(flow * weight[..., None]) / (2 * mean + 1e-6), mean[..., 0]
