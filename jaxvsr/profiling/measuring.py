"""Measures parameters, FLOPs, time and memory of models, by layer and with masks."""

import collections
import dataclasses
import functools
import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvsr import flops
from jaxvsr.console import compiling
from jaxvsr.errors import InputError
from jaxvsr.models import mobile, network_input
from jaxvsr.training.initialization import initialize
from jaxvsr.training.state import initial_weights

STREAM_RATE = 25  # frames per second that arrive in a stream, if the network is as fast

# Scopes inside a masked block that compute every token: keys and values, and the mask itself.
NEVER_SPARED = {"keys_values", "predictor"}


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model to measure, and its input.

    Attributes:
        name: shown in the tables.
        model: the network.
        lq: (b, t, h, w, 3) float32 RGB in [0, 1].
        clip: description of `lq`.
        variables: of the model; None: initial ones.
        weights: description of the variables.
    """

    name: str
    model: nn.Module
    lq: np.ndarray
    clip: str = "random noise"
    variables: Any = None
    weights: str = "untrained"

    @property
    def frames(self) -> int:
        """Number of frames of a call."""
        return self.lq.shape[0] * self.lq.shape[1]


@dataclasses.dataclass(frozen=True)
class Layer:
    """One or several modules.

    Attributes:
        name: "outer/inner"; "": the network itself.
        parameters: number of trained parameters.
        flops: per frame, of matrix products and convolutions; a multiply-add counts as two.
        masked_flops: per frame, of the tokens that masks keep.
    """

    name: str
    parameters: int
    flops: float
    masked_flops: float


@dataclasses.dataclass(frozen=True)
class Profile:
    """The measurements of a subject.

    Attributes:
        subject: the model and its input.
        layers: disjoint; together they are the whole network.
        statistics: number of values beside the parameters, such as running means.
        log_flops: per frame, counted as in the mobile networks' work log; None for other networks.
        keep_ratios: masked block -> fraction of tokens that it computes, without the first frame
            of a branch, which is computed completely. Empty without masks.
        seconds: of each call; empty if nothing was run.
        memory: largest number of bytes in use; None if nothing was run.
        memory_source: how `memory` was measured.
        peak: FLOP/s of the device.
    """

    subject: Subject
    layers: tuple[Layer, ...]
    statistics: int
    log_flops: float | None
    keep_ratios: dict[str, float]
    seconds: tuple[float, ...] = ()
    memory: int | None = None
    memory_source: str = ""
    peak: float | None = None

    @property
    def parameters(self) -> int:
        """Number of parameters of the network."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def flops(self) -> float:
        """FLOPs per frame with every token computed."""
        return sum(layer.flops for layer in self.layers)

    @property
    def masked_flops(self) -> float | None:
        """FLOPs per frame with the masks of the input; None without masks."""
        return sum(layer.masked_flops for layer in self.layers) if self.keep_ratios else None

    @property
    def frame_seconds(self) -> float | None:
        """Median time of a call, divided by its number of frames."""
        return statistics.median(self.seconds) / self.subject.frames if self.seconds else None

    @property
    def lookahead(self) -> int | None:
        """Later frames that a frame needs; None: all of the clip."""
        return getattr(self.subject.model, "lookahead", None)

    @property
    def longest_wait(self) -> float | None:
        """Longest time from the arrival of a frame in a stream to its output, seconds.

        A network that needs the whole clip waits for its last frame and then computes all frames;
        the first one waits longest. Frames arrive at STREAM_RATE, or as fast as they are computed.
        """
        if self.frame_seconds is None:
            return None
        frames = self.subject.lq.shape[1]
        later = frames - 1 if self.lookahead is None else self.lookahead
        computed = frames if self.lookahead is None else 1
        interval = max(1 / STREAM_RATE, self.frame_seconds)
        return later * interval + computed * self.frame_seconds

    @property
    def mfu(self) -> float | None:
        """Model FLOP/s utilization: dense FLOP/s as a fraction of the peak."""
        if self.frame_seconds is None or self.peak is None:
            return None
        return self.flops / self.frame_seconds / self.peak


def profile(subjects: Sequence[Subject], rounds: int) -> list[Profile]:
    """Measures models on the first device; each round times every model once.

    Args:
        subjects: the models.
        rounds: number of timed calls of each model, after one that is not timed. 0: nothing is
            compiled or run, and keep ratios are unknown.

    Raises:
        InputError: a model cannot take its clip.
    """
    traced = [_Traced(subject) for subject in subjects]
    if rounds == 0:
        return [one.profile({}) for one in traced]
    runs = [_Run(one) for one in traced]
    kept = [run.keep_ratios() for run in runs]
    seconds, peak = [], 0.0
    for _ in range(rounds):
        seconds.append([run.seconds() for run in runs])
        # If it is measured, other processes slow it down as they do the calls.
        peak = max(peak, flops.peak())
    return [
        dataclasses.replace(
            run.traced.profile(shares), seconds=times, peak=peak, **run.memory(len(runs) == 1)
        )
        for run, shares, times in zip(runs, kept, zip(*seconds, strict=True), strict=True)
    ]


def grouped(layers: Sequence[Layer], depth: int) -> list[Layer]:
    """Sums layers whose names share their first `depth` levels, ordered by name."""

    def name(layer: Layer) -> str:
        return "/".join(layer.name.split("/")[:depth])

    return [
        Layer(
            group,
            sum(layer.parameters for layer in inside),
            sum(layer.flops for layer in inside),
            sum(layer.masked_flops for layer in inside),
        )
        for group, several in itertools.groupby(sorted(layers, key=name), key=name)
        for inside in [list(several)]
    ]


