"""What a model costs: parameters, arithmetic, time and memory, by layers and under its masks."""

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
from jaxvsr.training.state import initial_weights

# Scopes inside a masked block whose arithmetic is done for every token, whatever the mask: every
# token is looked at, and decided on.
NEVER_SPARED = {"keys_values", "predictor"}


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model to be measured, and what it is given.

    Attributes:
        name: that the tables show.
        model: the network.
        lq: (b, t, h, w, 3) float32 RGB in [0, 1].
        clip: what `lq` is, in words.
        variables: of the model; None: fresh ones.
        weights: what they are, in words.
    """

    name: str
    model: nn.Module
    lq: np.ndarray
    clip: str = "random noise"
    variables: Any = None
    weights: str = "untrained"

    @property
    def frames(self) -> int:
        """How many are restored in a call."""
        return self.lq.shape[0] * self.lq.shape[1]


@dataclasses.dataclass(frozen=True)
class Layer:
    """A module, or several.

    Attributes:
        name: "outer/inner"; "" of the network itself.
        parameters: numbers that are trained.
        flops: of a frame: matrix products and convolutions, a multiply-add as two.
        masked_flops: of those, what the masks leave to be done.
    """

    name: str
    parameters: int
    flops: float
    masked_flops: float


@dataclasses.dataclass(frozen=True)
class Profile:
    """What was found out about a subject.

    Attributes:
        subject: that was measured.
        layers: disjoint, and together the whole network.
        statistics: numbers that are kept beside the parameters, such as those of normalisation.
        log_flops: of a frame, in the convention of the mobile networks' work log; None for others.
        keep_ratios: masked block -> share of the tokens that it computes, over all frames but a
            branch's first, of which every token is computed. Empty without masks.
        seconds: that each call took; empty if nothing was run.
        memory: bytes at the highest; None if nothing was run.
        memory_source: who counted them.
        peak: FLOP/s that the device could do.
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
        """Of the whole network."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def flops(self) -> float:
        """Of a frame, every token computed."""
        return sum(layer.flops for layer in self.layers)

    @property
    def masked_flops(self) -> float | None:
        """Of a frame, as the masks were; None without masks."""
        return sum(layer.masked_flops for layer in self.layers) if self.keep_ratios else None

    @property
    def frame_seconds(self) -> float | None:
        """The median call's time by the number of its frames."""
        return statistics.median(self.seconds) / self.subject.frames if self.seconds else None

    @property
    def mfu(self) -> float | None:
        """Model FLOP/s utilisation: the share of the peak that the dense arithmetic makes up."""
        if self.frame_seconds is None or self.peak is None:
            return None
        return self.flops / self.frame_seconds / self.peak


def profile(subjects: Sequence[Subject], rounds: int) -> list[Profile]:
    """Measures models side by side: each in turn, round by round, on the first device.

    Args:
        subjects: the models.
        rounds: how often each is timed, after a call that is not; 0: nothing is compiled or run,
            and the masks are not known.

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
        peak = max(peak, flops.peak())  # a measured one suffers from other work as the rest does
    return [
        dataclasses.replace(
            run.traced.profile(shares), seconds=times, peak=peak, **run.memory(len(runs) == 1)
        )
        for run, shares, times in zip(runs, kept, zip(*seconds, strict=True), strict=True)
    ]


def grouped(layers: Sequence[Layer], depth: int) -> list[Layer]:
    """Layers summed up to so many levels of modules, in the order of their names."""

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
    """A subject's arithmetic, nothing of it computed yet.

    Attributes:
        subject: the model and its clip.
        init: makes fresh weights of a key.
        shapes: of the model's variables.
        program: `_program`, traced.
    """

    def __init__(self, subject: Subject) -> None:
        """Raises InputError if the model cannot take its clip."""
        self.subject = subject
        self.init = functools.partial(initial_weights, subject.model, ema=False)
        lq = jax.ShapeDtypeStruct(subject.lq.shape, jnp.float32)
        try:
            self.shapes = jax.eval_shape(self.init, jax.random.key(0)).variables
            self.program = jax.jit(_program(subject.model)).trace(self.shapes, lq)
        except ValueError as error:
            raise InputError(f"{subject.name} cannot restore {lq.shape}: {error}") from error

    def profile(self, kept: Mapping[str, np.ndarray]) -> Profile:
        """What is known without a run, or with the kept shares of each block and frame of one."""
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
    """A subject, compiled, on the first device."""

    def __init__(self, traced: _Traced) -> None:
        self.traced, subject = traced, traced.subject
        self._variables = subject.variables
        if self._variables is None:
            self._variables = jax.jit(traced.init)(jax.random.key(0)).variables
        self._variables, self._lq = jax.device_put((self._variables, subject.lq))
        with compiling(subject.name):
            self._compiled = traced.program.lower().compile()

    def keep_ratios(self) -> dict[str, np.ndarray]:
        """Runs it once; block -> share of computed tokens of each frame."""
        _, kept = jax.block_until_ready(self._compiled(self._variables, self._lq))
        return {name: np.asarray(share).mean(1) for name, share in kept.items()}

    def seconds(self) -> float:
        """What a call takes."""
        start = time.perf_counter()
        jax.block_until_ready(self._compiled(self._variables, self._lq))
        return time.perf_counter() - start

    def memory(self, alone: bool) -> dict[str, Any]:
        """`memory` and `memory_source` of a Profile: by the device, if nothing else ran on it."""
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
    """A function of variables and lq that gives sr and, of each masked block, its kept share."""

    def run(variables: Any, lq: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        sr, state = model.apply(variables, network_input(model, lq), mutable=["aux"])
        leaves = jax.tree_util.tree_leaves_with_path(state.get("aux", {}))
        named = {tuple(getattr(key, "key", "") for key in path): leaf for path, leaf in leaves}
        return sr, {
            "/".join(path[: path.index("keep_ratio")]): leaf
            for path, leaf in named.items()
            if "keep_ratio" in path
        }

    return run


def _layers(
    params: Any, jaxpr: Any, kept: Mapping[str, np.ndarray], subject: Subject
) -> tuple[Layer, ...]:
    """The modules that own parameters or arithmetic.

    Args:
        params: of the model, or their shapes.
        jaxpr: of `_program`.
        kept: block -> share of computed tokens of each frame.
        subject: the model and its clip.
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
    """The module that a scope lies in: what is in its name beside modules is left out, such as
    methods, einsums and transformations."""
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
    """A module and those that it lies in, the outermost first."""
    parts = name.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _but_the_first(shares: np.ndarray) -> float:
    """As `losses.keep_ratio`: a branch computes all of its first frame."""
    return float((shares.sum() - 1) / (len(shares) - 1)) if len(shares) > 1 else 1.0
