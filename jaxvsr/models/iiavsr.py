"""IIA-VSR: recurrent video super-resolution by intra & inter-frame attention, without masks.

Source: Zhou et al., "Video Super-Resolution Transformer with Masked Inter&Intra-Frame Attention",
CVPR 2024, sections 3.1 and 3.2. MIA-VSR (miavsr.py) adds the masks of section 3.3.
"""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxvsr.layers.blocks import DropPath, conv, layer_norm, normalize
from jaxvsr.layers.gating import in_turns
from jaxvsr.layers.propagation import frame_by_frame, scan_frames, second_order_flows
from jaxvsr.layers.scan_layers import scan_layers
from jaxvsr.layers.upsample import PixelShuffleHead, resize
from jaxvsr.layers.warp import patch_align
from jaxvsr.layers.window_block import (
    AttentionWeights,
    BlockWeights,
    MLPWeights,
    NormWeights,
    Windows,
    refine,
    tiled,
)
from jaxvsr.layers.windows import inside_frame, merge, partition, shift_regions
from jaxvsr.models.inputs import check_lq
from jaxvsr.models.spynet import SpyNet, clip_flows

MIN_SIZE = 64  # pixels a side that the published systems ask for where SpyNet is used
BRANCHES = ("backward_1", "forward_1", "backward_2", "forward_2")


class IIABlock(nn.Module):
    """Intra & inter-frame attention block: the current frame asks, three frames answer.

    Attributes:
        num_heads: attention heads.
        window_size: (3, wh, ww).
        shifted: whether the windows lie half a window off the origin.
        mlp_ratio: width of the MLP over that of the features.
        train: whether masks, where a block has them, are trained.
        dtype: of the computation.

    Source: section 3.2, equations 4 to 7.
    """

    num_heads: int
    window_size: tuple[int, int, int]
    shifted: bool
    mlp_ratio: float
    train: bool
    dtype: Any

    query_frames: ClassVar[int] = 1  # how many of the window's frames ask, the last ones

    @staticmethod
    def initial_state(x: jax.Array, window_size: tuple[int, int, int]) -> Any:
        """What the block remembers at a branch's start of frames (b, h, w, c): nothing."""
        return ()

    @nn.compact
    def __call__(
        self, x: jax.Array, cond: Any, state: Any, first: jax.Array, drop_path: ArrayLike = 0.0
    ) -> tuple[jax.Array, Any]:
        """Refines the current frame.

        Args:
            x: (b, h, w, c) the current frame.
            cond: of `neighbours`, the aligned frames two steps and one step before.
            state: what the block remembers of the step before.
            first: () bool, whether there is no step before.
            drop_path: rate of stochastic depth.

        Returns:
            (b, h, w, c) and the state for the next step.
        """
        weights, windows = self.weights(x.shape[-1]), self.windows(x, cond, drop_path)
        if self.train or self.is_initializing():
            attn, hidden = refine(weights, windows)
        else:
            attn, hidden = in_turns(refine, weights, windows)
        return self.merge(windows.x + windows.drop_attn * attn + hidden, x), state

    def weights(self, dim: int) -> BlockWeights:
        """The block's parameters."""
        attn = AttentionWeights(self.num_heads, self.window_size, self.query_frames, name="attn")
        norm1, norm2 = (NormWeights(name=name)(dim) for name in ("norm1", "norm2"))
        mlp = MLPWeights(self.mlp_ratio, name="mlp")
        return BlockWeights(norm1, *attn(dim), norm2, *mlp(dim))

    def windows(self, x: jax.Array, cond: Any, drop_path: ArrayLike) -> Windows:
        """Cuts what the block is called with; arguments are as its."""
        clips, size = x.shape[0], (3, x.shape[-3], x.shape[-2])
        tokens = self.partition(x)
        regions = None
        if self.shifted:
            regions = tiled(shift_regions(size, self.window_size, self.shift), clips)
        # Stochastic depth is by clip, and drawn for each of the two ways.
        drop = DropPath(drop_path)
        one, each = jnp.ones((clips, 1, 1), x.dtype), tokens.shape[0] // clips
        drop_attn, drop_mlp = (jnp.repeat(drop(one), each, axis=0) for _ in range(2))
        return Windows(
            x=tokens,
            normed=normalize(tokens, self.dtype),
            others=None if cond is None else cond[self.shifted],
            inside=tiled(inside_frame(size, self.window_size, self.shift), clips),
            regions=regions,
            drop_attn=drop_attn,
            drop_mlp=drop_mlp,
        )

    @property
    def shift(self) -> tuple[int, int, int]:
        return half_window(self.window_size) if self.shifted else (0, 0, 0)

    def partition(self, x: jax.Array) -> jax.Array:
        """(b, h, w, c) -> windows of all clips (b*n, wh*ww, c)."""
        window_size = (self.query_frames, *self.window_size[1:])
        frames = x.reshape(x.shape[0], self.query_frames, *x.shape[-3:])
        windows = partition(frames, window_size, self.shift)
        return windows.reshape(-1, *windows.shape[2:])

    def merge(self, windows: jax.Array, like: jax.Array) -> jax.Array:
        """Undoes `partition` of an array of the shape of `like`, but perhaps for its channels."""
        window_size = (self.query_frames, *self.window_size[1:])
        height, width = like.shape[-3:-1]
        size = (self.query_frames, height, width)
        windows = windows.reshape(like.shape[0], -1, *windows.shape[1:])
        return merge(windows, size, window_size, self.shift).reshape(*like.shape[:-1], -1)


