"""BasicVSR: bidirectional propagation with features aligned by optical flow.

Source: Chan et al., "BasicVSR: The Search for Essential Components in Video Super-Resolution and
Beyond", CVPR 2021, section 3.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int32

from jaxvsr.layers.blocks import ResidualBlocks, conv, leaky_relu
from jaxvsr.layers.propagation import first_order_flows, frame_by_frame, scan_frames
from jaxvsr.layers.upsample import PixelShuffleHead, resize
from jaxvsr.layers.warp import flow_warp
from jaxvsr.models.inputs import AnyArray, check_lq
from jaxvsr.models.spynet import SpyNet, clip_flows


class PropagationCell(nn.Module):
    """One propagation step: features are warped, then refined together with the current frame.

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
    def __call__(
        self, feat: Float[Array, "b h w {self.dim}"], step: Int32[Array, ""], inputs: Any
    ) -> tuple[Float[Array, "b h w {self.dim}"], Float[Array, "b h w {self.dim}"]]:
        """One step of `scan_frames`.

        Args:
            feat: (b, h, w, dim) features of the previous step; zeros before the first.
            step: () int32, the number of previous steps.
            inputs: features (b, h, w, c) of the current frame, and its flow (b, h, w, 2) to the
                previous frame of the recurrence; None: no alignment.

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
    """BasicVSR: a backward and a forward branch, fused per frame.

    Attributes:
        dim: channels of the features.
        depth: residual blocks of each branch.
        features_hr: channels at full resolution.
        scale: 1, 3 or a power of two.
        align: whether propagated features are aligned by SpyNet's flow. If not, the network has no
            SpyNet.
        dtype: of the computation; flows and the image are float32.
        remat: whether the activations of a step are recomputed in the backward pass.
        unroll: frames per iteration of the compiled loop.
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
    def __call__(
        self, lq: Float[AnyArray, "b t h w 3"], train: bool = False
    ) -> Float32[Array, "b t {self.scale}*h {self.scale}*w 3"]:
        """Upsamples clips.

        Args:
            lq: (b, t, h, w, 3) RGB in [0, 1].
            train: changes memory and time, not the result.

        Returns:
            (b, t, scale*h, scale*w, 3) float32, not clipped.
        """
        lq = check_lq(lq)
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

    def propagate(
        self, known: Any, flows: Float[Array, "b pairs h w 2"] | None, branch: str
    ) -> Float[Array, "b t h w {self.dim}"]:
        """Propagates features along a branch.

        Args:
            known: the cell's inputs for all frames, arrays (b, t, ...); the first is (b, t, h, w,
                c).
            flows: (b, t-1, h, w, 2) between neighboring frames, or None.
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
