"""The transformer block of PSRT, IIA-VSR and MIA-VSR, as functions of weights and of windows.

Attention acts within a window and everything else on single tokens. So a block can be computed for
a few windows at a time, for the windows that need it only, or for some tokens of a window: the
functions here take any number of windows, and the modules only own parameters.
"""

from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxvsr.layers import cudnn
from jaxvsr.layers.attention import attend, relative_position_index
from jaxvsr.layers.blocks import Dense, DenseWeights, DropPath, gelu, linear_init, normalize
from jaxvsr.layers.windows import Size, inside_frame, merge, partition, shift_regions

# Frames that a block attends to and does not refine, in windows at the origin and in shifted ones.
NeighborWindows = tuple[Float[Array, "n others c"], Float[Array, "n others c"]]


class Norm(NamedTuple):
    """The affine part of a layer norm."""

    scale: Float[Array, " c"]
    bias: Float[Array, " c"]

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """Normalized tokens to scaled and shifted ones, computed in float32."""
        return (x.astype(jnp.float32) * self.scale + self.bias).astype(x.dtype)


class BlockWeights(NamedTuple):
    """Weights of a block.

    Attributes:
        norm1: before attention.
        qkv: to queries, keys and values.
        bias: added to the logits.
        proj: of the attention's output.
        norm2: before the MLP.
        fc1, fc2: of the MLP.
        padding: keys and values of tokens outside the frame where the norms are folded into `qkv`
            and `fc1`; None: they are not folded.
    """

    norm1: Norm
    qkv: Dense
    bias: Float[Array, "heads queries keys"]
    proj: Dense
    norm2: Norm
    fc1: Dense
    fc2: Dense
    padding: Float[Array, " keys_values"] | None = None

    def folded(self) -> "BlockWeights":
        """The same function with each norm's affine part folded into the layer that follows.

        It saves an operation on all tokens, and is for inference only: XLA cannot move the sums of
        folded weights' gradients over devices out of a loop.
        """
        return self._replace(
            qkv=self.qkv.after(self.norm1),
            fc1=self.fc1.after(self.norm2),
            padding=self.qkv.bias[self.qkv.kernel.shape[0] :],
        )


class Windows(NamedTuple):
    """Windows of one clip, or of several one after the other, as a block needs them.

    Attributes:
        x: tokens of the frames that are refined.
        normed: the same, normalized without the norm's affine part.
        neighbors: tokens of the other frames of the window, normalized likewise; or None.
        inside: which tokens, neighbors first, belong to the frame and not to its padding.
        regions: tokens attend to tokens of the same region only; None: to all of the window.
        drop_attn, drop_mlp: factors of stochastic depth.
    """

    x: Float[Array, "w queries c"]
    normed: Float[Array, "w queries c"]
    neighbors: Float[Array, "w others c"] | None
    inside: Bool[Array, "w keys"]
    regions: Int[Array, "w keys"] | None
    drop_attn: Float[Array, "w 1 1"]
    drop_mlp: Float[Array, "w 1 1"]

    def plus(
        self, attn: Float[Array, "w queries c"], hidden: Float[Array, "w queries c"]
    ) -> Float[Array, "w queries c"]:
        """Adds the outputs of attention and MLP to the residual stream."""
        return self.x + self.drop_attn * attn + hidden


class NormWeights(nn.Module):
    """Owns the affine part of a layer norm over `dim` channels."""

    @nn.compact
    def __call__(self, dim: int) -> Norm:
        scale = self.param("scale", nn.initializers.ones_init(), (dim,), jnp.float32)
        return Norm(scale, self.param("bias", nn.initializers.zeros_init(), (dim,), jnp.float32))


class AttentionWeights(nn.Module):
    """Owns window attention, in which the last `query_frames` frames of a window are queries.

    A relative position bias is looked up as if the queries were the first frames of the window:
    the official codes' index. It matters where they are not all of them (IIA-VSR).
    """

    num_heads: int
    window_size: Size
    query_frames: int

    @nn.compact
    def __call__(self, dim: int) -> tuple[Dense, Float[Array, "heads queries keys"], Dense]:
        """Returns `qkv`, `bias` and `proj` of BlockWeights."""
        wt, wh, ww = self.window_size
        rows = (wt + self.query_frames - 1) * (2 * wh - 1) * (2 * ww - 1)
        table = self.param(
            "relative_position_bias_table", linear_init, (rows, self.num_heads), jnp.float32
        )
        bias = position_bias(jnp.asarray(table), self.window_size, self.query_frames)
        qkv = DenseWeights(3 * dim, name="qkv")(dim)
        return qkv, bias, DenseWeights(dim, name="proj")(dim)


def position_bias(
    table: Float[Array, "offsets heads"], window_size: Size, query_frames: int
) -> Float[Array, "heads queries keys"]:
    """Looks up the bias of relative positions of `AttentionWeights`."""
    _, wh, ww = window_size
    index = relative_position_index(window_size)[: query_frames * wh * ww]
    return table[index].transpose(2, 0, 1)


