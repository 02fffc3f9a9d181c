"""A model over a data set: restored frames, scores by clip, a picture."""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jaxvsr import config as configs
from jaxvsr import metrics, models, pictures, sharding
from jaxvsr.checkpoints import Checkpoints
from jaxvsr.data.degradations import imresize
from jaxvsr.data.sources import TFDSClips
from jaxvsr.errors import InputError
from jaxvsr.losses import sown
from jaxvsr.progress import say
from jaxvsr.state import initial_weights


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores of a model on a data set.

    Attributes:
        title: what was scored, and by which protocol.
        scores: method -> metric -> clip -> score of each of its frames.
        picture: (h, w, 3) uint8, a frame of the first clip: input, bicubic, sr, gt, and which
            share of the blocks computed each of its tokens, if the model has masks.
    """

    title: str
    scores: dict[str, dict[str, dict[str, np.ndarray]]]
    picture: np.ndarray

    def mean(self, method: str, metric: str) -> float:
        """The mean over clips of the mean over a clip's frames."""
        return float(np.mean([frames.mean() for frames in self.scores[method][metric].values()]))

    def table(self) -> str:
        """The means, a row a method, in Markdown."""
        rows = [f"| {'':16} | PSNR (dB) | SSIM   |", f"|{'-' * 18}|-----------|--------|"]
        for method in self.scores:
            psnr, ssim = self.mean(method, "psnr"), self.mean(method, "ssim")
            rows.append(f"| {method:16} | {psnr:9.4f} | {ssim:.4f} |")
        return "\n".join([self.title, *rows])


class Stopped(Exception):
    """The evaluation was broken off."""


Restorer = Callable[[Any, np.ndarray], tuple[jax.Array, jax.Array | None]]


