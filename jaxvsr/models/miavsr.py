"""MIA-VSR: IIA-VSR whose blocks skip the tokens that hardly changed since the previous frame.

Source: Zhou et al., "Video Super-Resolution Transformer with Masked Inter&Intra-Frame Attention",
CVPR 2024, section 3.3.
"""

import functools
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Float32

from jaxvsr.kernels.block_tables import Gate
from jaxvsr.layers.blocks import conv
from jaxvsr.layers.gating import MaskPredictor
from jaxvsr.layers.patch_aligned_recurrence import PropagationCell, propagate
from jaxvsr.layers.propagation import BRANCHES, frame_by_frame
from jaxvsr.layers.upsample import PixelShuffleHead, resize
from jaxvsr.layers.window_refinement import check_attention, refine_windows, weigh_change
from jaxvsr.layers.window_transformer import (
    NeighborWindows,
    Norm,
    Windows,
    block_weights,
    make_windows,
    merge_windows,
    split_windows,
)
from jaxvsr.layers.windows import Size, count
from jaxvsr.models.iiavsr import arrange
from jaxvsr.models.inputs import AnyArray, check_lq
from jaxvsr.models.spynet import flows_for_patch_alignment


class Memory(NamedTuple):
    """A block's memory of the previous frame, without gradient.

    Attributes:
        exists: whether there is a previous frame.
        normed: tokens of the current frame, normalized without the norm's affine part.
        attn, hidden: outputs of the attention and of the MLP.
    """

    exists: Bool[Array, ""]
    normed: Float[Array, "n tokens c"]
    attn: Float[Array, "n tokens c"]
    hidden: Float[Array, "n tokens c"]


def initial_memory(x: Float[Array, "b 1 h w c"], window_size: Size) -> Memory:
    """The memory at the first frame of a branch, at which blocks compute every token."""
    zeros = jnp.zeros_like(split_windows(x, window_size=window_size, shifted=False))
    return Memory(jnp.array(False), zeros, zeros, zeros)


