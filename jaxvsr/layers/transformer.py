"""Video Swin transformer blocks, those of VRT and RVRT, and groups of VRT's."""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxvsr.layers.attention import WindowAttention
from jaxvsr.layers.blocks import GEGLU, DropPath, layer_norm
from jaxvsr.layers.scan_layers import scan_layers
from jaxvsr.layers.windows import Size, fit, merge, partition, shift_regions


class WindowBlock(nn.Module):
    """Attention in windows of a clip and a gated MLP, each normed before and added after.

    Other MLPs are made by another `mlp`.

    Attributes:
        num_heads: attention heads.
        window_size: (wt, wh, ww). Where a clip is no larger than it, the window is the clip.
        shifted: whether the windows lie half a window off the origin, where the clip is larger.
        mutual: whether two frames ask each other besides: wt is 2 then.
        mlp_ratio: width of the MLP over that of the features.
        dtype: of the computation.

    Source: Liang et al., "VRT", section 3.2.
    """

    num_heads: int
    window_size: Size
    shifted: bool
    mutual: bool = False
    mlp_ratio: float = 2.0
    dtype: Any = jnp.float32

    epsilon: ClassVar[float] = 1e-5  # of the norms
    relative: ClassVar[bool] = True  # whether there is a bias per relative position

    @nn.compact
    def __call__(self, x: jax.Array, drop_path: ArrayLike = 0.0) -> jax.Array:
        """(b, t, h, w, c), the rate of stochastic depth -> (b, t, h, w, c)."""
        norm = functools.partial(layer_norm, epsilon=self.epsilon, dtype=self.dtype)
        size = (x.shape[1], x.shape[2], x.shape[3])
        window_size, shift_size = fit(size, self.window_size, self.shifted)
        attn = WindowAttention(
            self.num_heads,
            self.window_size,
            self.dtype,
            self.relative,
            self.mutual,
            name="attn",
        )
        # Padding comes after the norm: padded tokens are keys equal to the bias, as published.
        tokens = partition(norm(x, name="norm1"), window_size, shift_size)
        regions = shift_regions(size, window_size, shift_size) if any(shift_size) else None
        windows = attn(tokens, regions)
        x = x + DropPath(drop_path)(merge(windows, size, window_size, shift_size))
        return x + DropPath(drop_path)(self.mlp(norm(x, name="norm2")))

    def mlp(self, x: jax.Array) -> jax.Array:
        """(b, t, h, w, c) -> (b, t, h, w, c)."""
        dim = x.shape[-1]
        return GEGLU(int(self.mlp_ratio * dim), dim, self.dtype, name="mlp")(x)


class BlockGroup(nn.Module):
    """Window blocks in a row, every other one shifted.

    Attributes:
        num_heads, window_size, mutual, dtype: of the blocks.
        drop_path: each block's rate of stochastic depth; as many as there are blocks.
        remat: whether blocks are computed again in the backward pass.
    """

    num_heads: int
    window_size: Size
    drop_path: tuple[float, ...]
    mutual: bool = False
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(b, t, h, w, c) -> (b, t, h, w, c)."""

        def run(group: "BlockGroup", i: int, x: jax.Array, rate: ArrayLike) -> Any:
            make = nn.remat(WindowBlock) if group.remat else WindowBlock
            settings = (group.num_heads, group.window_size, i % 2 == 1, group.mutual)
            return make(*settings, dtype=group.dtype, name=f"block_{i}")(x, rate), None

        return scan_layers(run, self, "block", x, zip(self.drop_path), period=2)[0]
