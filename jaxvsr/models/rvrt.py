"""RVRT: a recurrence over clips of two frames, whose features are refined jointly.

Source: Liang et al., "Recurrent Video Restoration Transformer with Guided Deformable Attention",
NeurIPS 2022, section 3.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int32

from jaxvsr.distributed import spatial_sharding
from jaxvsr.layers.blocks import MLP, Conv, conv, dense, gelu, layer_norm, leaky_relu, strided_conv
from jaxvsr.layers.deform import deform_attention
from jaxvsr.layers.propagation import (
    BRANCHES,
    frame_by_frame,
    scan_frames,
    second_order_flows,
)
from jaxvsr.layers.transformer import WindowBlock
from jaxvsr.layers.upsample import PixelShuffleHead, resize
from jaxvsr.layers.warp import flow_warp
from jaxvsr.layers.windows import Size
from jaxvsr.models.inputs import AnyArray, check_lq
from jaxvsr.models.spynet import SpyNet, clip_flows

CLIP = 2  # frames per clip
REDUCTION = 4  # downsampling factor if the output has the size of the input
MIN_FULL_SIZE = 128  # frames of this height or width are too small to be downsampled before SpyNet

Flows = tuple[Float[Array, "b *clips 2 h w 2"], Float[Array, "b *clips 2 h w 2"]]


class SwinBlock(WindowBlock):
    """Swin transformer block: attention in windows of a clip, and an MLP.

    Source: section 3.2.
    """

    def mlp(self, x: Float[Array, "w n c"]) -> Float[Array, "w n c"]:
        """The MLP of tokens."""
        return MLP(self.mlp_ratio, self.dtype, self.activation, name="mlp")(x)

    @staticmethod
    def activation(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """The MLP's activation."""
        return gelu(x)


class Refinement(nn.Module):
    """Feature refinement: a convolution and residual Swin transformer groups.

    Attributes:
        block: class of the blocks.
        dim: output channels.
        num_groups: number of groups, each of blocks, a linear layer and a skip connection.
        depth: blocks of a group, every second one shifted.
        num_heads: attention heads.
        window_size: (wt, wh, ww); if wt is 1, frames are refined independently.
        conv_groups: channel groups of the convolution.
        mlp_ratio, dtype, train: as in the block.
    """

    block: type[SwinBlock]
    dim: int
    num_groups: int
    depth: int
    num_heads: int
    window_size: Size
    conv_groups: int
    mlp_ratio: float
    dtype: Any
    train: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w {self.dim}"]:
        """Refines features, (b, t, h, w, c) -> (b, t, h, w, dim)."""
        norm = functools.partial(layer_norm, epsilon=self.block.epsilon, dtype=self.dtype)
        b, t, h, w, _ = x.shape
        if self.window_size[0] == 1:
            x = x.reshape(b * t, 1, *x.shape[2:])
        x = conv(x, self.dim, groups=self.conv_groups, name="conv_in", dtype=self.dtype)
        x = norm(x, name="norm_in")
        for i in range(self.num_groups):
            y = x
            for j in range(self.depth):
                block = self.block(
                    num_heads=self.num_heads,
                    window_size=self.window_size,
                    shifted=j % 2 == 1,
                    mlp_ratio=self.mlp_ratio,
                    dtype=self.dtype,
                    train=self.train,
                    name=f"block_{i}_{j}",
                )
                y = block(y)
            x = x + dense(y, self.dim, name=f"linear_{i}", dtype=self.dtype)
        return norm(x, name="norm_out").reshape(b, t, h, w, self.dim)