def half_window(window_size: tuple[int, int, int]) -> tuple[int, int, int]:
    """How far shifted windows lie off the origin: in space alone."""
    return 0, window_size[1] // 2, window_size[2] // 2


def neighbours(
    frames: jax.Array, window_size: tuple[int, int, int], dtype: Any
) -> tuple[jax.Array, jax.Array]:
    """Prepares the frames that blocks look at and do not refine, once for all blocks of a step.

    Args:
        frames: (b, k, h, w, c).
        window_size: (k + 1, wh, ww).
        dtype: of the computation.

    Returns:
        Their tokens, normalised without any block's affine part, in windows at the origin and in
        shifted ones: (b*n, k*wh*ww, c) each.
    """

    def cut(shift: tuple[int, int, int]) -> jax.Array:
        windows = partition(frames, (frames.shape[1], *window_size[1:]), shift)
        return normalize(windows.reshape(-1, *windows.shape[2:]), dtype)

    return cut((0, 0, 0)), cut(half_window(window_size))


class ResidualGroup(nn.Module):
    """Blocks in a row, a convolution, and the way around them.

    Attributes:
        block: makes a block from its `num_heads`, `shifted` and `name`.
        num_heads: attention heads.
        loop: whether pairs of blocks run in a loop.
        dtype: of the computation.
    """

    block: Callable[..., nn.Module]
    num_heads: int
    loop: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, x: jax.Array, cond: Any, states: tuple, first: jax.Array, drop_path: tuple
    ) -> tuple[jax.Array, tuple]:
        """What its blocks take, each block's state and rate -> x refined, the next states.

        `x` may be one frame (b, h, w, c) or several (b, n, h, w, c): the convolution is by frame.
        """

        def run(
            group: "ResidualGroup", i: int, y: jax.Array, state: Any, rate: ArrayLike
        ) -> tuple[jax.Array, Any]:
            block = group.block(num_heads=group.num_heads, shifted=i % 2 == 1, name=f"block_{i}")
            return block(y, cond, state, first, rate)

        blocks = zip(states, drop_path, strict=True)
        period = 2 if self.loop else len(states)
        y, states = scan_layers(run, self, "block", x, blocks, period)
        return x + conv(y, x.shape[-1], name="conv", dtype=self.dtype), states


