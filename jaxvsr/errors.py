"""What the user can mend."""


class InputError(ValueError):
    """Something that was asked for cannot be done as asked: the message says what, where, and
    what to do. The command line prints it without a traceback."""
