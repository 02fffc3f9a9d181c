"""python -m jaxvsr.main --config=configs/miavsr.py:tiny --workdir=runs/one [--mode=eval]"""

import os
import pathlib
import re
import runpy

from absl import app, flags, logging
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file of configs/, perhaps with a variant: configs/miavsr.py:tiny"
)
WORKDIR = flags.DEFINE_string("workdir", "", "The run's folder, new or to be gone on with")
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "This is one of several hosts' processes (jax.distributed.initialize())"
)
MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "Train, or score a run's checkpoint")


def parse(argv: list[str]) -> list[str]:
    """Parses the command line; what is wrong with it is said in a line."""
    try:
        rest = flags.FLAGS(argv)
        for name in ("config", "workdir"):
            if not flags.FLAGS[name].present:
                raise SystemExit(f"error: --{name} is missing\n{__doc__}")
        CONFIG.value.get("model")
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

    if DISTRIBUTED.value:
        jax.distributed.initialize()
    run = {"train": train.train, "eval": evaluate.run}[MODE.value]
    try:
        run(CONFIG.value, pathlib.Path(WORKDIR.value))
    except (InputError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from None


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