class PropagationCell(nn.Module):
    """One step of a branch: the two frames met before are aligned, the current one is refined.

    Which frames the blocks get, and which of them they refine, is in `stack`, `split` and
    `current`.

    Attributes:
        block: as in ResidualGroup.
        window_size: of the blocks.
        depths: blocks of each group.
        num_heads: attention heads of each group.
        drop_path: rate of the last block; it rises linearly from 0.
        loop: whether groups, if they are alike, and pairs of blocks run in loops: a program that
            is compiled sooner, and copies what blocks remember.
        dtype: of the computation.

    Source: section 3.1, equations 1 to 3.
    """

    block: Callable[..., nn.Module]
    window_size: tuple[int, int, int]
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    drop_path: float
    loop: bool
    dtype: Any

    @nn.compact
    def __call__(self, carry: Any, step: jax.Array, inputs: Any) -> tuple[Any, jax.Array]:
        """One step of `scan_frames`.

        Args:
            carry: outputs (b, h, w, c) one step and two steps before, each group's states.
            step: () int32, how many frames were met.
            inputs: the current frame (b, h, w, c) and its flows (b, h, w, 2) to the frames one
                and two steps before, or None where nothing is aligned.

        Returns:
            The next carry, and the refined frame (b, h, w, c).
        """
        feat_n1, feat_n2, states = carry
        feat_current, flow_n1, flow_n2 = inputs
        first = step == 0
        if flow_n1 is not None:
            feat_n1_aligned = patch_align(feat_n1, flow_n1)
            feat_n2_aligned = patch_align(feat_n2, flow_n2)
        else:
            feat_n1_aligned, feat_n2_aligned = feat_n1, feat_n2
        frames = self.stack(step, feat_current, feat_n1_aligned, feat_n2_aligned)
        frames = layer_norm(frames, name="patch_embed", dtype=self.dtype)
        x, cond = self.split(frames)
        rates = np.linspace(0, self.drop_path, sum(self.depths))

        def run(
            cell: "PropagationCell", i: int, x: jax.Array, states: tuple, rates: tuple
        ) -> tuple[jax.Array, tuple]:
            heads, name = cell.num_heads[i], f"group_{i}"
            group = ResidualGroup(cell.block, heads, cell.loop, cell.dtype, name=name)
            return group(x, cond, states, first, rates)

        by_group = map(tuple, np.split(rates, np.cumsum(self.depths)[:-1]))
        groups = zip(states, by_group, strict=True)
        alike = len(set(zip(self.depths, self.num_heads, strict=True))) == 1
        period = 1 if self.loop and alike else len(self.depths)
        x, states = scan_layers(run, self, "group", x, groups, period)
        x = layer_norm(self.current(x), name="norm", dtype=self.dtype)
        feat = feat_current + conv(x, x.shape[-1], name="conv_after_body", dtype=self.dtype)
        return (feat, feat_n1, states), feat

    def stack(self, step: jax.Array, current: jax.Array, n1: jax.Array, n2: jax.Array) -> jax.Array:
        """The current frame and the aligned ones, each (b, h, w, c) -> (b, 3, h, w, c)."""
        # What is not there yet is stood in for by the nearest that is.
        n1 = jnp.where(step == 0, current, n1)
        n2 = jnp.where(step < 2, n1, n2)
        return jnp.stack([n2, n1, current], axis=1)

    def split(self, frames: jax.Array) -> tuple[jax.Array, Any]:
        """The stack (b, 3, h, w, c) -> what the blocks refine, what else they look at."""
        return frames[:, 2], neighbours(frames[:, :2], self.window_size, self.dtype)

    def current(self, x: jax.Array) -> jax.Array:
        """What the blocks refined -> the current frame (b, h, w, c)."""
        return x


