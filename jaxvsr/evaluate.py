"""Scores the best checkpoint of a run: tables, pictures, files and TensorBoard."""

import contextlib
import pathlib
import sys

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jaxvsr.config import plain
from jaxvsr.console import say
from jaxvsr.data.opening import short_name
from jaxvsr.errors import InputError
from jaxvsr.evaluation import mask_areas
from jaxvsr.evaluation.drawing import draw_masks
from jaxvsr.evaluation.mask_areas import MaskReport
from jaxvsr.evaluation.protocol import degradation_of, warn_of_other_degradation
from jaxvsr.evaluation.reports import Evaluation
from jaxvsr.evaluation.restoring import Restorer, make_restorer
from jaxvsr.evaluation.scoring import draw, evaluate
from jaxvsr.files import replacing
from jaxvsr.preflight import Opened, preflight
from jaxvsr.training.checkpoints import load_best
from jaxvsr.training.summaries import Summaries, make_workdir
from jaxvsr.video.writing import write_video

FILM_RATE = 5  # frames per second of the video of masks


def score_run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Evaluation:
    """Checks a run and its data, then scores its best checkpoint.

    Args:
        config: of the run; its `eval` section may differ. A model without parameters needs no
            run.
        workdir: of the run.

    Returns:
        The scores, beside those of bicubic upsampling.

    Raises:
        InputError: the run or the data does not exist, or the run is of another model.
    """
    opened = preflight(config, workdir, train=False)
    restore = make_restorer(opened.model, config.eval.space, config.eval.self_ensemble)
    return score_best(config, workdir, opened, restore)


def score_best(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, opened: Opened, restore: Restorer
) -> Evaluation:
    """Scores the best checkpoint of a run: tables, pictures, and files of every score.

    Args:
        config: as for `score_run`.
        workdir: of the run. The tables go to eval/, the pictures to images/, both to TensorBoard.
        opened: by `preflight`.
        restore: of `make_restorer`.

    Returns:
        The scores, beside those of bicubic upsampling.
    """
    model, source, protocol = opened.model, opened.eval_source, config.eval
    step, variables, trained_on = load_best(config, model, workdir)
    if variables:
        say(f"scoring step {step} of {workdir}")
    scored = degradation_of(source, protocol)
    warn_of_other_degradation(trained_on or scored, scored, protocol.dataset)
    make_workdir(workdir)
    name = config.model.name
    dtype = jnp.dtype(model.dtype).name
    result = evaluate(restore, source, protocol, variables, name=name, dtype=dtype, baseline=True)
    drawn = draw(restore, source, protocol, variables, result.scores[name]["psnr"])
    masks, film = draw_masks(model, source, protocol, variables)
    drawn |= masks
    report = None
    measurable = masks and source.has_flow and mask_areas.whole_clips(protocol)
    if measurable and jax.process_index() == 0:  # which alone prints it
        report = mask_areas.measure(model, source, protocol, variables)
    with contextlib.closing(Summaries(workdir, None)) as summaries:
        publish(result, drawn, config, step, workdir, summaries, report)
    if film and jax.process_index() == 0:
        path = workdir / "images" / f"{_title(protocol)}_masks_{step:08d}.mp4"
        try:
            with replacing(path) as part:
                write_video(part, film, FILM_RATE)
            say(f"video, masks: {path}")
        except InputError as error:
            say(f"no video of the masks: {error}")
    return result


def publish(
    result: Evaluation,
    drawn: dict[str, np.ndarray],
    config: ml_collections.ConfigDict,
    step: int,
    workdir: pathlib.Path,
    summaries: Summaries,
    masks: MaskReport | None = None,
) -> None:
    """Prints scores, and writes them and the pictures into a run's folder and to TensorBoard.

    Args:
        result: of `evaluate`.
        drawn: of `draw`.
        config: of the run.
        step: of the checkpoint.
        workdir, summaries: of the run.
        masks: of `mask_areas.measure`, if the network has masks and the clips have true flow.
    """
    protocol, name = config.eval, config.model.name
    if len(result.clips) <= 40:
        say(f"\n{result.table_of_clips()}")
    say(f"\n{result.table()}\n")
    if masks is not None:
        say(f"{masks.table()}\n")
    title = _title(protocol)
    means = {f"{title}/{metric}": result.mean(name, metric) for metric in protocol.metrics}
    summaries.scalars(step, means)
    if jax.process_index() == 0:
        origin = {"checkpoint": f"step {step} of {workdir}", "config": plain(config)}
        path = result.save(workdir / "eval", f"{title}_{step:08d}", origin)
        say(f"scores: {path}.md, .csv, .json")
        if masks is not None:
            say(f"masks: {masks.save(path.with_name(path.name + '_masks'))}.md, .json")
    for kind, picture in drawn.items():
        say(f"picture, {kind}: {summaries.image(step, f'{title}_{kind}', picture)}")
    say(f"curves: {sys.executable} -m tensorboard.main --logdir={workdir}")


def _title(protocol: ml_collections.ConfigDict) -> str:
    """Returns the prefix of the names of an evaluation's files."""
    return f"{short_name(protocol.dataset)}_{protocol.split}"
