"""BasicVSR++: second-order grid propagation with flow-guided deformable alignment.

Source: Chan et al., "BasicVSR++: Improving Video Super-Resolution with Enhanced Propagation and
Alignment", CVPR 2022, section 3.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvsr.layers.blocks import ResidualBlocks, leaky_relu, strided_conv
from jaxvsr.layers.deform import FlowGuidedDeformConv
from jaxvsr.layers.propagation import frame_by_frame, scan_frames, second_order_flows
from jaxvsr.layers.upsample import PixelShuffleHead, resize
from jaxvsr.layers.warp import flow_warp
from jaxvsr.models.spynet import SpyNet, clip_flows

MIN_SIZE = 64  # pixels a side of what SpyNet sees, as the published system asks
BRANCHES = ("backward_1", "forward_1", "backward_2", "forward_2")
REDUCTION = 4  # of frames that come at the size that they leave with
DEFORM_GROUPS = 16
MAX_RESIDUE = 10.0  # pixels that an offset may stray from the flow


class PropagationCell(nn.Module):
    """One step of a branch: what was met before is aligned and refined by all that is known.

    Attributes:
        dim: channels of the features.
        depth: residual blocks.
        dtype: of the computation.

    Source: section 3.1.
    """

    dim: int
    depth: int
    dtype: Any

    @nn.compact
    def __call__(self, carry: Any, step: jax.Array, inputs: Any) -> tuple[Any, jax.Array]:
        """One step of `scan_frames`.

        Args:
            carry: outputs (b, h, w, dim) one step and two steps before; zeros before the first.
            step: () int32, how many frames were met.
            inputs: the current frame's features (b, h, w, n*dim), the spatial ones first and then
                each earlier branch's, and its flows (b, h, w, 2) to the frames one and two steps
                before.

        Returns:
            The next carry, and the refined features (b, h, w, dim).
        """
        feat_n1, feat_n2 = carry
        known, flow_n1, flow_n2 = inputs
        # There is no frame two steps before the second.
        flow_n2 = jnp.where(step < 2, 0, flow_n2)
        # Second-order deformable alignment, section 3.2: the first half of the groups looks one
        # step back, the other two.
        warped = flow_warp(feat_n1, flow_n1), known[..., : self.dim], flow_warp(feat_n2, flow_n2)
        align = FlowGuidedDeformConv(
            self.dim, DEFORM_GROUPS, MAX_RESIDUE, dtype=self.dtype, name="deform_align"
        )
        aligned = align(
            jnp.concatenate([feat_n1, feat_n2], axis=-1),
            jnp.concatenate([*warped, flow_n1, flow_n2], axis=-1),
            (flow_n1, flow_n2),
        )
        aligned = jnp.where(step == 0, 0, aligned)
        backbone = ResidualBlocks(self.dim, self.depth, self.dtype, name="backbone")
        feat = aligned + backbone(jnp.concatenate([known, aligned], axis=-1))
        return (feat, feat_n1), feat


class BasicVSRPP(nn.Module):
    """Four recurrent branches, each of which sees what all before it made.

    Attributes:
        dim: channels of the features.
        depth: residual blocks of each branch.
        features_hr: channels at full resolution.
        scale: 1, 3 or a power of two; 1 where the input is not of low resolution.
        is_low_res_input: whether frames are enlarged. Otherwise (deblurring, denoising) they are
            first reduced by four, and leave with the size that they came with.
        align: whether alignment is guided by SpyNet's flow. Without, it starts from the same
            place, and there is no SpyNet.
        dtype: of the computation; flows, offsets and the image are float32.
        remat: whether each step's activations are computed again in the backward pass.
        unroll: frames that are compiled into one turn of the recurrence.
    """

    dim: int = 64
    depth: int = 7
    features_hr: int = 64
    scale: int = 4
    is_low_res_input: bool = True
    align: bool = True
    dtype: Any = jnp.float32
    remat: bool = False
    unroll: int = 1

    lookahead: ClassVar[int | None] = None  # the last frame reaches the first

    @nn.compact
    def __call__(self, lq: jax.Array, train: bool = False) -> jax.Array:
        """Restores clips.

        Args:
            lq: (b, t, h, w, 3) RGB in [0, 1]; h and w at least 64 where SpyNet sees them. If not
                of low resolution, multiples of 4, and SpyNet sees a quarter of them.
            train: changes memory and time, not the result.

        Returns:
            (b, t, scale*h, scale*w, 3) float32, not clipped.

        Raises:
            ValueError: frames too small for SpyNet, or no multiple of 4; a scale that is not 1
                for an input that is not of low resolution.
        """
        small = self.flow_input(lq)
        flows_forward = flows_backward = jnp.zeros((*lq[:, 1:].shape[:2], *small.shape[2:4], 2))
        if self.align:
            flows_forward, flows_backward = clip_flows(SpyNet(name="spynet"), small)
            self.sow("intermediates", "flow_forward", flows_forward)
            self.sow("intermediates", "flow_backward", flows_backward)

        feats = [self.extract(lq)]
        self.sow("intermediates", "feat_spatial", feats[0])
        for branch in BRANCHES:
            flows = flows_backward if branch.startswith("backward") else flows_forward
            feats.append(self.propagate(feats, flows, branch))
            self.sow("intermediates", f"feat_{branch}", feats[-1])

        x = jnp.concatenate(feats, axis=-1)
        x = ResidualBlocks(self.dim, 5, self.dtype, name="reconstruction")(x)
        enlargement = self.scale if self.is_low_res_input else REDUCTION
        head = PixelShuffleHead(enlargement, self.features_hr, self.dtype, name="head")
        x = frame_by_frame(head, x, train)
        return x + resize(lq.astype(jnp.float32), (x.shape[2], x.shape[3]))

    def flow_input(self, lq: jax.Array) -> jax.Array:
        """Clips (b, t, h, w, 3) as SpyNet sees them, after checks of their size."""
        h, w = lq.shape[2:4]
        if not self.is_low_res_input:
            if self.scale != 1:
                raise ValueError(f"scale {self.scale} must be 1 where the input is not low_res")
            if h % REDUCTION or w % REDUCTION:
                raise ValueError(f"frames of {h}x{w} pixels must be multiples of {REDUCTION}")
            h, w = h // REDUCTION, w // REDUCTION
            lq = resize(lq, (h, w), "bicubic")
        if self.align and min(h, w) < MIN_SIZE and not self.is_initializing():
            raise ValueError(
                f"SpyNet would see frames of {h}x{w} pixels: at least {MIN_SIZE}x{MIN_SIZE} are "
                "needed (or align=False)"
            )
        return lq

    def extract(self, lq: jax.Array) -> jax.Array:
        """Clips (b, t, h, w, 3) to the features of each frame by itself, at SpyNet's size."""
        if self.is_low_res_input:
            return ResidualBlocks(self.dim, 5, self.dtype, name="feat_extract")(lq)
        for i in range(2):
            lq = leaky_relu(strided_conv(lq, self.dim, name=f"conv_down_{i}", dtype=self.dtype))
        return ResidualBlocks(self.dim, 5, self.dtype, name="feat_extract_reduced")(lq)

    def propagate(self, feats: list[jax.Array], flows: jax.Array, branch: str) -> jax.Array:
        """Runs a branch over features, each (b, t, h, w, dim), and flows (b, t-1, h, w, 2)."""
        reverse = branch.startswith("backward")
        cell = nn.remat(PropagationCell, prevent_cse=False) if self.remat else PropagationCell
        start = jnp.zeros_like(feats[0][:, 0])
        inputs = jnp.concatenate(feats, axis=-1), *second_order_flows(flows, reverse)
        _, out = scan_frames(
            cell(self.dim, self.depth, self.dtype, name=branch),
            (start, start),
            inputs,
            reverse=reverse,
            unroll=self.unroll,
        )
        return out