class IIAVSR(nn.Module):
    """Four recurrent branches, backward and forward in turn, each refining the one before.

    Attributes:
        dim: channels of the features.
        depths: blocks of each residual group of a branch.
        num_heads: attention heads of each group.
        window_size: (3, wh, ww).
        mlp_ratio: width of the MLPs over `dim`.
        mid_channels: channels at the start of the upsampling head.
        features_hr: channels at full resolution.
        scale: 1, 3 or a power of two.
        drop_path: highest rate of stochastic depth; active where an rng "droppath" is given.
        align: whether earlier frames are patch-aligned by SpyNet's flow. Without, they stay where
            they are, and there is no SpyNet.
        dtype: of the computation; flows, logits, statistics and the image are float32.
        remat: whether each step's activations, and within it each block's, are computed again in
            the backward pass.
        unroll: frames that are compiled into one turn of the recurrence.
    """

    dim: int = 120
    depths: tuple[int, ...] = (6, 6, 6, 6)
    num_heads: tuple[int, ...] = (6, 6, 6, 6)
    window_size: tuple[int, int, int] = (3, 8, 8)
    mlp_ratio: float = 2.0
    mid_channels: int = 64
    features_hr: int = 64
    scale: int = 4
    drop_path: float = 0.1
    align: bool = True
    dtype: Any = jnp.float32
    remat: bool = False
    unroll: int = 1

    block: ClassVar[type[IIABlock]] = IIABlock
    cell: ClassVar[type[PropagationCell]] = PropagationCell
    lookahead: ClassVar[int | None] = None  # the last frame reaches the first

    @nn.compact
    def __call__(self, lq: jax.Array, train: bool = False) -> jax.Array:
        """Restores clips.

        Args:
            lq: (b, t, h, w, 3) RGB in [0, 1]; h and w at least 64 where frames are aligned.
            train: whether masks, where the model has them, are trained.

        Returns:
            (b, t, scale*h, scale*w, 3) float32, not clipped.

        Raises:
            ValueError: frames too small for SpyNet.
        """
        lq = check_lq(lq)
        h, w = lq.shape[2:4]
        flows_forward = flows_backward = None
        if self.align:
            if min(h, w) < MIN_SIZE:
                raise ValueError(
                    f"frames of {h}x{w} pixels are too small to be aligned by SpyNet: at least "
                    f"{MIN_SIZE}x{MIN_SIZE} are needed (or align=False)"
                )
            # Patch alignment rounds the flow, so that no gradient would reach SpyNet anyway.
            flows_forward, flows_backward = jax.lax.stop_gradient(
                clip_flows(SpyNet(name="spynet"), lq)
            )
            if not self.is_initializing():
                self.sow("aux", "flows_forward", flows_forward)
                self.sow("aux", "flows_backward", flows_backward)

        feats = conv(lq, self.dim, name="conv_first", dtype=self.dtype)
        for branch in BRANCHES:
            reverse = branch.startswith("backward")
            flows = flows_backward if reverse else flows_forward
            feats = self.propagate(feats, flows, branch, train)
            self.sow("intermediates", f"feat_{branch}", feats)

        x = conv(feats, self.mid_channels, name="conv_before_upsample", dtype=self.dtype)
        head = PixelShuffleHead(self.scale, self.features_hr, self.dtype, name="head")
        sr = frame_by_frame(head, x, train)
        return sr + resize(lq.astype(jnp.float32), (self.scale * h, self.scale * w))

    def make_block(self, train: bool) -> Callable[..., nn.Module]:
        """What makes a block of this network from what differs between its blocks."""
        # Within steps that are computed again: or the loops would store and copy their logits.
        block = nn.remat(self.block) if self.remat else self.block
        return functools.partial(
            block,
            window_size=self.window_size,
            mlp_ratio=self.mlp_ratio,
            train=train,
            dtype=self.dtype,
        )

    def propagate(
        self, feats: jax.Array, flows: jax.Array | None, branch: str, train: bool
    ) -> jax.Array:
        """Runs a branch over features (b, t, h, w, c), flows (b, t-1, h, w, 2) or None."""
        # Not blocks alone: what lies around them, in float32, would need as much memory.
        make_cell = nn.remat(self.cell, prevent_cse=False) if self.remat else self.cell
        cell = make_cell(
            self.make_block(train),
            self.window_size,
            self.depths,
            self.num_heads,
            self.drop_path,
            train,
            self.dtype,
            name=branch,
        )
        reverse = branch.startswith("backward")
        flow_n1, flow_n2 = (None, None) if flows is None else second_order_flows(flows, reverse)
        start = jnp.zeros_like(feats[:, 0])
        state = self.block.initial_state(start, self.window_size)
        states = tuple((state,) * depth for depth in self.depths)
        carry, inputs = (start, start, states), (feats, flow_n1, flow_n2)
        _, feats = scan_frames(cell, carry, inputs, reverse=reverse, unroll=self.unroll)
        return feats