class GuidedDeformAttention(nn.Module):
    """Guided deformable attention from the current clip to the previous clip.

    Attributes:
        dim: channels of the features.
        num_heads: attention heads.
        groups: deformable groups, with separate offsets.
        window: (kh, kw) around each sampling position.
        max_residue: largest difference between offset and flow, pixels.
        dtype: of the computation; coordinates are float32.
        train: whether gradients are taken.

    Source: section 3.3.
    """

    dim: int
    num_heads: int
    groups: int
    window: tuple[int, int]
    max_residue: float
    dtype: Any
    train: bool = False

    def __call__(
        self,
        q: Float[Array, "b 2 h w {self.dim}"],
        k: Float[Array, "b 2 h w {self.dim}"],
        v: Float[Array, "b 2 h w {self.dim}"],
        flows: Flows,
    ) -> tuple[Float[Array, "b 2 h w {self.dim}"], Flows]:
        """Aligns the previous clip to the current one.

        Args:
            q: (b, 2, h, w, dim) features of the current clip, from the previous branch.
            k: (b, 2, h, w, dim) features of the previous clip, from the previous branch.
            v: (b, 2, h, w, dim) features of the previous clip, from this branch.
            flows: from frames 0 and 1 of the current clip to frames 0 and 1 of the previous one,
                and to frames 1 and 0; each (b, 2, h, w, 2).

        Returns:
            The aligned v, (b, 2, h, w, dim), and the flows updated by the mean offsets.
        """
        warp = jax.vmap(flow_warp, in_axes=1, out_axes=1)
        warped = warp(v, flows[0]), warp(v[:, ::-1], flows[1])
        return self.attend(q, k, v, warped, flows)

    @nn.compact
    def attend(
        self,
        q: Float[Array, "b 2 h w {self.dim}"],
        k: Float[Array, "b 2 h w {self.dim}"],
        v: Float[Array, "b 2 h w {self.dim}"],
        warped: Sequence[Float[Array, "b 2 h w {self.dim}"]],
        flows: Flows,
    ) -> tuple[Float[Array, "b 2 h w {self.dim}"], Flows]:
        """As `__call__`, with `v` warped by each of the flows, each (b, 2, h, w, dim)."""
        guides = [flow.astype(self.dtype) for flow in flows]
        residue = self.residue(jnp.concatenate([q, *warped, *guides], axis=-1))
        # Offsets alternate dy and dx. Each of the two sampled frames has its own flow.
        both = jnp.stack(flows, axis=-2)[..., None, ::-1]
        offset = residue.reshape(*residue.shape[:-1], CLIP, -1, 2) + both
        updated = jnp.moveaxis(offset.mean(-2)[..., ::-1], -2, 0)

        project = functools.partial(dense, features=2 * self.dim, dtype=self.dtype)
        q, k, v = project(q, name="proj_q"), project(k, name="proj_k"), project(v, name="proj_v")
        offset = offset.reshape(residue.shape)
        out = deform_attention(q, k, v, offset, self.num_heads, self.window, self.train)
        out = dense(out, self.dim, name="proj", dtype=self.dtype)
        mlp = MLP(2.0, self.dtype, name="mlp")
        return out + mlp(out), (updated[0], updated[1])

    def residue(self, cond: Float[Array, "b 2 h w c"]) -> Float32[Array, "b 2 h w offsets"]:
        """Predicts residual offsets, (b, 2, h, w, c) -> (b, 2, h, w, 2*2*groups*kh*kw)."""
        x = cond
        for i, side in enumerate((1, 3, 3, 3, 3)):
            x = leaky_relu(conv(x, 64, side, name=f"conv_offset_{i}", dtype=self.dtype))
        # Zero initialization: alignment starts from the flow.
        init = nn.initializers.zeros_init()
        features = 2 * CLIP * self.groups * self.window[0] * self.window[1]
        last = Conv(features, (1, 1), kernel_init=init, name="conv_offset_5")
        # In float32: an offset is a coordinate.
        return self.max_residue * jnp.tanh(last(x.astype(jnp.float32)))


class PropagationCell(nn.Module):
    """One propagation step: the previous clip is aligned, then the current clip is refined.

    Attributes:
        align: makes the alignment module.
        refine: makes the refinement module.
        dim: channels of the features.

    Source: section 3.1, equations 2 and 3.
    """

    align: Callable[..., nn.Module]
    refine: Callable[..., nn.Module]
    dim: int

    @nn.compact
    def __call__(self, carry: Any, step: Int32[Array, ""], inputs: Any) -> tuple[Any, Any]:
        """One step of `scan_frames`.

        Args:
            carry: features of the previous clip from this and from the previous branch, each
                (b, 2, h, w, dim).
            step: () int32, the number of previous steps.
            inputs: features (b, 2, h, w, n*dim) of the current clip (spatial features, then each
                earlier branch's), and its flows to the previous clip, or None.

        Returns:
            The next carry, the refined features (b, 2, h, w, dim), and the updated flows, for the
            next branch of the same direction.
        """
        feat_prop, feat_k = carry
        known, flows = inputs
        feat_q = known[..., -self.dim :]
        aligned, flows = self.align(name="deform_align")(feat_q, feat_k, feat_prop, flows)
        aligned = jnp.where(step == 0, 0, aligned)
        backbone = self.refine(name="backbone")
        feat = aligned + backbone(jnp.concatenate([known, aligned], axis=-1))
        return (feat, feat_q), (feat, flows)


