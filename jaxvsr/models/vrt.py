"""VRT: a video restoration transformer without recurrence, on four scales.

Source: Liang et al., "VRT: A Video Restoration Transformer", IEEE TIP 2024 (arXiv:2201.12288),
section 3.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from jaxvsr.distributed import spatial_sharding
from jaxvsr.layers.blocks import GEGLU, conv, dense, layer_norm, torch_uniform
from jaxvsr.layers.deform import FlowGuidedDeformConv
from jaxvsr.layers.propagation import frame_by_frame
from jaxvsr.layers.transformer import BlockGroup
from jaxvsr.layers.upsample import PixelShuffleHead, resize
from jaxvsr.layers.warp import flow_warp, nearest_corners
from jaxvsr.layers.windows import Size
from jaxvsr.models.inputs import AnyArray, check_lq
from jaxvsr.models.spynet import SpyNet

# Downsampling of each of the first seven stages, as a power of two.
HALVINGS = (0, 1, 2, 3, 2, 1, 0)
INTERPOLATED = 4  # input frames of frame interpolation
MAX_RESIDUE = 10.0  # largest difference between offset and flow, pixels at full size


# Flows to the frames 1, 2, ... ahead, in clips and in their reverse.
Flows = list[Float[Array, "b 2 _ _ _ 2"]]


class Stage(nn.Module):
    """Temporal mutual self-attention and parallel warping at one scale.

    Attributes:
        dim: channels of the features.
        depth: number of blocks.
        mutual_ratio: fraction of them with mutual attention, the first ones; 0..1.
        num_heads: attention heads.
        window_size: (wt, wh, ww); of the mutual blocks, (2, wh, ww).
        reshape: resampling at the start of the stage: "none", "down" or "up".
        halvings: downsampling of this scale, as a power of two.
        pa_frames: neighboring frames of parallel warping, on both sides together.
        deform_groups: deformable groups for all neighboring frames of one side together.
        drop_path: rate of stochastic depth of each block.
        dtype: of the computation.
        remat: whether blocks are recomputed in the backward pass.
        train: whether gradients are taken.
    """

    dim: int
    depth: int
    mutual_ratio: float
    num_heads: int
    window_size: Size
    reshape: str
    halvings: int
    pa_frames: int
    deform_groups: int
    drop_path: tuple[float, ...]
    dtype: Any
    remat: bool
    train: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t h w c"], flows: Flows
    ) -> Float[Array, "b t h_out w_out {self.dim}"]:
        """Maps features (b, t, h, w, c) to (b, t, h', w', dim); flows as for parallel warping."""
        x = self.resample(x)
        mutual = int(self.depth * self.mutual_ratio)
        # As in the official code, both groups use the first rates of stochastic depth.
        groups = (
            (mutual, (2, *self.window_size[1:]), True),
            (self.depth - mutual, self.window_size, False),
        )
        for i, (depth, window_size, is_mutual) in enumerate(groups, start=1):
            group = BlockGroup(
                num_heads=self.num_heads,
                window_size=window_size,
                drop_path=self.drop_path[:depth],
                mutual=is_mutual,
                dtype=self.dtype,
                remat=self.remat,
                train=self.train,
                name=f"group{i}",
            )
            x = x + dense(group(x), self.dim, name=f"linear{i}", dtype=self.dtype)
        if self.pa_frames:
            x = self.parallel_warping(x, flows)
        return x

    def resample(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h_out w_out {self.dim}"]:
        """Resamples features by moving 2x2 pixels to or from channels, then a norm and a linear."""
        height = x.shape[2]
        if self.reshape != "none":
            x = spatial_sharding.take(x, spatial_sharding.aligned(height, 2))
        b, t, h, w, c = x.shape
        # The channels of 2x2 pixels are ordered by column, then by row.
        if self.reshape == "down":
            x = x.reshape(b, t, h // 2, 2, w // 2, 2, c).transpose(0, 1, 2, 4, 5, 3, 6)
            x = spatial_sharding.first(x.reshape(b, t, h // 2, w // 2, 4 * c), height // 2)
        elif self.reshape == "up":
            x = x.reshape(b, t, h, w, 2, 2, c // 4).transpose(0, 1, 2, 5, 3, 4, 6)
            x = spatial_sharding.first(x.reshape(b, t, 2 * h, 2 * w, c // 4), 2 * height)
        x = layer_norm(x, name="reshape_norm", dtype=self.dtype)
        if self.reshape == "none":
            return x
        return dense(x, self.dim, name="reshape_linear", dtype=self.dtype)

    def parallel_warping(
        self, x: Float[Array, "b t h w {self.dim}"], flows: Flows
    ) -> Float[Array, "b t h w {self.dim}"]:
        """Aligns neighboring frames of both sides to each frame, and fuses them.

        Args:
            x: (b, t, h, w, dim).
            flows: from `flows_ahead`, at this scale.

        Returns:
            (b, t, h, w, dim).

        Source: section 3.3.
        """
        ahead = both_ways(x)
        current, steps = ahead[:, :, :-1], range(1, self.pa_frames // 2 + 1)
        # Beyond the end of the clip, features and flows are zero.
        others = [append_zeros(ahead[:, :, k:], k - 1) for k in steps]
        flows = [append_zeros(flow, k - 1) for flow, k in zip(flows, steps, strict=True)]
        warped = [by_frame(flow_warp)(*pair) for pair in zip(others, flows, strict=True)]
        align = FlowGuidedDeformConv(
            features=self.dim,
            deform_groups=self.deform_groups,
            max_residue=MAX_RESIDUE / 2**self.halvings,
            groups=len(others),
            dtype=self.dtype,
            name="pa_deform",
        )
        feats = jnp.concatenate(others, axis=-1)
        cond = jnp.concatenate([*warped, current, *flows], axis=-1)
        aligned = by_frame(lambda x, cond, *flows: align(x, cond, flows))(feats, cond, *flows)
        x = jnp.concatenate([x, per_frame(aligned)], axis=-1)
        return GEGLU(x.shape[-1], self.dim, self.dtype, name="pa_fuse")(x)


class ReconstructionGroup(nn.Module):
    """Reconstruction at full size: self-attention blocks, a linear layer, a skip connection.

    Attributes:
        num_heads, window_size, drop_path, dtype, remat, train: as in `BlockGroup`.
    """

    num_heads: int
    window_size: Size
    drop_path: tuple[float, ...]
    dtype: Any
    remat: bool
    train: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        """Refines features (b, t, h, w, c)."""
        group = BlockGroup(
            num_heads=self.num_heads,
            window_size=self.window_size,
            drop_path=self.drop_path,
            dtype=self.dtype,
            remat=self.remat,
            train=self.train,
            name="group",
        )
        return x + dense(group(x), x.shape[-1], name="linear", dtype=self.dtype)


class VRT(nn.Module):
    """VRT: seven stages of a U-shaped network, then reconstruction groups at full size.

    Attributes:
        scale: 1, 3 or a power of two; 1: the output has the size of the input.
        dims: channels of each of the seven stages, all equal, then of each reconstruction group.
        depths: number of blocks of each stage and group.
        num_heads: attention heads of each stage and group.
        window_size: (wt, wh, ww).
        indep_reconsts: indices, from 7 on, of groups that attend within single frames.
        mul_attn_ratio: fraction of a stage's blocks that have mutual attention.
        pa_frames: neighboring frames of parallel warping, on both sides together: 2, 4 or 6.
            0: no parallel warping and no SpyNet.
        deform_groups: deformable groups of parallel warping, for all frames of one side together.
        noise_level: whether lq has a fourth channel, the standard deviation of the noise.
        interpolation: whether to interpolate the middle frame of four; requires pa_frames=0.
        features_hr: channels at full resolution.
        drop_path: largest rate of stochastic depth, active if an rng "droppath" is given.
        dtype: of the computation; flows, offsets, logits, statistics and the image are float32.
        remat: whether blocks are recomputed in the backward pass.
    """

    scale: int = 4
    dims: tuple[int, ...] = (120,) * 7 + (180,) * 6
    depths: tuple[int, ...] = (8,) * 7 + (4,) * 6
    num_heads: tuple[int, ...] = (6,) * 13
    window_size: tuple[int, int, int] = (6, 8, 8)
    indep_reconsts: tuple[int, ...] = (11, 12)
    mul_attn_ratio: float = 0.75
    pa_frames: int = 2
    deform_groups: int = 12
    noise_level: bool = False
    interpolation: bool = False
    features_hr: int = 64
    drop_path: float = 0.2
    dtype: Any = jnp.float32
    remat: bool = False

    lookahead: ClassVar[int | None] = None  # every stage looks both ways

    @nn.compact
    def __call__(
        self, lq: Float[AnyArray, "b t h w c"], train: bool = False
    ) -> Float32[Array, "b_out t_out h_out w_out 3"]:
        """Upsamples, restores or interpolates clips.

        Args:
            lq: (b, t, h, w, 3) RGB in [0, 1], or 4 channels with `noise_level`. After padding to
                multiples of 8, h and w must be at least 8 windows.
            train: changes memory and time, not the result.

        Returns:
            (b, t, scale*h, scale*w, 3) float32, not clipped; t is 1 for interpolation.

        Raises:
            ValueError: clips too short, frames too small, or inconsistent fields.
        """
        # No parameter depends on the channels of the clip for initialization.
        lq = check_lq(lq, lq.shape[-1] if self.is_initializing() else 3 + self.noise_level)
        self.check_sizes(lq)
        if self.is_initializing():
            # No parameter depends on the size of the clip.
            sides = (8 * side for side in self.window_size[1:])
            lq = jnp.zeros((1, self.min_frames, *sides, 3 + self.noise_level))
        height, width = lq.shape[2:4]
        lq = spatial_sharding.pad_bottom_right(
            lq.astype(jnp.float32), -height % 8, -width % 8, "symmetric"
        )

        frames = lq[..., :3]
        mean = frames.mean((1, 2, 3), keepdims=True) if self.interpolation else 0
        flows: list[Flows] = [[]] * 4
        known = [frames - mean]
        if self.pa_frames:
            flows = flows_ahead(SpyNet(name="spynet"), frames, self.pa_frames // 2)
            ahead = both_ways(frames)[:, :, 1:]
            known.append(per_frame(by_frame(nearest_corners)(ahead, flows[0][0])))
        x = jnp.concatenate([*known, lq[..., 3:]], axis=-1)
        x = conv(x, self.dims[0], name="conv_first", dtype=self.dtype)
        deep = self.body(x, flows, train)
        x = x + dense(deep, self.dims[0], name="conv_after_body", dtype=self.dtype)

        x = self.interpolate(x) + mean if self.interpolation else self.upsample(x, frames, train)
        return spatial_sharding.first(x, self.scale * height)[..., : self.scale * width, :]

    def check_sizes(self, lq: Float[Array, "b t h w c"]) -> None:
        """Raises ValueError if fields contradict each other, or clips are too short or small."""
        if self.interpolation and (self.pa_frames or self.scale != 1):
            raise ValueError("interpolation=True requires pa_frames=0 and scale=1")
        if self.pa_frames not in (0, 2, 4, 6) or 2 * self.deform_groups % max(self.pa_frames, 1):
            raise ValueError(
                f"pa_frames={self.pa_frames} must be 0, 2, 4 or 6, and deform_groups="
                f"{self.deform_groups} a multiple of its half"
            )
        _, t, h, w, _ = lq.shape
        least_h, least_w = (8 * side - 7 for side in self.window_size[1:])
        if h < least_h or w < least_w:
            raise ValueError(
                f"frames of {h}x{w} pixels are too small; expected at least {least_h}x{least_w}, "
                f"eight times the window {self.window_size[1:]}"
            )
        if self.is_initializing():
            return
        if self.interpolation and t != INTERPOLATED:
            raise ValueError(f"lq has {t} frames; interpolation expects {INTERPOLATED}")
        if t < self.min_frames:
            raise ValueError(f"lq has {t} frames; expected at least {self.min_frames}")

    @property
    def min_frames(self) -> int:
        """Smallest number of frames: two, or what parallel warping needs."""
        return INTERPOLATED if self.interpolation else max(2, self.pa_frames // 2 + 1)

    def body(
        self, x: Float[Array, "b t h w c"], flows: list[Flows], train: bool
    ) -> Float[Array, "b t h w _"]:
        """Extracts deep features from shallow ones (b, t, h, w, c)."""
        ends = np.cumsum(self.depths)
        rates = np.linspace(0, self.drop_path, int(ends[-1])).tolist()
        rates = [
            tuple(rates[end - depth : end]) for end, depth in zip(ends, self.depths, strict=True)
        ]
        stages: list[jax.Array] = []
        for i, halvings in enumerate(HALVINGS):
            before = HALVINGS[max(i - 1, 0)]
            stage = Stage(
                dim=self.dims[i],
                depth=self.depths[i],
                mutual_ratio=self.mul_attn_ratio,
                num_heads=self.num_heads[i],
                window_size=self.window_size,
                reshape="down" if halvings > before else "up" if halvings < before else "none",
                halvings=halvings,
                pa_frames=self.pa_frames,
                deform_groups=self.deform_groups,
                drop_path=rates[i],
                dtype=self.dtype,
                remat=self.remat,
                train=train,
                name=f"stage{i + 1}",
            )
            # Skip connections between stages of equal scale. Stage 1 is added after stage 7.
            skip = {5: 2, 6: 1}.get(i)
            x = stage(x if skip is None else x + stages[skip], flows[halvings])
            self.sow("intermediates", f"feat_stage{i + 1}", x)
            stages.append(x)
        x = layer_norm(x + stages[0], name="stage8_norm", dtype=self.dtype)
        x = dense(x, self.dims[7], name="stage8_linear", dtype=self.dtype)
        self.sow("intermediates", "feat_stage8_0", x)
        for i in range(7, len(self.depths)):
            wt, wh, ww = self.window_size
            group = ReconstructionGroup(
                num_heads=self.num_heads[i],
                window_size=(1 if i in self.indep_reconsts else wt, wh, ww),
                drop_path=rates[i],
                dtype=self.dtype,
                remat=self.remat,
                train=train,
                name=f"stage8_{i - 6}",
            )
            x = group(x)
            self.sow("intermediates", f"feat_stage8_{i - 6}", x)
        return layer_norm(x, name="norm", dtype=self.dtype)

    def upsample(
        self, x: Float[Array, "b t h w c"], lq: Float32[Array, "b t h w 3"], train: bool
    ) -> Float32[Array, "b t {self.scale}*h {self.scale}*w 3"]:
        """Reconstructs the image from features (b, t, h, w, c) and frames (b, t, h, w, 3)."""
        if self.scale == 1:
            return lq + conv(x, 3, name="conv_last", dtype=self.dtype).astype(jnp.float32)
        x = conv(x, self.features_hr, name="conv_before_upsample", dtype=self.dtype)
        head = PixelShuffleHead(
            scale=self.scale,
            features_hr=self.features_hr,
            dtype=self.dtype,
            activate_hr=False,
            name="head",
        )
        x = frame_by_frame(head, nn.leaky_relu(x, 0.01), train)
        return x + resize(lq, (x.shape[2], x.shape[3]))

    def interpolate(self, x: Float[Array, "b 4 h w c"]) -> Float32[Array, "b 1 h w 3"]:
        """Reconstructs the middle frame (b, 1, h, w, 3) from features (b, 4, h, w, c)."""
        b, t, h, w, c = x.shape
        x = jnp.moveaxis(x, 1, 3).reshape(b, h, w, t * c)
        x = conv(x, self.features_hr, 1, name="linear_fuse", dtype=self.dtype)
        x = jnp.pad(nn.leaky_relu(x, 0.2), ((0, 0), (3, 3), (3, 3), (0, 0)), mode="reflect")
        init = torch_uniform(49 * x.shape[-1])
        last = nn.Conv(
            3,
            (7, 7),
            padding="VALID",
            dtype=self.dtype,
            kernel_init=init,
            bias_init=init,
            name="conv_last",
        )
        return last(x).astype(jnp.float32)[:, None]


def flows_ahead(spynet: SpyNet, frames: Float32[Array, "b t h w 3"], steps: int) -> list[Flows]:
    """Estimates flows to the next frames, in clips and in their reverse.

    Args:
        spynet: the network.
        frames: (b, t, h, w, 3) RGB in [0, 1].
        steps: largest distance in frames.

    Returns:
        For each of four scales, full size first, the flows k = 1 to `steps` frames ahead:
        (b, 2, t-k, h', w', 2) in pixels of that scale, for the clip and its reverse.

    Source: section 3.3.
    """
    b, t, h, w, _ = frames.shape
    both = both_ways(frames)
    ref, supp = (x.reshape(-1, h, w, 3) for x in (both[:, :, :-1], both[:, :, 1:]))
    scales = []
    for flow in spynet.pyramid(ref, supp, len(set(HALVINGS))):
        flow = flow.reshape(b, 2, t - 1, *flow.shape[1:])
        flows = [flow]
        for k in range(1, steps):
            near = flows[-1][:, :, :-1]
            flows.append(near + by_frame(flow_warp)(flow[:, :, k:], near))
        scales.append(flows)
    return scales


def both_ways(x: Float[Array, "b t *rest"]) -> Float[Array, "b 2 t *rest"]:
    """Stacks clips and their reverse: (b, t, ...) -> (b, 2, t, ...)."""
    return jnp.stack([x, x[:, ::-1]], axis=1)


def append_zeros(
    x: Float[Array, "b 2 t *rest"], frames: int
) -> Float[Array, "b 2 t+{frames} *rest"]:
    """Appends frames of zeros to clips (b, 2, t, ...)."""
    return jnp.pad(x, [(0, frames) if axis == 2 else (0, 0) for axis in range(x.ndim)])


def per_frame(ahead: Float[Array, "b 2 t h w c"]) -> Float[Array, "b t+1 h w 2*c"]:
    """Concatenates, for each frame, features aligned from later and from earlier frames.

    Args:
        ahead: (b, 2, t-1, h, w, c), for each frame but the last of a clip and of its reverse.

    Returns:
        (b, t, h, w, 2*c): from later frames, then from earlier ones; zero where there are none.
    """
    ahead = append_zeros(ahead, 1)
    return jnp.concatenate([ahead[:, 0], ahead[:, 1, ::-1]], axis=-1)


def by_frame(function: Callable) -> Callable:
    """Maps a function of arrays (n, h, w, c) over arrays (b, 2, t, h, w, c)."""

    def applied(*arrays: jax.Array) -> jax.Array:
        out = function(*(x.reshape(-1, *x.shape[3:]) for x in arrays))
        return out.reshape(*arrays[0].shape[:3], *out.shape[1:])

    return applied
