"""Time against the share of tokens that masks keep: masks of two kinds, forced upon a network."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from scipy.ndimage import gaussian_filter

from jaxvsr.layers.gating import MaskPredictor

# Pixels; at a share of 0.3 about 45 % of the windows of 8x8 hold a kept token, as in trained ones.
BLOB = 11.0


def blobs(share: float, height: int, width: int, seed: int = 0) -> np.ndarray:
    """A mask that keeps round areas, as trained predictors draw them.

    Args:
        share: of the tokens that are kept, 0..1.
        height, width: of the frame.
        seed: of what is random.

    Returns:
        (height, width) float32 of zeros and ones.
    """
    noise = np.random.default_rng(seed).normal(size=(height, width))
    return _highest(gaussian_filter(noise, BLOB, mode="wrap"), share)


def scattered(share: float, height: int, width: int, seed: int = 0) -> np.ndarray:
    """A mask that keeps tokens here and there, each as likely; as `blobs`."""
    return _highest(np.random.default_rng(seed).random((height, width)), share)


KINDS: Mapping[str, Callable[..., np.ndarray]] = {"blobs": blobs, "scattered": scattered}


@contextlib.contextmanager
def forced_masks(mask: jax.Array) -> Iterator[None]:
    """Inside, masked blocks that are applied take this mask (h, w) instead of their own."""

    def intercept(call: Callable, args: Any, kwargs: Any, context: Any) -> Any:
        if not isinstance(context.module, MaskPredictor) or context.method_name != "__call__":
            return call(*args, **kwargs)
        clips, each, tokens, _ = args[0].shape
        windows = context.module.parent.partition(mask[None, :, :, None])
        return jax.numpy.broadcast_to(windows[None], (clips, each, tokens, 1))

    with nn.intercept_methods(intercept):
        yield


def times(calls: Mapping[Any, Callable[[], Any]], rounds: int) -> dict[Any, list[np.ndarray]]:
    """Times calls in turn, round by round; what is first compiled is not timed.

    Returns:
        Key of a call -> of each round (wall time, processor time) in seconds.
    """
    for call in calls.values():
        jax.block_until_ready(call())
    found: dict[Any, list[np.ndarray]] = {key: [] for key in calls}
    for _ in range(rounds):
        for key, call in calls.items():
            wall, work = time.perf_counter(), time.process_time()
            jax.block_until_ready(call())
            found[key].append(
                np.array([time.perf_counter() - wall, time.process_time() - work])
            )
    return found


def _highest(values: np.ndarray, share: float) -> np.ndarray:
    rank = values.ravel().argsort().argsort().reshape(values.shape)
    return (rank >= round((1 - share) * values.size)).astype(np.float32)
