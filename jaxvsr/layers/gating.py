"""Masks that decide which tokens a block computes and which keep their previous value.

A mask is 1 where a token is computed. `gate` computes all tokens and then selects. `compute_kept`
computes the kept tokens only: it gathers windows with kept tokens, a fixed number per iteration of
a loop. All shapes are static, and only the number of iterations depends on the masks.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int

from jaxvsr.distributed import spatial_sharding
from jaxvsr.layers.blocks import DenseWeights
from jaxvsr.layers.window_chunks import CPU_WINDOWS

TEMPERATURE = 2 / 3  # of the relaxed Bernoulli variable
# Iterations for all windows, but on a CPU: enough of them to waste little of the last one, few
# enough to fill an accelerator.
ITERATIONS = 8


class MaskPredictor(nn.Module):
    """Predicts from each token's change since the previous frame whether to compute it again.

    Outside training the mask is hard. In training it is hard in the forward pass and has the
    gradient of the relaxed mask (straight-through), with Gumbel noise if an rng named "gumbel" is
    given.

    Attributes:
        train: whether the mask is straight-through.
        threshold: of the logits; has an effect outside training only.
        keep_share: fraction of a clip's tokens that are kept, those of the highest logits,
            whatever the threshold, in training too (Mixture of Depths); 0: all above the threshold.
        by_window: whether the tokens of a window share their mean logit and so their mask.
        initial_threshold: 0: initial logits are near zero for all tokens, as in the official code.
            Otherwise the predictor starts as a detector of change: a token's initial logit is its
            mean change over this threshold, minus 1.

    Source: Zhou et al., "Video Super-Resolution Transformer with Masked Inter&Intra-Frame
        Attention" (MIA-VSR), section 3.3; for `keep_share`: Raposo et al., "Mixture-of-Depths".
    """

    train: bool
    threshold: float = 0.0
    keep_share: float = 0.0
    by_window: bool = False
    initial_threshold: float = 0.0

    def __call__(
        self, change: Float[Array, "b n tokens c"], real_windows: int | None = None
    ) -> Float[Array, "b n tokens 1"]:
        """Predicts masks of zeros and ones, in float32.

        Args:
            change: absolute differences between two frames.
            real_windows: as in `decide`.
        """
        return self.decide(weigh(change, *self.weights(change.shape[-1])), real_windows)

    @nn.compact
    def weights(self, dim: int) -> tuple[Float[Array, "c 1"], Float[Array, " 1"]]:
        """The arguments `kernel` and `bias` of `weigh`, for `dim` channels."""
        kernel, bias = nn.initializers.normal(0.02), 0.0
        if self.initial_threshold:
            kernel = nn.initializers.constant(1 / (self.initial_threshold * dim))
            bias = -1.0
        return DenseWeights(1, kernel, nn.initializers.constant(bias), name="linear")(dim)

    def decide(
        self, logit: Float32[Array, "b n tokens 1"], real_windows: int | None = None
    ) -> Float[Array, "b n tokens 1"]:
        """Makes masks from logits.

        Args:
            logit: of `weigh`.
            real_windows: the first windows of a clip; the others are padding and do not compete
                for `keep_share`. None: all.
        """
        shape = logit.shape
        if self.by_window:
            logit = logit.mean(2, keepdims=True)
        if self.train and self.has_rng("gumbel"):
            noise = jax.random.gumbel(self.make_rng("gumbel"), (2, *logit.shape), logit.dtype)
            logit = logit + noise[0] - noise[1]
        if self.keep_share:
            lowest = _lowest_kept(logit[:, :real_windows], self.keep_share)
            logit = logit - jax.lax.stop_gradient(lowest)
        elif not self.train:
            logit = logit - self.threshold
        hard = (logit >= 0).astype(jnp.float32)
        mask = hard
        if self.train:
            soft = nn.sigmoid(logit / TEMPERATURE)
            mask = hard + (soft - jax.lax.stop_gradient(soft))
        return jnp.broadcast_to(mask, shape)


def weigh(
    change: Float[Array, "*b c"], kernel: Float[Array, "c 1"], bias: Float[Array, " 1"]
) -> Float32[Array, "*b 1"]:
    """Logits of tokens, from their change.

    They are full float32, whatever the network's dtype and the device's default: a rounded logit
    would flip tokens near the threshold.
    """
    exact = jax.lax.Precision.HIGHEST
    return jnp.dot(change.astype(jnp.float32), kernel, precision=exact) + bias


def gate(
    mask: Float[Array, "*b 1"], new: Float[Array, "*b c"], old: Float[Array, "*b c"]
) -> Float[Array, "*b c"]:
    """Selects `new` where the mask is 1 and `old` where it is 0; differentiable in the mask.

    Args:
        mask: zeros and ones.
        new, old: values.

    Returns:
        Exactly `new` or `old`, in the dtype of `new`.
    """
    mask = mask.astype(new.dtype)
    return mask * new + (1 - mask) * old


@functools.partial(jax.jit, static_argnums=0)
def compute_kept(
    compute: Callable[[Any, Any, jax.Array | None], Any],
    weights: Any,
    windows: Any,
    mask: Bool[Array, "n tokens"],
    old: Any,
) -> Any:
    """Computes the kept tokens, and others only to fill up static shapes; for inference.

    Windows without a kept token are skipped. The others are sorted into buckets by their number of
    kept tokens: up to a quarter of the window's tokens, up to half, more. In a bucket that many
    tokens of each window are computed, kept ones first. It works with any masks under jit, scan
    and vmap, but not in reverse-mode differentiation. Devices that share a batch should each call
    it on their own part (`jax.shard_map`), since the loops' lengths differ.

    Args:
        compute: maps weights, a tree of arrays (w, ...) and the indices (w, r) of the tokens to
            compute, or None for all, to a tree of arrays (w, r or tokens, c). A module-level
            function is traced once for all calls of the same shapes.
        weights: a tree.
        windows: the tree of arrays for all n windows.
        mask: which tokens are kept.
        old: values (n, tokens, c) of dropped tokens, a tree like that of `compute`.

    Returns:
        The tree of values (n, tokens, c).
    """

    def kept_of(weights: Any, windows: Any, mask: jax.Array, old: Any) -> Any:
        n, tokens = mask.shape
        kept = mask.sum(1)
        with_weights = functools.partial(compute, weights)

        def by_buckets(chunk: int) -> Any:
            values, below = old, 0
            for size in sorted({-(-tokens // 4), -(-tokens // 2), tokens}):
                chosen = (kept > below) & (kept <= size)
                values = _compute_bucket(
                    with_weights, windows, mask, values, chosen=chosen, size=size, chunk=chunk
                )
                below = size
            return values

        return jax.lax.platform_dependent(
            cpu=lambda: by_buckets(min(CPU_WINDOWS, n)),
            default=lambda: by_buckets(-(-n // ITERATIONS)),
        )

    return spatial_sharding.by_windows(kept_of, weights, windows, mask, old)


def _compute_bucket(
    compute: Callable[[Any, jax.Array | None], Any],
    windows: Any,
    mask: Bool[Array, "n tokens"],
    values: Any,
    *,
    chosen: Bool[Array, " n"],
    size: int,
    chunk: int,
) -> Any:
    """Computes `size` tokens of each chosen window, `chunk` windows per iteration."""
    n, tokens = mask.shape
    number = chosen.sum()
    # Indices beyond the end fill up the last chunk: they read the last window and write nothing.
    indices = jnp.nonzero(chosen, size=-(-n // chunk) * chunk, fill_value=n)[0]

    def step(carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        i, values = carry
        these = jax.lax.dynamic_slice_in_dim(indices, i * chunk, chunk)
        part, keep, before = jax.tree.map(
            lambda x: x.at[these].get(mode="clip"), (windows, mask, values)
        )
        rows: Int[Array, "w r"] | None = None
        place = None
        if size < tokens:
            rows = jnp.argsort(~keep, axis=1, stable=True)[:, :size]
            place = jnp.clip(jnp.cumsum(keep, axis=1) - 1, 0, size - 1)[..., None]

        def write(whole: jax.Array, old: jax.Array, new: jax.Array) -> jax.Array:
            if place is not None:
                new = jnp.take_along_axis(new, place, axis=1)
            new = jnp.where(keep[..., None], new, old)
            return whole.at[these].set(new, mode="drop", indices_are_sorted=True)

        return i + 1, jax.tree.map(write, values, before, compute(part, rows))

    def unfinished(carry: tuple[jax.Array, Any]) -> jax.Array:
        return carry[0] * chunk < number

    return jax.lax.while_loop(unfinished, step, (jnp.int32(0), values))[1]


def _lowest_kept(logit: Float[Array, "b n tokens 1"], fraction: float) -> Float[Array, "b 1 1 1"]:
    """The lowest logit among the given fraction of highest logits of each clip."""
    flat = logit.reshape(logit.shape[0], -1)
    lowest = jnp.quantile(flat, 1 - fraction, axis=1, method="higher")
    return lowest.reshape(-1, *(1,) * (logit.ndim - 1))
