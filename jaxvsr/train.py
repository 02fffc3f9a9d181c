"""Trains a model by a config, and scores the best checkpoint."""

import pathlib
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import jax
import ml_collections

from jaxvsr import evaluate
from jaxvsr.console import say
from jaxvsr.evaluation import flow_errors, scoring
from jaxvsr.evaluation.protocol import (
    EPE,
    best_score,
    degradation_of,
    set_name,
    warn_of_other_degradation,
)
from jaxvsr.evaluation.reports import Evaluation
from jaxvsr.evaluation.restoring import Restorer, make_restorer
from jaxvsr.locks import locked
from jaxvsr.preflight import Opened, preflight
from jaxvsr.training import loop
from jaxvsr.training.summaries import Summaries, make_workdir


def train(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Evaluation:
    """Trains a model, or resumes the run in the folder.

    Args:
        config: every field of `jaxvsr.config.defaults`.
        workdir: of the run: checkpoints/, TensorBoard events, config.json, metrics.jsonl, images/.

    Returns:
        The scores of the best checkpoint, beside those of bicubic upsampling.

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
    score = _Scorer(config, opened, restore)
    # All processes of a run write into one folder.
    first = jax.process_index() == 0
    with locked(workdir / ".lock", f"training in {workdir}") if first else nullcontext():
        with loop.stop_signals() as signals:
            loop.training_loop(
                config, workdir, opened.model, opened.source, score, trained_on, signals
            )
        return evaluate.score_best(config, workdir, opened, restore, score.last)


class _Scorer:
    """Scores and logs a step, as `loop.Score`.

    Attributes:
        last: the last step that was scored by this process, and its scores.
    """

    def __init__(self, config: ml_collections.ConfigDict, opened: Opened, restore: Restorer):
        self.last: evaluate.Scored | None = None
        self._config, self._opened, self._restore = config, opened, restore
        flow = config.eval.best == EPE
        self._estimate = flow_errors.make_estimator(opened.model) if flow else None

    def __call__(
        self, variables: Any, step: int, summaries: Summaries, stop: Callable[[], bool]
    ) -> float | None:
        """Returns the score by `eval.best`, higher is better; None if it was stopped."""
        known = self.last.result if self.last else None
        try:
            result = evaluate.scores_of(
                self._config, self._opened, self._restore, variables, known=known, stop=stop
            )
        except scoring.Stopped:
            return None
        evaluate.log_scores(result, self._config, step, summaries)
        for kind in ("frame", "profile"):
            if kind in result.drawn:
                evaluate.log_picture(result.drawn[kind], kind, self._config, step, summaries)
        name = self._config.model.name
        means = {metric: result.mean(name, metric) for metric in result.scores[name]}
        flow = None
        if self._estimate:
            protocol, source = self._config.eval, self._opened.eval_source
            flow = flow_errors.measure(self._estimate, source, protocol, variables, name)
            summaries.scalars(step, {f"eval/{set_name(protocol)}/epe": flow.mean})
            means[EPE] = flow.mean
        self.last = evaluate.Scored(step, result, flow)
        texts = [f"{metric} {mean:.4f}" for metric, mean in means.items()]
        say(f"step {step} on {set_name(self._config.eval)}: {', '.join(texts)}")
        return best_score(self._config.eval, means)
