"""Trains a model by a config, and scores the best checkpoint."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import ml_collections

from jaxvsr import evaluate, models
from jaxvsr.config import check, check_batch
from jaxvsr.data import pipeline
from jaxvsr.data.sources import TFDSClips
from jaxvsr.evaluation import scoring
from jaxvsr.evaluation.protocol import check_chosen, check_protocol, warn_of_other_degradation
from jaxvsr.evaluation.reports import Evaluation
from jaxvsr.evaluation.restoring import Restorer, make_restorer
from jaxvsr.training import loop
from jaxvsr.training.summaries import Summaries, make_workdir


def train(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Evaluation:
    """Trains a model, or resumes the run in the folder.

    Args:
        config: every field of `jaxvsr.config.defaults`.
        workdir: of the run: checkpoints/, TensorBoard events, config.json, metrics.jsonl, images/.

    Returns:
        The scores of the best checkpoint, beside those of bicubic enlargement.

    Raises:
        InputError: a setting, the data or the folder is wrong; before any long work, if it can be
            known.
        FloatingPointError: the loss or a gradient is not finite.
        SystemExit: after SIGTERM, once everything is saved.
    """
    check(config)
    check_batch(config)
    model = models.create(**config.model)
    source, eval_source = open_sources(config, model)
    make_workdir(workdir)
    restore = make_restorer(model, config.eval.space)
    score = functools.partial(_score, restore, eval_source, config)
    loop.run(config, workdir, model, source, score)
    return evaluate.run(config, workdir)


def open_sources(
    config: ml_collections.ConfigDict, model: nn.Module
) -> tuple[TFDSClips, TFDSClips]:
    """What is trained on and what is evaluated; raises InputError if the model cannot take them."""
    source = TFDSClips(config.data.dataset, config.data.split, config.data.dir)
    pipeline.check(config.data, source, model.scale)
    eval_source = TFDSClips(config.eval.dataset, config.eval.split, config.data.dir)
    check_protocol(config.eval, eval_source, model)
    if config.data.gt_frames:
        check_chosen(config.data, "data", model, (config.data.crop // model.scale,) * 2)
    warn_of_other_degradation(source.degradation, eval_source, config.eval.dataset)
    return source, eval_source


def _score(
    restore: Restorer,
    source: TFDSClips,
    config: ml_collections.ConfigDict,
    variables: Any,
    step: int,
    summaries: Summaries,
    stop: Callable[[], bool],
) -> float | None:
    """Scores and logs a step, as `loop.Score`."""
    name = config.model.name
    try:
        result = scoring.evaluate(restore, source, config.eval, variables, name=name, stop=stop)
    except scoring.Stopped:
        return None
    scores = {metric: result.mean(name, metric) for metric in result.scores[name]}
    summaries.scalars(step, {f"eval/{metric}": score for metric, score in scores.items()})
    summaries.image(step, "eval", result.picture)
    return scores["psnr"]
