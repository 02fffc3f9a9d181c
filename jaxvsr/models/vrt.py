"""VRT: a video restoration transformer without recurrence, at four scales.

Source: Liang et al., "VRT: A Video Restoration Transformer", IEEE TIP 2024 (arXiv:2201.12288),
section 3.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvsr.distributed import spatial_sharding
from jaxvsr.layers.blocks import GEGLU, conv, dense, layer_norm, torch_uniform
from jaxvsr.layers.deform import FlowGuidedDeformConv
from jaxvsr.layers.propagation import frame_by_frame
from jaxvsr.layers.transformer import BlockGroup
from jaxvsr.layers.upsample import PixelShuffleHead, resize
from jaxvsr.layers.warp import flow_warp, nearest_corners
from jaxvsr.layers.windows import Size
from jaxvsr.models.spynet import SpyNet

# How many times each of the first seven stages halves the frames.
HALVINGS = (0, 1, 2, 3, 2, 1, 0)
INTERPOLATED = 4  # frames from which the one in their middle is interpolated
MAX_RESIDUE = 10.0  # pixels of the full size that an offset may stray from the flow


class Stage(nn.Module):
    """Temporal mutual self-attention and parallel warping at one scale.

    Attributes:
        dim: channels of the features.
        depth: blocks, the share `mutual_share` of which are mutual.
        mutual_share: 0..1.
        num_heads: attention heads.
        window_size: (wt, wh, ww); of the mutual blocks, (2, wh, ww).
        reshape: "none", "down" or "up": how the frames' size changes before all else.
        halvings: of the frames, at this scale.
        pa_frames: how many neighbours a frame is fused with, on both sides together.
        deform_groups: of the neighbours of one side together.
        drop_path: each block's rate of stochastic depth.
        dtype: of the computation.
        remat: whether blocks are computed again in the backward pass.
    """

    dim: int
    depth: int
    mutual_share: float
    num_heads: int
    window_size: Size
    reshape: str
    halvings: int
    pa_frames: int
    deform_groups: int
    drop_path: tuple[float, ...]
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, x: jax.Array, flows: Sequence[jax.Array]) -> jax.Array:
        """x (b, t, h, w, c), flows as `parallel_warping`'s -> (b, t, h', w', dim)."""
        x = self.resample(x)
        mutual = int(self.depth * self.mutual_share)
        # Both groups count the rates of stochastic depth from the stage's start, as published.
        groups = (
            (mutual, (2, *self.window_size[1:]), True),
            (self.depth - mutual, self.window_size, False),
        )
        for i, (depth, window_size, is_mutual) in enumerate(groups, start=1):
            group = BlockGroup(
                self.num_heads,
                window_size,
                self.drop_path[:depth],
                is_mutual,
                self.dtype,
                self.remat,
                name=f"group{i}",
            )
            x = x + dense(group(x), self.dim, name=f"linear{i}", dtype=self.dtype)
        if self.pa_frames:
            x = self.parallel_warping(x, flows)
        return x

    def resample(self, x: jax.Array) -> jax.Array:
        """Halves frames into channels, or doubles them out of channels; a norm, a linear layer."""
        height = x.shape[2]
        if self.reshape != "none":
            x = spatial_sharding.take(x, spatial_sharding.aligned(height, 2))
        b, t, h, w, c = x.shape
        # Channels are ordered by column, then row, of a block of 2x2 pixels.
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

    def parallel_warping(self, x: jax.Array, flows: Sequence[jax.Array]) -> jax.Array:
        """Fuses each frame with its neighbours on either side, aligned to it.

        Args:
            x: (b, t, h, w, dim).
            flows: of `flows_ahead`, at this scale.

        Returns:
            (b, t, h, w, dim).

        Source: section 3.3.
        """
        ahead = both_ways(x)
        current, steps = ahead[:, :, :-1], range(1, self.pa_frames // 2 + 1)
        # Beyond the clip's end there are zeros, which the zero flow leads to.
        others = [extend(ahead[:, :, k:], k - 1) for k in steps]
        flows = [extend(flow, k - 1) for flow, k in zip(flows, steps, strict=True)]
        warped = [by_frame(flow_warp)(*pair) for pair in zip(others, flows, strict=True)]
        align = FlowGuidedDeformConv(
            self.dim,
            self.deform_groups,
            MAX_RESIDUE / 2**self.halvings,
            len(others),
            self.dtype,
            name="pa_deform",
        )
        feats = jnp.concatenate(others, axis=-1)
        cond = jnp.concatenate([*warped, current, *flows], axis=-1)
        aligned = by_frame(lambda x, cond, *flows: align(x, cond, flows))(feats, cond, *flows)
        x = jnp.concatenate([x, per_frame(aligned)], axis=-1)
        return GEGLU(x.shape[-1], self.dim, self.dtype, name="pa_fuse")(x)


class ReconstructionGroup(nn.Module):
    """Self-attention at full size: blocks, a linear layer, and the way around them.

    Attributes: BlockGroup's.
    """

    num_heads: int
    window_size: Size
    drop_path: tuple[float, ...]
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(b, t, h, w, c) -> (b, t, h, w, c)."""
        group = BlockGroup(
            self.num_heads,
            self.window_size,
            self.drop_path,
            False,
            self.dtype,
            self.remat,
            name="group",
        )
        return x + dense(group(x), x.shape[-1], name="linear", dtype=self.dtype)


class VRT(nn.Module):
    """Seven stages, down three scales and up again, and groups of self-attention at full size.

    Attributes:
        scale: 1, 3 or a power of two; 1 where frames are restored at the size that they have.
        dims: channels of each of seven stages, all the same, and of each group after them, too.
        depths: blocks of each.
        num_heads: attention heads of each.
        window_size: (wt, wh, ww).
        indep_reconsts: numbers of the groups, from 7 on, that look at each frame by itself.
        mul_attn_ratio: share of a stage's blocks in which neighbouring frames ask each other.
        pa_frames: how many neighbours parallel warping aligns to a frame, on both sides together:
            2, 4 or 6; 0: there is neither warping nor SpyNet.
        deform_groups: of the warping, over all frames of one side.
        noise_level: whether lq has a fourth channel, the noise's standard deviation.
        interpolation: whether four frames become the one in their middle; `pa_frames` is 0 then.
        features_hr: channels at full resolution.
        drop_path: highest rate of stochastic depth; active where an rng "droppath" is given.
        dtype: of the computation; flows, offsets, logits, statistics and the image are float32.
        remat: whether the blocks' activations are computed again in the backward pass.
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
    def __call__(self, lq: jax.Array, train: bool = False) -> jax.Array:
        """Restores clips.

        Args:
            lq: (b, t, h, w, 3) RGB in [0, 1], or 4 channels with `noise_level`. Padded by their
                mirrored ends to multiples of 8, h and w are 8 windows at least.
            train: changes memory and time, not the result.

        Returns:
            (b, t, scale*h, scale*w, 3) float32, not clipped; one frame if interpolated.

        Raises:
            ValueError: clips too short, frames too small, other channels, or fields that do not go
                together.
        """
        self.check(lq)
        if self.is_initializing():
            # No parameter depends on the clip: the smallest is as good as any.
            sides = (8 * side for side in self.window_size[1:])
            lq = jnp.zeros((1, self.min_frames, *sides, 3 + self.noise_level))
        height, width = lq.shape[2:4]
        lq = spatial_sharding.extend(lq.astype(jnp.float32), -height % 8, -width % 8, "symmetric")

        frames = lq[..., :3]
        mean = frames.mean((1, 2, 3), keepdims=True) if self.interpolation else 0
        flows: list[list[jax.Array]] = [[]] * 4
        known = [frames - mean]
        if self.pa_frames:
            flows = flows_ahead(SpyNet(name="spynet"), frames, self.pa_frames // 2)
            ahead = both_ways(frames)[:, :, 1:]
            known.append(per_frame(by_frame(nearest_corners)(ahead, flows[0][0])))
        x = jnp.concatenate([*known, lq[..., 3:]], axis=-1)
        x = conv(x, self.dims[0], name="conv_first", dtype=self.dtype)
        deep = self.body(x, flows)
        x = x + dense(deep, self.dims[0], name="conv_after_body", dtype=self.dtype)

        x = self.interpolate(x) + mean if self.interpolation else self.enlarge(x, frames, train)
        return spatial_sharding.first(x, self.scale * height)[..., : self.scale * width, :]

    def check(self, lq: jax.Array) -> None:
        """Raises ValueError if clips (b, t, h, w, c) cannot be restored."""
        if self.interpolation and (self.pa_frames or self.scale != 1):
            raise ValueError("interpolation is done with pa_frames=0 and scale=1")
        if self.pa_frames not in (0, 2, 4, 6) or 2 * self.deform_groups % max(self.pa_frames, 1):
            raise ValueError(
                f"pa_frames={self.pa_frames} must be 0, 2, 4 or 6, and deform_groups="
                f"{self.deform_groups} a multiple of its half"
            )
        _, t, h, w, c = lq.shape
        least_h, least_w = (8 * side - 7 for side in self.window_size[1:])
        if h < least_h or w < least_w:
            raise ValueError(
                f"frames of {h}x{w} pixels are too small: at least {least_h}x{least_w} are needed, "
                f"so that an eighth of them holds a window of {self.window_size[1:]}"
            )
        if self.is_initializing():
            return
        if self.interpolation and t != INTERPOLATED:
            raise ValueError(f"{INTERPOLATED} frames are interpolated between, not {t}")
        if t < self.min_frames:
            raise ValueError(f"a clip of {t} frames is too short: it needs {self.min_frames}")
        if c != 3 + self.noise_level:
            raise ValueError(
                f"lq has {c} channels, not {3 + self.noise_level}: RGB"
                + (" and the noise's standard deviation" if self.noise_level else "")
            )

    @property
    def min_frames(self) -> int:
        """The fewest frames of a clip: two, and those that parallel warping looks at."""
        return INTERPOLATED if self.interpolation else max(2, self.pa_frames // 2 + 1)

    def body(self, x: jax.Array, flows: list[list[jax.Array]]) -> jax.Array:
        """Shallow features (b, t, h, w, c) -> deep ones, of as many channels as the last group."""
        ends = np.cumsum(self.depths)
        rates = np.linspace(0, self.drop_path, int(ends[-1])).tolist()
        rates = [
            tuple(rates[end - depth : end]) for end, depth in zip(ends, self.depths, strict=True)
        ]
        stages: list[jax.Array] = []
        for i, halvings in enumerate(HALVINGS):
            before = HALVINGS[max(i - 1, 0)]
            stage = Stage(
                self.dims[i],
                self.depths[i],
                self.mul_attn_ratio,
                self.num_heads[i],
                self.window_size,
                "down" if halvings > before else "up" if halvings < before else "none",
                halvings,
                self.pa_frames,
                self.deform_groups,
                rates[i],
                self.dtype,
                self.remat,
                name=f"stage{i + 1}",
            )
            # Ways around from the stages of the same scale, but for the first: it joins after all.
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
                self.num_heads[i],
                (1 if i in self.indep_reconsts else wt, wh, ww),
                rates[i],
                self.dtype,
                self.remat,
                name=f"stage8_{i - 6}",
            )
            x = group(x)
            self.sow("intermediates", f"feat_stage8_{i - 6}", x)
        return layer_norm(x, name="norm", dtype=self.dtype)

    def enlarge(self, x: jax.Array, lq: jax.Array, train: bool) -> jax.Array:
        """Features (b, t, h, w, c), frames (b, t, h, w, 3) -> (b, t, scale*h, scale*w, 3)."""
        if self.scale == 1:
            return lq + conv(x, 3, name="conv_last", dtype=self.dtype).astype(jnp.float32)
        x = conv(x, self.features_hr, name="conv_before_upsample", dtype=self.dtype)
        head = PixelShuffleHead(self.scale, self.features_hr, self.dtype, False, name="head")
        x = frame_by_frame(head, nn.leaky_relu(x, 0.01), train)
        return x + resize(lq, (x.shape[2], x.shape[3]))

    def interpolate(self, x: jax.Array) -> jax.Array:
        """Features (b, 4, h, w, c) -> the frame in their middle (b, 1, h, w, 3)."""
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


def flows_ahead(spynet: SpyNet, frames: jax.Array, steps: int) -> list[list[jax.Array]]:
    """Flows to the next frames, of clips and of their reverse.

    Args:
        spynet: the network.
        frames: (b, t, h, w, 3) RGB in [0, 1].
        steps: to how many next frames.

    Returns:
        For each of four scales, the full size first, and for 1 to `steps` frames ahead:
        (b, 2, t-steps, h', w', 2) in pixels of that scale, the clip's and its reverse's.

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


def both_ways(x: jax.Array) -> jax.Array:
    """Clips (b, t, ...) -> (b, 2, t, ...), the clip and its reverse: both look ahead."""
    return jnp.stack([x, x[:, ::-1]], axis=1)


def extend(x: jax.Array, frames: int) -> jax.Array:
    """Adds frames of zeros to the end of (b, 2, t, ...)."""
    return jnp.pad(x, [(0, frames) if axis == 2 else (0, 0) for axis in range(x.ndim)])


def per_frame(ahead: jax.Array) -> jax.Array:
    """What was seen from each frame but the last, ahead in a clip and in its reverse.

    Args:
        ahead: (b, 2, t-1, h, w, c).

    Returns:
        (b, t, h, w, 2*c): of the later, then of the earlier frames; zeros where there are none.
    """
    ahead = extend(ahead, 1)
    return jnp.concatenate([ahead[:, 0], ahead[:, 1, ::-1]], axis=-1)


def by_frame(function: Callable) -> Callable:
    """Lets a function of (n, h, w, c) arrays take (b, 2, t, h, w, c) ones."""

    def run(*arrays: jax.Array) -> jax.Array:
        out = function(*(x.reshape(-1, *x.shape[3:]) for x in arrays))
        return out.reshape(*arrays[0].shape[:3], *out.shape[1:])

    return run