class ClipRecurrence(nn.Module):
    """Recurrence over clips: four branches, each refining the features of all branches before it.

    Subclasses define the alignment of consecutive clips by `flows` and `alignment`.

    Attributes:
        dim: channels of the features.
        num_blocks: groups of blocks in feature extraction, in each branch, in reconstruction.
        depths: blocks per group, for the same three parts.
        num_heads: attention heads, for the same three parts.
        window_size: (2, wh, ww); windows of extraction and reconstruction hold one frame.
        mlp_ratio: hidden width of the MLPs over `dim`.
        inputconv_groups: channel groups of the first convolution of the extraction, of each
            branch, and of the reconstruction.
        attention_heads: heads of the alignment.
        attention_window: (kh, kw) window of the alignment in each frame.
        mid_channels: input channels of the upsampling head.
        features_hr: channels at full resolution.
        scale: 1, 3 or a power of two. If 1 (deblurring, denoising), the input is first downsampled
            by four, and the output has its size.
        noise_level: whether lq has a fourth channel, the standard deviation of the noise.
        dtype: of the computation; flows, offsets, logits, statistics and the image are float32.
        remat: whether activations are recomputed in the backward pass.
        unroll: clips per iteration of the compiled loop.
    """

    dim: int = 144
    num_blocks: tuple[int, int, int] = (1, 2, 1)
    depths: tuple[int, int, int] = (2, 2, 2)
    num_heads: tuple[int, int, int] = (6, 6, 6)
    window_size: Size = (2, 8, 8)
    mlp_ratio: float = 2.0
    inputconv_groups: tuple[int, int, int, int, int, int] = (1, 1, 1, 1, 1, 1)
    attention_heads: int = 12
    attention_window: tuple[int, int] = (3, 3)
    mid_channels: int = 64
    features_hr: int = 64
    scale: int = 4
    noise_level: bool = False
    dtype: Any = jnp.float32
    remat: bool = False
    unroll: int = 1

    block: ClassVar[type[SwinBlock]] = SwinBlock
    lookahead: ClassVar[int | None] = None  # the last frame reaches the first
    frame_multiple: ClassVar[int] = CLIP

    @nn.compact
    def __call__(
        self, lq: Float[AnyArray, "b t h w c"], train: bool = False
    ) -> Float32[Array, "b_out t_out h_out w_out 3"]:
        """Upsamples or restores clips.

        Args:
            lq: (b, t, h, w, 3) RGB in [0, 1], t even; with `noise_level`, (b, t, h, w, 4), where
                noise is in the same unit. If scale is 1, h and w must exceed 128, and one that is
                not a multiple of 4 is padded symmetrically to whole windows.
            train: changes memory and time, not the result.

        Returns:
            (b, t, scale*h, scale*w, 3) float32, not clipped.

        Raises:
            ValueError: an odd number of frames, another number of channels, frames too small.
        """
        # No parameter depends on the channels of the clip for initialization.
        lq = check_lq(lq, lq.shape[-1] if self.is_initializing() else 3 + self.noise_level)
        height, width = (self.scale * side for side in lq.shape[2:4])
        lq = self.prepare(lq)
        rgb = lq[..., :3].astype(jnp.float32)
        flows = self.flows(rgb)
        feats = [self.extract(lq, train)]
        self.sow("intermediates", "feat_shallow", feats[0])
        for branch, groups in zip(BRANCHES, self.inputconv_groups[1:-1], strict=True):
            direction, _, _ = branch.partition("_")
            # The second branch of a direction starts from the flows that the first one updated.
            known = jnp.concatenate(feats, axis=-1)
            feat, flows[direction] = self.propagate(known, flows[direction], groups, branch, train)
            feats.append(feat)
            self.sow("intermediates", f"feat_{branch}", feat)

        x = jnp.concatenate(feats, axis=-1)
        x = self.refinement(2, self.inputconv_groups[-1], train)(name="reconstruction")(x)
        self.sow("intermediates", "feat_reconstruction", x)
        x = conv(x, self.mid_channels, 1, name="conv_before_upsampler", dtype=self.dtype)
        head = PixelShuffleHead(
            scale=REDUCTION if self.scale == 1 else self.scale,
            features_hr=self.features_hr,
            dtype=self.dtype,
            activate_hr=False,
            name="head",
        )
        x = frame_by_frame(head, leaky_relu(x), train)
        base = rgb if self.scale == 1 else resize(rgb, (x.shape[2], x.shape[3]))
        return spatial_sharding.first(x + base, height)[..., :width, :]

    def prepare(self, lq: Float[Array, "b t _ _ c"]) -> Float[Array, "_ _ _ _ _"]:
        """Checks the size of clips (b, t, h, w, 3 or 4), and pads them if the scale is 1."""
        _, t, h, w, _ = lq.shape
        channels = 4 if self.noise_level else 3
        if self.is_initializing():
            # No parameter depends on the size of the clip.
            return jnp.zeros((1, CLIP, 64, 64, channels))
        if t % CLIP:
            raise ValueError(
                f"lq has {t} frames; expected a multiple of {CLIP} (repeat or drop the last frame)"
            )
        if self.scale != 1:
            return lq
        if min(h, w) <= MIN_FULL_SIZE:
            raise ValueError(
                f"frames of {h}x{w} pixels are too small; expected more than {MIN_FULL_SIZE} in "
                "height and width"
            )
        bottom, right = (
            -side % window if side % REDUCTION else 0
            for side, window in zip((h, w), self.window_size[1:], strict=True)
        )
        return spatial_sharding.pad_bottom_right(lq, bottom, right, "symmetric")

    def flows(self, rgb: Float[Array, "b t _ _ 3"]) -> dict[str, Flows | None]:
        """Flows between clips in each direction, from frames (b, t, h, w, 3); None: unused."""
        return dict.fromkeys(("backward", "forward"))

    def alignment(self, train: bool) -> Callable[..., nn.Module]:
        """Makes the alignment module, with the call signature of GuidedDeformAttention."""
        raise NotImplementedError

    def extract(
        self, lq: Float[Array, "b t _ _ c"], train: bool
    ) -> Float[Array, "b t h w {self.dim}"]:
        """Extracts features (b, t, h, w, dim) of each frame independently."""
        refine = self.refinement(0, self.inputconv_groups[0], train)
        if self.scale != 1:
            return refine(name="feat_extract")(lq)
        for i in range(2):
            lq = leaky_relu(strided_conv(lq, self.dim, name=f"conv_down_{i}", dtype=self.dtype))
        return refine(name="feat_extract_reduced")(lq)

    def refinement(self, part: int, conv_groups: int, train: bool) -> Callable[..., nn.Module]:
        """Makes the refinement of part 0 (extraction), 1 (a branch) or 2 (reconstruction)."""
        branch = part == 1
        # In a branch, rematerialization applies to the whole step instead.
        module = nn.remat(Refinement) if self.remat and not branch else Refinement
        return functools.partial(
            module,
            block=self.block,
            dim=self.dim,
            num_groups=self.num_blocks[part],
            depth=self.depths[part],
            num_heads=self.num_heads[part],
            window_size=self.window_size if branch else (1, *self.window_size[1:]),
            conv_groups=conv_groups,
            mlp_ratio=self.mlp_ratio,
            dtype=self.dtype,
            train=train,
        )

    def propagate(
        self,
        known: Float[Array, "b t h w n_dim"],
        flows: Flows | None,
        conv_groups: int,
        branch: str,
        train: bool,
    ) -> tuple[Float[Array, "b t h w {self.dim}"], Flows | None]:
        """Propagates features along a branch.

        Args:
            known: (b, t, h, w, n*dim) features of all earlier branches.
            flows: between clips, from `flows_between_clips`, or None.
            conv_groups: channel groups of the refinement's convolution.
            branch: name of the branch.
            train: whether gradients are taken.

        Returns:
            The features (b, t, h, w, dim), and flows for the next branch of the same direction.
        """
        cell = nn.remat(PropagationCell, prevent_cse=False) if self.remat else PropagationCell
        # Backward propagation is forward propagation in the reversed clip.
        step = -1 if branch.startswith("backward") else 1
        clips = in_clips(known[:, ::step])
        start = jnp.zeros_like(clips[:, 0, ..., : self.dim])
        align, refine = self.alignment(train), self.refinement(1, conv_groups, train)
        _, (feat, flows) = scan_frames(
            cell(align=align, refine=refine, dim=self.dim, name=branch),
            (start, start),
            (clips, flows),
            unroll=self.unroll,
        )
        return feat.reshape(*known.shape[:-1], self.dim)[:, ::step], flows


