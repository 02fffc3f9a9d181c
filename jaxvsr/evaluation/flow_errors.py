"""Errors of an estimated optical flow on clips with true flow."""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jaxvsr.data.sources import ClipSource
from jaxvsr.distributed.mesh import make_mesh, replicate_here
from jaxvsr.evaluation.markdown import markdown, save_report
from jaxvsr.layers.sown import sown

Estimator = Callable[[Any, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class FlowReport:
    """End-point errors in input pixels, of pixels that are visible in the other frame.

    Attributes:
        model: name of the network.
        errors: clip -> error of the network.
        still: clip -> error of zero flow.
        kind_of: clip -> kind.
    """

    model: str
    errors: Mapping[str, float]
    still: Mapping[str, float]
    kind_of: Mapping[str, str]

    @property
    def mean(self) -> float:
        """Mean of the network's errors over the clips."""
        return float(np.mean(list(self.errors.values())))

    def table(self) -> str:
        """Formats the means in Markdown, of all clips and of each kind."""
        rows = []
        for kind in ("", *dict.fromkeys(self.kind_of.values())):
            clips = [clip for clip in self.errors if kind in ("", self.kind_of[clip])]
            means = [np.mean([of[clip] for clip in clips]) for of in (self.still, self.errors)]
            rows.append([kind or "all", *(f"{mean:.4f}" for mean in means)])
        heads = ["clips", "no motion", self.model]
        return f"End-point error (pixels) where visible\n{markdown(heads, rows)}"

    def save(self, path: pathlib.Path) -> pathlib.Path:
        """Writes <path>.md and <path>.json, and returns the path."""
        return save_report(path, self.table(), {**dataclasses.asdict(self), "mean": self.mean})


def make_estimator(model: nn.Module) -> Estimator:
    """Makes a function of variables and lq (t, h, w, 3) uint8.

    It returns the flows that the network sows, (2, t-1, h, w, 2): from each frame but the first to
    the previous one, and from each but the last to the next one.
    """

    @jax.jit
    def estimate(variables: Any, lq: jax.Array) -> jax.Array:
        _, state = model.apply(variables, lq.astype(jnp.float32)[None] / 255, mutable="aux")
        flows = [sown(state["aux"], f"flows_{way}") for way in ("forward", "backward")]
        return jnp.stack([found[0][0] for found in flows])

    return estimate


def measure(
    estimate: Estimator,
    source: ClipSource,
    protocol: ml_collections.ConfigDict,
    variables: Any,
    name: str,
) -> FlowReport:
    """Measures a network on clips with true flow, on one device; on each host the same.

    Args:
        estimate: of `make_estimator`.
        source: of the clips.
        protocol: the `eval` section of a config.
        variables: of the network.
        name: of the network.
    """
    variables = replicate_here(variables, make_mesh(jax.local_devices()[:1]))
    means: dict[str, dict[str, float]] = collections.defaultdict(dict)
    chosen = range(protocol.clips or len(source.clips))[: len(source.clips)]
    for i in chosen:
        clip = source.clips[i]
        lq, true = source.read(i, range(clip.length))["lq"], source.read_flow(i)
        flow = np.stack([true["flow_forward"][1:], true["flow_backward"][:-1]])
        visible = np.stack([true["visible_forward"][1:], true["visible_backward"][:-1]]) > 0
        estimated = jax.device_get(estimate(variables, jax.device_put(lq)))
        for method, guess in (("still", 0 * flow), ("errors", estimated)):
            errors = np.linalg.norm(guess - flow, axis=-1)[visible]
            means[method][clip.name] = float(errors.mean(dtype=np.float64))
    kind_of = {source.clips[i].name: source.clips[i].kind for i in chosen}
    return FlowReport(name, means["errors"], means["still"], kind_of)