class MIABlock(nn.Module):
    """Masked intra & inter-frame attention block (MIIAB).

    A dropped token reuses the outputs of attention and MLP of the previous frame. The residual
    stream itself is always that of the current frame.

    Sows "keep_ratio" (b,), the fraction of each clip's tokens that are kept, padding included;
    outside training "mask" (b, h, w); in training "kept" and "change" (b, n, tokens), the mask and
    the mean absolute change of each token since the previous frame, without which "kept" is 0.

    Attributes:
        num_heads: attention heads.
        window_size: (3, wh, ww).
        shifted: whether windows are shifted by half their size, in space.
        mlp_ratio: hidden width of the MLP over the number of channels.
        train: whether gradients are taken; masks then are straight-through.
        dtype: of the computation.
        attention, use_mask, gating, threshold, keep_share, window_masks, mask_start: as MIAVSR's.

    Source: section 3.3, equations 8 to 11.
    """

    num_heads: int
    window_size: Size
    shifted: bool
    mlp_ratio: float
    train: bool
    dtype: Any
    attention: str = "auto"
    use_mask: bool = True
    gating: str = "dense"
    threshold: float = 0.0
    keep_share: float = 0.0
    window_masks: bool = False
    mask_start: float = 0.0

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b 1 h w c"],
        neighbors: NeighborWindows,
        drop_path: ArrayLike,
        memory: Memory,
    ) -> tuple[Float[Array, "b 1 h w c"], Memory]:
        """Refines the current frame.

        Args:
            x: the current frame.
            neighbors: the aligned frames two steps and one step before, of `neighbor_windows`.
            drop_path: rate of stochastic depth.
            memory: of the previous frame.

        Returns:
            The refined frame, and the memory of this frame.
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
        mask, normed = self.predict_mask(windows, memory, weights.norm1, x.shape)
        refined, attn, hidden = refine_windows(
            weights,
            windows,
            Gate(mask, memory.attn, memory.hidden),
            shape=x.shape,
            window_size=self.window_size,
            shifted=self.shifted,
            train=self.train,
            kernels=self.attention == "auto",
            tables=self.get_variable("tables", "block"),  # of `propagate`
            skip=self.gating == "bucketed" and self.use_mask,
        )
        y = merge_windows(refined, x.shape, window_size=self.window_size, shifted=self.shifted)
        memory = Memory(jnp.array(True), normed, attn, hidden)
        return y, jax.lax.stop_gradient(memory)

    def predict_mask(
        self,
        windows: Windows,
        memory: Memory,
        norm: Norm,
        shape: tuple[int, ...],
    ) -> tuple[Float[Array, "n tokens 1"], Float[Array, "n tokens c"]]:
        """Predicts which tokens are kept: 1, or dropped: 0.

        Args:
            windows: of the current frame.
            memory: of the previous frame.
            norm: the affine part of the first norm.
            shape: (b, 1, h, w, c) of the frame.

        Returns:
            The mask, and the tokens of the current frame, normalized without the affine part.

        Source: equations 8 and 9.
        """
        clips, _, height, width, dim = shape
        real = count((1, height, width), (1, *self.window_size[1:]))
        predictor = MaskPredictor(
            train=self.train,
            threshold=self.threshold,
            keep_share=self.keep_share,
            by_window=self.window_masks,
            initial_threshold=self.mask_start,
            name="predictor",
        )
        kernels = self.attention == "auto" and not self.train
        weights = norm.scale, *predictor.weights(dim)
        logit, normed = weigh_change(windows, memory.normed, *weights, kernels=kernels)
        logit = logit.reshape(clips, -1, *logit.shape[1:])
        decided = predictor.decide(logit, real)
        mask = jnp.where(memory.exists & self.use_mask, decided, 1.0)
        if self.use_mask and not self.is_initializing():
            self.sow("aux", "keep_ratio", mask[:, :real].mean((1, 2, 3)))
            if self.train:
                self.sow("aux", "kept", jnp.where(memory.exists, mask[:, :real, :, 0], 0.0))
                change = jnp.abs(norm.scale) * jnp.abs(normed - memory.normed)
                change = jax.lax.stop_gradient(change)
                change = change.reshape(clips, -1, *change.shape[1:])[:, :real]
                self.sow("aux", "change", change.mean(-1).astype(jnp.float32))
        mask = mask.reshape(-1, *mask.shape[2:])
        if self.use_mask and not self.is_initializing() and not self.train:
            merged = merge_windows(mask, shape, window_size=self.window_size, shifted=self.shifted)
            self.sow("aux", "mask", merged[:, 0, ..., 0])
        return mask, normed


class MIAVSR(nn.Module):
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
        dtype: of the computation; flows, logits, statistics and the output are float32.
        remat: whether the backward pass recomputes each step's activations and, within a step, each
            block's.
        unroll: frames per iteration of the compiled loop.
        attention: "auto" computes blocks by a kernel where the platform has one; "plain": always by
            XLA's own operations.
        use_mask: whether the predicted masks apply; without them the function is IIA-VSR's.
        gating: "dense" computes every token and then selects; "bucketed" computes the kept tokens
            only, with the same result, and has an effect outside training only.
        threshold: of the masks' logits, outside training; the official code's is 0. A higher one
            keeps fewer tokens, without retraining.
        keep_share: 0, or the fraction of a clip's tokens that each block keeps, those of the
            highest logits, instead of all above the threshold.
        window_masks: whether the tokens of a window are kept or dropped together.
        mask_start: of the initial weights of mask predictors: 0 as in the official code, or the
            mean change of a token from which it is kept at the start of a training.

    Raises:
        ValueError: `attention`, `gating` or `keep_share` is invalid.
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
    use_mask: bool = True
    gating: str = "dense"
    threshold: float = 0.0
    keep_share: float = 0.0
    window_masks: bool = False
    mask_start: float = 0.0

    lookahead: ClassVar[int | None] = None  # the last frame influences the first

    def __post_init__(self) -> None:
        check_attention(self.attention)
        if self.gating not in ("dense", "bucketed"):
            raise ValueError(f"gating={self.gating!r} must be 'dense' or 'bucketed'")
        if not 0 <= self.keep_share <= 1:
            raise ValueError(f"keep_share={self.keep_share!r} must be between 0 and 1")
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
                memory=initial_memory(feats[:, :1], self.window_size),
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
        cell, block = PropagationCell, MIABlock
        if self.remat:
            cell, block = nn.remat(cell, prevent_cse=False), nn.remat(block)
        make_block = functools.partial(
            block,
            window_size=self.window_size,
            mlp_ratio=self.mlp_ratio,
            train=train,
            dtype=self.dtype,
            attention=self.attention,
            use_mask=self.use_mask,
            gating=self.gating,
            threshold=self.threshold,
            keep_share=self.keep_share,
            window_masks=self.window_masks,
            mask_start=self.mask_start,
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
