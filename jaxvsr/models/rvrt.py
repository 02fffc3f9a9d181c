"""RVRT: a recurrence over clips of two frames, which are refined together.

Source: Liang et al., "Recurrent Video Restoration Transformer with Guided Deformable Attention",
NeurIPS 2022, section 3.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvsr.distributed import spatial_sharding
from jaxvsr.layers.blocks import MLP, Conv, conv, dense, gelu, layer_norm, leaky_relu, strided_conv
from jaxvsr.layers.deform import deform_attention
from jaxvsr.layers.propagation import frame_by_frame, scan_frames, second_order_flows
from jaxvsr.layers.transformer import WindowBlock
from jaxvsr.layers.upsample import PixelShuffleHead, resize
from jaxvsr.layers.warp import flow_warp
from jaxvsr.layers.windows import Size
from jaxvsr.models.spynet import SpyNet, clip_flows

BRANCHES = ("backward_1", "forward_1", "backward_2", "forward_2")
CLIP = 2  # frames that are refined together
REDUCTION = 4  # of frames that leave with the size that they come with
MIN_SIZE = 128  # pixels a side that such frames must exceed, for SpyNet to see more than 32

Flows = tuple[jax.Array, jax.Array]


class SwinBlock(WindowBlock):
    """Attention in windows of a clip and an MLP, each normed before and added after.

    Source: section 3.2.
    """

    def mlp(self, x: jax.Array) -> jax.Array:
        """(b, t, h, w, c) -> (b, t, h, w, c)."""
        return MLP(self.mlp_ratio, self.dtype, self.activation, name="mlp")(x)

    @staticmethod
    def activation(x: jax.Array) -> jax.Array:
        """That of the MLPs."""
        return gelu(x)


class Refinement(nn.Module):
    """A convolution, and groups of blocks with a linear layer and a way around each.

    Attributes:
        block: the kind of block.
        dim: output channels.
        num_groups: groups in a row.
        depth: blocks of a group, every other one shifted.
        num_heads: attention heads.
        window_size: (wt, wh, ww); with wt = 1 frames do not meet.
        conv_groups: of the convolution.
        mlp_ratio, dtype: as the block's.
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

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(b, t, h, w, c) -> (b, t, h, w, dim)."""
        norm = functools.partial(layer_norm, epsilon=self.block.epsilon, dtype=self.dtype)
        b, t, h, w, _ = x.shape
        if self.window_size[0] == 1:
            x = x.reshape(b * t, 1, *x.shape[2:])
        x = conv(x, self.dim, 3, self.conv_groups, name="conv_in", dtype=self.dtype)
        x = norm(x, name="norm_in")
        how = {"mlp_ratio": self.mlp_ratio, "dtype": self.dtype}
        for i in range(self.num_groups):
            y = x
            for j in range(self.depth):
                block = functools.partial(self.block, self.num_heads, self.window_size, j % 2 == 1)
                y = block(**how, name=f"block_{i}_{j}")(y)
            x = x + dense(y, self.dim, name=f"linear_{i}", dtype=self.dtype)
        return norm(x, name="norm_out").reshape(b, t, h, w, self.dim)


class GuidedDeformAttention(nn.Module):
    """Looks for a clip in the clip met before, near where flows between their frames say.

    Attributes:
        dim: channels of the features.
        num_heads: attention heads.
        groups: deformable groups, whose offsets differ.
        window: (kh, kw) of what is looked at around each place.
        max_residue: pixels that an offset may stray from the flow.
        dtype: of the computation; coordinates are float32.

    Source: section 3.3.
    """

    dim: int
    num_heads: int
    groups: int
    window: tuple[int, int]
    max_residue: float
    dtype: Any

    def __call__(
        self, q: jax.Array, k: jax.Array, v: jax.Array, flows: Flows
    ) -> tuple[jax.Array, Flows]:
        """Aligns.

        Args:
            q: (b, 2, h, w, dim) the current clip.
            k: (b, 2, h, w, dim) the clip before, as the current one is given.
            v: (b, 2, h, w, dim) the clip before, as it was refined.
            flows: from frames 0 and 1 of the current clip to frames 0 and 1 of the other, and to
                frames 1 and 0, each (b, 2, h, w, 2).

        Returns:
            v aligned, (b, 2, h, w, dim), and the flows that its offsets amount to.
        """
        warp = jax.vmap(flow_warp, in_axes=1, out_axes=1)
        warped = warp(v, flows[0]), warp(v[:, ::-1], flows[1])
        return self.attend(q, k, v, warped, flows)

    @nn.compact
    def attend(
        self, q: jax.Array, k: jax.Array, v: jax.Array, warped: Sequence[jax.Array], flows: Flows
    ) -> tuple[jax.Array, Flows]:
        """As above; `warped`, each (b, 2, h, w, dim), is what the flows make of `v`."""
        guides = [flow.astype(self.dtype) for flow in flows]
        residue = self.residue(jnp.concatenate([q, *warped, *guides], axis=-1))
        # Offsets are (dy, dx) in turn; those to either frame have a flow of their own.
        both = jnp.stack(flows, axis=-2)[..., None, ::-1]
        offset = residue.reshape(*residue.shape[:-1], CLIP, -1, 2) + both
        updated = jnp.moveaxis(offset.mean(-2)[..., ::-1], -2, 0)

        project = functools.partial(dense, features=2 * self.dim, dtype=self.dtype)
        q, k, v = project(q, name="proj_q"), project(k, name="proj_k"), project(v, name="proj_v")
        kv, offset = jnp.concatenate([k, v], axis=-1), offset.reshape(residue.shape)
        out = deform_attention(q, kv, offset, self.num_heads, self.window)
        out = dense(out, self.dim, name="proj", dtype=self.dtype)
        mlp = MLP(2.0, self.dtype, name="mlp")
        return out + mlp(out), (updated[0], updated[1])

    def residue(self, cond: jax.Array) -> jax.Array:
        """What offsets are found from, (b, 2, h, w, c) -> (b, 2, h, w, 2*2*groups*kh*kw)."""
        x = cond
        for i, side in enumerate((1, 3, 3, 3, 3)):
            x = leaky_relu(conv(x, 64, side, name=f"conv_offset_{i}", dtype=self.dtype))
        # Starts as zero: at first what is aligned is what the flow says.
        init = nn.initializers.zeros_init()
        features = 2 * CLIP * self.groups * self.window[0] * self.window[1]
        last = Conv(features, (1, 1), kernel_init=init, name="conv_offset_5")
        # In float32: an offset is a coordinate.
        return self.max_residue * jnp.tanh(last(x.astype(jnp.float32)))


class PropagationCell(nn.Module):
    """One step of a branch: the clip met before is aligned and refined by all that is known.

    Attributes:
        align: makes the alignment.
        refine: makes the refinement.
        dim: channels of the features.

    Source: section 3.1, equations 2 and 3.
    """

    align: Callable[..., nn.Module]
    refine: Callable[..., nn.Module]
    dim: int

    @nn.compact
    def __call__(self, carry: Any, step: jax.Array, inputs: Any) -> tuple[Any, Any]:
        """One step of `scan_frames`.

        Args:
            carry: of the clip met before, the output and what was known last of it, each
                (b, 2, h, w, dim).
            step: () int32, how many clips were met.
            inputs: the current clip's features (b, 2, h, w, n*dim), the spatial ones first and
                then each earlier branch's, and its flows to the clip before, or None.

        Returns:
            The next carry, the refined features (b, 2, h, w, dim), and flows that hold for the
            next branch of the direction.
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
    """Four recurrent branches over clips, each of which sees what all before it made.

    How a clip is aligned to the one before is in `flows` and `alignment`.

    Attributes:
        dim: channels of the features.
        num_blocks: groups of blocks in the extraction, in each branch, in the reconstruction.
        depths: blocks of a group there.
        num_heads: attention heads there.
        window_size: (2, wh, ww); in the extraction and the reconstruction, of one frame.
        mlp_ratio: width of the MLPs over `dim`.
        inputconv_groups: groups of the convolution that the extraction, each branch and the
            reconstruction begin with.
        attention_heads: heads of the alignment.
        attention_window: (kh, kw), what the alignment looks at in each frame.
        mid_channels: channels at the start of the upsampling head.
        features_hr: channels at full resolution.
        scale: 1, 3 or a power of two. With 1 (deblurring, denoising) frames are first reduced by
            four, and leave with the size that they come with.
        noise_level: whether a fourth channel of the input is the level of the noise.
        dtype: of the computation; flows, offsets, logits, statistics and the image are float32.
        remat: whether activations are computed again in the backward pass.
        unroll: clips that are compiled into one turn of the recurrence.
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

    @nn.compact
    def __call__(self, lq: jax.Array, train: bool = False) -> jax.Array:
        """Restores clips.

        Args:
            lq: (b, t, h, w, 3) RGB in [0, 1], t even; if denoising, (b, t, h, w, 4) with the
                standard deviation of the noise, 1 being white. If scale is 1, h and w must exceed
                128, and one that is no multiple of 4 is padded by its reverse to whole windows.
            train: changes memory and time, not the result.

        Returns:
            (b, t, scale*h, scale*w, 3) float32, not clipped.

        Raises:
            ValueError: an odd number of frames, another number of channels, frames too small.
        """
        height, width = (self.scale * side for side in lq.shape[2:4])
        lq = self.prepare(lq)
        rgb = lq[..., :3].astype(jnp.float32)
        flows = self.flows(rgb)
        feats = [self.extract(lq)]
        self.sow("intermediates", "feat_shallow", feats[0])
        for branch, groups in zip(BRANCHES, self.inputconv_groups[1:-1], strict=True):
            direction, _, _ = branch.partition("_")
            # The second branch of a direction goes on with the flows that the first one found.
            known = jnp.concatenate(feats, axis=-1)
            feat, flows[direction] = self.propagate(known, flows[direction], groups, branch)
            feats.append(feat)
            self.sow("intermediates", f"feat_{branch}", feat)

        x = jnp.concatenate(feats, axis=-1)
        x = self.refinement(2, self.inputconv_groups[-1])(name="reconstruction")(x)
        self.sow("intermediates", "feat_reconstruction", x)
        x = conv(x, self.mid_channels, 1, name="conv_before_upsampler", dtype=self.dtype)
        enlargement = REDUCTION if self.scale == 1 else self.scale
        head = PixelShuffleHead(enlargement, self.features_hr, self.dtype, False, name="head")
        x = frame_by_frame(head, leaky_relu(x), train)
        base = rgb if self.scale == 1 else resize(rgb, (x.shape[2], x.shape[3]))
        return spatial_sharding.first(x + base, height)[..., :width, :]

    def prepare(self, lq: jax.Array) -> jax.Array:
        """Checks clips (b, t, h, w, 3 or 4), and pads them where the scale is 1."""
        _, t, h, w, c = lq.shape
        channels = 4 if self.noise_level else 3
        if self.is_initializing():
            # No parameter depends on the clip: a small one is as good as any.
            return jnp.zeros((1, CLIP, 64, 64, channels))
        if t % CLIP:
            raise ValueError(
                f"{t} frames cannot be cut into clips of {CLIP}: repeat the last one, or leave it "
                "out"
            )
        if c != channels:
            what = "RGB and the level of the noise" if channels == 4 else "RGB"
            raise ValueError(f"frames have {c} channels, not {channels}: {what}")
        if self.scale != 1:
            return lq
        if min(h, w) <= MIN_SIZE:
            raise ValueError(f"frames of {h}x{w} pixels are too small: more than {MIN_SIZE} a side")
        bottom, right = (
            -side % window if side % REDUCTION else 0
            for side, window in zip((h, w), self.window_size[1:], strict=True)
        )
        return spatial_sharding.extend(lq, bottom, right, "symmetric")

    def flows(self, rgb: jax.Array) -> dict[str, Flows | None]:
        """Flows between clips, (b, t, h, w, 3), of each direction; None: nothing asks for any."""
        return dict.fromkeys(("backward", "forward"))

    def alignment(self) -> Callable[..., nn.Module]:
        """Makes what takes q, k, v and flows as GuidedDeformAttention does."""
        raise NotImplementedError

    def extract(self, lq: jax.Array) -> jax.Array:
        """Clips (b, t, h, w, 3 or 4) to the features of each frame by itself."""
        refine = self.refinement(0, self.inputconv_groups[0])
        if self.scale != 1:
            return refine(name="feat_extract")(lq)
        for i in range(2):
            lq = leaky_relu(strided_conv(lq, self.dim, name=f"conv_down_{i}", dtype=self.dtype))
        return refine(name="feat_extract_reduced")(lq)

    def refinement(self, part: int, conv_groups: int) -> Callable[..., nn.Module]:
        """Makes that of the extraction, of a branch or of the reconstruction: part 0, 1 or 2."""
        branch = part == 1
        # What is inside of a loop is computed again with the whole of its turn.
        module = nn.remat(Refinement) if self.remat and not branch else Refinement
        return functools.partial(
            module,
            self.block,
            self.dim,
            self.num_blocks[part],
            self.depths[part],
            self.num_heads[part],
            self.window_size if branch else (1, *self.window_size[1:]),
            conv_groups,
            self.mlp_ratio,
            self.dtype,
        )

    def propagate(
        self, known: jax.Array, flows: Flows | None, conv_groups: int, branch: str
    ) -> tuple[jax.Array, Flows | None]:
        """Runs a branch.

        Args:
            known: (b, t, h, w, n*dim), what the branches before made.
            flows: between clips, as `flows_between_clips` gives them, or None.
            conv_groups: of the refinement.
            branch: its name.

        Returns:
            The features (b, t, h, w, dim), and flows for the next branch of the direction.
        """
        cell = nn.remat(PropagationCell, prevent_cse=False) if self.remat else PropagationCell
        # A branch that runs backward is one that runs forward in the reversed clip.
        step = -1 if branch.startswith("backward") else 1
        clips = in_clips(known[:, ::step])
        start = jnp.zeros_like(clips[:, 0, ..., : self.dim])
        _, (feat, flows) = scan_frames(
            cell(self.alignment(), self.refinement(1, conv_groups), self.dim, name=branch),
            (start, start),
            (clips, flows),
            unroll=self.unroll,
        )
        return feat.reshape(*known.shape[:-1], self.dim)[:, ::step], flows


class RVRT(ClipRecurrence):
    """The branches with guided deformable attention between their clips.

    Attributes:
        deform_groups: groups of channels whose offsets differ.
        max_residue: pixels that an offset may stray from the flow.
        align: whether alignment is guided by SpyNet's flow. Without, it starts from the same
            place, and there is no SpyNet.
    """

    deform_groups: int = 12
    max_residue: float = 10.0
    align: bool = True

    def flows(self, rgb: jax.Array) -> dict[str, Flows | None]:
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

    def alignment(self) -> Callable[..., nn.Module]:
        return functools.partial(
            GuidedDeformAttention,
            self.dim,
            self.attention_heads,
            self.deform_groups,
            self.attention_window,
            self.max_residue,
            self.dtype,
        )


def in_clips(x: jax.Array) -> jax.Array:
    """(b, t, ...) -> (b, t/2, 2, ...)."""
    return x.reshape(x.shape[0], -1, CLIP, *x.shape[2:])


def flows_between_clips(flows: jax.Array, reverse: bool) -> Flows:
    """Flows from each clip to the one that a recurrence met before it.

    Args:
        flows: (b, t-1, h, w, 2) between neighbouring frames, as `first_order_flows` takes them.
        reverse: whether the recurrence runs from the last frame to the first.

    Returns:
        From a clip's frames 0 and 1, in the order in which they are met, to frames 0 and 1 of the
        clip before, and to its frames 1 and 0: each (b, t/2, 2, h, w, 2), in the order in which
        the clips are met, and meaningless for the first one.

    Source: section 3.3, "guided".
    """
    to_last, to_last_but_one = second_order_flows(flows, reverse)
    step = -1 if reverse else 1
    to_last, direct = in_clips(to_last[:, ::step]), in_clips(to_last_but_one[:, ::step])
    # From the second frame on to the first, and from there two frames on.
    warp = jax.vmap(flow_warp, in_axes=1, out_axes=1)
    three_on = to_last[:, :, 1] + warp(direct[:, :, 0], to_last[:, :, 1])
    return direct, jnp.stack([to_last[:, :, 0], three_on], axis=2)
