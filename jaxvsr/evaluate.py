"""Scores the best checkpoint of a run: tables, pictures, files and TensorBoard."""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from jaxvsr.config import plain
from jaxvsr.console import say
from jaxvsr.errors import InputError
from jaxvsr.evaluation import flow_errors, mask_areas, scoring
from jaxvsr.evaluation.drawing import Panels, draw_masks
from jaxvsr.evaluation.flow_errors import FlowReport
from jaxvsr.evaluation.mask_areas import MaskReport
from jaxvsr.evaluation.pictures import one_by_one, side_by_side
from jaxvsr.evaluation.protocol import EPE, degradation_of, set_name, warn_of_other_degradation
from jaxvsr.evaluation.reports import Evaluation
from jaxvsr.evaluation.restoring import Restorer, make_restorer
from jaxvsr.files import replacing
from jaxvsr.preflight import Opened, preflight
from jaxvsr.training.checkpoints import load_best
from jaxvsr.training.summaries import Summaries, make_workdir
from jaxvsr.video.writing import write_video

FILM_RATE = 5  # frames per second of the video of masks
REPORTED = ("best", "median", "worst", "profile")  # pictures of the best checkpoint


@dataclasses.dataclass(frozen=True)
class Scored:
    """A step of a training, its scores, and the errors of its flow if `eval.best` is "epe"."""

    step: int
    result: Evaluation
    flow: FlowReport | None


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
    return score_best(config, workdir, opened, restore, describe=True)


def score_best(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    opened: Opened,
    restore: Restorer,
    last: Scored | None = None,
    describe: bool = False,
) -> Evaluation:
    """Scores the best checkpoint of a run: tables, pictures, and files of every score.

    Args:
        config: as for `score_run`.
        workdir: of the run. The tables go to eval/, the pictures to images/, both to TensorBoard.
        opened: by `preflight`.
        restore: of `make_restorer`.
        last: a step scored before, by this config; if it is the best, its scores are taken.
        describe: whether the config goes to TensorBoard, to which a training writes its own.

    Returns:
        The scores, beside those of bicubic upsampling.
    """
    model, source, protocol = opened.model, opened.eval_source, config.eval
    step, variables, trained_on = load_best(config, model, workdir)
    scored = degradation_of(source, protocol)
    warn_of_other_degradation(trained_on or scored, scored, protocol.dataset)
    make_workdir(workdir)
    flow = last.flow if last and last.step == step else None
    if last and last.step == step:
        result = last.result
    else:
        if variables:
            say(f"scoring step {step} of {workdir}")
        known = last.result if last else None
        result = scores_of(config, opened, restore, variables, known=known)
    masks, film = draw_masks(model, source, protocol, variables)
    drawn = {kind: result.drawn[kind] for kind in REPORTED if kind in result.drawn}
    drawn |= {kind: {kind: picture} for kind, picture in masks.items()}
    reports: dict[str, MaskReport | FlowReport] = {}
    measurable = source.has_flow and mask_areas.whole_clips(protocol)
    if measurable and jax.process_index() == 0:  # which alone prints them
        if masks:
            reports["masks"] = mask_areas.measure(model, source, protocol, variables)
        if protocol.best == EPE:
            estimate, name = flow_errors.make_estimator(model), config.model.name
            reports["flow"] = flow or flow_errors.measure(
                estimate, source, protocol, variables, name
            )
    with contextlib.closing(Summaries(workdir, None)) as summaries:
        if describe:
            summaries.describe(step, config)
        publish(result, drawn, config, step, workdir, summaries, reports)
    if film and jax.process_index() == 0:
        path = workdir / "images" / f"{set_name(protocol)}_masks_{step:08d}.mp4"
        try:
            with replacing(path) as part:
                write_video(part, film, FILM_RATE)
            say(f"video, masks: {path}")
        except InputError as error:
            say(f"no video of the masks: {error}")
    return result


def scores_of(
    config: ml_collections.ConfigDict,
    opened: Opened,
    restore: Restorer,
    variables: Any,
    *,
    known: Evaluation | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Scores variables by a config, beside bicubic upsampling.

    Args:
        config, opened, restore: as for `score_best`.
        variables: of the model.
        known: an earlier result by the same config; bicubic upsampling is not scored again.
        stop: as for `evaluate`.
    """
    return scoring.evaluate(
        restore,
        opened.eval_source,
        config.eval,
        variables,
        name=config.model.name,
        dtype=jnp.dtype(opened.model.dtype).name,
        baseline=True,
        known=known.scores if known else None,
        stop=stop,
    )


def log_scores(
    result: Evaluation, config: ml_collections.ConfigDict, step: int, summaries: Summaries
) -> None:
    """Writes the means of all methods as eval/<set>/<metric>, each method as a line of its own."""
    for method, by_metric in result.scores.items():
        tags = {
            f"eval/{set_name(config.eval)}/{metric}": result.mean(method, metric)
            for metric in by_metric
        }
        if method == config.model.name:
            summaries.scalars(step, tags)
        else:
            summaries.baseline(step, method, tags)


def log_picture(
    panels: Panels, kind: str, config: ml_collections.ConfigDict, step: int, summaries: Summaries
) -> pathlib.Path | None:
    """Writes a picture as eval/<set>/<kind>, and as a PNG, whose path is returned."""
    if len(panels) == 1:
        (picture,) = panels.values()
        shown = picture[None]
    else:
        picture, shown = side_by_side(panels), one_by_one(panels)
    return summaries.images(step, f"eval/{set_name(config.eval)}/{kind}", shown, picture)


def publish(
    result: Evaluation,
    drawn: dict[str, Panels],
    config: ml_collections.ConfigDict,
    step: int,
    workdir: pathlib.Path,
    summaries: Summaries,
    reports: Mapping[str, MaskReport | FlowReport] = MappingProxyType({}),
) -> None:
    """Prints scores, and writes them and the pictures into a run's folder and to TensorBoard.

    Args:
        result: of `scores_of`.
        drawn: pictures by kind.
        config: of the run.
        step: of the checkpoint.
        workdir, summaries: of the run.
        reports: by name, where the clips have true flow: "masks" of `mask_areas.measure`, "flow" of
            `flow_errors.measure`.
    """
    title = set_name(config.eval)
    if len(result.clips) <= 40:
        say(f"\n{result.table_of_clips()}")
    say(f"\n{result.table()}\n")
    for report in reports.values():
        say(f"{report.table()}\n")
    log_scores(result, config, step, summaries)
    tables = [result.table(), *(report.table() for report in reports.values())]
    # A table in Markdown needs an empty line before it.
    texts = [table.replace("\n|", "\n\n|", 1) for table in tables]
    summaries.text(step, f"eval/{title}/scores", "\n\n".join(texts))
    if jax.process_index() == 0:
        origin = {"checkpoint": f"step {step} of {workdir}", "config": plain(config)}
        path = result.save(workdir / "eval", f"{title}_{step:08d}", origin)
        say(f"scores: {path}.md, .csv, .json")
        for kind, report in reports.items():
            say(f"{kind}: {report.save(path.with_name(f'{path.name}_{kind}'))}.md, .json")
    for kind, panels in drawn.items():
        say(f"picture, {kind}: {log_picture(panels, kind, config, step, summaries)}")
    say(f"curves: {sys.executable} -m tensorboard.main --logdir={workdir.parent}")
