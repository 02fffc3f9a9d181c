"""Recurrence over patch-aligned frames, refined by groups of transformer blocks.

It is what PSRT, IIA-VSR and MIA-VSR have in common. They differ in their blocks and in the frames
that form a window.

Source: Shi et al., "Rethinking Alignment in Video Super-Resolution Transformers" (PSRT), section 4.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxvsr.layers.blocks import conv, layer_norm
from jaxvsr.layers.propagation import scan_frames, second_order_flows
from jaxvsr.layers.scan_layers import scan_layers
from jaxvsr.layers.warp import patch_align
from jaxvsr.layers.window_refinement import prepare_tables
from jaxvsr.layers.window_transformer import neighbor_windows, weights_of
from jaxvsr.layers.windows import Size


class ResidualGroup(nn.Module):
    """Transformer blocks, a convolution, and a skip connection around them.

    Attributes:
        make_block: makes a block from `num_heads`, `shifted` and `name`. The block is called with
            x, neighbors and the rate of stochastic depth, and returns x; if it has a memory, it is
            called with its memory as well, and returns (x, memory).
        num_heads: attention heads.
        scan_blocks: whether pairs of blocks run in a loop.
        dtype: of the computation.
    """

    make_block: Callable[..., nn.Module]
    num_heads: int
    scan_blocks: bool
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b q h w c"],
        neighbors: Any,
        memories: tuple[Any, ...],
        drop_path: tuple[ArrayLike, ...],
    ) -> tuple[Float[Array, "b q h w c"], tuple[Any, ...]]:
        """Refines frames.

        Args:
            x: the frames.
            neighbors: of `neighbor_windows`, or None.
            memories: of each block; None: it has none.
            drop_path: rate of stochastic depth of each block.

        Returns:
            The refined frames, and the blocks' new memories.
        """

        def apply_block(group: Any, i: int, y: Any, memory: Any, rate: Any) -> tuple[Any, Any]:
            block = group.make_block(
                num_heads=group.num_heads, shifted=i % 2 == 1, name=f"block_{i}"
            )
            if memory is None:
                return block(y, neighbors, rate), None
            return block(y, neighbors, rate, memory)

        blocks = zip(memories, drop_path, strict=True)
        period = 2 if self.scan_blocks else len(memories)
        y, memories = scan_layers(apply_block, self, "block", x, blocks, period)
        return x + conv(y, x.shape[-1], name="conv", dtype=self.dtype), memories


class PropagationCell(nn.Module):
    """One step of a branch: aligns the branch's last two outputs and refines the current frame.

    Attributes:
        make_block: of ResidualGroup.
        arrange: maps the number of earlier frames, the current frame and the aligned outputs one
            and two steps before, each (b, h, w, c), to the frames (b, 3, h, w, c) of the windows.
            It replaces the outputs that do not exist yet.
        query_frames: how many of these frames are refined, the last ones. Blocks attend to all.
        current: index of the current frame among the refined frames.
        window_size: (3, wh, ww).
        depths: blocks of each group.
        num_heads: attention heads of each group.
        drop_path: stochastic depth of the last block; it rises linearly from 0.
        scan_blocks: whether groups, if they are alike, and pairs of blocks run in loops. Such a
            program compiles faster; the loops copy the blocks' memories.
        dtype: of the computation.
        kernels: whether blocks are those of window_transformer.py and kernels compute them, where
            the platform has one.
    """

    make_block: Callable[..., nn.Module]
    arrange: Callable[..., Float[Array, "b 3 h w c"]]
    query_frames: int
    current: int
    window_size: Size
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    drop_path: float
    scan_blocks: bool
    dtype: Any
    kernels: bool = False

    @nn.compact
    def __call__(
        self, carry: Any, step: Int[Array, ""], inputs: Any
    ) -> tuple[Any, Float[Array, "b h w c"]]:
        """Computes one step of `scan_frames`.

        Args:
            carry: outputs (b, h, w, c) one and two steps before, and the blocks' memories.
            step: number of earlier frames.
            inputs: the current frame (b, h, w, c) and its flows (b, h, w, 2) to the frames one and
                two steps before; None: nothing is aligned.

        Returns:
            The next carry, and the refined current frame.
        """
        feat_n1, feat_n2, memories = carry
        feat_current, flow_n1, flow_n2 = inputs
        aligned_n1, aligned_n2 = feat_n1, feat_n2
        if flow_n1 is not None:
            aligned_n1 = patch_align(feat_n1, flow_n1)
            aligned_n2 = patch_align(feat_n2, flow_n2)
        frames = self.arrange(step, feat_current, aligned_n1, aligned_n2)
        frames = layer_norm(frames, name="patch_embed", dtype=self.dtype)
        others = frames.shape[1] - self.query_frames
        neighbors = None
        if others:
            neighbors = neighbor_windows(frames[:, :others], self.window_size, self.dtype)
        x, memories = self.apply_groups(frames[:, others:], neighbors, memories)
        x = layer_norm(x[:, self.current], name="norm", dtype=self.dtype)
        feat = feat_current + conv(x, x.shape[-1], name="conv_after_body", dtype=self.dtype)
        return (feat, feat_n1, memories), feat

    def apply_groups(
        self, x: Float[Array, "b q h w c"], neighbors: Any, memories: tuple[tuple[Any, ...], ...]
    ) -> tuple[Float[Array, "b q h w c"], tuple[tuple[Any, ...], ...]]:
        """Applies the residual groups; arguments are as ResidualGroup's, memories by group."""

        def apply_group(cell: Any, i: int, x: Any, memories: Any, rates: Any) -> tuple[Any, Any]:
            group = ResidualGroup(
                make_block=cell.make_block,
                num_heads=cell.num_heads[i],
                scan_blocks=cell.scan_blocks,
                dtype=cell.dtype,
                name=f"group_{i}",
            )
            return group(x, neighbors, memories, rates)

        rates = np.linspace(0, self.drop_path, sum(self.depths))
        by_group = map(tuple, np.split(rates, np.cumsum(self.depths)[:-1]))
        groups = zip(memories, by_group, strict=True)
        alike = len(set(zip(self.depths, self.num_heads, strict=True))) == 1
        period = 1 if self.scan_blocks and alike else len(self.depths)
        return scan_layers(apply_group, self, "group", x, groups, period)


