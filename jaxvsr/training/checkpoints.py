"""Checkpoints of a run, by Orbax: written in the background, atomically, with checksums."""

import asyncio
import contextlib
import errno
import functools
import json
import math
import os
import pathlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import PreservationPolicy
from orbax.checkpoint.path import atomicity

from jaxvsr.config import differences, saved_fields
from jaxvsr.console import say
from jaxvsr.distributed.mesh import make_mesh, placed
from jaxvsr.errors import InputError
from jaxvsr.files import json_text, write_text
from jaxvsr.training import checksums
from jaxvsr.training.state import TrainState, Weights, initial_shapes, not_finite
from jaxvsr.weights.rules import some

# Of disks that are full, damaged or not writable.
DISK_ERRORS = ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "EACCES", "EPERM")
SCORES = "metrics/metrics"  # in the folder of a checkpoint
LEAST_KEPT = 2  # latest checkpoints, so that a damaged one has one before it


class Checkpoints:
    """The checkpoints of a run: the best, and the latest. Damaged ones do not count."""

    def __init__(
        self,
        workdir: pathlib.Path,
        keep: int = 1,
        degradation: str = "unknown",
        metric: str = "psnr",
    ) -> None:
        """Opens the checkpoints in the folder of a run and verifies them.

        Args:
            workdir: of the run.
            keep: number of latest checkpoints to keep, beside the best; at least LEAST_KEPT are.
            degradation: name of the degradation of the training inputs; "" if unknown.
            metric: whose scores choose the best; those of others do not count.

        Raises:
            InputError: a checkpoint cannot be read.
        """
        self._workdir, self._degradation = workdir, degradation
        self._folder = (workdir / "checkpoints").resolve()
        steps = steps_in(self._folder)
        reasons = {step: _damage(self._folder / str(step)) for step in steps}
        self._damaged = {step: reason for step, reason in reasons.items() if reason}
        whole = [step for step in steps if step not in self._damaged]
        self._metric, self._scores = metric, _scores(self._folder, whole, metric)
        options = ocp.CheckpointManagerOptions(
            best_fn=lambda metrics: metrics.get(metric, -math.inf),
            preservation_policy=_LatestAndBest(max(keep, LEAST_KEPT), self._scores),
            cleanup_tmp_directories=True,  # of a run that was killed while saving
            temporary_path_class=_CheckedFolder,
            lightweight_initialize=True,  # notes of damaged checkpoints cannot be read
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def latest_step(self) -> int | None:
        """Returns the step of the latest checkpoint, or None.

        Raises:
            InputError: there are checkpoints, and all are damaged.
        """
        whole = self._whole()
        if self._damaged and not whole:
            raise InputError(
                f"no checkpoint of {self._workdir} can be used: {_list(self._damaged)}. Copy one "
                "back from a backup, or use another --workdir"
            )
        return max(whole, default=None)

    def best_step(self) -> int | None:
        """Returns the step with the highest score; if none has one, the latest."""
        scores = self._scores
        best = _best({step: scores[step] for step in self._whole() if step in scores})
        return self.latest_step() if best is None else best

    def _whole(self) -> list[int]:
        return [step for step in self._manager.all_steps() if step not in self._damaged]

    def reject(self, step: int, reason: str) -> None:
        """Counts a checkpoint as damaged."""
        self._damaged[step] = reason
        self._scores.pop(step, None)

    def remove_damaged(self) -> None:
        """Removes damaged checkpoints, once another one has been loaded, and names them."""
        if self._damaged:
            say(
                f"{self._workdir}: removing damaged checkpoints, {_list(self._damaged)}; resuming "
                f"from step {self.latest_step()}"
            )
        for step in list(self._damaged):
            self._manager.delete(step)
            del self._damaged[step]

    def save(self, state: TrainState, position: int, score: float | None = None) -> None:
        """Starts to write a checkpoint, unless this step has one.

        Args:
            state: to be saved.
            position: number of samples drawn.
            score: higher is better; None if the state was not scored.

        Raises:
            FloatingPointError: a tensor of the state is not finite; nothing is written.
            InputError: the disk is full or cannot be written.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        _check_finite(state, step)
        training = state.replace(weights=None)
        args = ocp.args.Composite(
            weights=ocp.args.StandardSave(state.weights),
            training=ocp.args.StandardSave(training),
            data=ocp.args.JsonSave({"position": position, "degradation": self._degradation}),
        )
        with self._failed_writes_explained():
            metrics = None
            if score is not None and math.isfinite(score):
                metrics = {self._metric: float(score)}
                self._scores[step] = float(score)
            self._manager.save(step, args=args, metrics=metrics)

    def scored(self, step: int) -> bool:
        """Whether a checkpoint has a score."""
        return step in self._scores

    def add_score(self, step: int, score: float | None) -> None:
        """Adds the score to a complete checkpoint that was saved without one.

        Args:
            step: of the checkpoint.
            score: higher is better; None if the state could not be scored, which changes nothing.

        Raises:
            InputError: the disk is full or cannot be written.
        """
        if score is None or not math.isfinite(score):
            return
        self._scores[step] = float(score)
        if jax.process_index() == 0:
            path = self._folder / str(step) / SCORES
            with self._failed_writes_explained():
                path.parent.mkdir(exist_ok=True)
                write_text(path, json_text({self._metric: float(score)}))
                checksums.add_checksum(path.parents[1], path)

    def save_weights(self, weights: Weights) -> None:
        """Writes weights from elsewhere as the checkpoint of step 0, and waits for it.

        Args:
            weights: to evaluate, or to start a training from.

        Raises:
            FloatingPointError: a tensor is not finite; nothing is written.
            OSError: the disk is full or cannot be written.
        """
        _check_finite(weights, 0)
        args = ocp.args.Composite(
            weights=ocp.args.StandardSave(weights),
            data=ocp.args.JsonSave({"position": 0, "degradation": self._degradation}),
        )
        with _as_system_errors():
            self._manager.save(0, args=args)
            self._manager.wait_until_finished()

    def load(self, state: TrainState, step: int) -> tuple[TrainState, int]:
        """Reads a checkpoint to resume from it.

        Args:
            state: shapes with the shardings that the state is to have.
            step: of the checkpoint.

        Returns:
            The state, and the number of samples that had been drawn.

        Raises:
            InputError: the checkpoint holds another tree, or only weights.
        """
        self._manager.wait_until_finished()
        if not (self._folder / str(step) / "training").exists():
            raise InputError(
                f"{self._workdir} holds only weights, no run to resume: use another --workdir and "
                f"--config.train.init_from={self._workdir}"
            )
        read = functools.partial(_read_arrays, self._workdir, step)
        weights = read("weights", state.weights)
        training = read("training", state.replace(weights=None))
        return training.replace(weights=weights), _read_data(self._workdir, step)["position"]

    def load_weights(self, weights: Weights, step: int) -> Weights:
        """Reads the weights of a checkpoint, as `load`."""
        self._manager.wait_until_finished()
        return _read_arrays(self._workdir, step, "weights", weights)

    def degradation(self, step: int) -> str:
        """Returns the name of the degradation that a checkpoint was trained on; "" if unknown."""
        self._manager.wait_until_finished()
        return _read_data(self._workdir, step)["degradation"]

    def preempted(self, step: int) -> bool:
        """Whether all hosts stop at this step, since one of them is preempted."""
        return self._manager.reached_preemption(step)

    def close(self) -> None:
        """Waits until everything is on disk.

        Raises:
            InputError: the disk is full or cannot be written; earlier checkpoints are complete.
        """
        with self._failed_writes_explained():
            self._manager.close()

    @contextlib.contextmanager
    def _failed_writes_explained(self) -> Iterator[None]:
        try:
            with _as_system_errors():
                yield
        except OSError as error:
            raise InputError(
                f"{self._workdir}: a checkpoint could not be written: {error.strerror}. Earlier "
                "ones are complete: once that is fixed, start again to resume"
            ) from error


class _CheckedFolder(atomicity.AtomicRenameTemporaryPath):
    """The temporary folder in which Orbax writes a checkpoint, or one of its items.

    A checkpoint gets its checksums just before the rename that makes it visible, in the thread
    that writes it, and with several hosts on the first one. So no checkpoint is without them.
    """

    async def finalize(self) -> None:
        """Writes the checksums and renames the folder."""
        if self.get_final().name.isdigit():  # a checkpoint, not an item of one
            await asyncio.to_thread(checksums.write_checksums, pathlib.Path(self.get()))
        await super().finalize()


class _LatestAndBest(PreservationPolicy):
    """Preserves the latest checkpoints and the best."""

    def __init__(self, latest: int, scores: Mapping[int, float]) -> None:
        """Sets the number of latest checkpoints, and the scores by step, which may change."""
        self._latest, self._scores = latest, scores

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Says of each checkpoint whether to preserve it."""
        steps = [info.step for info in checkpoints]
        scores = {step: self._scores[step] for step in steps if step in self._scores}
        kept = {*sorted(steps)[-self._latest :], _best(scores)}
        return [step in kept for step in steps]


def load_best(
    config: ml_collections.ConfigDict, model: nn.Module, workdir: pathlib.Path
) -> tuple[int, Any, str]:
    """Loads the best checkpoint of a run, or the latest if that one is damaged; changes nothing.

    Args:
        config: of the run.
        model: of the config. A model without parameters needs no run.
        workdir: of the run.

    Returns:
        The step, the variables for `model.apply`, and the name of the degradation that they were
        trained on ("" if unknown).

    Raises:
        InputError: the folder holds no run, no whole checkpoint, or one of another model.
    """
    shapes = placed(initial_shapes(model, bool(config.optim.ema)), make_mesh())
    if not jax.tree.leaves(shapes):
        return 0, {}, ""
    if not (workdir / "config.json").exists():
        raise InputError(f"{workdir} holds no run: train one there first")
    differences(config, workdir)
    folder = (workdir / "checkpoints").resolve()
    steps = steps_in(folder)
    if not steps:
        raise InputError(f"{workdir} holds no checkpoint yet")
    scored = [step for step in steps if not _damage(folder / str(step), ("metrics",))]
    metric = saved_fields(workdir / "config.json").get("eval.best", "psnr")
    best = _best(_scores(folder, scored, metric))
    unusable: dict[int, str] = {}
    for step in sorted(steps, key=lambda step: (step == best, step), reverse=True):
        reason = _damage(folder / str(step), ("weights", "data"))
        weights: Any = None if reason else _read_arrays(workdir, step, "weights", shapes)
        reason = reason or in_words(not_finite(weights))
        if not reason:
            if unusable:
                say(f"{workdir}: damaged checkpoints, {_list(unusable)}; using step {step}")
            return step, weights.variables, _read_data(workdir, step)["degradation"]
        unusable[step] = reason
    raise InputError(
        f"no checkpoint of {workdir} can be used: {_list(unusable)}. Copy one back from a backup"
    )


@contextlib.contextmanager
def _as_system_errors() -> Iterator[None]:
    """Turns errors of Orbax's writers, of many classes, into the OSError that caused them."""
    try:
        yield
    except Exception as error:
        for number in (getattr(errno, name) for name in DISK_ERRORS):
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number)) from error
        raise


