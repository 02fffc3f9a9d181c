"""What the command lines have in common: what is wrong with one is said in a line."""

import functools
import os
import re
import runpy
from collections.abc import Callable, Sequence

from absl import app, flags, logging
from ml_collections import config_flags

from jaxvsr.errors import InputError

flags.disclaim_key_flags()  # --help counts what is defined here as the command's own


def define_config() -> flags.FlagHolder:
    """The flag --config, and with it one for each field: --config.train.steps."""
    return config_flags.DEFINE_config_file(
        "config", None, "A file of configs/, perhaps with a variant: configs/miavsr.py:tiny"
    )


def define_hosts() -> dict[str, flags.FlagHolder]:
    """The flags of a command that may be one of several processes, mostly on several hosts."""
    number = flags.DEFINE_integer
    return {
        flag.name: flag
        for flag in (
            flags.DEFINE_bool(
                "distributed",
                False,
                "One of several processes, of which the scheduler's environment tells",
            ),
            flags.DEFINE_string(
                "coordinator",
                None,
                "One of several processes, of which process 0 is reached at host:port",
            ),
            number("processes", None, "How many there are, with --coordinator"),
            number("process", None, "The number of this one, from 0 on"),
            number(
                "connect_timeout",
                45,
                "Seconds in which several processes have to find each other",
                lower_bound=1,
            ),
        )
    }


def run(
    command: Callable[..., None],
    usage: str | None,
    required: Sequence[str],
    arguments: Sequence[str] = (),
) -> None:
    """Parses the command line, and does what it says.

    Args:
        command: to be called once the flags are parsed, with the arguments. It may raise what the
            user can mend.
        usage: of the command, in a line.
        required: names of flags that have to be given.
        arguments: names of the arguments that have to be given.
    """
    parse = functools.partial(_parse, usage=usage, required=required, arguments=arguments)
    app.run(functools.partial(_run, command), flags_parser=parse)


def _parse(
    argv: list[str], usage: str | None, required: Sequence[str], arguments: Sequence[str]
) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
        for name in required:
            if not flags.FLAGS[name].present:
                raise SystemExit(f"error: --{name} is missing\n{usage}")
        if flags.FLAGS["config"].present:
            flags.FLAGS.config.get("model")
    except (flags.Error, AttributeError, KeyError, OSError) as error:
        raise SystemExit(f"error: {_explain(error, argv)}") from None
    count = len(arguments)
    if len(rest) <= count:
        raise SystemExit(f"error: {' and '.join(arguments[len(rest) - 1 :])} missing\n{usage}")
    if over := rest[1 + count :]:
        raise SystemExit(f"error: what is {' '.join(over)!r}? Fields are set by --config.x=...")
    return rest


def _run(command: Callable[..., None], argv: list[str]) -> None:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.ERROR)  # of the libraries: we print what matters
    # TensorFlow reads and writes files for us, and need not talk about it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        command(*argv[1:])
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
