"""Video Swin transformer blocks of VRT and RVRT, and VRT's groups of blocks."""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxvsr.layers.attention import WindowAttention
from jaxvsr.layers.blocks import GEGLU, DropPath, layer_norm
from jaxvsr.layers.scan_layers import scan_layers
from jaxvsr.layers.windows import Size, fit, merge, partition, shift_regions


class WindowBlock(nn.Module):
    """Pre-norm transformer block: attention in windows of a clip, and a gated MLP.

    Subclasses override `mlp` for another MLP.

    Attributes:
        num_heads: attention heads.
        window_size: (wt, wh, ww), reduced to the size of a smaller clip.
        shifted: whether windows are shifted by half their size, along axes of several windows.
        mutual: whether VRT's mutual attention is added; wt must be 2.
        mlp_ratio: hidden width of the MLP over `c`.
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
    def __call__(
        self, x: Float[Array, "b t h w c"], drop_path: ArrayLike = 0.0
    ) -> Float[Array, "b t h w c"]:
        """Applies the block to x (b, t, h, w, c), with a rate of stochastic depth."""
        norm = functools.partial(layer_norm, epsilon=self.epsilon, dtype=self.dtype)
        size = (x.shape[1], x.shape[2], x.shape[3])
        window_size, shift_size = fit(size, self.window_size, self.shifted)
        attn = WindowAttention(
            num_heads=self.num_heads,
            window_size=self.window_size,
            dtype=self.dtype,
            relative=self.relative,
            mutual=self.mutual,
            name="attn",
        )
        # As in the official code, padding follows the norm: keys of padded tokens are the bias.
        tokens = partition(norm(x, name="norm1"), window_size, shift_size)
        regions = shift_regions(size, window_size, shift_size) if any(shift_size) else None
        windows = attn(tokens, regions)
        x = x + DropPath(drop_path)(merge(windows, size, window_size, shift_size))
        return x + DropPath(drop_path)(self.mlp(norm(x, name="norm2")))

    def mlp(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        """(b, t, h, w, c) -> (b, t, h, w, c)."""
        dim = x.shape[-1]
        return GEGLU(int(self.mlp_ratio * dim), dim, self.dtype, name="mlp")(x)


class BlockGroup(nn.Module):
    """Stack of window blocks, every second one shifted.

    Attributes:
        num_heads, window_size, mutual, dtype: of the blocks.
        drop_path: rate of stochastic depth of each block; its length is the number of blocks.
        remat: whether blocks are recomputed in the backward pass.
    """

    num_heads: int
    window_size: Size
    drop_path: tuple[float, ...]
    mutual: bool = False
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        """(b, t, h, w, c) -> (b, t, h, w, c)."""

        def apply_block(group: "BlockGroup", i: int, x: Array, rate: ArrayLike) -> Any:
            make_block = nn.remat(WindowBlock) if group.remat else WindowBlock
            block = make_block(
                num_heads=group.num_heads,
                window_size=group.window_size,
                shifted=i % 2 == 1,
                mutual=group.mutual,
                dtype=group.dtype,
                name=f"block_{i}",
            )
            return block(x, rate), None

        return scan_layers(apply_block, self, "block", x, zip(self.drop_path), period=2)[0]