def propagate(
    cell: PropagationCell,
    feats: Float[Array, "b t h w c"],
    flows: Float[Array, "b t-1 h w 2"] | None,
    *,
    reverse: bool,
    unroll: int,
    memory: Any = None,
) -> Float[Array, "b t h w c"]:
    """Runs a branch over the frames of clips.

    Args:
        cell: the branch.
        feats: features of the frames.
        flows: between neighboring frames, from the later to the earlier one, or the other way if
            `reverse`; None: frames are not aligned.
        reverse: whether the last frame comes first.
        unroll: frames per iteration of the compiled loop.
        memory: of each block at the first frame; None: blocks have none.

    Returns:
        The refined features.
    """
    flow_n1, flow_n2 = (None, None) if flows is None else second_order_flows(flows, reverse)
    start = jnp.zeros_like(feats[:, 0])
    memories = tuple((memory,) * depth for depth in cell.depths)
    carry, inputs = (start, start, memories), (feats, flow_n1, flow_n2)

    def scan(cell: PropagationCell) -> Any:
        return scan_frames(cell, carry, inputs, reverse=reverse, unroll=unroll)[1]

    if cell.kernels and not cell.is_initializing():
        with_tables = functools.partial(add_tables, cell, feats)
        scan = nn.map_variables(scan, ["params", "tables"], with_tables)
    return scan(cell)


def add_tables(cell: PropagationCell, feats: Float[Array, "b t h w c"], variables: Any) -> Any:
    """Adds what kernels read of a branch's parameters, which is computed once for all frames.

    Args:
        cell: the branch.
        feats: features of the frames.
        variables: of the branch.

    Returns:
        The variables, and each block's tables of `prepare_tables` as its "block" in "tables".
    """
    params, windows, size = variables["params"], cell.window_size, feats.shape[2:4]

    def prepare(group: str, j: int) -> Any:
        weights = weights_of(
            params[group][f"block_{j}"], window_size=windows, query_frames=cell.query_frames
        )
        shifted = j % 2 == 1
        return prepare_tables(
            weights, size=size, window_size=windows, shifted=shifted, dtype=feats.dtype
        )

    tables = {
        f"group_{i}": {f"block_{j}": {"block": prepare(f"group_{i}", j)} for j in range(depth)}
        for i, depth in enumerate(cell.depths)
    }
    return {"params": params, "tables": tables}
