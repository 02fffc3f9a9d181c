"""Products in traced programs, for tests of their precision."""

import jax


def products(function, *args):
    """The matrix products and convolutions of a function, whatever loops they are in.

    Traced with the lowest default precision, so that only a precision set on purpose is high.
    """
    with jax.default_matmul_precision("bfloat16"):
        traced = jax.make_jaxpr(function)(*args)
    return list(_within(traced))


def _within(jaxpr):
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)  # a ClosedJaxpr's
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if hasattr(getattr(inner, "jaxpr", inner), "eqns"):
                    yield from _within(inner)


def is_exact(equation):
    """Whether a product is computed in full float32 on every device."""
    highest = jax.lax.Precision.HIGHEST
    dtypes = {str(x.aval.dtype) for x in equation.invars}
    return equation.params["precision"] == (highest, highest) and dtypes == {"float32"}