class _Traced:
    """A traced subject; nothing has been computed.

    Attributes:
        subject: the model and its input.
        init: initializes weights from a key.
        shapes: of the model's variables.
        program: `_program`, traced.
    """

    def __init__(self, subject: Subject) -> None:
        """Traces the model; raises InputError if it does not accept the input."""
        self.subject = subject
        self.init = jax.jit(functools.partial(initial_weights, subject.model, ema=False))
        lq = jax.ShapeDtypeStruct(subject.lq.shape, jnp.float32)
        try:
            self.shapes = jax.eval_shape(self.init, jax.random.key(0)).variables
            self.program = jax.jit(_program(subject.model)).trace(self.shapes, lq)
        except ValueError as error:
            raise InputError(f"{subject.name} cannot restore {lq.shape}: {error}") from error

    def profile(self, kept: Mapping[str, np.ndarray]) -> Profile:
        """Makes a profile without times, given the keep ratio of each block and frame if known."""
        running = jax.tree.leaves(self.shapes.get("batch_stats", {}))
        return Profile(
            subject=self.subject,
            layers=_layers(self.shapes.get("params", {}), self.program.jaxpr, kept, self.subject),
            statistics=sum(leaf.size for leaf in running),
            log_flops=self._log_flops(),
            keep_ratios={block: _but_the_first(shares) for block, shares in kept.items()},
        )

    def _log_flops(self) -> float | None:
        model, lq = self.subject.model, self.subject.lq
        if not type(model).__module__.startswith(f"{mobile.__name__}."):
            return None
        shape = jax.ShapeDtypeStruct(lq.shape, jnp.float32)
        return flops.log_convention(model.apply, self.shapes, shape) / self.subject.frames


class _Run:
    """A compiled subject on the first device."""

    def __init__(self, traced: _Traced) -> None:
        self.traced, subject = traced, traced.subject
        self._variables = subject.variables
        if self._variables is None:
            self._variables = initialize(traced.init, jax.random.key(0)).variables
        self._variables, self._lq = jax.device_put((self._variables, subject.lq))
        with compiling(subject.name):
            self._compiled = traced.program.lower().compile()

    def keep_ratios(self) -> dict[str, np.ndarray]:
        """Runs the model once; returns block -> fraction of computed tokens of each frame."""
        _, kept = jax.block_until_ready(self._compiled(self._variables, self._lq))
        return {name: np.asarray(share).mean(1) for name, share in kept.items()}

    def seconds(self) -> float:
        """Times a call."""
        start = time.perf_counter()
        jax.block_until_ready(self._compiled(self._variables, self._lq))
        return time.perf_counter() - start

    def memory(self, alone: bool) -> dict[str, Any]:
        """Returns `memory` and `memory_source`, from the device if no other model ran on it."""
        stats = jax.devices()[0].memory_stats() or {}
        if alone and "peak_bytes_in_use" in stats:
            return {"memory": stats["peak_bytes_in_use"], "memory_source": "by the device"}
        found = self._compiled.memory_analysis()
        if found is None:
            return {}
        used = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
        source = "by the compiler: arguments, outputs, temporaries"
        return {"memory": used, "memory_source": source}


def _program(model: nn.Module) -> Any:
    """Makes a function of variables and lq that returns sr and the keep ratio of each block."""

    def program(variables: Any, lq: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        sr, state = model.apply(variables, network_input(model, lq), mutable=["aux"])
        leaves = jax.tree_util.tree_leaves_with_path(state.get("aux", {}))
        named = {tuple(getattr(key, "key", "") for key in path): leaf for path, leaf in leaves}
        return sr, {
            "/".join(path[: path.index("keep_ratio")]): leaf
            for path, leaf in named.items()
            if "keep_ratio" in path
        }

    return program


def _layers(
    params: Any, jaxpr: Any, kept: Mapping[str, np.ndarray], subject: Subject
) -> tuple[Layer, ...]:
    """Lists the modules that own parameters or FLOPs.

    Args:
        params: of the model, or their shapes.
        jaxpr: of `_program`.
        kept: block -> fraction of computed tokens of each frame.
        subject: the model and its input.
    """
    sizes: dict[str, int] = collections.defaultdict(int)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        sizes[jax.tree_util.keystr(path[:-1], simple=True, separator="/")] += leaf.size
    modules = {around for name in sizes for around in _around(name)} | set(kept)
    dense: dict[str, float] = collections.defaultdict(float)
    masked: dict[str, float] = collections.defaultdict(float)
    for scope, count in flops.by_scope(jaxpr).items():
        name = _module(scope, modules)
        spared = NEVER_SPARED.isdisjoint(scope.split("/"))
        share = next((kept[b].mean() for b in _around(name) if spared and b in kept), 1.0)
        dense[name] += count / subject.frames
        masked[name] += count / subject.frames * share
    return tuple(
        Layer(name, sizes[name], dense[name], float(masked[name]))
        for name in sorted({*sizes, *dense})
    )


def _module(scope: str, modules: set[str]) -> str:
    """Returns the module of a scope, without the names of methods, einsums and transformations."""
    name = ""
    for part in scope.split("/"):
        # A method of a module may be called from outside: "cell.step".
        for word in (part, part.partition(".")[0]):
            longer = f"{name}/{word}".lstrip("/")
            if longer in modules:
                name = longer
                break
    return name


def _around(name: str) -> list[str]:
    """Returns a module and its parents, the outermost first."""
    parts = name.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _but_the_first(shares: np.ndarray) -> float:
    """Averages without a branch's first frame, which is computed completely."""
    return float((shares.sum() - 1) / (len(shares) - 1)) if len(shares) > 1 else 1.0
