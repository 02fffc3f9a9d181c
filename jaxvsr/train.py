"""Trains a model by a config, and scores the best checkpoint."""

import functools
import pathlib
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import jax
import ml_collections

from jaxvsr import evaluate
from jaxvsr.data.sources import ClipSource
from jaxvsr.evaluation import scoring
from jaxvsr.evaluation.protocol import degradation_of, warn_of_other_degradation
from jaxvsr.evaluation.reports import Evaluation
from jaxvsr.evaluation.restoring import Restorer, make_restorer
from jaxvsr.locks import locked
from jaxvsr.preflight import preflight
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
        InputError: a setting, the data or the folder is wrong, or another process trains there;
            before any long work, if it can be known.
        FloatingPointError: the loss or a gradient is not finite.
        SystemExit: after SIGTERM or Ctrl-C, once everything is saved.
    """
    opened = preflight(config, workdir, train=True)
    assert opened.source
    trained_on = degradation_of(opened.source, config.data)
    scored = degradation_of(opened.eval_source, config.eval)
    warn_of_other_degradation(trained_on, scored, config.eval.dataset)
    make_workdir(workdir)
    restore = make_restorer(opened.model, config.eval.space, config.eval.self_ensemble)
    score = functools.partial(_score, restore, opened.eval_source, config)
    # All processes of a run write into one folder.
    first = jax.process_index() == 0
    with locked(workdir / ".lock", f"training in {workdir}") if first else nullcontext():
        with loop.stop_signals() as signals:
            loop.training_loop(
                config, workdir, opened.model, opened.source, score, trained_on, signals
            )
        return evaluate.score_best(config, workdir, opened, restore)


def _score(
    restore: Restorer,
    source: ClipSource,
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
