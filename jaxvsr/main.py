"""python -m jaxvsr.main --config=configs/miavsr.py:tiny --workdir=runs/one [--mode=eval]"""

import os
import pathlib
import sys
import traceback
from typing import NoReturn

from absl import flags

from jaxvsr import cli
from jaxvsr.errors import InputError

# Seconds without a sign of life after which a process counts as lost, and the others end.
HEARTBEAT = 30

CONFIG = cli.define_config()
WORKDIR = flags.DEFINE_string("workdir", "", "The run's folder, new or to be gone on with")
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several processes, of which the scheduler's environment tells"
)
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "One of several processes, of which process 0 is reached at host:port"
)
PROCESSES = flags.DEFINE_integer("processes", None, "How many there are, with --coordinator")
PROCESS = flags.DEFINE_integer("process", None, "The number of this one, from 0 on")
MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "Train, or score a run's checkpoint")


def main() -> None:
    """Trains or scores."""
    # Imported here: the processes that read data import this module, and need none of it.
    import jax

    from jaxvsr import evaluate, train

    place = (COORDINATOR.value, PROCESSES.value, PROCESS.value)
    several = DISTRIBUTED.value or any(value is not None for value in place)
    if several:
        if not DISTRIBUTED.value and None in place:
            raise InputError("--coordinator, --processes and --process belong together")
        jax.distributed.initialize(*place, heartbeat_timeout_seconds=HEARTBEAT)
    run = {"train": train.train, "eval": evaluate.run}[MODE.value]
    try:
        run(CONFIG.value, pathlib.Path(WORKDIR.value))
    except Exception as error:
        if several:
            _leave(error, f"process {jax.process_index()} of {jax.process_count()}")
        raise


def _leave(error: Exception, process: str) -> NoReturn:
    """Ends one of several processes at once, with what went wrong: JAX would let it wait for the
    others to end, which wait for it."""
    message = str(error)
    if not isinstance(error, InputError | FloatingPointError):
        traceback.print_exception(error)
        message = (
            f"{process} cannot go on: {(message or repr(error)).splitlines()[0]}. If another one "
            "has ended, its own output says why; the same command on all of them, or on fewer, "
            "goes on from the last checkpoint"
        )
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    cli.run(main, __doc__, ["config", "workdir"])