class MLPWeights(nn.Module):
    """Owns an MLP whose hidden layer is `ratio` times as wide as its input."""

    ratio: float

    @nn.compact
    def __call__(self, dim: int) -> tuple[Dense, Dense]:
        """Returns `fc1` and `fc2` of BlockWeights."""
        hidden = int(dim * self.ratio)
        return DenseWeights(hidden, name="fc1")(dim), DenseWeights(dim, name="fc2")(hidden)


def block_weights(
    *, dim: int, num_heads: int, window_size: Size, query_frames: int, mlp_ratio: float
) -> BlockWeights:
    """A block's weights, as submodules of the calling module.

    Args:
        dim: channels.
        num_heads: attention heads.
        window_size: (wt, wh, ww).
        query_frames: the last frames of a window, which are refined.
        mlp_ratio: hidden width of the MLP over `dim`.
    """
    norm1, norm2 = (NormWeights(name=name)(dim) for name in ("norm1", "norm2"))
    attn = AttentionWeights(num_heads, window_size, query_frames, name="attn")
    qkv, bias, proj = attn(dim)
    fc1, fc2 = MLPWeights(mlp_ratio, name="mlp")(dim)
    return BlockWeights(norm1, qkv, bias, proj, norm2, fc1, fc2)


def weights_of(params: Any, *, window_size: Size, query_frames: int) -> BlockWeights:
    """The weights that `block_weights` makes, from a block's parameters; arguments as there."""
    norm1, norm2 = (Norm(**params[name]) for name in ("norm1", "norm2"))
    attn, mlp = params["attn"], params["mlp"]
    bias = position_bias(attn["relative_position_bias_table"], window_size, query_frames)
    qkv, proj, fc1, fc2 = (
        Dense(**dense) for dense in (attn["qkv"], attn["proj"], mlp["fc1"], mlp["fc2"])
    )
    return BlockWeights(norm1, qkv, bias, proj, norm2, fc1, fc2)


