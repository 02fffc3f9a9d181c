"""The error for wrong input, suggestions for its message, and a check of settings' types."""

import difflib
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """A wrong setting or file, which the user can correct.

    The message names it, the expected form and the remedy. The command line prints it
    without a traceback.
    """


def suggest(word: str, known: Iterable[str]) -> str:
    """Returns the end of an error about an unknown word: the closest known word, or all."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; expected one of: {', '.join(known)}"


def check_like(name: str, value: Any, default: Any) -> None:
    """Checks that a setting has the type of its default.

    Args:
        name: of the setting, for the message.
        value: to be checked.
        default: a bool, integer, number, text, or tuple of these or of tuples. An integer is a
            number, too; the elements of an empty tuple are numbers; any other type is not checked.

    Raises:
        InputError: it has another type; the message says which.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    kinds = {
        bool: (isinstance(value, bool), "True or False"),
        int: (number and isinstance(value, int), "an integer"),
        float: (number, "a number"),
        str: (isinstance(value, str), "a text"),
        tuple: (isinstance(value, tuple | list), "a tuple, for example (24, 24)"),
    }
    fits, wanted = kinds.get(type(default), (True, ""))
    if not fits:
        raise InputError(f"{name} must be {wanted}; got {value!r}")
    for element in value if isinstance(default, tuple) else ():
        if default:
            check_like(f"an element of {name}", element, default[0])
        elif isinstance(element, tuple | list):
            check_like(name, element, ())
        else:
            check_like(f"an element of {name}", element, 0.0)
