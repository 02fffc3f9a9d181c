"""BasicVSR: two recurrent branches, one from each end of a clip, aligned by optical flow.

Source: Chan et al., "BasicVSR: The Search for Essential Components in Video Super-Resolution and
Beyond", CVPR 2021, section 3.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvsr.layers.blocks import ResidualBlocks, conv, leaky_relu
from jaxvsr.layers.propagation import first_order_flows, frame_by_frame, scan_frames
from jaxvsr.layers.upsample import PixelShuffleHead, resize
from jaxvsr.layers.warp import flow_warp
from jaxvsr.models.spynet import SpyNet, clip_flows


class PropagationCell(nn.Module):
    """One step of a branch: the features met before are warped and refined by the current frame.

    Attributes:
        dim: channels of the features.
        depth: residual blocks.
        dtype: of the computation.

    Source: section 3.1, "Propagation" and "Alignment".
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
            inputs: (b, h, w, c), what is known of the current frame, and its flow (b, h, w, 2) to
                the frame met before, or None where nothing is aligned.

        Returns:
            The refined features (b, h, w, dim), twice.
        """
        current, flow = inputs
        if flow is not None:
            feat = flow_warp(feat, flow)
        feat = jnp.concatenate([current.astype(feat.dtype), feat], axis=-1)
        feat = ResidualBlocks(self.dim, self.depth, self.dtype, name="trunk")(feat)
        return feat, feat


class BasicVSR(nn.Module):
    """A backward and a forward branch, fused frame by frame.

    Attributes:
        dim: channels of the features.
        depth: residual blocks of each branch.
        features_hr: channels at full resolution.
        scale: 1, 3 or a power of two.
        align: whether earlier features are aligned by SpyNet's flow. Without, they stay where
            they are, and there is no SpyNet.
        dtype: of the computation; flows and the image are float32.
        remat: whether each step's activations are computed again in the backward pass.
        unroll: frames that are compiled into one turn of the recurrence.
    """

    dim: int = 64
    depth: int = 30
    features_hr: int = 64
    scale: int = 4
    align: bool = True
    dtype: Any = jnp.float32
    remat: bool = False
    unroll: int = 1

    cell: ClassVar[type[nn.Module]] = PropagationCell
    lookahead: ClassVar[int | None] = None  # the last frame reaches the first

    @nn.compact
    def __call__(self, lq: jax.Array, train: bool = False) -> jax.Array:
        """Restores clips.

        Args:
            lq: (b, t, h, w, 3) RGB in [0, 1].
            train: changes memory and time, not the result.

        Returns:
            (b, t, scale*h, scale*w, 3) float32, not clipped.
        """
        h, w = lq.shape[2:4]
        flows_forward = flows_backward = None
        if self.align:
            flows_forward, flows_backward = clip_flows(SpyNet(name="spynet"), lq)
            self.sow("intermediates", "flow_forward", flows_forward)
            self.sow("intermediates", "flow_backward", flows_backward)

        backward = self.propagate(lq, flows_backward, "backward")
        forward = self.propagate(lq, flows_forward, "forward")
        feats = jnp.concatenate([backward, forward], axis=-1)
        feats = leaky_relu(conv(feats, self.dim, 1, name="fusion", dtype=self.dtype))

        head = PixelShuffleHead(self.scale, self.features_hr, self.dtype, name="head")
        sr = frame_by_frame(head, feats, train)
        return sr + resize(lq.astype(jnp.float32), (self.scale * h, self.scale * w))

    def propagate(self, known: Any, flows: jax.Array | None, branch: str) -> jax.Array:
        """Runs a branch.

        Args:
            known: of each frame, arrays (b, t, ...), the first (b, t, h, w, c): the cell's inputs.
            flows: (b, t-1, h, w, 2) between neighbours, or None.
            branch: "backward" or "forward".

        Returns:
            (b, t, h, w, dim).
        """
        reverse = branch == "backward"
        cell = nn.remat(self.cell, prevent_cse=False) if self.remat else self.cell
        flow = None if flows is None else first_order_flows(flows, reverse)
        b, _, h, w, _ = jax.tree.leaves(known)[0].shape
        _, feats = scan_frames(
            cell(self.dim, self.depth, self.dtype, name=branch),
            jnp.zeros((b, h, w, self.dim), self.dtype),
            (known, flow),
            reverse=reverse,
            unroll=self.unroll,
        )
        self.sow("intermediates", f"feat_{branch}_trunk", feats)
        return feats
