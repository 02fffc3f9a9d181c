"""The command line: commands, flags, help and errors. Imports nothing slow."""

import dataclasses
import importlib
import os
import re
import signal
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from absl import flags, logging

import jaxvsr
from jaxvsr.compile_cache import use_compile_cache
from jaxvsr.errors import InputError

# Command -> the module whose function `command` describes it; only the one that runs is imported.
COMMANDS = {
    "train": "jaxvsr.main",
    "eval": "jaxvsr.main",
    "upscale": "jaxvsr.upscale",
    "convert": "jaxvsr.convert",
    "profile": "jaxvsr.profile",
    "export": "jaxvsr.export",
    "data": "jaxvsr.prepare",
}

# Signals that end a command in order, and their names in messages.
SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "SIGTERM"}


@dataclasses.dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        help: usage and examples.
        main: called with a dict of the flags' values, and the arguments. The value "overrides"
            holds the config fields of the command line: {"train.steps": "7"}. It returns the exit
            code (None: 0) and raises InputError for wrong input.
        flags: that the command defines.
        required: names of flags that must be given.
        arguments: names of the arguments that must be given.
        open_ended: whether more arguments may follow.
        modes: flag -> the arguments that must be given with it, in place of `arguments`. A flag
            without arguments stands alone: nothing else may be given.
        failure: exit code for wrong input.
        after_interruption: how to go on after Ctrl-C, SIGTERM or an error of the system.
    """

    help: str
    main: Callable[..., int | None]
    flags: flags.FlagValues
    required: Sequence[str] = ()
    arguments: Sequence[str] = ()
    open_ended: bool = False
    modes: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    failure: int = 1
    after_interruption: str = "start again"


class Path(flags.ArgumentParser[str]):
    """Parses a path, in which ~ stands for the home folder; shells leave it in --flag=~/folder."""

    def parse(self, argument: str) -> str:
        return os.path.expanduser(argument)


def define_path(name: str, default: str | None, text: str, values: flags.FlagValues) -> None:
    """Defines a flag that holds a path."""
    flags.DEFINE(Path(), name, default, text, flag_values=values)


def parse_size(text: str) -> tuple[int, int]:
    """Parses --size: "180x320" as (180, 320); raises InputError for another text."""
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not found:
        raise InputError(f"--size must be HEIGHTxWIDTH, for example 180x320; got {text!r}")
    return int(found[1]), int(found[2])


def define_config(values: flags.FlagValues) -> None:
    """Defines --config, and --compile_cache for its programs."""
    define_path(
        "config",
        None,
        "FILE[:VARIANT]. A config of your own, or one of the package from any folder: "
        "configs/miavsr.py:tiny, miavsr:tiny. By default that of the run in --workdir. "
        "--config.x.y=VALUE sets a field of it",
        values,
    )
    define_path(
        "compile_cache",
        "",
        "Folder of compiled programs, which the next start reuses; by default in ~/.cache/jaxvsr; "
        '"off": none',
        values,
    )


def define_run(values: flags.FlagValues) -> None:
    """Defines --workdir of a command that only reads a run, also as --checkpoint."""
    define_path("workdir", "", "Folder of a run, whose best checkpoint is used", values)
    flags.DEFINE_alias("checkpoint", "workdir", values)


def define_hosts(values: flags.FlagValues) -> None:
    """Defines the flags of a command that may run as several processes."""
    flags.DEFINE_bool(
        "distributed",
        False,
        "Run as one of several processes, described by the scheduler's environment",
        flag_values=values,
    )
    flags.DEFINE_string(
        "coordinator",
        None,
        "HOST:PORT of process 0, to run as one of several processes",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "processes", None, "Number of processes, with --coordinator", flag_values=values
    )
    flags.DEFINE_integer(
        "process", None, "Index of this process, from 0, with --coordinator", flag_values=values
    )
    flags.DEFINE_integer(
        "connect_timeout",
        45,
        "Seconds to wait for the other processes",
        lower_bound=1,
        flag_values=values,
    )


def start(name: str, module: str = "", words: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and ends the process with its exit code.

    Args:
        name: of the command.
        module: the module that describes it; "": the one in COMMANDS.
        words: the command line without the program's name; None: that of this process.
    """
    words = sys.argv[1:] if words is None else words
    _handle_signals(_end_at_once)  # there is nothing to save yet
    _quiet_libraries()
    asks_for_help = any(re.fullmatch("--?h(elp(short|full)?)?", word) for word in words)
    if not asks_for_help:
        print(f"jaxvsr {jaxvsr.__version__} {name}: loading libraries", flush=True)
    command = importlib.import_module(module or COMMANDS[name]).command(name)
    if asks_for_help:
        show(_help(command))
        sys.exit(0)
    _handle_signals(_interrupt)
    _end_on_second_interrupt()
    code = run_command(command, words)
    sys.stdout.flush()
    sys.stderr.flush()
    if code:
        # Everything is closed, but threads of XLA may still compute, and would abort the process
        # when they release arrays of an interpreter that is shutting down.
        os._exit(code)
    sys.exit(0)


