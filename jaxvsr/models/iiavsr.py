"""IIA-VSR: the current frame attends to itself and to two patch-aligned neighbors.

It is MIA-VSR (miavsr.py) without masks.

Source: Zhou et al., "Video Super-Resolution Transformer with Masked Inter&Intra-Frame Attention",
CVPR 2024, sections 3.1 and 3.2.
"""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Int

from jaxvsr.layers.blocks import conv
from jaxvsr.layers.patch_aligned_recurrence import PropagationCell, propagate
from jaxvsr.layers.propagation import BRANCHES, frame_by_frame
from jaxvsr.layers.upsample import PixelShuffleHead, resize
from jaxvsr.layers.window_refinement import check_attention, refine_windows
from jaxvsr.layers.window_transformer import (
    NeighborWindows,
    block_weights,
    make_windows,
    merge_windows,
)
from jaxvsr.layers.windows import Size
from jaxvsr.models.inputs import AnyArray, check_lq
from jaxvsr.models.spynet import flows_for_patch_alignment


class IIABlock(nn.Module):
    """Intra & inter-frame attention block (IIAB), which refines the current frame only.

    Queries come from the current frame, keys and values from it and its two aligned neighbors.

    Attributes:
        num_heads: attention heads.
        window_size: (3, wh, ww).
        shifted: whether windows are shifted by half their size, in space.
        mlp_ratio: hidden width of the MLP over the number of channels.
        train: whether gradients are taken.
        dtype: of the computation.
        attention: as the network's.

    Source: section 3.2, equations 4 to 7.
    """

    num_heads: int
    window_size: Size
    shifted: bool
    mlp_ratio: float
    train: bool
    dtype: Any
    attention: str = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b 1 h w c"], neighbors: NeighborWindows, drop_path: ArrayLike = 0.0
    ) -> Float[Array, "b 1 h w c"]:
        """Refines the current frame.

        Args:
            x: the current frame.
            neighbors: the aligned frames two steps and one step before, of `neighbor_windows`.
            drop_path: rate of stochastic depth.
        """
        weights = block_weights(
            dim=x.shape[-1],
            num_heads=self.num_heads,
            window_size=self.window_size,
            query_frames=1,
            mlp_ratio=self.mlp_ratio,
        )
        windows = make_windows(
            x,
            neighbors,
            window_size=self.window_size,
            shifted=self.shifted,
            drop_path=drop_path,
            dtype=self.dtype,
        )
        refined = refine_windows(
            weights,
            windows,
            shape=x.shape,
            window_size=self.window_size,
            shifted=self.shifted,
            train=self.train,
            kernels=self.attention == "auto",
            tables=self.get_variable("tables", "block"),  # of `propagate`
        )
        return merge_windows(refined, x.shape, window_size=self.window_size, shifted=self.shifted)


def arrange(
    step: Int[Array, ""],
    feat_current: Float[Array, "b h w c"],
    feat_n1: Float[Array, "b h w c"],
    feat_n2: Float[Array, "b h w c"],
) -> Float[Array, "b 3 h w c"]:
    """Stacks the frames of a window: two steps before, one step before, current.

    Earlier frames that do not exist yet are replaced by the nearest available one.
    """
    feat_n1 = jnp.where(step == 0, feat_current, feat_n1)
    feat_n2 = jnp.where(step < 2, feat_n1, feat_n2)
    return jnp.stack([feat_n2, feat_n1, feat_current], axis=1)


class IIAVSR(nn.Module):
    """Four recurrent branches, alternately backward and forward, each refining the previous one.

    Attributes:
        dim: channels of the features.
        depths: blocks of each residual group of a branch.
        num_heads: attention heads of each group.
        window_size: (3, wh, ww).
        mlp_ratio: hidden width of the MLPs over `dim`.
        mid_channels: channels at the start of the upsampling head.
        features_hr: channels at full resolution.
        scale: 1, 3 or a power of two.
        drop_path: highest rate of stochastic depth; active where an rng "droppath" is given.
        align: whether earlier frames are patch-aligned by SpyNet's flow. Without alignment there
            is no SpyNet.
        dtype: of the computation; flows, statistics and the output are float32.
        remat: whether the backward pass recomputes each step's activations and, within a step, each
            block's.
        unroll: frames per iteration of the compiled loop.
        attention: "auto" computes blocks by a kernel where the platform has one; "plain": always by
            XLA's own operations.

    Raises:
        ValueError: `attention` is invalid.
    """

    dim: int = 120
    depths: tuple[int, ...] = (6, 6, 6, 6)
    num_heads: tuple[int, ...] = (6, 6, 6, 6)
    window_size: Size = (3, 8, 8)
    mlp_ratio: float = 2.0
    mid_channels: int = 64
    features_hr: int = 64
    scale: int = 4
    drop_path: float = 0.1
    align: bool = True
    dtype: Any = jnp.float32
    remat: bool = False
    unroll: int = 1
    attention: str = "auto"

    lookahead: ClassVar[int | None] = None  # the last frame influences the first

    def __post_init__(self) -> None:
        check_attention(self.attention)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, lq: Float[AnyArray, "b t h w 3"], train: bool = False
    ) -> Float32[Array, "b t {self.scale}*h {self.scale}*w 3"]:
        """Upscales clips.

        Args:
            lq: (b, t, h, w, 3) RGB in [0, 1]; h and w at least 64 if frames are aligned.
            train: whether gradients are taken.

        Returns:
            (b, t, scale*h, scale*w, 3) float32, not clipped.

        Raises:
            ValueError: frames are too small for SpyNet.
        """
        lq = check_lq(lq)
        flows = flows_for_patch_alignment(self, lq) if self.align else {}
        feats = conv(lq, self.dim, name="conv_first", dtype=self.dtype)
        for branch in BRANCHES:
            direction = branch.partition("_")[0]
            feats = propagate(
                self.branch(branch, train),
                feats,
                flows.get(direction),
                reverse=direction == "backward",
                unroll=self.unroll,
            )
            self.sow("intermediates", f"feat_{branch}", feats)
        x = conv(feats, self.mid_channels, name="conv_before_upsample", dtype=self.dtype)
        head = PixelShuffleHead(
            scale=self.scale, features_hr=self.features_hr, dtype=self.dtype, name="head"
        )
        size = (self.scale * lq.shape[2], self.scale * lq.shape[3])
        return frame_by_frame(head, x, train) + resize(lq.astype(jnp.float32), size)

    def branch(self, name: str, train: bool) -> PropagationCell:
        """A branch, as a submodule."""
        cell, block = PropagationCell, IIABlock
        if self.remat:
            cell, block = nn.remat(cell, prevent_cse=False), nn.remat(block)
        make_block = functools.partial(
            block,
            window_size=self.window_size,
            mlp_ratio=self.mlp_ratio,
            train=train,
            dtype=self.dtype,
            attention=self.attention,
        )
        return cell(
            make_block=make_block,
            arrange=arrange,
            query_frames=1,
            current=0,
            window_size=self.window_size,
            depths=self.depths,
            num_heads=self.num_heads,
            drop_path=self.drop_path,
            scan_blocks=train,
            dtype=self.dtype,
            kernels=self.attention == "auto" and not train,
            name=name,
        )