class RVRT(ClipRecurrence):
    """RVRT: the recurrence with guided deformable attention between clips.

    Attributes:
        deform_groups: deformable groups of the attention, with separate offsets.
        max_residue: largest difference between offset and flow, pixels.
        align: whether alignment is guided by SpyNet's flow. If not, offsets are relative to the
            same position, and the network has no SpyNet.
    """

    deform_groups: int = 12
    max_residue: float = 10.0
    align: bool = True

    def flows(self, rgb: Float[Array, "b t _ _ 3"]) -> dict[str, Flows | None]:
        b, t, h, w, _ = rgb.shape
        if self.scale == 1:
            h, w = h // REDUCTION, w // REDUCTION
            rgb = resize(rgb, (h, w), "bicubic")
        flows_forward = flows_backward = jnp.zeros((b, t - 1, h, w, 2))
        if self.align:
            flows_forward, flows_backward = clip_flows(SpyNet(name="spynet"), rgb)
            self.sow("intermediates", "flow_forward", flows_forward)
            self.sow("intermediates", "flow_backward", flows_backward)
        return {
            "backward": flows_between_clips(flows_backward, reverse=True),
            "forward": flows_between_clips(flows_forward, reverse=False),
        }

    def alignment(self, train: bool) -> Callable[..., nn.Module]:
        return functools.partial(
            GuidedDeformAttention,
            dim=self.dim,
            num_heads=self.attention_heads,
            groups=self.deform_groups,
            window=self.attention_window,
            max_residue=self.max_residue,
            dtype=self.dtype,
            train=train,
        )


