"""BasicVSR++: second-order grid propagation with flow-guided deformable alignment.

Source: Chan et al., "BasicVSR++: Improving Video Super-Resolution with Enhanced Propagation and
Alignment", CVPR 2022, section 3.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int32

from jaxvsr.layers.blocks import ResidualBlocks, leaky_relu, strided_conv
from jaxvsr.layers.deform import FlowGuidedDeformConv
from jaxvsr.layers.propagation import (
    BRANCHES,
    frame_by_frame,
    scan_frames,
    second_order_flows,
)
from jaxvsr.layers.upsample import PixelShuffleHead, resize
from jaxvsr.layers.warp import flow_warp
from jaxvsr.models.inputs import AnyArray, check_lq
from jaxvsr.models.spynet import SpyNet, clip_flows, validate_size

REDUCTION = 4  # downsampling factor if the output has the size of the input
DEFORM_GROUPS = 16
MAX_RESIDUE = 10.0  # largest difference between offset and flow, pixels


class PropagationCell(nn.Module):
    """One propagation step: second-order alignment, then refinement with all known features.

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
    def __call__(
        self, carry: Any, step: Int32[Array, ""], inputs: Any
    ) -> tuple[Any, Float[Array, "b h w {self.dim}"]]:
        """One step of `scan_frames`.

        Args:
            carry: features (b, h, w, dim) of the two previous steps; zeros before the first.
            step: () int32, the number of previous steps.
            inputs: features (b, h, w, n*dim) of the current frame (spatial features, then each
                earlier branch's), and its flows (b, h, w, 2) to the frames one and two steps
                before.

        Returns:
            The next carry, and the refined features (b, h, w, dim).
        """
        feat_n1, feat_n2 = carry
        known, flow_n1, flow_n2 = inputs
        # The second frame has no frame two steps before it.
        flow_n2 = jnp.where(step < 2, 0, flow_n2)
        # Second-order deformable alignment, section 3.2: the first half of the groups samples the
        # frame one step before, the other half the frame two steps before.
        warped = flow_warp(feat_n1, flow_n1), known[..., : self.dim], flow_warp(feat_n2, flow_n2)
        align = FlowGuidedDeformConv(
            features=self.dim,
            deform_groups=DEFORM_GROUPS,
            max_residue=MAX_RESIDUE,
            dtype=self.dtype,
            name="deform_align",
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
    """BasicVSR++: four branches, each refining the features of all branches before it.

    Attributes:
        dim: channels of the features.
        depth: residual blocks of each branch.
        features_hr: channels at full resolution.
        scale: 1, 3 or a power of two; 1 if the input is not of low resolution.
        is_low_res_input: whether frames are upsampled. Otherwise (deblurring, denoising) the input
            is first downsampled by four, and the output has its size.
        align: whether alignment is guided by SpyNet's flow. If not, offsets are relative to the
            same position, and the network has no SpyNet.
        dtype: of the computation; flows, offsets and the image are float32.
        remat: whether the activations of a step are recomputed in the backward pass.
        unroll: frames per iteration of the compiled loop.
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
    def __call__(
        self, lq: Float[AnyArray, "b t h w 3"], train: bool = False
    ) -> Float32[Array, "b t {self.scale}*h {self.scale}*w 3"]:
        """Upsamples or restores clips.

        Args:
            lq: (b, t, h, w, 3) RGB in [0, 1]. With flows, h and w are at least 64; if the input is
                not of low resolution, multiples of 4 and at least 256.
            train: changes memory and time, not the result.

        Returns:
            (b, t, scale*h, scale*w, 3) float32, not clipped.

        Raises:
            ValueError: frames too small for SpyNet, or not multiples of 4; a scale other than 1
                for an input that is not of low resolution.
        """
        lq = check_lq(lq)
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
        if self.align and not self.is_initializing():
            validate_size(h, w)
        return lq

    def extract(self, lq: Float[Array, "b t _ _ 3"]) -> Float[Array, "b t h w {self.dim}"]:
        """Extracts features of each frame independently, at the resolution of the flows."""
        if self.is_low_res_input:
            return ResidualBlocks(self.dim, 5, self.dtype, name="feat_extract")(lq)
        for i in range(2):
            lq = leaky_relu(strided_conv(lq, self.dim, name=f"conv_down_{i}", dtype=self.dtype))
        return ResidualBlocks(self.dim, 5, self.dtype, name="feat_extract_reduced")(lq)

    def propagate(
        self,
        feats: list[Float[Array, "b t h w {self.dim}"]],
        flows: Float[Array, "b t-1 h w 2"],
        branch: str,
    ) -> Float[Array, "b t h w {self.dim}"]:
        """Propagates features (b, t, h, w, dim) along a branch, by flows (b, t-1, h, w, 2)."""
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
