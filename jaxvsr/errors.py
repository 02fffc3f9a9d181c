"""The error for wrong input, and suggestions for its message."""

import difflib
from collections.abc import Iterable


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