def in_clips(x: Float[Array, "b t *rest"]) -> Float[Array, "b t//2 2 *rest"]:
    """Groups frames into clips: (b, t, ...) -> (b, t/2, 2, ...)."""
    return x.reshape(x.shape[0], -1, CLIP, *x.shape[2:])


def flows_between_clips(flows: Float[Array, "b pairs h w 2"], reverse: bool) -> Flows:
    """Composes flows from each clip to the previous clip of a recurrence.

    Args:
        flows: (b, t-1, h, w, 2) between neighboring frames, as for `first_order_flows`.
        reverse: whether the recurrence runs from the last frame to the first.

    Returns:
        Flows from frames 0 and 1 of a clip to frames 0 and 1 of the previous clip, and to its
        frames 1 and 0; each (b, t/2, 2, h, w, 2). Frames and clips are in the order of the
        recurrence. The flows of the first clip are undefined.

    Source: section 3.3, "guided".
    """
    to_last, to_last_but_one = second_order_flows(flows, reverse)
    step = -1 if reverse else 1
    to_last, direct = in_clips(to_last[:, ::step]), in_clips(to_last_but_one[:, ::step])
    # Three frames ahead: from the second frame to the first, then two frames further.
    warp = jax.vmap(flow_warp, in_axes=1, out_axes=1)
    three_on = to_last[:, :, 1] + warp(direct[:, :, 0], to_last[:, :, 1])
    return direct, jnp.stack([to_last[:, :, 0], three_on], axis=2)