def make_restorer(model: nn.Module) -> Restorer:
    """Compiles a model for evaluation on this host's devices.

    Returns:
        A function of variables and lq (b, t, h, w, 3) uint8 that gives sr (b, t, H, W, 3) uint8
        and, for a model with masks, the share of blocks that computed each token (b, t, h, w).
    """

    @jax.jit
    def restore(variables: Any, lq: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        sr, state = model.apply(variables, lq.astype(jnp.float32) / 255, mutable="aux")
        masks = sown(state.get("aux", {}), "mask")  # each (t, b, h, w)
        computed = jnp.moveaxis(sum(masks) / len(masks), 0, 1) if masks else None
        return jnp.round(jnp.clip(sr, 0, 1) * 255).astype(jnp.uint8), computed

    return restore


def check(protocol: ml_collections.ConfigDict, source: TFDSClips, model: nn.Module) -> None:
    """Raises InputError if a model cannot restore the clips of a source, or they not be scored.

    Args:
        protocol: the `eval` section of a config.
        source: of the clips.
        model: the network.
    """
    if source.scale != model.scale:
        raise InputError(
            f"the data set {protocol.dataset!r} is for scale {source.scale}, the model's scale is "
            f"{model.scale}"
        )
    shortest = min(source.clips, key=lambda clip: clip.length)
    if protocol.frames and max(protocol.frames) >= shortest.length:
        raise InputError(
            f"eval.frames={protocol.frames} are to be scored, but clip {shortest.name!r} has "
            f"{shortest.length} frames"
        )
    height, width = (
        min(sides) // source.scale
        for sides in zip(*((clip.height, clip.width) for clip in source.clips), strict=True)
    )
    try:
        frames = jax.ShapeDtypeStruct((1, 1, height, width, 3), jnp.float32)
        jax.eval_shape(model.init, jax.random.key(0), frames)
    except ValueError as error:
        raise InputError(f"the data set {protocol.dataset!r} cannot be scored: {error}") from error


def evaluate(
    restore: Restorer,
    source: TFDSClips,
    protocol: ml_collections.ConfigDict,
    variables: Any,
    *,
    baseline: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Scores a model. Every host does the whole, on its own devices, clips side by side.

    Args:
        restore: of `make_restorer`.
        source: of the clips.
        protocol: the `eval` section of a config.
        variables: of the model, replicated.
        baseline: whether bicubic enlargement is scored beside the model.
        stop: asked after each clip; if it says so, there is no result.

    Raises:
        Stopped: it was stopped.
    """
    clips = source.clips[: protocol.clips or None]
    methods = ("bicubic", "model") if baseline else ("model",)
    scores: dict = {method: {"psnr": {}, "ssim": {}} for method in methods}
    scored = list(protocol.frames) or slice(None)
    picture = np.zeros((0, 0, 3), np.uint8)
    for clip, lq, gt, sr, computed in _restored(restore, source, len(clips), variables):
        outputs = {"bicubic": imresize(lq, source.scale) if baseline else None, "model": sr}
        for method in methods:
            pair = outputs[method][scored], gt[scored]
            for metric, score in (("psnr", metrics.psnr), ("ssim", metrics.ssim)):
                frames = score(*pair, protocol.crop, protocol.channel)
                scores[method][metric][clip.name] = frames
        if not picture.size:
            picture = _picture(source.scale, len(gt) // 2, lq, gt, sr, computed)
        if stop():
            raise Stopped
    which = f"frames {protocol.frames}" if protocol.frames else "all frames"
    border = f", a border of {protocol.crop} left out" if protocol.crop else ""
    title = (
        f"{protocol.dataset} {protocol.split}: {len(clips)} clips, {which}, "
        f"{protocol.channel.upper()}{border}"
    )
    return Evaluation(title, scores, picture)


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Evaluation:
    """Scores the best checkpoint of a run, prints the table and writes the picture.

    Args:
        config: of the run; its `eval` section may be another.
        workdir: of the run.

    Raises:
        InputError: no such run, another model's, or no data.
    """
    configs.check(config)
    if not (workdir / "config.json").exists():
        raise InputError(f"{workdir} holds no run: train one there first")
    configs.check_fits(config, workdir)
    model = models.create(**config.model)
    source = TFDSClips(config.eval.dataset, config.eval.split, config.data.dir)
    check(config.eval, source, model)
    checkpoints = Checkpoints(workdir)
    step = checkpoints.best_step()
    if step is None:
        raise InputError(f"{workdir} holds no checkpoint yet")
    init = functools.partial(initial_weights, model, ema=bool(config.optim.ema))
    shapes = sharding.placed(jax.eval_shape(init, jax.random.key(0)), sharding.make_mesh())
    weights = checkpoints.restore_weights(shapes, step)
    say(f"scoring step {step} of {workdir}")
    result = evaluate(make_restorer(model), source, config.eval, weights.variables, baseline=True)
    picture = workdir / "images" / f"eval_{step:08d}.png"
    if jax.process_index() == 0:
        pictures.save(result.picture, picture)
    say(f"\n{result.table()}\n\npicture: {picture}")
    return result


def _restored(restore: Restorer, source: TFDSClips, count: int, variables: Any) -> Iterator[tuple]:
    """Restores the first `count` clips, as many at once as there are devices here.

    Yields:
        Of each clip in turn: what is known of it, lq, gt and sr (t, h, w, 3) uint8, and the share
        of blocks that computed each token (t, h, w), or None.
    """
    mesh = sharding.make_mesh(jax.local_devices())
    variables = sharding.replicate_here(variables, mesh)
    sizes = [(clip.length, clip.height, clip.width) for clip in source.clips]
    for _, alike in itertools.groupby(range(count), key=sizes.__getitem__):
        numbers = list(alike)
        for at in range(0, len(numbers), mesh.size):
            group = numbers[at : at + mesh.size]
            read = [source.read(i, range(source.clips[i].length)) for i in group]
            # Devices that are left without a clip do the last one again.
            lq = np.stack([(read + read[-1:] * mesh.size)[j]["lq"] for j in range(mesh.size)])
            outputs = restore(variables, jax.device_put(lq, sharding.split(mesh)))
            sr, computed = jax.device_get(outputs)
            for j, i in enumerate(group):
                share = None if computed is None else computed[j]
                yield source.clips[i], read[j]["lq"], read[j]["gt"], sr[j], share


def _picture(
    scale: int,
    t: int,
    lq: np.ndarray,
    gt: np.ndarray,
    sr: np.ndarray,
    computed: np.ndarray | None,
) -> np.ndarray:
    """Frame t of a clip: input, bicubic, sr, gt and, laid over it, where blocks computed."""
    panels = {
        "input": pictures.enlarge(lq[t], scale),
        "bicubic": imresize(lq[t], scale),
        "sr": sr[t],
        "gt": gt[t],
    }
    if computed is not None:
        share = pictures.enlarge(computed[t], scale)
        panels[f"computed: {computed[t].mean():.0%}"] = pictures.heat(share, panels["input"])
    return pictures.side_by_side(panels)