def shift_size(window_size: Size, shifted: bool) -> Size:
    """Offset of windows from the origin: half a window, in space only, if they are shifted."""
    _, wh, ww = window_size
    return (0, wh // 2, ww // 2) if shifted else (0, 0, 0)


def split_windows(
    x: Float[Array, "b t h w c"], *, window_size: Size, shifted: bool
) -> Float[Array, "n tokens c"]:
    """Splits frames into windows over all of their t frames.

    Args:
        x: frames of b clips.
        window_size: (wt, wh, ww); wt is not used.
        shifted: whether the windows are shifted by half their size.

    Returns:
        The windows of all clips, t*wh*ww tokens each.
    """
    size = (x.shape[1], *window_size[1:])
    windows = partition(x, size, shift_size(window_size, shifted))
    return windows.reshape(-1, *windows.shape[2:])


def merge_windows(
    windows: Float[Array, "n tokens c"],
    shape: tuple[int, ...],
    *,
    window_size: Size,
    shifted: bool,
) -> Float[Array, "b t h w c"]:
    """Undoes `split_windows` of frames of shape (b, t, h, w, ...), of any number of channels."""
    clips, frames, height, width = shape[:4]
    windows = windows.reshape(clips, -1, *windows.shape[1:])
    size, window = (frames, height, width), (frames, *window_size[1:])
    return merge(windows, size, window, shift_size(window_size, shifted))


def neighbor_windows(
    frames: Float[Array, "b k h w c"], window_size: Size, dtype: Any
) -> NeighborWindows:
    """Prepares the frames that blocks attend to and do not refine, once for all blocks of a step.

    Args:
        frames: the frames.
        window_size: (k + q, wh, ww), of windows with q refined frames.
        dtype: of the computation.

    Returns:
        Their tokens, normalized without any block's affine part, in windows at the origin and in
        shifted ones.
    """
    normed = normalize(frames, dtype)  # of padding: zeros, before and after
    plain, shifted = (
        split_windows(normed, window_size=window_size, shifted=shifted) for shifted in (False, True)
    )
    return plain, shifted


def make_windows(
    x: Float[Array, "b q h w c"],
    neighbors: NeighborWindows | None,
    *,
    window_size: Size,
    shifted: bool,
    drop_path: ArrayLike,
    dtype: Any,
) -> Windows:
    """Splits frames into the windows of a block.

    Args:
        x: the frames that the block refines.
        neighbors: of `neighbor_windows`; None: windows hold refined frames only.
        window_size: (wt, wh, ww), of q refined frames and wt - q neighbors.
        shifted: whether windows are shifted by half their size.
        drop_path: rate of stochastic depth; drawn by clip, for attention and MLP each.
        dtype: of the computation.
    """
    clips, size = x.shape[0], (window_size[0], x.shape[2], x.shape[3])
    shift = shift_size(window_size, shifted)
    tokens = split_windows(x, window_size=window_size, shifted=shifted)
    regions = None
    if shifted:
        regions = jnp.tile(shift_regions(size, window_size, shift), (clips, 1))
    drop = DropPath(drop_path)
    one, windows_per_clip = jnp.ones((clips, 1, 1), x.dtype), tokens.shape[0] // clips
    drop_attn, drop_mlp = (jnp.repeat(drop(one), windows_per_clip, axis=0) for _ in range(2))
    return Windows(
        x=tokens,
        normed=normalize(tokens, dtype),
        neighbors=None if neighbors is None else neighbors[shifted],
        inside=jnp.tile(inside_frame(size, window_size, shift), (clips, 1)),
        regions=regions,
        drop_attn=drop_attn,
        drop_mlp=drop_mlp,
    )


@jax.named_scope("attn")
def attention(
    weights: BlockWeights, windows: Windows, tokens: Int[Array, "w r"] | None = None
) -> Float[Array, "w r c"]:
    """Multi-head attention of the refined tokens to all tokens of their window.

    Args:
        weights: of the block.
        windows: the windows.
        tokens: indices of the refined tokens that are queries, 0 to queries - 1; None: all.

    Returns:
        The output of the projection, without stochastic depth.
    """
    n, queries, dim = windows.x.shape
    sizes = n, queries, windows.inside.shape[1], dim // weights.bias.shape[0]
    if tokens is None and cudnn.takes(windows.normed.dtype, *sizes):
        return jax.lax.platform_dependent(
            weights, windows, cuda=attention_by_cudnn, default=attention_in_windows
        )
    return attention_in_windows(weights, windows, tokens)


def attention_in_windows(
    weights: BlockWeights, windows: Windows, tokens: Int[Array, "w r"] | None = None
) -> Float[Array, "w r c"]:
    """`attention` in its plain form."""
    dim, queries = windows.x.shape[-1], windows.x.shape[-2]
    normed, inside = windows.normed, windows.inside[..., None]
    if windows.neighbors is not None:
        normed = jnp.concatenate([windows.neighbors, normed], axis=1)
    kernel, offset = weights.qkv.kernel, weights.qkv.bias[dim:]
    # The official codes pad after the norm: padded tokens are zero, their keys are the bias.
    if weights.padding is None:
        normed = jnp.where(inside, weights.norm1(normed), 0)
    else:
        offset = jnp.where(inside, offset, weights.padding)
    with jax.named_scope("keys_values"):
        keys_values = normed @ kernel[:, dim:].astype(normed.dtype) + offset.astype(normed.dtype)
    q = Dense(kernel[:, :dim], weights.qkv.bias[:dim])(take_tokens(normed[:, -queries:], tokens))
    bias, allowed = weights.bias, None
    if tokens is not None:
        bias = bias.transpose(1, 0, 2)[tokens].swapaxes(1, 2)
    if windows.regions is not None:
        query_regions = take_tokens(windows.regions[:, -queries:, None], tokens)
        allowed = query_regions == windows.regions[:, None, :]
    k, v = jnp.split(keys_values, 2, axis=-1)
    return weights.proj(attend(q, k, v, bias, allowed))


def attention_by_cudnn(
    weights: BlockWeights, windows: Windows, implementation: Literal["cudnn", "xla"] = "cudnn"
) -> Float[Array, "w queries c"]:
    """`attention` of all refined tokens, by `cudnn.attention`."""
    count, inside, tokens = windows.x.shape[-2], windows.inside, windows.normed
    if windows.neighbors is not None:
        tokens = jnp.concatenate([windows.neighbors, tokens], axis=1)
    regions = outside = None
    if windows.regions is not None:
        regions = windows.regions[:, -count:], windows.regions
    if weights.padding is None:
        tokens = jnp.where(inside[..., None], weights.norm1(tokens), 0)
    else:
        outside = ~inside, weights.padding
    out = cudnn.attention(
        tokens[:, -count:],
        tokens,
        weights.qkv,
        weights.bias,
        weights.proj.kernel,
        regions=regions,
        outside=outside,
        implementation=implementation,
    )
    return out + weights.proj.bias.astype(out.dtype)


@jax.named_scope("mlp")
def mlp(
    weights: BlockWeights,
    windows: Windows,
    attn: Float[Array, "w r c"],
    tokens: Int[Array, "w r"] | None = None,
) -> Float[Array, "w r c"]:
    """MLP of tokens to which the attention's output `attn` is added; arguments as `attention`'s.

    Returns:
        The output of the second layer, with stochastic depth.
    """
    x = take_tokens(windows.x, tokens) + windows.drop_attn * attn
    normed = normalize(x, attn.dtype)
    if weights.padding is None:
        normed = weights.norm2(normed)
    return windows.drop_mlp * weights.fc2(gelu(weights.fc1(normed)))


def refine(
    weights: BlockWeights, windows: Windows, tokens: Int[Array, "w r"] | None = None
) -> tuple[Float[Array, "w r c"], Float[Array, "w r c"]]:
    """Outputs of `attention` and `mlp`, which `Windows.plus` adds to the refined frames."""
    attn = attention(weights, windows, tokens)
    return attn, mlp(weights, windows, attn, tokens)


def take_tokens(
    x: Float[Array, "w tokens c"] | Int[Array, "w tokens c"], tokens: Int[Array, "w r"] | None
) -> Any:
    """Selects tokens of each window by their indices, or all: (w, r or tokens, c)."""
    return x if tokens is None else jnp.take_along_axis(x, tokens[..., None], axis=1)
