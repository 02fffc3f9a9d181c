"""Video Swin transformer blocks, those of VRT and RVRT, and groups of VRT's."""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxvsr.layers.attention import WindowAttention
from jaxvsr.layers.blocks import GEGLU, DropPath, layer_norm
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
        blocks = [self.block(i % 2 == 1, f"block_{i}") for i in range(len(self.drop_path))]
        # One pair, or a block without a partner, needs no loop.
        paired = len(blocks) // 2 * 2 if len(blocks) >= 4 and not self.is_initializing() else 0
        x = self.run_pairs(x, paired) if paired else x
        for block, rate in zip(blocks[paired:], self.drop_path[paired:], strict=True):
            x = block(x, rate)
        return x

    def run_pairs(self, x: jax.Array, depth: int) -> jax.Array:
        """Runs the first `depth` blocks, in a loop that is compiled for two of them."""
        params = self.variables["params"]

        def stack(start: int) -> Any:
            alike = [params[f"block_{i}"] for i in range(start, depth, 2)]
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *alike)

        rates = jnp.array(self.drop_path[:depth]).reshape(-1, 2)
        keys = None
        if self.has_rng("droppath"):
            keys = jax.random.split(self.make_rng("droppath"), (depth // 2, 2))
        pair = [self.block(shifted, None) for shifted in (False, True)]

        def turn(x: jax.Array, inputs: Any) -> tuple[jax.Array, None]:
            weights, rates, keys = inputs
            for i, block in enumerate(pair):
                rngs = None if keys is None else {"droppath": keys[i]}
                x = jnp.asarray(block.apply({"params": weights[i]}, x, rates[i], rngs=rngs))
            return x, None

        return jax.lax.scan(turn, x, ((stack(0), stack(1)), rates, keys))[0]

    def block(self, shifted: bool, name: str | None) -> WindowBlock:
        """A block of the group, or, without a name, one that its weights are given to."""
        # Outside of a loop the compiler would take what is computed again for a repetition.
        block = nn.remat(WindowBlock, prevent_cse=bool(name)) if self.remat else WindowBlock
        make = functools.partial(
            block, self.num_heads, self.window_size, shifted, self.mutual, dtype=self.dtype
        )
        return make(name=name) if name else make(parent=None)