def steps_in(folder: pathlib.Path) -> list[int]:
    """Returns the steps of the complete checkpoints in a folder, in ascending order."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def in_words(names: Sequence[str]) -> str:
    """Says which arrays are not finite; "" if there are none."""
    return f"not finite: {some(names)}" if names else ""


def _check_finite(tree: Any, step: int) -> None:
    wrong = in_words(not_finite(tree))
    if wrong:
        raise FloatingPointError(f"the state of step {step} is not saved, since it is {wrong}")


def _damage(folder: pathlib.Path, items: Collection[str] = ()) -> str:
    """`checksums.damage`, by the first host for all."""
    reason = checksums.damage(folder, items) if jax.process_index() == 0 else ""
    if jax.process_count() > 1:
        damaged = multihost_utils.broadcast_one_to_all(np.array(bool(reason)))
        reason = reason or ("damaged" if damaged else "")
    return reason


def _list(reasons: Mapping[int, str]) -> str:
    return "; ".join(f"step {step}: {reason}" for step, reason in sorted(reasons.items()))


def _scores(folder: pathlib.Path, steps: Iterable[int], metric: str) -> dict[int, float]:
    """Reads the scores of checkpoints by step, of those that have a finite one."""
    scores = {}
    for step in steps:
        try:
            score = float(json.loads((folder / str(step) / SCORES).read_text())[metric])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if math.isfinite(score):
            scores[step] = score
    return scores


def _best(scores: Mapping[int, float]) -> int | None:
    """Returns the step with the highest score, the latest of several; None if there is none."""
    return max(scores, key=lambda step: (scores[step], step), default=None)


def _read_arrays(workdir: pathlib.Path, step: int, item: str, like: Any) -> Any:
    """Reads an item of a checkpoint.

    Args:
        workdir: of the run.
        step: of the checkpoint.
        item: "weights" or "training".
        like: shapes with the shardings that the arrays are to have.

    Raises:
        InputError: it is not such a tree.
    """
    path = (workdir / "checkpoints" / str(step) / item).resolve()
    try:
        with contextlib.closing(ocp.Checkpointer(ocp.StandardCheckpointHandler())) as reader:
            return reader.restore(path, args=ocp.args.StandardRestore(like))
    except OSError as error:
        raise InputError(
            f"the checkpoint of step {step} in {workdir} is incomplete, or a training has just "
            f"replaced it: start again. ({error})"
        ) from error
    except (ValueError, KeyError) as error:
        raise InputError(
            f"the checkpoint of step {step} in {workdir} does not fit this model and "
            f"optimizer: {error}"
        ) from error


def _read_data(workdir: pathlib.Path, step: int) -> dict[str, Any]:
    """Reads the position in the data and the degradation of a checkpoint."""
    path = workdir / "checkpoints" / str(step) / "data" / "metadata"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"the checkpoint {path.parents[1]} cannot be read: {error}") from error
