"""Checks the shapes in signatures, for jaxtyping's import hook."""

from collections.abc import Callable

import beartype


def check(function: Callable) -> Callable:
    """Checks a function's arguments and result against its annotations at every call.

    Constructors are left out, since some of Flax's fields have types that cannot be checked, and
    so are functions inside functions, which would be prepared anew at every call.
    """
    if function.__name__ == "__init__" or "<locals>" in function.__qualname__:
        return function
    return _checked(function)


# An int is a float, as PEP 484 says.
_checked = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
