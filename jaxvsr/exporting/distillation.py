"""Trains a phone's network to compute the same image after quantization, pruning or clustering.

The float network is the teacher, so that frames without targets suffice. Quantization is imitated
in training ("fake quantization"): kernels are rounded per output channel, and the input of each
convolution, the state and the residual image are rounded to 8 bits within their ranges. Gradients
pass through the rounding.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvsr.console import say
from jaxvsr.exporting.clips import Clip
from jaxvsr.exporting.phone_graph import PhoneGraph, predict
from jaxvsr.exporting.playing import windows
from jaxvsr.training.compression import keep_compressed

BATCH, FRAMES, CROP = 4, 4, 48
LEARNING_RATE = 2e-4  # for quantization alone, which changes little
LEARNING_RATE_COMPRESSED = 1e-3  # for pruned or clustered networks
CHARBONNIER = 1e-2  # of the loss, on 0..255 squared
Ranges = Mapping[str, tuple[float, float]]
Change = Callable[[str, jax.Array], jax.Array]


def distil(
    teacher: PhoneGraph,
    student: PhoneGraph,
    clips: list[Clip],
    steps: int,
    *,
    quantized: bool,
    prune: float = 0.0,
    clusters: int = 0,
) -> Any:
    """Trains the student's variables so that the residual image is the teacher's.

    Args:
        teacher: of the network as it was trained.
        student: of the same network with other variables, or with fewer channels.
        clips: of input frames.
        steps: number of updates.
        quantized: whether int8 is imitated.
        prune, clusters: as in `keep_compressed`.

    Returns:
        The trained variables.
    """
    ranges = activation_ranges(teacher, clips) if quantized else None
    rest = {name: value for name, value in student.variables.items() if name != "params"}
    fewer = student.model.prune_channels > teacher.model.prune_channels
    first = LEARNING_RATE_COMPRESSED if prune or clusters or fewer else LEARNING_RATE
    rate = optax.cosine_decay_schedule(first, steps)
    optimizer = keep_compressed(optax.adam(rate), prune, clusters)

    @jax.jit
    def update(params: Any, state: Any, frames: jax.Array) -> tuple[Any, Any, jax.Array]:
        target = run_clip(teacher, teacher.variables, frames)

        def loss(params: Any) -> jax.Array:
            found = run_clip(student, {**rest, "params": params}, frames, ranges)
            return jnp.sqrt((found - target) ** 2 + CHARBONNIER).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    rng = np.random.default_rng(0)
    params = jax.tree.map(jnp.asarray, student.variables["params"])
    state = optimizer.init(params)
    for i in range(steps):
        params, state, value = update(params, state, _batch(teacher, clips, rng))
        if i in (0, steps - 1) or (i + 1) % 100 == 0:
            say(f"distillation step {i + 1}/{steps}: mean error {float(value):.3f} of 255")
    return {**rest, "params": jax.tree.map(np.asarray, params)}


def run_clip(
    graph: PhoneGraph, variables: Any, frames: jax.Array, ranges: Ranges | None = None
) -> jax.Array:
    """Computes the residual images of clips from a zero state on.

    Args:
        graph: of the network.
        variables: of the network.
        frames: windows (t, b, h, w, 3 * n), in 0..255.
        ranges: of `activation_ranges`, to imitate int8; None: float.

    Returns:
        (t, b, h, w, scale*scale*c).
    """

    def change(name: str, x: jax.Array) -> jax.Array:
        return x if ranges is None else _fake_quantize(x, *ranges[name])

    if ranges is not None:
        variables = _with_rounded_kernels(variables)

    def step(
        hidden: tuple[jax.Array, ...], x: jax.Array
    ) -> tuple[tuple[jax.Array, ...], jax.Array]:
        with _changed(change):
            residual, *state = predict(graph, variables, x, *hidden)
        return tuple(change("hidden", h) for h in state), change("residual", residual)

    hidden: tuple[jax.Array, ...] = ()
    if graph.hidden:
        hidden = (jnp.zeros((*frames.shape[1:4], graph.hidden[-1])),)
    return jax.lax.scan(step, hidden, frames)[1]


def activation_ranges(graph: PhoneGraph, clips: list[Clip]) -> Ranges:
    """Finds the ranges of convolutions' inputs, of the state and of the residual image on clips."""

    @jax.jit
    def step(frames: jax.Array, *hidden: jax.Array) -> tuple[tuple[jax.Array, ...], dict]:
        seen: dict[str, tuple[jax.Array, jax.Array]] = {}

        def note(name: str, x: jax.Array) -> jax.Array:
            seen[name] = x.min(), x.max()
            return x

        with _changed(note):
            residual, *state = predict(graph, graph.variables, frames, *hidden)
        note("residual", residual)
        return tuple(note("hidden", h) for h in state), seen

    found: dict[str, tuple[float, float]] = {}
    for clip in clips:
        hidden = (jnp.zeros((1, *clip.shape[1:3], graph.hidden[-1])),) if graph.hidden else ()
        for frames in windows(clip, graph.frames[-1] // 3):
            hidden, seen = step(jnp.asarray(frames, jnp.float32), *hidden)
            for name, (low, high) in jax.device_get(seen).items():
                least, most = found.get(name, (0.0, 1e-6))
                found[name] = min(float(low), least), max(float(high), most)
    return found


@contextlib.contextmanager
def _changed(change: Change) -> Iterator[None]:
    """Applies a function to the input of every convolution."""

    def intercept(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if isinstance(context.module, nn.Conv) and context.method_name == "__call__":
            return method(change("/".join(context.module.path), args[0]), *args[1:], **kwargs)
        return method(*args, **kwargs)

    with nn.intercept_methods(intercept):
        yield


def _fake_quantize(x: jax.Array, low: float, high: float) -> jax.Array:
    """Rounds to 256 values that include 0; the gradient is that of clipping."""
    scale = (high - low) / 255
    clipped = jnp.clip(x, low, high)
    return clipped + jax.lax.stop_gradient(scale * jnp.round(clipped / scale) - clipped)


def _with_rounded_kernels(variables: Any) -> Any:
    """Rounds kernels to int8 per output channel; gradients pass unchanged."""

    def apply(path: tuple, leaf: jax.Array) -> jax.Array:
        if path[-1].key != "kernel":
            return leaf
        scale = jnp.abs(leaf).max(tuple(range(leaf.ndim - 1)), keepdims=True) / 127
        scale = jnp.maximum(scale, 1e-12)
        return leaf + jax.lax.stop_gradient(scale * jnp.round(leaf / scale) - leaf)

    return jax.tree_util.tree_map_with_path(apply, variables)


def _batch(graph: PhoneGraph, clips: list[Clip], rng: np.random.Generator) -> np.ndarray:
    """Random crops of clips as windows (t, b, h, w, 3 * n), in 0..255."""
    samples = []
    for _ in range(BATCH):
        clip = clips[rng.integers(len(clips))]
        first = rng.integers(max(len(clip) - FRAMES, 0) + 1)
        h, w = (min(CROP, size) for size in clip.shape[1:3])
        y, x = (rng.integers(size - c + 1) for size, c in zip(clip.shape[1:3], (h, w), strict=True))
        part = clip[first : first + FRAMES, y : y + h, x : x + w]
        part = np.concatenate([part, part[-1:].repeat(FRAMES - len(part), 0)])
        for axis in (1, 2):
            part = np.flip(part, axis) if rng.random() < 0.5 else part
        samples.append(np.concatenate(list(windows(part, graph.frames[-1] // 3))))
    return np.stack(samples, axis=1).astype(np.float32)
