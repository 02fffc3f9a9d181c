"""The error for wrong input."""


class InputError(ValueError):
    """A wrong setting or file, which the user can correct.

    The message names it, the expected form and the remedy. The command line prints it
    without a traceback.
    """