def show(text: str) -> None:
    """Prints a text; ends the process quietly where its reader has gone, as in `--help | head`."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os._exit(0)


def run_command(command: Command, words: Sequence[str]) -> int:
    """Parses a command line, runs the command and returns its exit code.

    Args:
        command: to run.
        words: the command line without the names of program and command.
    """
    try:
        overrides, rest = split_overrides(words)
        arguments = [*map(os.path.expanduser, command.flags(["jaxvsr", *rest])[1:])]
        _check_complete(command, arguments, overrides)
        values = command.flags.flag_values_dict() | {"overrides": overrides}
        if "compile_cache" in values:
            use_compile_cache(values["compile_cache"])
        return command.main(values, *arguments) or 0
    except (flags.Error, InputError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return command.failure
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        message = f"error: {place}{error.strerror or error}; {command.after_interruption}"
        print(message, file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt as interrupt:
        number = interrupt.args[0] if interrupt.args else signal.SIGINT
        message = f"{SIGNALS[number]}: {command.after_interruption}"
        print(message, file=sys.stderr, flush=True)
        return 128 + number


def split_overrides(words: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Takes --config.train.steps=7 and --config.train.steps 7 out of a command line.

    Returns:
        {"train.steps": "7"}, and the other words.

    Raises:
        InputError: a field has no value.
    """
    overrides, rest = {}, []
    words = iter(words)
    for word in words:
        field, equals, value = word.partition("=")
        if match := re.fullmatch(r"--?config\.([\w.]+)", field):
            found = value if equals else next(words, None)
            if found is None:
                raise InputError(f"{word} needs a value: {word}=VALUE")
            overrides[match[1]] = found
        else:
            rest.append(word)
    return overrides, rest


def _handle_signals(handler: Callable[[int, Any], None]) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)


def _end_at_once(number: int, frame: Any) -> NoReturn:
    """Ends the process by a signal, without clean-up."""
    del frame
    os.write(2, f"{SIGNALS[signal.Signals(number)]}\n".encode())
    os._exit(128 + number)


def _interrupt(number: int, frame: Any) -> NoReturn:
    """Ends a command by a signal: it cleans up undisturbed, and `run_command` prints a line."""
    del frame
    _handle_signals(lambda *_: None)
    raise KeyboardInterrupt(number)


def _end_on_second_interrupt() -> None:
    """Lets a second Ctrl-C end the process at once, even while the main thread compiles."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def watch() -> None:
        interrupts = 0
        while interrupts < 2:
            interrupts += os.read(read, 1) == bytes([signal.SIGINT])
        _end_at_once(signal.SIGINT, None)

    threading.Thread(target=watch, daemon=True).start()


def _check_complete(
    command: Command, arguments: Sequence[str], overrides: Mapping[str, str]
) -> None:
    """Raises InputError for missing or superfluous flags and arguments."""
    expected = command.arguments
    examples = [line.strip() for line in command.help.splitlines() if line.startswith("    ")]
    if modes := [name for name in command.modes if command.flags[name].value]:
        _check_mode(command, modes, arguments, overrides)
        expected = command.modes[modes[0]]
        examples = [line for line in examples if f"--{modes[0]}" in line]
    example = next(iter(examples), "")
    for name in command.required:
        if not command.flags[name].present:
            raise InputError(f"--{name} is missing. Example:\n    {example}")
    count = len(expected)
    if len(arguments) < count:
        missing = " and ".join(expected[len(arguments) :])
        raise InputError(f"{missing} missing. Example:\n    {example}")
    if len(arguments) > count and not command.open_ended:
        raise InputError(
            f"unexpected argument {arguments[count]!r}; set a field of the config by "
            "--config.train.steps=7"
        )


def _check_mode(
    command: Command, modes: Sequence[str], arguments: Sequence[str], overrides: Mapping[str, str]
) -> None:
    """Raises InputError for flags and arguments that a flag of `command.modes` excludes."""
    mode, *others = modes
    if others:
        raise InputError(f"--{mode} and --{others[0]} exclude each other")
    expected = command.modes[mode]
    given = [name for name in command.flags if command.flags[name].present and name != mode]
    words = [*arguments, *(f"--{name}" for name in [*given, *(f"config.{x}" for x in overrides)])]
    if words and not expected:
        raise InputError(f"--{mode} stands alone: leave out {' '.join(words)}")
    if len(arguments) > len(expected):
        raise InputError(f"--{mode} takes {' and '.join(expected)} only; got {' '.join(arguments)}")


def _quiet_libraries() -> None:
    """Keeps logs of the libraries away from the terminal; they read this when they are loaded.

    XLA logs slow constant folding as an error, and Orbax logs tracebacks of errors that it also
    raises, once per array; errors that matter are raised as exceptions. If a
    process ends abruptly, Python frees the semaphores it shared with its data loading workers and
    warns of it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # errors of Pillow are raised
    logging.set_verbosity(logging.FATAL)
    sys.unraisablehook = _print_unraisable


def _print_unraisable(unraisable: Any) -> None:
    """Prints an exception that cannot be raised, except those of TensorStore: for each array that
    it has not written when a checkpoint has already failed."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _help(command: Command) -> str:
    """Formats usage and examples, then each flag with its default."""
    lines = [command.help.strip(), "", "Flags:"]
    for name in command.flags:
        flag = command.flags[name]
        default = "" if flag.default in (None, "", False, []) else f" (default: {_text(flag)})"
        shown = f"--[no]{name}" if flag.boolean else f"--{name}"
        lines += textwrap.wrap(
            f"{flag.help}{default}",
            width=98,
            initial_indent=f"  {shown:<18} ",
            subsequent_indent=" " * 21,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def _text(flag: flags.Flag) -> Any:
    return ",".join(flag.default) if isinstance(flag.default, list) else flag.default
