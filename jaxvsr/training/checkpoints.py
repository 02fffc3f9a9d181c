"""Checkpoints of a run, by Orbax: written in the background, atomically."""

import contextlib
import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from jaxvsr.config import differences
from jaxvsr.distributed.mesh import make_mesh, placed
from jaxvsr.errors import InputError
from jaxvsr.training.state import TrainState, Weights, initial_weights


class Checkpoints:
    """The checkpoints of a run: the best by PSNR, and the latest."""

    def __init__(
        self,
        workdir: pathlib.Path,
        keep: int = 1,
        degradation: str = "unknown",
        read_only: bool = False,
    ) -> None:
        """Opens the checkpoints in the folder of a run.

        Args:
            workdir: of the run.
            keep: number of latest checkpoints to keep, beside the best.
            degradation: name of the degradation of the training inputs; "" if unknown.
            read_only: changes nothing in the folder, where a training may be running.
        """
        self._degradation = degradation
        best = BestN(get_metric_fn=_psnr, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            best_fn=_psnr,
            preservation_policy=AnyPreservationPolicy([LatestN(keep), best]),
            cleanup_tmp_directories=not read_only,  # of a run that was killed while saving
            read_only=read_only,
            create=not read_only,
        )
        self._workdir = workdir
        self._manager = ocp.CheckpointManager((workdir / "checkpoints").resolve(), options=options)

    def latest_step(self) -> int | None:
        """Returns the step of the latest checkpoint, or None."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """Returns the step of the checkpoint with the best PSNR; if none has one, the latest."""
        best = self._manager.best_step()
        return self.latest_step() if best is None else best

    def save(self, state: TrainState, position: int, psnr: float | None = None) -> None:
        """Starts to write a checkpoint, unless this step has one.

        Args:
            state: to be saved.
            position: number of samples drawn.
            psnr: score in dB; None if the state was not scored.

        Raises:
            InputError: the disk is full.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        training = state.replace(weights=None)
        args = ocp.args.Composite(
            weights=ocp.args.StandardSave(state.weights),
            training=ocp.args.StandardSave(training),
            data=ocp.args.JsonSave({"position": position, "degradation": self._degradation}),
        )
        with self._full_disk_explained():
            metrics = None if psnr is None else {"psnr": float(psnr)}
            self._manager.save(step, args=args, metrics=metrics)

    def save_weights(self, weights: Weights) -> None:
        """Writes weights from elsewhere as the checkpoint of step 0, and waits for it.

        Args:
            weights: to evaluate, or to start a training from.

        Raises:
            InputError: the disk is full.
        """
        args = ocp.args.Composite(
            weights=ocp.args.StandardSave(weights),
            data=ocp.args.JsonSave({"position": 0, "degradation": self._degradation}),
        )
        with self._full_disk_explained():
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
        if not (self._manager.directory / str(step) / "training").exists():
            raise InputError(
                f"{self._workdir} holds only weights, no run to resume: use another --workdir and "
                f"--config.train.init_from={self._workdir}"
            )
        restored = self._load(
            step,
            weights=ocp.args.StandardRestore(state.weights),
            training=ocp.args.StandardRestore(state.replace(weights=None)),
            data=ocp.args.JsonRestore(),
        )
        state = restored["training"].replace(weights=restored["weights"])
        return state, restored["data"]["position"]

    def load_weights(self, weights: Weights, step: int) -> Weights:
        """Reads the weights of a checkpoint, as `load`."""
        return self._load(step, weights=ocp.args.StandardRestore(weights))["weights"]

    def degradation(self, step: int) -> str:
        """Returns the name of the degradation that a checkpoint was trained on; "" if unknown."""
        return self._load(step, data=ocp.args.JsonRestore())["data"]["degradation"]

    def _load(self, step: int, **args: Any) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**args))
        except FileNotFoundError as error:
            raise InputError(
                f"the checkpoint of step {step} in {self._workdir} is incomplete, or a training "
                f"has just replaced it: start again. ({error})"
            ) from error
        except (ValueError, KeyError) as error:
            raise InputError(
                f"the checkpoint of step {step} in {self._workdir} does not fit this model and "
                f"optimiser: {error}"
            ) from error

    def preempted(self, step: int) -> bool:
        """Whether all hosts stop at this step, since one of them is preempted."""
        return self._manager.reached_preemption(step)

    def close(self) -> None:
        """Waits until everything is on disk.

        Raises:
            InputError: the disk is full; earlier checkpoints are complete.
        """
        with self._full_disk_explained():
            self._manager.close()

    @contextlib.contextmanager
    def _full_disk_explained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # Orbax's writers raise different classes for a full disk.
            if "No space left" not in str(error):
                raise
            raise InputError(
                f"the disk of {self._workdir} is full: a checkpoint could not be written. Earlier "
                "ones are complete; free some space and start again to resume"
            ) from error


def load_best(
    config: ml_collections.ConfigDict, model: nn.Module, workdir: pathlib.Path
) -> tuple[int, Any, str]:
    """Loads the best checkpoint of a run.

    Args:
        config: of the run.
        model: of the config. A model without parameters needs no run.
        workdir: of the run.

    Returns:
        The step, the variables for `model.apply`, and the name of the degradation that they were
        trained on ("" if unknown).

    Raises:
        InputError: the folder holds no run, no checkpoint, or one of another model.
    """
    init = functools.partial(initial_weights, model, ema=bool(config.optim.ema))
    shapes = placed(jax.eval_shape(init, jax.random.key(0)), make_mesh())
    if not jax.tree.leaves(shapes):
        return 0, {}, ""
    if not (workdir / "config.json").exists():
        raise InputError(f"{workdir} holds no run: train one there first")
    differences(config, workdir)
    if not (workdir / "checkpoints").is_dir():
        raise InputError(f"{workdir} holds no checkpoint yet")
    with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
        step = checkpoints.best_step()
        if step is None:
            raise InputError(f"{workdir} holds no checkpoint yet")
        variables = checkpoints.load_weights(shapes, step).variables
        return step, variables, checkpoints.degradation(step)


def _psnr(metrics: dict[str, float]) -> float:
    return metrics["psnr"]
