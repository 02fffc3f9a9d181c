"""Masks as gated computation of static shape: which tokens are computed, which keep their value.

A mask is 1 where a token is computed. `gate` selects, after all were computed. `compute_kept`
computes no other: of the windows with kept tokens some are taken in each turn of a loop, so many
that a turn has a static shape; only the number of turns depends on the masks.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvsr.distributed import spatial_sharding

TEMPERATURE = 2 / 3  # of the relaxed Bernoulli variable
CPU_WINDOWS = 8  # in a turn: what they need stays in a core's cache
TURNS = 8  # elsewhere: for all windows; many enough not to waste a turn, few enough to fill a chip


class MaskPredictor(nn.Module):
    """Decides from the change of each token since the frame before whether it is computed anew.

    Outside training the mask is hard. In training it is hard forward and the gradient is that of
    the relaxed mask (straight-through), with Gumbel noise where an rng named "gumbel" is given.

    Attributes:
        train: straight-through or hard.
        threshold: of the logit; obeyed outside training.
        share: of a clip's tokens, those of the highest logits, that are computed whatever the
            threshold, in training too (Mixture of Depths); 0: as many as exceed the threshold.
        by_window: whether a window's tokens share their mean logit, and so the mask.

    Source: Zhou et al., "Video Super-Resolution Transformer with Masked Inter&Intra-Frame
        Attention" (MIA-VSR), section 3.3; the share: Raposo et al., "Mixture-of-Depths".
    """

    train: bool
    threshold: float = 0.0
    share: float = 0.0
    by_window: bool = False

    @nn.compact
    def __call__(self, change: jax.Array, own: int | None = None) -> jax.Array:
        """Absolute differences (b, n, tokens, c) -> mask (b, n, tokens, 1) float32 of 0 and 1;
        only the first `own` windows, all if not given, count where tokens compete."""
        # In float32: a rounded logit would flip tokens near the threshold.
        logit = nn.Dense(1, kernel_init=nn.initializers.normal(0.02), name="linear")(
            change.astype(jnp.float32)
        )
        if self.by_window:
            logit = logit.mean(2, keepdims=True)
        if self.train and self.has_rng("gumbel"):
            noise = jax.random.gumbel(self.make_rng("gumbel"), (2, *logit.shape), logit.dtype)
            logit = logit + noise[0] - noise[1]
        if self.share:
            logit = logit - jax.lax.stop_gradient(_lowest_of_highest(logit[:, :own], self.share))
        elif not self.train:
            logit = logit - self.threshold
        hard = (logit >= 0).astype(jnp.float32)
        mask = hard
        if self.train:
            soft = nn.sigmoid(logit / TEMPERATURE)
            mask = hard + (soft - jax.lax.stop_gradient(soft))
        return jnp.broadcast_to(mask, (*change.shape[:-1], 1))


def gate(mask: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    """Takes `new` where the mask is one and `old` where it is zero; differentiable in the mask.

    Args:
        mask: (..., 1), zeros and ones.
        new, old: (..., c).

    Returns:
        (..., c) in the dtype of `new`: since the mask is exactly 0 or 1, exactly `new` or `old`.
    """
    mask = mask.astype(new.dtype)
    return mask * new + (1 - mask) * old


@functools.partial(jax.jit, static_argnums=0)
def in_turns(compute: Callable[[Any, Any], Any], weights: Any, inputs: Any) -> Any:
    """`compute(weights, inputs)`, on a CPU for a few windows at a time, which stay in its cache.

    Args:
        compute: of weights and some windows, each by itself: a tree of arrays (w, ...) to another.
            A function of a module: blocks of one shape then are traced once.
        weights: a tree.
        inputs: of all n windows.
    """
    return spatial_sharding.by_windows(functools.partial(_in_turns, compute), weights, inputs)


def _in_turns(compute: Callable[[Any, Any], Any], weights: Any, inputs: Any) -> Any:
    n = jax.tree.leaves(inputs)[0].shape[0]
    count = -(-n // CPU_WINDOWS)
    turn = -(-n // count)

    def cut(start: Any) -> Any:
        return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, turn), inputs)

    def step(i: Any, outputs: Any) -> Any:
        start = jnp.minimum(i * turn, n - turn)  # the last turn may do some windows again
        return jax.tree.map(
            lambda whole, part: jax.lax.dynamic_update_slice_in_dim(whole, part, start, 0),
            outputs,
            compute(weights, cut(start)),
        )

    def by_turns() -> Any:
        shapes = jax.eval_shape(compute, weights, jax.eval_shape(lambda: cut(0)))
        outputs = jax.tree.map(lambda x: jnp.zeros((n, *x.shape[1:]), x.dtype), shapes)
        return jax.lax.fori_loop(0, count, step, outputs)

    return jax.lax.platform_dependent(cpu=by_turns, default=lambda: compute(weights, inputs))


@functools.partial(jax.jit, static_argnums=0)
def compute_kept(
    compute: Callable[[Any, Any, jax.Array | None], Any],
    weights: Any,
    inputs: Any,
    mask: jax.Array,
    old: Any,
) -> Any:
    """Computes the kept tokens, and no others but to fill up shapes; for inference.

    Windows without a kept token are left out. The others are in buckets by how many they have: in
    a quarter's bucket that many of a window's tokens are computed, kept ones first, in the last
    all. It holds for any masks, under jit, scan and vmap, but not in reverse mode. Devices that
    share a batch should each run it on their own part (`jax.shard_map`): the loops' lengths differ.

    Args:
        compute: of weights, some windows' inputs (w, ...) and the numbers (w, r) of the tokens
            that are asked for, or None for all; gives a tree of (w, r or tokens, c). A function of
            a module: blocks of one shape then are traced once.
        weights: a tree.
        inputs: a tree of arrays (n, ...).
        mask: (n, tokens) bool.
        old: a tree like what `compute` gives, (n, tokens, c): the values of dropped tokens.

    Returns:
        A tree of (n, tokens, c).
    """

    def of_some(weights: Any, inputs: Any, mask: jax.Array, old: Any) -> Any:
        n, tokens = mask.shape
        kept = mask.sum(1)
        one = functools.partial(compute, weights)

        def in_buckets(turn: int) -> Any:
            values, below = old, 0
            for size in sorted({-(-tokens // 4), -(-tokens // 2), tokens}):
                chosen = (kept > below) & (kept <= size)
                values = _compute_bucket(one, inputs, mask, values, chosen, size, turn)
                below = size
            return values

        return jax.lax.platform_dependent(
            cpu=lambda: in_buckets(min(CPU_WINDOWS, n)), default=lambda: in_buckets(-(-n // TURNS))
        )

    return spatial_sharding.by_windows(of_some, weights, inputs, mask, old)


def _compute_bucket(
    compute: Callable[[Any, jax.Array | None], Any],
    inputs: Any,
    mask: jax.Array,
    values: Any,
    chosen: jax.Array,
    size: int,
    turn: int,
) -> Any:
    """`compute_kept` of the windows that are chosen (n,), `size` tokens each, `turn` at a time."""
    n, tokens = mask.shape
    number = chosen.sum()
    # What fills up the last turn are windows beyond the end: read as the last one, never written.
    windows = jnp.nonzero(chosen, size=-(-n // turn) * turn, fill_value=n)[0]

    def step(carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        i, values = carry
        these = jax.lax.dynamic_slice_in_dim(windows, i * turn, turn)
        part, keep, before = jax.tree.map(
            lambda x: x.at[these].get(mode="clip"), (inputs, mask, values)
        )
        rows = place = None
        if size < tokens:
            rows = jnp.argsort(~keep, axis=1, stable=True)[:, :size]
            place = jnp.clip(jnp.cumsum(keep, axis=1) - 1, 0, size - 1)[..., None]

        def write(whole: jax.Array, old: jax.Array, new: jax.Array) -> jax.Array:
            if place is not None:
                new = jnp.take_along_axis(new, place, axis=1)
            new = jnp.where(keep[..., None], new, old)
            return whole.at[these].set(new, mode="drop", indices_are_sorted=True)

        return i + 1, jax.tree.map(write, values, before, compute(part, rows))

    def more(carry: tuple[jax.Array, Any]) -> jax.Array:
        return carry[0] * turn < number

    return jax.lax.while_loop(more, step, (jnp.int32(0), values))[1]


def _lowest_of_highest(logit: jax.Array, share: float) -> jax.Array:
    """(b, ...) -> (b, 1, ...): of each clip the logit that a share of all do not fall below."""
    flat = logit.reshape(logit.shape[0], -1)
    lowest = jnp.quantile(flat, 1 - share, axis=1, method="higher")
    return lowest.reshape(-1, *(1,) * (logit.ndim - 1))
