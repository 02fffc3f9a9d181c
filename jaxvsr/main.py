"""python -m jaxvsr.main --config=configs/miavsr.py:tiny --workdir=runs/one [--mode=eval]"""

import os
import pathlib
import re
import runpy
import sys
import traceback
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

# Seconds without a sign of life after which a process counts as lost, and the others end.
HEARTBEAT = 30

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file of configs/, perhaps with a variant: configs/miavsr.py:tiny"
)
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


def parse(argv: list[str]) -> list[str]:
    """Parses the command line; what is wrong with it is said in a line."""
    try:
        rest = flags.FLAGS(argv)
        for name in ("config", "workdir"):
            if not flags.FLAGS[name].present:
                raise SystemExit(f"error: --{name} is missing\n{__doc__}")
        CONFIG.value.get("model")
        given = [flag.value is not None for flag in (COORDINATOR, PROCESSES, PROCESS)]
        if any(given) and not all(given):
            raise SystemExit("error: --coordinator, --processes and --process belong together")
    except (flags.Error, AttributeError, KeyError, OSError) as error:
        raise SystemExit(f"error: {_explain(error, argv)}") from None
    if rest[1:]:
        raise SystemExit(f"error: what is {' '.join(rest[1:])!r}? Fields are set by --config.x=...")
    return rest


def main(_: list[str]) -> None:
    """Trains or scores, and prints what the user can mend without a traceback."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.ERROR)  # of the libraries: we print what matters
    # TensorFlow writes our event files, and need not talk about it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    # Imported here: the processes that read data import this module, and need none of it.
    import jax

    from jaxvsr import evaluate, train
    from jaxvsr.errors import InputError

    several = DISTRIBUTED.value or COORDINATOR.value is not None
    if several:
        jax.distributed.initialize(
            COORDINATOR.value,
            PROCESSES.value,
            PROCESS.value,
            heartbeat_timeout_seconds=HEARTBEAT,
        )
    run = {"train": train.train, "eval": evaluate.run}[MODE.value]
    try:
        run(CONFIG.value, pathlib.Path(WORKDIR.value))
    except (InputError, FloatingPointError) as error:
        _leave(f"error: {error}", several)
    except Exception as error:
        if not several:
            raise
        if not isinstance(error, jax.errors.JaxRuntimeError):
            traceback.print_exc()
        _leave(
            f"error: process {jax.process_index()} of {jax.process_count()} cannot go on: "
            f"{str(error).splitlines()[0]}. If another one has ended, its own output says why; the "
            "same command on all of them, or on fewer, goes on from the last checkpoint",
            several,
        )


def _leave(message: str, several: bool) -> NoReturn:
    """Ends the process with what went wrong; one of several at once, since JAX would wait for the
    others to end, too, which wait for this one."""
    if several:
        print(message, file=sys.stderr, flush=True)
        os._exit(1)
    raise SystemExit(message) from None


def _explain(error: BaseException, argv: list[str]) -> str:
    """What was wrong in a command line, in words."""
    if isinstance(error, AttributeError | KeyError):  # a field that there is not
        from jaxvsr.config import closest_field, fields

        file = next(a.split("=", 1)[1] for a in argv if a.startswith("--config="))
        path, _, variant = file.partition(":")
        config = runpy.run_path(path)["get_config"](*filter(None, [variant]))
        known = dict(fields(config))
        for argument in argv:
            match = re.match(r"--config\.([\w.]+)", argument)
            if match and match[1] not in known:
                closest = closest_field(config, match[1])
                return f"there is no field --config.{match[1]}; the closest is --config.{closest}"
    if "Traceback" in str(error):  # of a config file that raised: its own words are the best
        while error.__context__:
            error = error.__context__
    return str(error)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
