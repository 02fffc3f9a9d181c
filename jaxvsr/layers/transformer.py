"""Video Swin transformer blocks of VRT and RVRT, and VRT's groups of blocks."""

import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxvsr.layers.attention import WindowAttention
from jaxvsr.layers.blocks import GEGLU, DropPath, layer_norm
from jaxvsr.layers.scan_layers import scan_layers
from jaxvsr.layers.window_chunks import map_chunks
from jaxvsr.layers.windows import Size, fit, inside_frame, merge, partition, shift_regions


class BlockWindows(NamedTuple):
    """Windows of one clip, or of several one after the other, as a block needs them.

    Attributes:
        tokens: of the windows.
        inside: which tokens belong to the clip and not to its padding; None: all.
        regions: tokens attend to tokens of the same region only; None: to all of the window.
        drop: factors of stochastic depth, of attention and MLP; None: 1.
    """

    tokens: Float[Array, "w n c"]
    inside: Bool[Array, "w n"] | None
    regions: Int[Array, "w n"] | None
    drop: Float[Array, "w 2"] | None


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
        train: whether gradients are taken: all windows at once.

    Source: Liang et al., "VRT", section 3.2.
    """

    num_heads: int
    window_size: Size
    shifted: bool
    mutual: bool = False
    mlp_ratio: float = 2.0
    dtype: Any = jnp.float32
    train: bool = False

    epsilon: ClassVar[float] = 1e-5  # of the norms
    relative: ClassVar[bool] = True  # whether there is a bias per relative position

    def __call__(
        self, x: Float[Array, "b t h w c"], drop_path: ArrayLike = 0.0
    ) -> Float[Array, "b t h w c"]:
        """Applies the block to x (b, t, h, w, c), with a rate of stochastic depth."""
        size = (x.shape[1], x.shape[2], x.shape[3])
        shape = fit(size, self.window_size, self.shifted)
        windows = self.windows(x, *shape, drop_path)
        if self.is_initializing() or self.train:
            tokens = self.refine(windows)
        else:
            tokens = map_chunks(
                _refine(self.clone(parent=None, name=None)),
                self.variables["params"],
                windows,
                clips=x.shape[0],
                largest=self.num_heads * math.prod(shape[0]) ** 2,
            )
        return merge(tokens.reshape(x.shape[0], -1, *tokens.shape[1:]), size, *shape)

    def windows(
        self, x: Float[Array, "b t h w c"], window_size: Size, shift_size: Size, rate: ArrayLike
    ) -> BlockWindows:
        """Splits clips into windows, with a rate of stochastic depth, which is drawn by clip."""
        clips, size = x.shape[0], (x.shape[1], x.shape[2], x.shape[3])
        tokens = partition(x, window_size, shift_size)
        count = tokens.shape[1]

        def of_all_clips(array: Any) -> Array:
            return jnp.tile(array, (clips, 1))

        inside, regions, drop = inside_frame(size, window_size, shift_size), None, None
        if any(shift_size):
            regions = of_all_clips(shift_regions(size, window_size, shift_size))
        if self.has_rng("droppath"):
            rng = {"droppath": self.make_rng("droppath")}
            each: Any = DropPath(rate, parent=None).apply(
                {}, jnp.ones(2 * clips, x.dtype), rngs=rng
            )
            drop = jnp.repeat(each.reshape(clips, 2), count, axis=0)
        return BlockWindows(
            tokens=tokens.reshape(-1, *tokens.shape[2:]),
            inside=None if inside.all() else of_all_clips(inside),
            regions=regions,
            drop=drop,
        )

    @nn.compact
    def refine(self, windows: BlockWindows) -> Float[Array, "w n c"]:
        """The block's output for windows, each computed independently of the others."""
        norm = functools.partial(layer_norm, epsilon=self.epsilon, dtype=self.dtype)
        attn = WindowAttention(
            num_heads=self.num_heads,
            window_size=self.window_size,
            dtype=self.dtype,
            relative=self.relative,
            mutual=self.mutual,
            name="attn",
        )
        x = windows.tokens
        drop: Any = (1, 1) if windows.drop is None else windows.drop.T[..., None, None]
        tokens = norm(x, name="norm1")
        # As in the official code, padding follows the norm: keys of padded tokens are the bias.
        if windows.inside is not None:
            tokens = jnp.where(windows.inside[..., None], tokens, 0)
        x = x + drop[0] * attn(tokens[None], windows.regions)[0]
        return x + drop[1] * self.mlp(norm(x, name="norm2"))

    def mlp(self, x: Float[Array, "w n c"]) -> Float[Array, "w n c"]:
        """The MLP of tokens."""
        dim = x.shape[-1]
        return GEGLU(int(self.mlp_ratio * dim), dim, self.dtype, name="mlp")(x)


@functools.lru_cache(maxsize=64)
def _refine(block: WindowBlock) -> Callable[[Any, BlockWindows], Any]:
    """Makes a function of weights and windows, the same one for equal blocks."""
    return lambda params, windows: block.apply({"params": params}, windows, method="refine")


class BlockGroup(nn.Module):
    """Stack of window blocks, every second one shifted.

    Attributes:
        num_heads, window_size, mutual, dtype, train: of the blocks.
        drop_path: rate of stochastic depth of each block; its length is the number of blocks.
        remat: whether blocks are recomputed in the backward pass.
    """

    num_heads: int
    window_size: Size
    drop_path: tuple[float, ...]
    mutual: bool = False
    dtype: Any = jnp.float32
    remat: bool = False
    train: bool = False

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
                train=group.train,
                name=f"block_{i}",
            )
            return block(x, rate), None

        return scan_layers(apply_block, self, "block", x, zip(self.drop_path), period=2)[0]
